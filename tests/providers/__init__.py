"""Two fake providers over real HTTP: one as OpenRouter documents it, one with a route that lists generations.

    account = Account.seeded("acme", "sk-1", seed=7, count=2_350, newest_ms=..., days=3)
    with Documented([account]) as provider:       # on a loopback port
        environment = {"GENLEDGER_PROVIDER_URL": provider.url}
        provider.trouble.down = True
        ...
    account.truth()                                # what must be counted in the end

A fake runs in a thread of its own, so that synchronous tests and real processes can use it.
"""
