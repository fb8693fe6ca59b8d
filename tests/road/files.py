"""A service's files, read from outside while it runs or when it has stopped.

    unapplied(data)                 # records on the log that the views have not taken yet
    model_of(data, traffic)         # the model, fed with the records in the log's own order

A record that a producer sent is known again by its line's number: the model is given the line as it was
posted, with the log's place and time, so that nothing the service made of it can mislead the model.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import msgspec

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

Row = tuple[int, int, bytes | None, bytes | None, bytes]
Place = tuple[str, int]


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


def unapplied(data: Path, view: str = "summaries") -> int:
    """How many records of `generations` a view has not taken."""
    taken = positions(data)
    return sum(
        end - 1 - taken.get((view, number), -1)
        for (topic, number), end in ends(data).items()
        if topic == "generations"
    )


def settled(data: Path) -> bool:
    """Has every view taken all there is?"""
    taken = positions(data)
    return all(
        taken.get((view, number), -1) >= end - 1
        for (topic, number), end in ends(data).items()
        for view in FOLLOWERS.get(topic, ())
    )


def rows(data: Path, topic: str) -> dict[int, list[Row]]:
    """All records of a topic, by partition: offset, log time, key, value, headers."""
    found: dict[int, list[Row]] = {}
    for connection in logs(data):
        partitions = connection.execute(
            'SELECT "partition", first_offset, compacted_below FROM partitions WHERE topic = ?', (topic,)
        ).fetchall()
        for number, first, compacted in partitions:
            assert (first, compacted) == (0, 0), f"{topic}/{number} has lost records that the model must see"
            sql = f'SELECT "offset", time_ms, key, value, headers FROM "{topic}-{number}" ORDER BY "offset"'
            found[number] = connection.execute(sql).fetchall()
    return found


def headers(raw: bytes) -> dict[str, bytes]:
    """A record's headers."""
    return dict(msgspec.msgpack.decode(raw, type=list[tuple[str, bytes]])) if raw else {}


def model_of(data: Path, traffic: Traffic) -> tuple[Model, Counter[int]]:
    """The model of all that is on the log, and how often each line came onto it."""
    model = Model(traffic.settings())
    told: Counter[int] = Counter()
    for number, records in rows(data, "generations").items():
        for _, time_ms, key, value, raw in records:
            assert key is not None and value is not None
            own = headers(raw).get("kind") == b"winner"
            line = value
            if not own:
                n = line_number(value)
                assert n is not None, f"a record that nobody sent: {value!r}"
                line = traffic.lines[n]
                told[n] += 1
                assert read(line) == read(value), f"the log has {value!r}, sent was {line!r}"
            model.take(Record(number, time_ms, key, line, own))
    return model, told


def settings_records(data: Path) -> list[SettingsRecord]:
    """When organisations and users were set up, by the log."""
    found: dict[tuple[str, ...], SettingsRecord] = {}
    for topic in ("organizations", "users"):
        for records in rows(data, topic).values():
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


def newest_values(data: Path) -> dict[bytes, bytes]:
    """The newest record of each key of `generations`: all that compaction would leave."""
    found: dict[bytes, bytes] = {}
    for records in rows(data, "generations").values():
        for _, _, key, value, _ in records:
            assert key is not None and value is not None
            found[key] = value
    return found
