"""One partition of one topic, read in order and folded for each view that follows it.

    course = Course(log, "usage", 2, views, positions, end)
    while step := await course.step():
        send(step)                  # what the views' rows change by, and where that brings each view

A view is never brought beyond its stop; without stops a course goes to the end there was when it began,
then once more to the end there is when it comes there: what is left behind it is a moment's traffic.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from projections.view import Position, View, folded
from streams import topics
from streams.fact import Fact
from streams.log.interface import Record
from streams.money import marked_up, text_of

READ_RECORDS = 10_000
LOOKS = 2


class Change(msgspec.Struct, frozen=True):
    """What one view's rows change by, and the positions that this leads from and to."""

    view: str
    before: Position
    after: Position
    changes: Any


class Contradiction(msgspec.Struct, frozen=True):
    """A fact whose own figures don't agree. `offset` is -1 where they are those of what was before it."""

    id: str
    text: str
    offset: int = -1


class Step(msgspec.Struct, frozen=True):
    """What a batch of one partition comes to."""

    topic: str
    partition: int
    records: int
    changes: list[Change]
    contradictions: list[Contradiction] = []


class Reads(Protocol):
    """Where a course's records come from: the log as it is, or facts decided anew."""

    def start_offset(self, topic: str, partition: int) -> int: ...

    def end_offset(self, topic: str, partition: int) -> int: ...

    async def refresh(self, topics: Iterable[str]) -> None: ...

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]: ...


class Course:
    """A partition on its way. It ends for good when `step` says None."""

    def __init__(
        self,
        log: Reads,
        place: tuple[str, int],
        positions: Mapping[str, Position],
        views: Sequence[View[Any, Any]],
        stops: Mapping[str, int] | None = None,
        until_ms: int | None = None,
        *,
        checks: bool = False,
    ) -> None:
        self._log = log
        self._topic, self._partition = place
        self._views = views
        self._positions = dict(positions)
        self._stops = stops
        self._until_ms = until_ms
        self._checks = checks and place[0] == topics.USAGE
        first = min(position.usage_offset for position in positions.values()) + 1
        self._offset = max(first, log.start_offset(*place))
        self._end = self._end_now()
        self._looks = 1

    @property
    def left(self) -> int:
        """How many records there are to be read, as far as offsets tell."""
        return max(0, self._end - self._offset)

    async def step(self) -> Step | None:
        """The next batch, folded; None when there is nothing more to read."""
        if self._offset >= self._end and not await self._look_again():
            return None
        limit = min(READ_RECORDS, self._end - self._offset)
        records = await self._log.read(self._topic, self._partition, self._offset, limit)
        records = [record for record in records if record.offset < self._end]
        # Views of one topic see the same thing in a record.
        items = [self._views[0].decode(record) for record in records]
        within = len(records)
        if self._until_ms is not None:
            late = (n for n, item in enumerate(items) if item.time_ms > self._until_ms)
            within = next(late, within)
        if within < len(records):
            self._end, self._looks = self._offset, LOOKS
        if within == 0:
            self._offset, self._looks = self._end, LOOKS
            return None
        changes = [self._change(view, records[:within], items[:within]) for view in self._views]
        if within == len(records):
            self._offset = records[-1].offset + 1
        return Step(
            self._topic,
            self._partition,
            within,
            [change for change in changes if change is not None],
            list(_contradictions(items[:within])) if self._checks else [],
        )

    def _change(self, view: View[Any, Any], records: Sequence[Record], items: Sequence[Any]) -> Change | None:
        before = self._positions[view.name]
        if self._stops is not None:
            stop = self._stops.get(view.name, -1)
            within = sum(record.offset <= stop for record in records)
            records, items = records[:within], items[:within]
        work = folded(view, records, items, before)
        if work.changes is None:
            return None
        self._positions[view.name] = work.after
        return Change(view.name, before, work.after, work.changes)

    def _end_now(self) -> int:
        if self._stops is not None:
            return max(self._stops.values(), default=-1) + 1
        return self._log.end_offset(self._topic, self._partition)

    async def _look_again(self) -> bool:
        """Whether there is more by now. Not for ever: traffic could be as fast as we are."""
        if self._looks >= LOOKS or self._stops is not None:
            return False
        self._looks += 1
        await self._log.refresh([self._topic])
        self._end = self._end_now()
        return self._offset < self._end


def _contradictions(facts: Sequence[Fact]) -> Iterator[Contradiction]:
    """Facts whose markup is not their cost times their rate, to the nano-dollar."""
    for fact in facts:
        for entry in (fact.plus, fact.minus):
            if entry is None or entry.cost_nano is None or entry.margin:
                continue
            right_nano = marked_up(entry.cost_nano, entry.rate)
            if entry.markup_nano != right_nano:
                found = None if entry.markup_nano is None else text_of(entry.markup_nano)
                yield Contradiction(
                    fact.id,
                    f"marked up to {found}, which is not {text_of(entry.cost_nano)} at {entry.rate}:"
                    f" that is {text_of(right_nano)}",
                    fact.offset if entry is fact.plus else -1,
                )
