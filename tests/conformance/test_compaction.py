"""Compaction by the backends that do it themselves: on Kafka the brokers do, see tests/kafka."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from streams.log.sqlite.log import SqliteLog
from tests.conformance.test_log import everything, message, values

if TYPE_CHECKING:
    from tests.conformance.conftest import Backend

pytestmark = pytest.mark.parametrize("backend", ["sqlite", "sqlite-slow"], indirect=True)


async def test_compaction_keeps_the_newest_of_each_key(log: SqliteLog) -> None:
    """Older records of a key go; offsets stay as they were; records without a key stay."""
    batch = [(b"a", b"1"), (None, b"2"), (b"b", b"3"), (b"a", b"4"), (None, b"5"), (b"c", b"6"), (b"b", b"7")]
    await log.append([message("source", key, value) for key, value in batch])
    assert await log.compact("source") == 2
    records = await everything(log, "source")
    assert [(record.offset, record.value) for record in records] == [
        (1, b"2"), (3, b"4"), (4, b"5"), (5, b"6"), (6, b"7"),
    ]  # fmt: skip
    assert log.end_offset("source", 0) == 7
    assert log.start_offset("source", 0) == 1


async def test_a_read_from_a_removed_offset_gives_the_next(log: SqliteLog) -> None:
    """A position in a range that compaction removed goes on with the next record there is."""
    await log.append([message("source", b"a", b"%d" % i) for i in range(5)])
    await log.append([message("source", b"b", b"5")])
    await log.compact("source")
    assert [record.offset for record in await log.read("source", 0, 1, 10)] == [4, 5]


async def test_a_null_stands_until_a_later_compaction(log: SqliteLog) -> None:
    """The first compaction that sees a null keeps it, the next one removes it."""
    await log.append(
        [message("source", b"a", b"1"), message("source", b"a", None), message("source", b"b", b"2")]
    )
    assert await log.compact("source") == 1
    assert await values(log, "source") == [None, b"2"]
    assert await log.compact("source") == 1
    assert await values(log, "source") == [b"2"]


async def test_the_last_record_stays_whatever_it_is(backend: "Backend") -> None:
    """A null at the end outlives every compaction, and the next offset is never given twice."""
    log = await backend.open()
    assert isinstance(log, SqliteLog)
    await log.append([message("source", b"a", b"1"), message("source", b"a", None)])
    for _ in range(3):
        await log.compact("source")
    assert await values(log, "source") == [None]
    await log.close()
    again = await backend.open()
    assert list(await again.append([message("source", b"a", b"2")])) == [2]


async def test_compaction_leaves_other_topics_alone(log: SqliteLog) -> None:
    """A topic that is not compacted keeps everything."""
    await log.append([message("facts", b"a", b"1"), message("facts", b"a", b"2")])
    assert await log.compact("facts") == 0
    assert await values(log, "facts") == [b"1", b"2"]


async def test_appends_go_on_during_a_compaction(log: SqliteLog) -> None:
    """What is written meanwhile is kept, and is the newest of its key."""
    await log.append([message("source", b"%d" % (i % 10), b"%d" % i) for i in range(3_000)])
    compaction = asyncio.create_task(log.compact("source"))
    for i in range(10):
        await log.append([message("source", b"%d" % i, b"new")])
    await compaction
    await log.compact("source")
    assert await values(log, "source") == [b"new"] * 10


async def test_old_records_expire(backend: "Backend") -> None:
    """A topic with a retention loses what is older, but never its last record."""
    log = await backend.open()
    assert isinstance(log, SqliteLog)
    await log.append([message("aged", b"a", b"1"), message("aged", b"a", b"2")])
    backend.now_ms += 600
    await log.append([message("aged", b"a", b"3")])
    backend.now_ms += 600
    assert await log.compact("aged") == 2
    assert await values(log, "aged") == [b"3"]
    backend.now_ms += 10_000
    assert await log.compact("aged") == 0
    assert (log.start_offset("aged", 0), log.end_offset("aged", 0)) == (2, 3)


async def test_a_null_goes_only_when_a_whole_pass_has_seen_it(log: SqliteLog) -> None:
    """Below where a pass ended nulls may be missing, and from there on none is."""
    await log.append(
        [message("changes", b"a", b"1"), message("changes", b"a", None), message("changes", b"b", b"1")]
    )
    assert await log.nulls_from("changes", 0) == 0
    assert await log.compact("changes", {0: 2}) == 1
    assert await log.nulls_from("changes", 0) == 2
    await log.append([message("changes", b"b", None), message("changes", b"c", b"2")])
    assert await log.compact("changes", {0: 4}) == 2
    assert [(r.offset, r.value) for r in await everything(log, "changes")] == [(3, None), (4, b"2")]
    assert await log.nulls_from("changes", 0) == 4


async def test_only_what_is_named_is_compacted(log: SqliteLog) -> None:
    """With offsets given, a partition without one is left alone, and nothing is judged beyond."""
    for partition in (0, 1):
        await log.append([message("source", b"a", b"%d" % i, partition=partition) for i in range(4)])
    assert await log.compact("source", {1: 2}) == 1
    assert [r.offset for r in await log.read("source", 0, 0, 10)] == [0, 1, 2, 3]
    assert [r.offset for r in await log.read("source", 1, 0, 10)] == [1, 2, 3]


async def test_a_topic_has_a_size(log: SqliteLog) -> None:
    """Records are counted by offsets, and after a compaction by what it left; bytes are about right."""
    await log.append([message("source", b"%d" % (i % 5), b"v" * 100) for i in range(50)])
    size = await log.size("source")
    assert (size.records, size.appended, size.compacted_ms) == (50, 50, 0)
    assert size.size_bytes is not None and 5_000 < size.size_bytes < 8_000
    assert await log.compact("source") == 45
    await log.append([message("source", b"0", b"new")])
    size = await log.size("source")
    assert (size.records, size.appended) == (6, 1)
    assert size.compacted_ms > 0
