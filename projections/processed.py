"""Was this generation taken, whose is it, and what is it worth? One row for each generation id.

>>> entry = Entry(organization="acme", day="2026-11-20", today="2026-11-20", total_tokens=7, cost_nano=5)
>>> fold([Fact(fate="counted", id="gen-1", partition=0, offset=0, prev=-1, time_ms=1000, plus=entry)]).rows
{'gen-1': Row(organization='acme', day='2026-11-20', time_s=1, total_tokens=7, cost_nano=5)}

A voided id keeps its row, with zeros; one that is forgotten, or that a migration took back, loses it. A cost
that nobody knows stays unknown. The seeds' questions of this name are asked of the service: `remote.py`.
"""

from collections.abc import Sequence

import msgspec

from projections.remote import cleanup_old_processed_generations, is_duplicate, is_generation_processed
from projections.view import decode_fact
from streams import topics
from streams.fact import Entry, Fact
from streams.log.interface import Record

__all__ = [
    "Changes",
    "Processed",
    "Row",
    "cleanup_old_processed_generations",
    "fold",
    "is_duplicate",
    "is_generation_processed",
]

_TAKEN = frozenset(("counted", "amended", "voided", "conflict", "opening"))


class Row(msgspec.Struct, frozen=True, gc=False):
    """What an id is worth from here on. `time_s` is its first log time in the batch."""

    organization: str
    day: str
    time_s: int
    total_tokens: int
    cost_nano: int | None


class Changes:
    """First the ids of `forgotten` lose their rows, then `rows` are written."""

    __slots__ = ("forgotten", "rows")

    def __init__(self) -> None:
        self.forgotten: set[str] = set()
        self.rows: dict[str, Row] = {}


def fold(facts: Sequence[Fact]) -> Changes:
    """Facts in, the last state of each id out."""
    changes = Changes()
    rows = changes.rows
    for fact in facts:
        entry = fact.plus
        if fact.fate == "forgotten" or _is_taken_back(fact):
            rows.pop(fact.id, None)
            changes.forgotten.add(fact.id)
        elif entry is not None and fact.fate in _TAKEN and not entry.margin:
            time_s = fact.time_ms // 1000
            before = rows.get(fact.id)
            rows[fact.id] = _row(entry, time_s if before is None else min(time_s, before.time_s))
    return changes


def _is_taken_back(fact: Fact) -> bool:
    # A migration was rolled back: the id is as unknown as before it.
    return fact.fate == "opening" and fact.plus is None and fact.minus is not None


def _row(entry: Entry, time_s: int) -> Row:
    if entry.requests == 0:
        return Row(entry.organization, entry.day, time_s, 0, 0)
    return Row(entry.organization, entry.day, time_s, entry.total_tokens, entry.cost_nano)


class Processed:
    """The view."""

    name = "processed"
    version = 1
    topics = (topics.USAGE,)

    def decode(self, record: Record) -> Fact:
        """A record of `usage` as its fact."""
        return decode_fact(record)

    def fold(self, items: Sequence[Fact]) -> Changes:
        """Facts in, the last state of each id out."""
        return fold(items)
