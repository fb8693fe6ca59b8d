"""Organisations, their users and their API keys, as their compacted topics hold them.

Each record holds the whole history of what it is about, so that the newest record of a key is enough. A
value counts from its effective time, as far as it was known (logged) before the time of the question:

>>> first = Change(effective_ns=0, logged_ms=5, markup="1.2")
>>> second = Change(effective_ns=100, logged_ms=9, markup="1.3")
>>> acme = Organization(id="acme", created_ms=0, history=(first, second))
>>> value_at(acme, "markup", time_ns=150, known_ms=9), value_at(acme, "markup", time_ns=150, known_ms=10)
('1.2', '1.3')
"""

import hashlib
import secrets
from typing import Literal

import msgspec
import orjson

Rights = Literal["producer", "reader", "admin"]
KEY_PREFIX = "glk_"
HISTORY_MAX = 1000
# As `known_ms`: by everything that the history holds.
ALL_KNOWN_MS = 2**62


class Change(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Values that count from a moment on. What is None is not changed by it."""

    effective_ns: int
    logged_ms: int
    name: str | None = None
    markup: str | None = None
    timezone: str | None = None
    monthly_limit: str | None = None  # decimal text of dollars; "" lifts it
    billing_email: str | None = None
    provider_key: str | None = None  # a reference: env:NAME, file:PATH, or a name in the local store
    active: bool | None = None
    management_key: str | None = None  # the same, of the key that reads the provider's activity
    truth: str | None = None  # which sources are believed: see streams/truth.py; "" lifts it


ORGANIZATION_FIELDS = (
    "name",
    "markup",
    "timezone",
    "monthly_limit",
    "billing_email",
    "provider_key",
    "active",
    "management_key",
    "truth",
)


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation's settings with their whole history, sorted by effective time, then log time."""

    id: str
    created_ms: int
    history: tuple[Change, ...] = ()


class Mapping(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """From a day on, the application's user behind a provider's user; None ends it."""

    effective_day: str
    logged_ms: int
    user_id: str | None = None


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's user of one organisation, with the history of whom the application knows it as."""

    organization: str
    user: str
    created_ms: int
    history: tuple[Mapping, ...] = ()


class Key(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An API key: only its hash is kept. No organisation: an administrator of the installation."""

    id: str
    hash: str
    rights: Rights
    organization: str = ""
    created_ms: int
    revoked_ms: int | None = None


def with_change(organization: Organization, change: Change) -> Organization:
    """The organisation with one more change in its history, which stays sorted.

    It is logged behind all others, whatever the clock says: the newest in a record is the one it adds.
    """
    newest_ms = max((one.logged_ms for one in organization.history), default=-1)
    change = msgspec.structs.replace(change, logged_ms=max(change.logged_ms, newest_ms + 1))
    history = sorted((*organization.history, change), key=lambda c: (c.effective_ns, c.logged_ms))
    return msgspec.structs.replace(organization, history=tuple(history))


def with_mapping(user: User, mapping: Mapping) -> User:
    """The user with one more mapping in its history, which stays sorted and in the log's order."""
    newest_ms = max((one.logged_ms for one in user.history), default=-1)
    mapping = msgspec.structs.replace(mapping, logged_ms=max(mapping.logged_ms, newest_ms + 1))
    history = sorted((*user.history, mapping), key=lambda m: (m.effective_day, m.logged_ms))
    return msgspec.structs.replace(user, history=tuple(history))


def known_since_ms(organization: Organization) -> int:
    """When the log first had settings of it."""
    return min((change.logged_ms for change in organization.history), default=organization.created_ms)


def value_at(organization: Organization, field: str, time_ns: int, known_ms: int) -> str | bool | None:
    """A value as it counts at `time_ns`, by what was logged before `known_ms`; None when never set.

    Before, not at: two records of one millisecond have no order, and a rebuild must decide as we did.
    """
    for change in reversed(organization.history):
        if change.effective_ns <= time_ns and change.logged_ms < known_ms:
            value: str | bool | None = getattr(change, field)
            if value is not None:
                return value
    return None


def user_id_at(user: User, day: str, known_ms: int) -> str:
    """The application's user of a provider's user on a day; '' when it has no other name."""
    for mapping in reversed(user.history):
        if mapping.effective_day <= day and mapping.logged_ms < known_ms:
            return mapping.user_id or ""
    return ""


def user_key(organization: str, user: str) -> bytes:
    """The key of a user's record: no two pairs share one, whatever characters they hold."""
    return orjson.dumps([organization, user])


def row_id(*parts: str) -> str:
    """The id of a view's row: a hash of its key, the same in every rebuild."""
    return hashlib.blake2b(orjson.dumps(parts), digest_size=16).hexdigest()


def new_secret() -> str:
    """A new API key, as its owner sees it once."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """What is kept of an API key. It is 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def latest(organization: Organization, now_ms: int) -> dict[str, str | bool | None]:
    """Every value as it counts now, by all that is known of it."""
    now_ns = now_ms * 1_000_000
    return {name: value_at(organization, name, now_ns, ALL_KNOWN_MS) for name in ORGANIZATION_FIELDS}
