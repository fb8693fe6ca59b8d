"""Raw points, a page at a time: what is asked for, the statements, and where the next page begins.

    asked = asked_of({"from": "2026-11-20T10:00:00Z", "limit": "100"}, "acme")
    page = await queries.points(asked)
    page.next                        # goes into `cursor`; None: that was all

`from` and `to` are days, as the organisation has them, or instants; both are within. A page follows the
one before by its last row, so it costs the same wherever it begins; and with `model` it looks at a bounded
number of rows, so that it may be short, or empty, and still have a next one.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from streams import times

LIMIT = 1000
LIMIT_MAX = 10_000
SCANNED_ROWS_MAX = 50_000
_LAST_NS = 2**63 - 1

# Where a row stands: its day, its time, its id.
Place = tuple[str, Annotated[int, msgspec.Meta(ge=0, le=_LAST_NS)], str]

_COLUMNS = (
    "id, client_org_id, usage_date, time_ns AS time, model_name, provider, source, user_id,"
    " openrouter_user_id, prompt_tokens, completion_tokens, total_tokens, raw_cost_nano AS raw_cost,"
    " markup_cost_nano AS markup_cost, latency_ms, logged_ms AS logged_at"
)
_ORDER = "ORDER BY usage_date, time_ns, id"
# The fields of a row, in order.
COLUMNS: Sequence[str] = [text.rpartition(" ")[2] for text in _COLUMNS.split(", ")]

_places: msgspec.json.Decoder[Place] = msgspec.json.Decoder(Place)


class BadParameter(ValueError):
    """A parameter that can't be meant."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Asked(msgspec.Struct, frozen=True):
    """What is asked for: one organisation's points of these days and this time, after a place."""

    organization: str
    first_day: str = "0000"
    last_day: str = "9999"
    first_ns: int = 0
    last_ns: int = _LAST_NS
    model: str = ""
    limit: int = LIMIT
    after: Place | None = None


class Page(msgspec.Struct, frozen=True):
    """The rows, and the next page's cursor; None: there is no more."""

    rows: Sequence[Mapping[str, Any]]
    next: str | None


def asked_of(parameters: Mapping[str, str], organization: str) -> Asked:
    """A request's parameters; `BadParameter` names the one that is wrong. Pure.

    >>> asked_of({"from": "2026-11-20"}, "acme").first_day
    '2026-11-20'
    """
    first_day, first_ns = _edge(parameters, "from", -1) or ("0000", 0)
    last_day, last_ns = _edge(parameters, "to", 1) or ("9999", _LAST_NS)
    if first_day > last_day or first_ns > last_ns:
        raise BadParameter("to", "must not be before `from`")
    return Asked(
        organization,
        first_day,
        last_day,
        first_ns,
        last_ns,
        parameters.get("model", ""),
        limit_of(parameters.get("limit", str(LIMIT)), LIMIT_MAX),
        _place_of(parameters["cursor"]) if "cursor" in parameters else None,
    )


def _edge(parameters: Mapping[str, str], name: str, sign: int) -> tuple[str, int] | None:
    """A day and a time to begin or to end with. A zone's day is UTC's, or the one before or after it."""
    text = parameters.get(name)
    if text is None:
        return None
    unbounded_ns = 0 if sign < 0 else _LAST_NS
    try:
        if len(text) <= len("2026-11-20"):
            return times.date_text(text), unbounded_ns
        time_ns = times.nanoseconds_of(text)
    except ValueError:
        raise BadParameter(
            name, "must be a date such as 2026-11-20, or a time such as 2026-11-20T10:00:00Z"
        ) from None
    return times.day_of(time_ns + sign * times.DAY_NS, "UTC"), time_ns


def limit_of(text: str, most: int) -> int:
    """How many rows at most; `BadParameter` where it is no such number. Pure."""
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= most):
        raise BadParameter("limit", f"must be a number from 1 to {most}")
    return int(text)


def _place_of(cursor: str) -> Place:
    try:
        return _places.decode(urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise BadParameter("cursor", "must be `next` of the page before") from None


def cursor_of(place: Place) -> str:
    """A place as it goes to a caller and comes back."""
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def points_query(asked: Asked, until: Place | None = None) -> tuple[str, list[Any]]:
    """The statement of a page, up to a place: one row more than asked for, if there is one."""
    where, values = _where(asked)
    if until is not None:
        where, values = f"{where} AND (usage_date, time_ns, id) <= (?, ?, ?)", [*values, *until]
    if asked.model:
        where, values = f"{where} AND model_name = ?", [*values, asked.model]
    return f"SELECT {_COLUMNS} FROM usage_points WHERE {where} {_ORDER} LIMIT ?", [*values, asked.limit + 1]


def edge_query(asked: Asked) -> tuple[str, list[Any]]:
    """The statement that says how far a page may look for its model."""
    where, values = _where(asked)
    query = f"SELECT usage_date, time_ns, id FROM usage_points WHERE {where} {_ORDER} LIMIT 1 OFFSET ?"
    return query, [*values, SCANNED_ROWS_MAX - 1]


def _where(asked: Asked) -> tuple[str, list[Any]]:
    where = "client_org_id = ? AND usage_date <= ? AND time_ns >= ? AND time_ns <= ?"
    values: list[Any] = [asked.organization, asked.last_day, asked.first_ns, asked.last_ns]
    if asked.after is not None and asked.after[0] >= asked.first_day:
        return f"{where} AND (usage_date, time_ns, id) > (?, ?, ?)", [*values, *asked.after]
    return f"{where} AND usage_date >= ?", [*values, asked.first_day]


def paged(rows: Sequence[dict[str, Any]], asked: Asked, until: Place | None) -> Page:
    """What the statement found as a page; times become text, but not yet money. Pure."""
    shown = rows[: asked.limit]
    end = until
    if len(rows) > asked.limit:
        last = shown[-1]
        end = (last["usage_date"], last["time"], last["id"])
    for row in shown:
        row["time"] = times.text_of(row["time"])
        second, below_ms = divmod(row["logged_at"], 1000)
        row["logged_at"] = f"{times.text_of(second * times.SECOND_NS)[:-1]}.{below_ms:03d}Z"
    return Page(shown, None if end is None else cursor_of(end))
