"""Which organisations are there, with what settings, and who are their users? From the settings topics.

A row shows the values as they counted when their record was logged; the history stays in the log. The
provider's key is never here, only the reference to it.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from streams import times, topics
from streams.errors import LogMismatch
from streams.log.interface import Record
from streams.organizations import ALL_KNOWN_MS, Organization, User, latest, user_id_at

_organization = msgspec.json.Decoder(Organization)
_user = msgspec.json.Decoder(User)


class Setting(msgspec.Struct, frozen=True):
    """One record of a settings topic, decoded. None: the record was removed, and nothing follows from it."""

    offset: int
    time_ms: int
    value: Organization | User | None
    prev: int = -1  # these topics are compacted: a missing record is no hole


class OrganizationRow(msgspec.Struct, frozen=True):
    """A row of client_organizations."""

    id: str
    name: str
    key_reference: str | None
    key_hash: str | None
    markup: str | None
    monthly_limit: str | None
    billing_email: str | None
    timezone: str | None
    active: int
    created_s: int
    updated_s: int


class UserRow(msgspec.Struct, frozen=True):
    """A row of user_client_mapping."""

    organization: str
    user: str
    user_id: str
    active: int
    created_s: int
    updated_s: int


class Changes:
    """Rows as they are from here on."""

    __slots__ = ("organizations", "users")

    def __init__(self) -> None:
        self.organizations: dict[str, OrganizationRow] = {}
        self.users: dict[tuple[str, str], UserRow] = {}


def fold(settings: Sequence[Setting]) -> Changes:
    """Records in, the last row of each key out."""
    changes = Changes()
    for setting in settings:
        if isinstance(setting.value, Organization):
            changes.organizations[setting.value.id] = organization_row(setting.value, setting.time_ms)
        elif isinstance(setting.value, User):
            user = setting.value
            changes.users[user.organization, user.user] = user_row(user, setting.time_ms)
    return changes


def organization_row(organization: Organization, time_ms: int) -> OrganizationRow:
    """An organisation's values as they count at a log time."""
    values = latest(organization, time_ms)
    reference = _text(values["provider_key"])
    return OrganizationRow(
        id=organization.id,
        name=_text(values["name"]) or organization.id,
        key_reference=reference,
        key_hash=hashlib.sha256(reference.encode()).hexdigest() if reference else None,
        markup=_text(values["markup"]),
        monthly_limit=_text(values["monthly_limit"]),
        billing_email=_text(values["billing_email"]),
        timezone=_text(values["timezone"]),
        active=int(values["active"] is not False),
        created_s=organization.created_ms // 1000,
        updated_s=time_ms // 1000,
    )


def user_row(user: User, time_ms: int) -> UserRow:
    """A user's mapping as it counts on the day (in UTC) of a log time. Without one it is inactive."""
    today = times.day_of(time_ms * times.MS_NS, "UTC")
    user_id = user_id_at(user, today, ALL_KNOWN_MS)
    return UserRow(
        organization=user.organization,
        user=user.user,
        user_id=user_id or user.user,
        active=int(user_id != ""),
        created_s=user.created_ms // 1000,
        updated_s=time_ms // 1000,
    )


def _text(value: str | bool | None) -> str | None:
    return value if isinstance(value, str) and value else None


class Organizations:
    """The view."""

    name = "organizations"
    version = 1
    topics = (topics.ORGANIZATIONS, topics.USERS)

    def decode(self, record: Record) -> Setting:
        """A record of a settings topic."""
        value: Organization | User | None = None
        try:
            if record.value is not None:
                decoder = _organization if record.topic == topics.ORGANIZATIONS else _user
                value = decoder.decode(record.value)
        except msgspec.DecodeError as error:
            place = f"{record.topic}/{record.partition}@{record.offset}"
            raise LogMismatch(f"settings record {place} does not decode: {error}") from None
        return Setting(record.offset, record.time_ms, value)

    def fold(self, items: Sequence[Setting]) -> Changes:
        """Records in, the last row of each key out."""
        return fold(items)
