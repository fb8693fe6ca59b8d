"""A service's files and its log, read from outside while it runs or when it has stopped.

    unapplied(data)                 # records on the log that the views have not taken yet
    model_of(data, traffic)         # the model, fed with the records in the log's own order

The log is the embedded one's files, unless another one is given: `Records` is what is asked of it.

A record that a producer sent is known again by its line's number: the model is given the line as it was
posted, with the log's place and time, so that nothing the service made of it can mislead the model.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import msgspec
from aiokafka.partitioner import murmur2

from tests.model.events import line_number, read
from tests.model.ledger import Model, Record
from tests.model.tables import SettingsRecord
from tests.model.traffic import Traffic

VIEWS = "genledger.db"
FOLLOWERS = {
    "generations": ("summaries", "processed"),
    "organizations": ("organizations",),
    "users": ("users",),
}

# Offset, log time, key, value, headers.
Row = tuple[int, int, bytes | None, bytes | None, Mapping[str, bytes]]
Place = tuple[str, int]


class Records(Protocol):
    """A log as the comparison reads it."""

    def refresh(self) -> None:
        """Learn what has come since."""

    def places(self) -> Sequence[Place]:
        """Every partition of every topic."""

    def after(self, topic: str, number: int, offset: int) -> int:
        """How many records stand behind an offset; -1 is before the first."""

    def rows(self, topic: str) -> Mapping[int, Sequence[Row]]:
        """All records of a topic, by partition, in order."""


def connect(path: Path) -> sqlite3.Connection:
    """A file, to be read only."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)


def logs(data: Path) -> Iterator[sqlite3.Connection]:
    """Each file of the log."""
    for path in sorted((data / "log").glob("*.db")):
        with closing(connect(path)) as connection:
            yield connection


def ends(data: Path) -> dict[Place, int]:
    """The next offset of each partition of each topic."""
    found: dict[Place, int] = {}
    for connection in logs(data):
        for topic, number, end in connection.execute(
            'SELECT topic, "partition", next_offset FROM partitions'
        ):
            found[topic, number] = end
    return found


def positions(data: Path) -> dict[tuple[str, int], int]:
    """The last record of the log that each view has taken."""
    if not (data / VIEWS).exists():
        return {}
    with closing(connect(data / VIEWS)) as connection:
        try:
            rows = connection.execute('SELECT projection, "partition", source_offset FROM positions')
            return {(projection, number): offset for projection, number, offset in rows}
        except sqlite3.OperationalError:  # not yet made
            return {}


class Files:
    """The embedded log, as it is on disk."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._ends: dict[Place, int] = {}
        self.refresh()

    def refresh(self) -> None:
        self._ends = ends(self._data)

    def places(self) -> Sequence[Place]:
        return list(self._ends)

    def after(self, topic: str, number: int, offset: int) -> int:
        return max(0, self._ends[topic, number] - 1 - offset)

    def rows(self, topic: str) -> Mapping[int, Sequence[Row]]:
        found: dict[int, Sequence[Row]] = {}
        for connection in logs(self._data):
            partitions = connection.execute(
                'SELECT "partition", first_offset, compacted_below FROM partitions WHERE topic = ?', (topic,)
            ).fetchall()
            for number, first, compacted in partitions:
                assert (first, compacted) == (0, 0), (
                    f"{topic}/{number} has lost records that the model must see"
                )
                sql = f'SELECT "offset", time_ms, key, value, headers FROM "{topic}-{number}" ORDER BY 1'
                found[number] = [(*row[:4], headers(row[4])) for row in connection.execute(sql)]
        return found


def headers(raw: bytes) -> dict[str, bytes]:
    """A record's headers, as the embedded log keeps them."""
    return dict(msgspec.msgpack.decode(raw, type=list[tuple[str, bytes]])) if raw else {}


def unapplied(data: Path, view: str = "summaries", log: Records | None = None) -> int:
    """How many records of `generations` a view has not taken."""
    taken = positions(data)  # before the ends: what comes between the two must not be missed
    log = _fresh(data, log)
    return sum(
        log.after(topic, number, taken.get((view, number), -1))
        for topic, number in log.places()
        if topic == "generations"
    )


def settled(data: Path, log: Records | None = None) -> bool:
    """Has every view taken all there is?"""
    taken = positions(data)  # before the ends: what comes between the two must not be missed
    log = _fresh(data, log)
    return all(
        not log.after(topic, number, taken.get((view, number), -1))
        for topic, number in log.places()
        for view in FOLLOWERS.get(topic, ())
    )


def _fresh(data: Path, log: Records | None) -> Records:
    if log is None:
        return Files(data)
    log.refresh()
    return log


def home(key: bytes, partitions: int) -> int:
    """The partition that a key belongs to, by aiokafka's hash and not by ours."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def model_of(data: Path, traffic: Traffic, log: Records | None = None) -> tuple[Model, Counter[int]]:
    """The model of all that is on the log, and how often each line came onto it, into its own partition.

    A record elsewhere is rerouted, and so is the null that takes its place.
    """
    model = Model(traffic.settings())
    told: Counter[int] = Counter()
    misplaced: Counter[tuple[int, bytes]] = Counter()
    found = (log or Files(data)).rows("generations")
    for number, records in found.items():
        for _, time_ms, key, value, header in records:
            assert key is not None
            if home(key, len(found)) != number:
                misplaced[number, key] += 1 if value is not None else -1
                model.books.setdefault(number, Counter())["rerouted"] += 1
                continue
            assert value is not None, f"a null in the partition of {key!r}"
            own = header.get("kind") == b"winner"
            line = value if own else _as_sent(value, traffic, told)
            model.take(Record(number, time_ms, key, line, own))
    assert not any(misplaced.values()), "a misplaced record without its null, or a null too many"
    return model, told


def _as_sent(value: bytes, traffic: Traffic, told: Counter[int]) -> bytes:
    """The line that became this record."""
    n = line_number(value)
    assert n is not None, f"a record that nobody sent: {value!r}"
    line = traffic.lines[n]
    told[n] += 1
    assert read(line) == read(value), f"the log has {value!r}, sent was {line!r}"
    return line


def settings_records(data: Path, log: Records | None = None) -> list[SettingsRecord]:
    """When organisations and users were set up, by the log."""
    log = log or Files(data)
    found: dict[tuple[str, ...], SettingsRecord] = {}
    for topic in ("organizations", "users"):
        for records in log.rows(topic).values():
            for _, time_ms, _, value, _ in records:
                assert value is not None
                body: Mapping[str, object] = json.loads(value)
                created_ms = body["created_ms"]
                assert isinstance(created_ms, int) and abs(time_ms - created_ms) < 600_000
                key = (str(body["id"]),) if topic == "organizations" else _user_key(body)
                found[key] = SettingsRecord(key, created_ms, time_ms)
    return list(found.values())


def _user_key(body: Mapping[str, object]) -> tuple[str, ...]:
    return str(body["organization"]), str(body["user"])


def newest_values(data: Path, log: Records | None = None) -> dict[bytes, bytes]:
    """The newest record of each key of `generations`: all that compaction would leave."""
    newest: dict[bytes, bytes] = {}
    found = (log or Files(data)).rows("generations")
    for number, records in found.items():
        last = {key: value for _, _, key, value, _ in records}
        for key, value in last.items():
            assert key is not None
            if home(key, len(found)) != number:
                assert value is None, f"compaction would leave a misplaced record of {key!r} in {number}"
            else:
                assert value is not None
                newest[key] = value
    return newest
