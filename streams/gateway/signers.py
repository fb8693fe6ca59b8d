"""Who sends a webhook: an API key, a secret that is shown, or a secret that the body is signed with.

    sender = await signers.at_the_door(request, "standard", organization="")    # the headers only
    caller = await signers.behind(sender, body)                                 # with the body

A source that has a secret takes nothing without one, nor does an open service. Every 401 has the same body.
`?org=` narrows to one organisation's secrets, and those for all.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from streams.clock import Clock
from streams.directory import Directory
from streams.gateway import access, signatures
from streams.gateway.access import Caller
from streams.gateway.answers import Refusal
from streams.gateway.limits import Limits
from streams.gateway.signatures import Claim
from streams.settings import Settings
from streams.webhook_secrets import Secret, Secrets

# Hashing more than this would keep others waiting: it is done beside them.
HASHED_BYTES_MAX = 1 << 20
OPENROUTER = "openrouter"


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, or what the body must be signed with to tell."""

    caller: Caller | None
    claims: Sequence[Claim] = ()
    secrets: Sequence[Secret] = ()


class Signers:
    """Who may send webhooks."""

    def __init__(
        self, directory: Directory, secrets: Secrets, limits: Limits, settings: Settings, clock: Clock
    ) -> None:
        self._directory = directory
        self._secrets = secrets
        self._limits = limits
        self._settings = settings
        self._clock = clock
        self._loopback = access.is_loopback(settings.host)

    async def at_the_door(self, request: web.Request, source: str, organization: str) -> Sender:
        """What the headers tell; 401 where no body could make them good."""
        claims = signatures.claims_of(
            request.headers,
            self._clock() // 1000,
            self._settings.webhook_tolerance_s,
            openrouter=source == OPENROUTER,
        )
        wanted = ("", organization)
        secrets = [
            secret
            for secret in self._secrets.of_source(source)
            if not organization or secret.organization in wanted
        ]
        secret = None
        caller = self._by_key(request)
        if caller is None:
            secret = signatures.shower_of(signatures.shown_of(request.headers), secrets)
            if secret is None and claims and secrets:
                return Sender(None, claims, secrets)
            caller = _caller_of(secret) if secret else await self._otherwise(request, source)
        if secret is None:
            # A key may be revoked while the body arrives: whoever reads it asks once more.
            request["still_allowed"] = partial(access.is_standing, caller, self._directory)
        if organization and caller.organization not in ("", organization):
            raise Refusal(403, "forbidden", "is not the API key's", "org")
        self._limits.take(caller.key_id)
        return Sender(caller)

    def _by_key(self, request: web.Request) -> Caller | None:
        key = access.key_of(request, self._directory)
        if key is None:
            return None
        caller = Caller(key.rights, key.organization, key.id)
        access.check(caller, "write")
        return caller

    async def _otherwise(self, request: web.Request, source: str) -> Caller:
        """A key that another process has made just now; or anybody, where the service is open for this."""
        is_open = self._loopback and not self._secrets.is_closed(source)
        return await access.admitted(request, self._directory, loopback=is_open, need="write")

    async def behind(self, sender: Sender, body: bytes) -> Caller:
        """Who sends this body; 401 when nobody signed it."""
        if sender.caller is not None:
            return sender.caller
        given = (sender.claims, body, sender.secrets)
        if signatures.hashed_bytes(*given) > HASHED_BYTES_MAX:
            secret = await asyncio.to_thread(signatures.signer_of, *given)
        else:
            secret = signatures.signer_of(*given)
        if secret is None:
            raise access.unauthorized()
        caller = _caller_of(secret)
        self._limits.take(caller.key_id)
        return caller


def _caller_of(secret: Secret) -> Caller:
    return Caller("producer", secret.organization, secret.id)
