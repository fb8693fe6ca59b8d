"""Points read back, in the language that the server speaks: Flux (1.8, 2, Cloud) or SQL (3).

    reader = reader_of(server)
    first_ns, last_ns = span_of("2026-11-20", "2026-11-20")
    async for point in reader.points(first_ns, last_ns, "acme"): ...
    async for stored in reader.stored(first_ns, last_ns): stored.stamp_ns, stored.void

Nothing is kept: rows come as the server sends them. A point belongs to the day in its field `day`, which is
its organisation's local day; a time range covers that day in every zone there is, and who reads filters.
"""

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from projections.points import Opening, Point
from projections.stores.influxdb import flux, sql
from projections.stores.influxdb.line import (
    OPENING,
    USAGE,
    opening_of_row,
    point_of_row,
    tag_text,
    text_of_tag,
)
from projections.stores.influxdb.server import Server
from streams import times
from streams.money import NANO

# What others wrote into our measurement may be of any type.
_UNSOUND = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError)
_AMOUNTS = ("prompt_tokens", "completion_tokens", "total_tokens", "cost_nano", "markup_nano", "unpriced")
_INTEGERS = (*_AMOUNTS, "created_ns", "offset", "logged_ms")
_BALANCE = (*_AMOUNTS, "requests", "offset", "logged_ms")
# Local days begin up to 14 hours before UTC's, and end up to 12 hours after.
EAST_NS, WEST_NS = 14 * times.HOUR_NS, 12 * times.HOUR_NS


class Stored(msgspec.Struct, frozen=True):
    """What stands at one time of one series. Of what is void the point has zeros; so it has of what lacks
    fields, or whose fields contradict each other: nobody here has written that.
    """

    stamp_ns: int
    point: Point
    void: bool = False
    whole: bool = True


class Reader(Protocol):
    """What may be asked, from one nanosecond on and up to before another; "" is every organisation."""

    def points(self, first_ns: int, last_ns: int, organization: str = "") -> AsyncIterator[Point]:
        """The points; voids are left out."""

    def stored(self, first_ns: int, last_ns: int, organization: str = "") -> AsyncIterator[Stored]:
        """All that stands there, with the time at which it does."""

    def openings(self, first_ns: int, last_ns: int, organization: str = "") -> AsyncIterator[Opening]:
        """The opening balances; their time is in the UTC day of their day."""


class _Rows(Protocol):
    """The rows of a measurement, as dicts of tags and fields and a time, in whichever language."""

    def __call__(
        self, measurement: str, first_ns: int, last_ns: int, tags: Mapping[str, str]
    ) -> AsyncIterator[Mapping[str, Any]]: ...


class _Reading:
    """A reader over whichever rows."""

    def __init__(self, rows: _Rows) -> None:
        self._rows = rows

    async def points(self, first_ns: int, last_ns: int, organization: str = "") -> AsyncIterator[Point]:
        """The points; voids are left out, and what is not whole."""
        async for row in self._rows(USAGE, first_ns, last_ns, _tags(organization)):
            stored = stored_of(row)
            if stored.whole and not stored.void:
                yield stored.point

    async def stored(self, first_ns: int, last_ns: int, organization: str = "") -> AsyncIterator[Stored]:
        """All that stands there, with the time at which it does."""
        async for row in self._rows(USAGE, first_ns, last_ns, _tags(organization)):
            yield stored_of(row)

    async def openings(self, first_ns: int, last_ns: int, organization: str = "") -> AsyncIterator[Opening]:
        """The opening balances; their time is in the UTC day of their day."""
        async for row in self._rows(OPENING, first_ns, last_ns, _tags(organization)):
            opening = _opening_of(row)
            if opening is not None:
                yield opening


def reader_of(server: Server) -> Reader:
    """The reader for a server that was opened."""
    language = sql if server.version == "3" else flux
    return _Reading(language.rows_of(server))


def span_of(first_day: str, last_day: str) -> tuple[int, int]:
    """The nanoseconds that hold these days in every zone. Pure.

    >>> first_ns, last_ns = span_of("2026-11-20", "2026-11-20")
    >>> (last_ns - first_ns) // times.HOUR_NS
    50
    """
    return day_ns(first_day) - EAST_NS, day_ns(last_day) + times.DAY_NS + WEST_NS


def day_ns(day: str) -> int:
    """Midnight UTC of a day."""
    return times.nanoseconds_of(f"{day}T00:00:00Z")


def times_ns(value: Any) -> int:
    """The time of a row: nanoseconds, or the text of a language that writes times as text. Pure.

    >>> times_ns("2026-11-20T23:30:00.000000123Z") - times_ns("2026-11-20T23:30:00")
    123
    """
    if isinstance(value, int):
        return value
    text = str(value)
    return times.nanoseconds_of(text if text.endswith("Z") else f"{text}Z")


def _tags(organization: str) -> Mapping[str, str]:
    return {"organization": tag_text(organization)} if organization else {}


def stored_of(row: Mapping[str, Any]) -> Stored:
    """What a row says, also one that somebody else has written. Pure."""
    stamp_ns = times_ns(row.get("_time", row.get("time")))
    try:
        point = point_of_row(row)
        sound = point is None or _agree(row, point)
    except _UNSOUND:
        return Stored(stamp_ns, _zeros(row), whole=False)
    if point is None or not sound:
        return Stored(stamp_ns, _zeros(row), void=point is None, whole=sound)
    return Stored(stamp_ns, point)


def _agree(row: Mapping[str, Any], point: Point) -> bool:
    """Whether the fields that a point doesn't keep say what the others do."""
    return (
        row["requests"] == 1
        and round(Decimal(row["cost"]) * NANO) == (point.cost_nano or 0)
        and all(isinstance(row[name], int) for name in _INTEGERS)
        and isinstance(point.user, str)
        and isinstance(point.user_id, str)
        and isinstance(point.day, str)
    )


def _opening_of(row: Mapping[str, Any]) -> Opening | None:
    """A balance; None of what lacks fields: written again, it has them."""
    try:
        opening = opening_of_row(row)
    except _UNSOUND:
        return None
    return opening if all(isinstance(row[name], int) for name in _BALANCE) else None


def _zeros(row: Mapping[str, Any]) -> Point:
    organization, model, provider, source, id = (
        text_of_tag(str(row.get(name) or ""))
        for name in ("organization", "model", "provider", "source", "request_id")
    )
    user, user_id, day = (str(row.get(name) or "") for name in ("user", "user_id", "day"))
    time_ns, offset, logged_ms = (_whole(row.get(name)) for name in ("created_ns", "offset", "logged_ms"))
    nothing = (0, 0, 0, 0, 0, None)
    return Point(
        id, time_ns, organization, model, provider, source, user, user_id, day, *nothing, offset, logged_ms
    )


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
