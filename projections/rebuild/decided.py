"""`generations` decided anew, read as `usage` is: what a rebuild from the events themselves stands on.

    log = Decided(log, settings, folder)
    await log.refresh(["usage"])
    records = await log.read("usage", 2, 0, 10_000)      # facts, one for each event

The ledger's own decisions are made again, with the settings as they stood at each record's log time. Of a log
that was compacted it sees what compaction left: the winners, and so the same totals, but fewer fates. What is
known of ids is kept on disk in a folder of its own, for there may be more than memory holds.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from streams import topics
from streams.decider import Decider
from streams.directory import Directory
from streams.log.interface import Log, Record
from streams.rules import Rules
from streams.seen.shelf import Shelf, open_shelf
from streams.settings import Settings


class Decided:
    """A log whose `usage` is decided as it is read; the other topics are the log's own."""

    def __init__(self, log: Log, settings: Settings, folder: Path) -> None:
        self._log = log
        self._folder = folder
        self._directory = Directory(log)
        rules = Rules.of(self._directory, settings)
        self._decider = Decider(self, rules, log.partitions(topics.GENERATIONS))
        self._shelves: dict[int, Shelf] = {}
        self._last: dict[int, tuple[int, int]] = {}

    def start_offset(self, topic: str, partition: int) -> int:
        """Where the events begin."""
        return self._log.start_offset(_source(topic), partition)

    def end_offset(self, topic: str, partition: int) -> int:
        """Where the events end."""
        return self._log.end_offset(_source(topic), partition)

    async def refresh(self, names: Iterable[str]) -> None:
        """Learn where they end now, and who there is."""
        await self._log.refresh({_source(topic) for topic in names})
        await self._directory.refresh()

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]:
        """Facts of the events from an offset on, in order: each event is decided once."""
        records = await self._log.read(_source(topic), partition, offset, limit)
        if topic != topics.USAGE or not records:
            return records
        prev, number = self._last.get(partition, (-1, 0))
        outcome = self._decider.decide(partition, records, prev, number)
        self._shelf(partition).write(outcome.changes, records[-1].offset + 1)
        self._last[partition] = records[-1].offset, number + len(records)
        return [
            Record(topic, partition, event.offset, event.time_ms, fact.key, fact.value, fact.headers)
            for event, fact in zip(records, outcome.facts, strict=True)
        ]

    def get_many(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """What is known of keys so far."""
        return self._shelf(partition).get_many(keys)

    def close(self) -> None:
        """Let go of what is known."""
        for shelf in self._shelves.values():
            shelf.close()

    def _shelf(self, partition: int) -> Shelf:
        found = self._shelves.get(partition)
        if found is None:
            path = self._folder / str(partition)
            found = self._shelves[partition] = open_shelf(path, self._log.identity, 0)
        return found


def _source(topic: str) -> str:
    return topics.GENERATIONS if topic == topics.USAGE else topic
