"""Two fake providers over real HTTP: one as OpenRouter documents it, one with a route that lists generations.

account = Account.seeded("acme", "sk-1", seed=7, count=2_350, newest_ms=..., days=3)
with Documented([account]) as provider:       # a thread of its own: from synchronous tests and others
    environment = {"GENLEDGER_PROVIDER_URL": provider.url}
    provider.trouble.down = True
    ...
account.truth()                                # what must be counted in the end
"""
