"""The tables of a legacy database, and their columns under whatever names they have. Pure.

>>> matched(DAY, ["id", "client_org_id", "date", "tokens", "requests", "cost", "markup_cost"])["day"]
'date'

A column's first name is the seeds'; the others are names that it is known to have elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

Kind = Literal["text", "name", "day", "count", "money", "rate", "flag"]


class Column(msgspec.Struct, frozen=True):
    """One column: what we call it, what it holds, and its names, the seeds' first."""

    field: str
    kind: Kind
    names: tuple[str, ...]
    required: bool = True


class Table(msgspec.Struct, frozen=True):
    """One table. `margin` of the three summaries says which row of an opening balance it is."""

    name: str
    columns: tuple[Column, ...]
    required: bool = False
    margin: Literal["", "day", "user", "model"] = ""
    key: str = ""  # the field that names a row among those of its organisation and day


def _optional(field: str, kind: Kind, *names: str) -> Column:
    return Column(field, kind, names or (field,), required=False)


_ORGANIZATION = Column(
    "organization", "text", ("client_org_id", "organization_id", "org_id", "client_id", "organization")
)
_DAY = Column("day", "day", ("usage_date", "date", "day"))
_FIGURES = (
    Column("total_tokens", "count", ("total_tokens", "tokens")),
    Column("requests", "count", ("total_requests", "requests", "request_count")),
    Column("cost", "money", ("raw_cost", "total_cost", "cost")),
    Column("markup", "money", ("markup_cost", "billed_cost", "cost_with_markup")),
    _optional("prompt_tokens", "count"),
    _optional("completion_tokens", "count"),
)

ORGANIZATIONS = Table(
    "client_organizations",
    (
        Column("id", "text", ("id", "client_org_id", "organization_id", "org_id")),
        _optional("name", "name"),
        _optional("markup", "rate", "markup_rate", "markup"),
        _optional("monthly_limit", "money"),
        _optional("billing_email", "name"),
        _optional("active", "flag", "is_active", "active"),
        _optional("provider_key", "name", "openrouter_api_key", "api_key"),
    ),
)
USERS = Table(
    "user_client_mapping",
    (
        _ORGANIZATION,
        Column("user_id", "text", ("user_id",)),
        Column("user", "text", ("openrouter_user_id", "external_user", "external_user_id")),
        _optional("active", "flag", "is_active", "active"),
    ),
)
DAY = Table("client_daily_usage", (_ORGANIZATION, _DAY, *_FIGURES), required=True, margin="day")
USER = Table(
    "client_user_daily_usage",
    (
        _ORGANIZATION,
        _DAY,
        *_FIGURES,
        Column("user_id", "name", ("user_id",)),
        _optional("user", "name", "openrouter_user_id", "external_user", "external_user_id"),
    ),
    margin="user",
    key="user",
)
MODEL = Table(
    "client_model_daily_usage",
    (
        _ORGANIZATION,
        _DAY,
        *_FIGURES,
        Column("model", "text", ("model_name", "model")),
        _optional("provider", "name"),
    ),
    margin="model",
    key="model",
)
PROCESSED = Table(
    "processed_generations",
    (
        Column("id", "text", ("id", "generation_id", "request_id")),
        _ORGANIZATION,
        Column("day", "day", ("generation_date", "date", "day")),
        Column("cost", "money", ("total_cost", "cost", "usage")),
        Column("total_tokens", "count", ("total_tokens", "tokens")),
    ),
)
SUMMARIES = (DAY, USER, MODEL)
TABLES = (ORGANIZATIONS, USERS, *SUMMARIES, PROCESSED)
# Views of what is here: made anew, so that nothing of them need be carried over.
NOT_CARRIED: Mapping[str, str] = {
    "client_live_counters": "live counters are of today: made anew from what counts here",
    "processed_generation_cleanup_log": "an audit of clean-ups in the other system: keep the file",
}


def matched(table: Table, names: Iterable[str]) -> dict[str, str]:
    """Which column of a table is which of ours; those that are not there are left out."""
    there = {name.lower(): name for name in names}
    found = {}
    for column in table.columns:
        name = next((there[name.lower()] for name in column.names if name.lower() in there), None)
        if name is not None:
            found[column.field] = name
    return found


def missing(table: Table, found: Mapping[str, str]) -> Sequence[Column]:
    """The columns that a table can't do without, and lacks."""
    return [column for column in table.columns if column.required and column.field not in found]


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'
