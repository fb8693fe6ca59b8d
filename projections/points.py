"""Each call as a point in time: what counts now of every generation id, void ones left out.

>>> entry = Entry("acme", "2026-11-20", "2026-11-20", model="m", cost_nano=5, created_ns=10**18)
>>> changes = fold([Fact("counted", "gen-1", partition=0, offset=7, prev=6, time_ms=1, plus=entry)])
>>> changes.points["gen-1"].cost_nano, changes.gone
(5, [])

`points` is what an id's point is from here on; `gone` are points as they were, which an amendment has put
elsewhere (another time or another tag) or a void has ended. A forgotten id keeps its point: what was used
was used. Opening balances have no calls behind them: they are `openings`, one for each row of a table.
"""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from projections.view import decode_fact
from streams import topics
from streams.fact import Entry, Fact, effects, unpriced
from streams.log.interface import Record

_SECOND_NS = 1_000_000_000
_MS_NS = 1_000_000


class Point(msgspec.Struct, frozen=True, gc=False):
    """One call. `offset` and `logged_ms` are those of the fact that made the point what it is.

    Unknown costs and latencies are None, never zero.
    """

    request_id: str
    time_ns: int
    organization: str
    model: str
    provider: str
    source: str
    user: str
    user_id: str
    day: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_nano: int | None
    markup_nano: int | None
    latency_ms: int | None
    offset: int
    logged_ms: int

    @property
    def identity(self) -> tuple[str, ...]:
        """What must not change for a point to be written over: its tags and its time, which hold the id."""
        return (self.organization, self.model, self.provider, self.source, str(self.time_ns), self.request_id)


class Opening(msgspec.Struct, frozen=True, gc=False):
    """An opening balance: one row of one of the three tables, by its margin."""

    organization: str
    day: str
    margin: str
    row: str  # the user of a user's row, the model of a model's; "" of the day's
    user_id: str
    provider: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_nano: int
    markup_nano: int
    unpriced: int
    offset: int
    logged_ms: int


class Changes:
    """First what is `gone` goes, then `points` and `openings` are written."""

    __slots__ = ("gone", "openings", "points")

    def __init__(self) -> None:
        self.points: dict[str, Point] = {}
        self.gone: list[Point] = []
        self.openings: dict[tuple[str, str, str, str], Opening] = {}


def stamp_ns(time_ns: int, request_id: str) -> int:
    """The nanosecond of a point: its own millisecond, or second where that is all that is known, and a place
    in it by the id's hash, so that calls of the same moment are points of their own. Pure.

    >>> stamp_ns(1_000_000_000, "gen-1") // 1_000_000_000, stamp_ns(1_500_000_000, "gen-1") // 1_000_000
    (1, 1500)
    """
    hashed = int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest(), "big")
    span_ns = _SECOND_NS if time_ns % _SECOND_NS == 0 else _MS_NS
    return time_ns // span_ns * span_ns + hashed % span_ns


def fold(facts: Sequence[Fact]) -> Changes:
    """Facts in, what becomes of points out."""
    changes = Changes()
    points = changes.points
    gone: dict[tuple[str, ...], Point] = {}
    for fact in facts:
        if fact.plus is not None and fact.plus.margin:
            # The newest of a row is the row: one of no requests says that it was taken back.
            opening = _opening(fact, fact.plus)
            changes.openings[opening.organization, opening.day, opening.margin, opening.row] = opening
            continue
        for sign, entry in effects(fact):
            if sign > 0:
                point = points[fact.id] = point_of(fact, entry)
                gone.pop(point.identity, None)
            else:
                points.pop(fact.id, None)
                before = point_of(fact, entry)
                gone[before.identity] = before
    changes.gone = list(gone.values())
    return changes


def point_of(fact: Fact, entry: Entry) -> Point:
    """One side of a fact as a point.

    What the log dated is dated to the second: a file of undated calls comes in one millisecond, in which
    thousands of them would fall on each other's place.
    """
    return Point(
        fact.id,
        entry.created_ns // _SECOND_NS * _SECOND_NS if entry.dated else entry.created_ns,
        entry.organization,
        entry.model,
        entry.provider,
        entry.source,
        entry.user,
        entry.user_id or entry.user,
        entry.day,
        entry.prompt_tokens,
        entry.completion_tokens,
        entry.total_tokens,
        entry.cost_nano,
        entry.markup_nano,
        entry.latency_ms,
        fact.offset,
        fact.time_ms,
    )


def _opening(fact: Fact, entry: Entry) -> Opening:
    return Opening(
        entry.organization,
        entry.day,
        entry.margin,
        {"user": entry.user, "model": entry.model}.get(entry.margin, ""),
        entry.user_id or entry.user,
        entry.provider,
        entry.requests,
        entry.prompt_tokens,
        entry.completion_tokens,
        entry.total_tokens,
        entry.cost_nano or 0,
        entry.markup_nano or 0,
        unpriced(entry),
        fact.offset,
        fact.time_ms,
    )


class Points:
    """The view."""

    name = "points"
    version = 1
    topics = (topics.USAGE,)

    def decode(self, record: Record) -> Fact:
        """A record of `usage` as its fact."""
        return decode_fact(record)

    def fold(self, items: Sequence[Fact]) -> Changes:
        """Facts in, what becomes of points out."""
        return fold(items)
