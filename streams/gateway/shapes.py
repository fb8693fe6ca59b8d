"""What the door's answers look like, for the OpenAPI document: one type for each JSON body.

    Operation("live", "GET", "/livez", "open", "The process answers", returns=Live)

The handlers make these bodies themselves; tests/fuzz holds every answer against its type, names included.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from streams.fact import Fate
from streams.openings import BalanceWire
from streams.organizations import Rights


class Problem(msgspec.Struct):
    """What is wrong: a code for programs, a message for people, and the field that is to blame."""

    code: str
    message: str
    field: str


class Error(msgspec.Struct):
    """The body of a request that is not served."""

    error: Problem


class Refused(msgspec.Struct):
    """An event that was not taken, by its place in the body."""

    index: int
    field: str
    error: str
    code: str


class Verdict(msgspec.Struct):
    """What became of a body's events."""

    accepted: int
    rejected: list[Refused]
    ignored_fields: list[str]
    ignored_count: int


class NothingTaken(Verdict):
    """There were events, and not one was taken."""

    error: Problem


class ManuallyRecorded(Verdict):
    """A record that was put down by hand; `id` is what it goes by from here on."""

    id: str


class PartialSuccess(msgspec.Struct):
    """OTLP's: 64-bit numbers are text in its JSON."""

    rejectedSpans: str  # noqa: N815 -- its name in OTLP
    errorMessage: str  # noqa: N815


class Traced(msgspec.Struct):
    """OTLP's answer: empty when every span was taken."""

    partialSuccess: PartialSuccess | UnsetType = UNSET  # noqa: N815


class Counted(msgspec.Struct):
    """Where a generation is counted."""

    organization: str
    day: str
    timezone: str
    markup: str
    user_id: str
    opening_balance: bool


class Decision(msgspec.Struct):
    """One decision about a generation: what it added, and what it took away."""

    partition: int
    offset: int
    time: str
    fate: Fate
    plus: dict[str, Any] | None
    minus: dict[str, Any] | None
    reason: str
    detail: str


class Explained(msgspec.Struct):
    """One generation's story."""

    id: str
    known: bool
    organization: str | None
    winner: dict[str, Any] | None
    counted: Counted | None
    history: list[Decision]
    truncated: bool
    facts_from: str | None
    dated_by_log: str | UnsetType | None = UNSET


class Compared(msgspec.Struct):
    """Whether a request of this model and cost is known."""

    known: bool
    duplicate: bool
    same_model: bool
    cost_difference: str | None


class Values(msgspec.Struct, kw_only=True):
    """An organisation's values; null where it has none of its own."""

    id: str
    created_at: str
    name: str | None
    markup: str | None
    timezone: str | None
    monthly_limit: str | None
    billing_email: str | None
    provider_key: str | None
    active: bool | None
    management_key: str | None
    truth: str | None


class ValuesChanged(msgspec.Struct, kw_only=True):
    """The values that were set together, from when on: `always`, or an instant."""

    effective: str
    logged_at: str
    name: str | UnsetType = UNSET
    markup: str | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    monthly_limit: str | UnsetType = UNSET
    billing_email: str | UnsetType = UNSET
    provider_key: str | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    management_key: str | UnsetType = UNSET
    truth: str | UnsetType = UNSET


class ValuesAndHistory(Values):
    """An organisation's values as they are now, and how they came to be."""

    history: list[ValuesChanged]


class AllOrganizations(msgspec.Struct):
    """Those that have settings."""

    organizations: list[Values]


class MappedSince(msgspec.Struct):
    """From a day on, whom the application knows the user as."""

    effective: str
    logged_at: str
    user_id: str | None


class MappedUser(msgspec.Struct):
    """A provider's user."""

    organization: str
    user: str
    history: list[MappedSince]
    note: str | UnsetType = UNSET


class AllUsers(msgspec.Struct):
    """An organisation's mapped users."""

    users: list[MappedUser]


class ShownKey(msgspec.Struct, kw_only=True):
    """An API key, without its secret."""

    id: str
    organization: str
    rights: Rights
    created_at: str
    revoked_at: str | None


class AllKeys(msgspec.Struct):
    """All API keys."""

    keys: list[ShownKey]


class KeyWithSecret(ShownKey):
    """An API key with its secret, which is not shown again."""

    secret: str


class MadeKey(KeyWithSecret):
    """The new key; beside a first one that is not an administrator's, the administrator's."""

    administrator: KeyWithSecret | UnsetType = UNSET
    note: str | UnsetType = UNSET


class RejectedRecord(msgspec.Struct, kw_only=True):
    """A record that was not taken."""

    partition: int
    offset: int
    time: str
    key: str | None
    reason: str
    error: str
    source_partition: str | None
    source_offset: str | None
    size_bytes: int


class RejectedPage(msgspec.Struct):
    """Some of them; `next` goes into `after`."""

    rejected: list[RejectedRecord]
    next: str | None
    truncated: bool


class RejectedBytes(RejectedRecord):
    """One of them, with its bytes."""

    value: str | None
    encoding: Literal["utf-8", "base64", "null"]


class Redriven(msgspec.Struct):
    """Where the record is on the topic `generations` now."""

    partition: int
    offset: int
    forced: bool


class OpeningEntry(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Exactly one of the two: an event whose money is in a balance (or its void), or a balance."""

    known: dict[str, Any] | None = None
    balance: BalanceWire | None = None


class OpeningsTaken(msgspec.Struct):
    """How many opening entries the log has, and the newest offset in each partition."""

    accepted: int
    newest: dict[str, int]


class Root(msgspec.Struct):
    """What answers here."""

    name: str
    version: str
    openapi: str
    docs: str


class Live(msgspec.Struct):
    """The process answers."""

    live: bool


class Ready(msgspec.Struct):
    """Whether the service does its work, and what keeps it from it."""

    ready: bool
    reasons: list[str]
    components: dict[str, Any] | UnsetType = UNSET
