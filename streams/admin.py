"""Changes to organisations, users and API keys: read what there is, add to its history, append, read again.

    administration = Administration(log, directory, now_ms)
    await administration.change_organization(OrganizationChange(id="acme", markup="1.3"))
    key, secret = (await administration.make_key("acme", "producer"))[0]

The pure parts say what the next record is; one lock puts them one after the other, so that no change is
built on a history that another has just made longer. A refused value is a `BadChange` that names the field.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from streams import money, times, truth
from streams.clock import Clock
from streams.directory import Directory, message_of
from streams.errors import GenledgerError
from streams.generation import TEXT_BYTES_MAX
from streams.log.interface import Message
from streams.organizations import (
    ALL_KNOWN_MS,
    HISTORY_MAX,
    ORGANIZATION_FIELDS,
    Change,
    Key,
    Mapping,
    Organization,
    Rights,
    User,
    hash_of,
    new_secret,
    value_at,
    with_change,
    with_mapping,
)

ANSWER_WAITS_MAX = 5  # a clock that stands still keeps nobody waiting
ALWAYS_DAY = "2000-01-01"
NAME_BYTES_MAX = 256
EMAIL_BYTES_MAX = 254

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LIMIT = re.compile(r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,9})?")
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:.{1,1024}|name:[A-Za-z0-9_.-]{1,128}")
_SECRET_WORDS = ("sk-", "sk_", "glk_", "bearer ")

Append = Callable[[Sequence[Message]], Awaitable[Any]]


class BadChange(GenledgerError):
    """A value that can't be taken; `field` names it."""

    def __init__(self, field: str, error: str) -> None:
        super().__init__(f"{field}: {error}")
        self.field = field
        self.error = error


class LastKey(GenledgerError):
    """The key to be revoked is the last administrator's."""


class NoOrganization(GenledgerError):
    """The organisation to be changed has no settings."""


class OrganizationChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller asks for: values that are None stay as they are. `effective` is a date or an instant.

    `must_exist` changes an organisation that has settings already, and makes none by a slip of the pen.
    """

    id: str
    name: str | None = None
    markup: str | None = None
    timezone: str | None = None
    monthly_limit: str | None = None
    billing_email: str | None = None
    provider_key: str | None = None
    active: bool | None = None
    management_key: str | None = None
    truth: str | None = None
    effective: str | None = None
    must_exist: bool = False


def checked_text(field: str, text: str, bytes_max: int, *, empty: bool = False) -> str:
    """Text of a bounded length without control characters."""
    if not text and not empty:
        raise BadChange(field, "must not be empty")
    if len(text.encode()) > bytes_max:
        raise BadChange(field, f"must be at most {bytes_max} bytes")
    if _CONTROL.search(text):
        raise BadChange(field, "must not contain control characters")
    return text


def check_organization(change: OrganizationChange) -> None:
    """Every value of a change by itself."""
    checked_text("id", change.id, TEXT_BYTES_MAX["organization"])
    if change.name is not None:
        checked_text("name", change.name, NAME_BYTES_MAX)
    if change.markup is not None:
        _check("markup", money.rate_of, change.markup)
    if change.timezone is not None:
        _check("timezone", times.zone_of, change.timezone)
    if change.monthly_limit and not _LIMIT.fullmatch(change.monthly_limit):
        raise BadChange("monthly_limit", "must be a decimal number of dollars, or empty for none")
    if change.billing_email:
        checked_text("billing_email", change.billing_email, EMAIL_BYTES_MAX)
        if "@" not in change.billing_email:
            raise BadChange("billing_email", "must be an e-mail address, or empty for none")
    for field in ("provider_key", "management_key"):
        if reference := getattr(change, field):
            _check_reference(field, reference)
    if change.truth is not None:
        checked_text("truth", change.truth, truth.TRUTH_BYTES_MAX, empty=True)
        _check("truth", truth.rules_of, change.truth)


def _check(field: str, check: Callable[[str], object], text: str) -> None:
    try:
        check(text)
    except ValueError as error:
        raise BadChange(field, str(error)) from None


def _check_reference(field: str, text: str) -> None:
    if text.lower().startswith(_SECRET_WORDS) or text.lower().partition(":")[2].startswith(_SECRET_WORDS):
        raise BadChange(field, "looks like a secret: give a reference to it, such as env:NAME")
    if not _REFERENCE.fullmatch(text):
        raise BadChange(field, "must be a reference: env:NAME, file:PATH or name:NAME")


def effective_ns_of(
    change: OrganizationChange, organization: Organization | None, zone: str, time_ms: int
) -> int:
    """When a change begins to count: a date begins at its midnight in the organisation's timezone."""
    now_ns = time_ms * times.MS_NS
    if change.effective is None:
        return 0 if organization is None else now_ns
    try:
        if "T" in change.effective or " " in change.effective:
            return times.nanoseconds_of(change.effective)
        day = times.date_text(change.effective)
    except ValueError:
        raise BadChange("effective", "must be a date such as 2026-11-20, or a time with a zone") from None
    if change.timezone is not None:
        zone = change.timezone
    elif organization is not None:
        about_ns = times.midnight_ns(day, zone)
        zone = str(value_at(organization, "timezone", about_ns, ALL_KNOWN_MS) or zone)
    return times.midnight_ns(day, zone)


def changed_organization(
    organization: Organization | None, change: OrganizationChange, zone: str, time_ms: int
) -> Organization:
    """The organisation as its next record says it; `zone` is the installation's default."""
    check_organization(change)
    effective_ns = effective_ns_of(change, organization, zone, time_ms)
    values = {name: getattr(change, name) for name in ORGANIZATION_FIELDS}
    base = organization or Organization(id=change.id, created_ms=time_ms)
    if all(value is None for value in values.values()):
        return base
    if len(base.history) >= HISTORY_MAX:
        raise BadChange("id", f"has {HISTORY_MAX} changes already, which is the most there may be")
    return with_change(base, Change(effective_ns=effective_ns, logged_ms=time_ms, **values))


def mapped_user(
    user: User | None, organization: str, name: str, user_id: str | None, day: str, time_ms: int
) -> User:
    """The user as the next record says it: from `day` on known as `user_id`; None ends the mapping."""
    checked_text("organization", organization, TEXT_BYTES_MAX["organization"])
    checked_text("user", name, TEXT_BYTES_MAX["user"])
    if user_id is not None:
        checked_text("user_id", user_id, TEXT_BYTES_MAX["user"])
    _check("effective", times.date_text, day)
    base = user or User(organization=organization, user=name, created_ms=time_ms)
    if len(base.history) >= HISTORY_MAX:
        raise BadChange("user", f"has {HISTORY_MAX} mappings already, which is the most there may be")
    return with_mapping(base, Mapping(effective_day=day, logged_ms=time_ms, user_id=user_id))


def new_key(organization: str, rights: Rights, time_ms: int) -> tuple[Key, str]:
    """A new API key and its secret, which is kept nowhere."""
    secret = new_secret()
    id = f"key_{secrets.token_hex(8)}"
    return Key(
        id=id, hash=hash_of(secret), rights=rights, organization=organization, created_ms=time_ms
    ), secret


def is_administrator(key: Key) -> bool:
    """Whether a key may change settings: an administrator of the installation, not revoked."""
    return key.rights == "admin" and not key.organization and key.revoked_ms is None


class Administration:
    """The one effect: append to the log, and read it back. `append` raises what a caller should see."""

    def __init__(self, append: Append, directory: Directory, clock: Clock, default_zone: str = "UTC") -> None:
        self._append = append
        self._directory = directory
        self._clock = clock
        self._zone = default_zone
        self._lock = asyncio.Lock()

    async def change_organization(self, change: OrganizationChange) -> tuple[Organization, bool]:
        """Create or change an organisation; whether it is new. `NoOrganization` when it must not be."""
        async with self._lock:
            await self._directory.refresh()
            known = self._directory.organization(change.id)
            if known is None and change.must_exist:
                raise NoOrganization(f"organisation {change.id} has no settings: create it first")
            changed = changed_organization(known, change, self._zone, self._clock())
            if changed is not known:
                await self._write(changed)
            return changed, known is None

    async def map_user(
        self, organization: str, name: str, user_id: str | None, effective: str | None
    ) -> User:
        """From a day on, whom the application knows a provider's user as."""
        async with self._lock:
            await self._directory.refresh()
            known = self._directory.user(organization, name)
            day = effective or (ALWAYS_DAY if known is None else self._today(organization))
            changed = mapped_user(known, organization, name, user_id, day, self._clock())
            await self._write(changed)
            return changed

    async def make_key(self, organization: str, rights: Rights) -> Sequence[tuple[Key, str]]:
        """A new key with its secret.

        The first key closes an open service. When it is not an administrator's, one of those is made with
        it and comes second: else nobody could change anything any more.
        """
        if organization:
            checked_text("organization", organization, TEXT_BYTES_MAX["organization"])
        elif rights != "admin":
            raise BadChange("organization", f"is required for a {rights}'s key")
        async with self._lock:
            await self._directory.refresh()
            made = [new_key(organization, rights, self._clock())]
            if not any(map(is_administrator, (*self._directory.keys(), made[0][0]))):
                made.append(new_key("", "admin", self._clock()))
            await self._write(*(key for key, _ in made))
            return made

    async def revoke_key(self, id: str, *, force: bool = False) -> Key | None:
        """End a key, at once; None when there is none. Revoking twice changes nothing.

        The last administrator's is only ended by force: after it nobody can change settings over HTTP.
        """
        async with self._lock:
            await self._directory.refresh()
            key = self._directory.key(id)
            if key is None or key.revoked_ms is not None:
                return key
            administrators = filter(is_administrator, self._directory.keys())
            if not force and [one.id for one in administrators] == [id]:
                raise LastKey(f"{key.id} is the last administrator's key")
            revoked = msgspec.structs.replace(key, revoked_ms=self._clock())
            await self._write(revoked)
            return revoked

    async def first_key(self) -> str:
        """The secret of a first administrator's key; '' when there are keys."""
        await self._directory.refresh()
        if self._directory.keys():
            return ""
        return (await self.make_key("", "admin"))[0][1]

    def _today(self, organization: str) -> str:
        time_ms = self._clock()
        time_ns = time_ms * times.MS_NS
        settings = self._directory.organization(organization)
        zone = settings and value_at(settings, "timezone", time_ns, ALL_KNOWN_MS)
        return times.day_of(time_ns, str(zone or self._zone))

    async def _write(self, *things: Organization | User | Key) -> None:
        await self._append([message_of(thing) for thing in things])
        await self._directory.refresh()
        # A setting counts after the millisecond it was logged in: whoever has the answer can rely on it.
        logged_ms = self._clock()
        for _ in range(ANSWER_WAITS_MAX):
            if self._clock() > logged_ms:
                break
            await asyncio.sleep(0.001)
