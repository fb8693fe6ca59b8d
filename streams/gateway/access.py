"""Who is asking, and what they may do.

| rights                            | write | read | settings |
| --------------------------------- | ----- | ---- | -------- |
| producer                          | yes   |      |          |
| reader                            |       | yes  |          |
| admin with an organisation        | yes   | yes  |          |
| admin without one                 | yes   | yes  | yes      |

A webhook's secret has a producer's rights. A key that has an organisation acts for that one only, and so does
a secret. With no key ever made and bound to loopback the service is open to requests whose Host is loopback,
with an administrator's rights; where a webhook has a secret, it asks for it all the same.
"""

import re
from dataclasses import dataclass
from typing import Literal

from aiohttp import hdrs, web

from streams.directory import Directory
from streams.gateway.answers import Refusal
from streams.generation import AUTHORITIES
from streams.organizations import Key, Rights

# What a route asks for. "open" asks for nothing. "webhook" asks for nothing here, because a signature can't
# be checked before the body is there: who comes in is nobody, and may do nothing, until the route's own
# handler has found out who it is.
Need = Literal["open", "write", "read", "settings", "webhook"]

# Callers with keys that nobody has made can't have the log asked more often than this.
UNKNOWN_KEY_LOOK_S = 0.1

ASKING_NOTHING = frozenset[Need](("open", "webhook"))

_GRANTS: dict[Rights, frozenset[Need]] = {
    "producer": frozenset(("write",)),
    "reader": frozenset(("read",)),
    "admin": frozenset(("write", "read")),
}
_PRODUCER_AUTHORITIES = frozenset(("estimate", "reported"))
_ALL_AUTHORITIES = frozenset(AUTHORITIES)
_LOOPBACK_HOST = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)
_LOOPBACK_BOUND = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|\[?::1\]?", re.IGNORECASE)
_BEARER = re.compile(r"bearer +([!-~]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: no organisation means all of them."""

    rights: Rights
    organization: str = ""
    key_id: str = ""

    def may(self, need: Need) -> bool:
        """Whether the caller has what a route asks for."""
        if need == "settings":
            return self.rights == "admin" and not self.organization
        return need in _GRANTS[self.rights]

    @property
    def authorities(self) -> frozenset[str]:
        """What the caller's events may claim to be.

        A read-back takes an id over from another organisation, so no organisation's own key may claim one.
        """
        if self.rights != "admin":
            return _PRODUCER_AUTHORITIES
        return _ALL_AUTHORITIES - {"reconciled"} if self.organization else _ALL_AUTHORITIES


NOBODY = Caller("reader", "\0")  # on routes that ask for nothing: no organisation has that name
OPEN_ADMINISTRATOR = Caller("admin")


def is_standing(caller: Caller, directory: Directory) -> bool:
    """Whether a caller that was let in would be let in now."""
    if not caller.key_id:
        return not directory.keys()
    key = directory.key(caller.key_id)
    return key is not None and key.revoked_ms is None


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine only."""
    return _LOOPBACK_BOUND.fullmatch(host) is not None


def caller_of(request: web.Request, directory: Directory, loopback: bool, need: Need) -> Caller:
    """Who is asking; 401 for an unknown or revoked key, 403 for a Host that is not ours."""
    shown = request.headers.getall("Authorization", [])
    if not shown and loopback and not directory.keys():
        _check_local(request)
        return OPEN_ADMINISTRATOR
    if need == "open":
        return NOBODY
    key = key_of(request, directory)
    if key is None:
        raise unauthorized()
    return Caller(key.rights, key.organization, key.id)


async def admitted(request: web.Request, directory: Directory, *, loopback: bool, need: Need) -> Caller:
    """Who is asking, with the right for it; a key that nobody knows is looked for on the log once more."""
    try:
        caller = caller_of(request, directory, loopback, need)
    except Refusal as refusal:
        if refusal.status != 401 or hdrs.AUTHORIZATION not in request.headers:
            raise
        # A key that another process has made a moment ago.
        await directory.refresh(at_most_every_s=UNKNOWN_KEY_LOOK_S)
        caller = caller_of(request, directory, loopback, need)
    check(caller, need)
    return caller


def key_of(request: web.Request, directory: Directory) -> Key | None:
    """The API key that a request shows; None when it shows none that is good."""
    shown = request.headers.getall("Authorization", [])
    match = _BEARER.fullmatch(shown[0]) if len(shown) == 1 else None
    return directory.key_of_secret(match.group(1)) if match else None


def _check_local(request: web.Request) -> None:
    """An open service answers nobody who came by another name: a web page elsewhere, for one."""
    origin = request.headers.get("Origin")
    local_origin = origin is None or _LOOPBACK_HOST.fullmatch(origin.partition("://")[2])
    if not _LOOPBACK_HOST.fullmatch(request.headers.get("Host", "")) or not local_origin:
        message = "an open service answers only to localhost: make an API key to use another name"
        raise Refusal(403, "host", message)


def unauthorized() -> Refusal:
    """The same for every reason."""
    headers = {"WWW-Authenticate": 'Bearer realm="genledger"'}
    message = "a valid API key is needed (Authorization: Bearer glk_...), or a webhook's secret or signature"
    return Refusal(401, "unauthorized", message, headers=headers)


def check(caller: Caller, need: Need) -> None:
    """Refuse a caller who lacks what a route asks for."""
    if need not in ASKING_NOTHING and not caller.may(need):
        raise Refusal(403, "forbidden", f"this API key ({caller.rights}) does not have the right for this")
