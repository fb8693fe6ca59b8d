"""What `streams/log/interface.py` promises, asked of every backend."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from streams.clock import now_ms
from streams.errors import Fenced, LogError, UnknownTopic
from streams.log.interface import Headers, Log, Message, Record

if TYPE_CHECKING:
    from tests.conformance.conftest import Backend


def message(topic: str, key: bytes | None, value: bytes | None, partition: int = 0) -> Message:
    return Message(topic, partition, key, value)


async def everything(log: Log, topic: str, partition: int = 0) -> Sequence[Record]:
    found: list[Record] = []
    offset = 0
    while offset < log.end_offset(topic, partition):
        batch = await log.read(topic, partition, offset, 1_000)
        found += batch
        offset = batch[-1].offset + 1
    return found


async def values(log: Log, topic: str, partition: int = 0) -> list[bytes | None]:
    return [record.value for record in await everything(log, topic, partition)]


async def test_what_is_appended_is_read_back(log: Log) -> None:
    """A message comes back as it was, with its offset and the log's time."""
    headers: Headers = (("schema", b"1"), ("empty", b""), ("schema", b"\x00\xff"))
    sent = Message("facts", 1, b"k", b"v", headers)
    assert list(await log.append([sent])) == [0]
    (record,) = await log.read("facts", 1, 0, 10)
    assert record.time_ms > 1_600_000_000_000
    assert record == Record("facts", 1, 0, record.time_ms, b"k", b"v", headers)


@pytest.mark.parametrize("key", [None, b"", b"k"])
@pytest.mark.parametrize("value", [None, b"", b"v"])
async def test_none_is_not_empty(log: Log, key: bytes | None, value: bytes | None) -> None:
    """A missing key or value comes back missing, an empty one empty."""
    await log.append([message("facts", key, value)])
    (record,) = await log.read("facts", 0, 0, 10)
    assert (record.key, record.value) == (key, value)


async def test_offsets_follow_one_another_in_each_partition(log: Log) -> None:
    """One call over two partitions gives each its own next offsets, in the order of the messages."""
    batch = [message("facts", b"%d" % i, b"", partition=i % 2) for i in range(6)]
    assert list(await log.append(batch)) == [0, 0, 1, 1, 2, 2]
    assert list(await log.append(batch[:1])) == [3]
    assert (log.end_offset("facts", 0), log.end_offset("facts", 1)) == (4, 3)


async def test_an_empty_append_is_nothing(log: Log) -> None:
    """No messages, no offsets, no change."""
    assert list(await log.append([])) == []
    assert log.end_offset("facts", 0) == 0


async def test_concurrent_appends_get_distinct_consecutive_offsets(log: Log) -> None:
    """Many callers at once: every offset is given once, and each call's messages stay together in order."""
    calls = [[message("facts", b"%d-%d" % (call, i), b"") for i in range(7)] for call in range(50)]
    given = await asyncio.gather(*(log.append(batch) for batch in calls))
    assert sorted(offset for offsets in given for offset in offsets) == list(range(350))
    records = await everything(log, "facts")
    for batch, offsets in zip(calls, given, strict=True):
        assert list(offsets) == list(range(offsets[0], offsets[0] + 7))
        assert [records[offset].key for offset in offsets] == [sent.key for sent in batch]


async def test_records_outlive_the_log_that_wrote_them(backend: "Backend") -> None:
    """Closed and opened again, the log has the same records, offsets, progress and identity."""
    log = await backend.open()
    await log.append([message("facts", b"k", b"v")])
    writer = await log.writer("g", "source", 0)
    await writer.commit([message("facts", b"k2", b"v2")], 5)
    identity = log.identity
    await log.close()
    again = await backend.open()
    assert await values(again, "facts") == [b"v", b"v2"]
    assert await again.committed("g", "source", 0) == 5
    assert again.identity == identity
    assert list(await again.append([message("facts", b"k", b"v3")])) >= [2]


async def test_a_read_is_limited(log: Log) -> None:
    """No more records than asked for, from the offset asked for; none beyond the end."""
    await log.append([message("facts", b"k", b"%d" % i) for i in range(10)])
    assert [record.offset for record in await log.read("facts", 0, 4, 3)] == [4, 5, 6]
    assert list(await log.read("facts", 0, 10, 3)) == []
    assert list(await log.read("facts", 0, 99, 3)) == []


async def test_a_read_is_limited_by_bytes(log: Log) -> None:
    """Big values come a few at a time, and one larger than the batch comes alone."""
    sizes = [3 << 20, 3 << 20, 3 << 20, 3 << 20]
    for size in sizes:
        await log.append([message("facts", b"k", bytes(size))])
    assert 1 <= len(await log.read("facts", 0, 0, 100)) < len(sizes)
    assert [len(value or b"") for value in await values(log, "facts")] == sizes


async def test_an_unknown_topic_or_partition_is_named(log: Log) -> None:
    """Asking for what is not there is an error of its own, and writes nothing."""
    with pytest.raises(UnknownTopic, match="nowhere"):
        await log.append([message("nowhere", b"k", b"v")])
    with pytest.raises(UnknownTopic, match="nowhere"):
        log.partitions("nowhere")
    with pytest.raises(LogError):
        await log.append([message("facts", b"k", b"v"), message("facts", b"k", b"v", partition=2)])
    assert log.end_offset("facts", 0) == 0
    assert log.partitions("facts") == 2


async def test_what_is_not_bytes_is_refused_alone(log: Log) -> None:
    """A message that can't be written is its caller's error; the log goes on."""
    with pytest.raises(LogError):
        await log.append([message("facts", b"k", "text")])  # type: ignore[arg-type]
    with pytest.raises(LogError):
        await log.append([Message("facts", 0, b"k", b"v", (("\ud800", b""),))])
    assert list(await log.append([message("facts", b"k", b"v")])) == [0]


async def test_a_writer_moves_messages_and_offset_together(log: Log) -> None:
    """After a commit both are there; the last offset of each partition is the answer."""
    writer = await log.writer("g", "source", 1)
    assert await log.committed("g", "source", 1) is None
    batch = [message("facts", b"a", b"", 0), message("facts", b"b", b"", 0), message("changes", b"c", b"", 1)]
    assert await writer.commit(batch, 17) == {("facts", 0): 1, ("changes", 1): 0}
    assert await log.committed("g", "source", 1) == 17
    assert await log.committed("other", "source", 1) is None
    assert await writer.commit([], 18) == {}
    assert await log.committed("g", "source", 1) == 18


async def test_a_writer_that_was_taken_over_is_refused(log: Log) -> None:
    """The former writer's commit raises, and neither its messages nor its offset are there."""
    former = await log.writer("g", "source", 0)
    await former.commit([message("facts", b"k", b"1")], 1)
    other = await log.writer("g", "source", 1)
    newest = await log.writer("g", "source", 0)
    with pytest.raises(Fenced):
        await former.commit([message("facts", b"k", b"late")], 2)
    assert await log.committed("g", "source", 0) == 1
    await newest.commit([message("facts", b"k", b"2")], 2)
    await other.commit([message("facts", b"k", b"3")], 9)
    assert await values(log, "facts") == [b"1", b"2", b"3"]


async def test_a_fenced_commit_takes_no_other_with_it(log: Log) -> None:
    """Among commits that are written together, only the former writer's is refused."""
    former = await log.writer("g", "source", 0)
    newest = await log.writer("g", "source", 0)
    outcomes = await asyncio.gather(
        log.append([message("facts", b"k", b"a")]),
        former.commit([message("facts", b"k", b"late")], 1),
        newest.commit([message("facts", b"k", b"b")], 1),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [Fenced]
    assert sorted(value or b"" for value in await values(log, "facts")) == [b"a", b"b"]


async def test_a_takeover_survives_a_restart(backend: "Backend") -> None:
    """A writer opened after a restart is newer than any before it."""
    log = await backend.open()
    await (await log.writer("g", "source", 0)).commit([], 3)
    await log.close()
    again = await backend.open()
    first = await again.writer("g", "source", 0)
    second = await again.writer("g", "source", 0)
    with pytest.raises(Fenced):
        await first.commit([], 4)
    await second.commit([], 4)
    assert await again.committed("g", "source", 0) == 4


async def test_a_closed_writer_commits_nothing(log: Log) -> None:
    """After close, a commit is an error."""
    writer = await log.writer("g", "source", 0)
    await writer.close()
    with pytest.raises(LogError):
        await writer.commit([], 1)
    assert await log.committed("g", "source", 0) is None


async def test_readers_see_only_what_is_committed(log: Log) -> None:
    """While commits run, a reader sees whole commits, in order, and never beyond the end offset."""
    writer = await log.writer("g", "source", 0)
    done = asyncio.Event()

    async def write() -> None:
        for number in range(60):
            await writer.commit([message("facts", b"%d" % number, b"%d" % i) for i in range(5)], number)
        done.set()

    task = asyncio.create_task(write())
    while not done.is_set():
        seen = await log.read("facts", 0, 0, 1_000)
        offsets = [record.offset for record in seen]
        assert len(seen) % 5 == 0
        assert offsets == sorted(set(offsets))
        await asyncio.sleep(0)
    await task
    assert len(await values(log, "facts")) == 300


async def test_wait_wakes_for_what_is_appended(log: Log) -> None:
    """A sleeper is woken by a record at its position, in any of its partitions."""
    waiting = asyncio.create_task(log.wait({("facts", 0): 0, ("facts", 1): 0}, timeout_s=10))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await log.append([message("facts", b"k", b"v", partition=1)])
    assert await asyncio.wait_for(waiting, 5) is True


async def test_wait_returns_at_once_or_in_time(log: Log) -> None:
    """With a record there it does not sleep; with none it gives up when told to."""
    await log.append([message("facts", b"k", b"v")])
    assert await log.wait({("facts", 0): 0}, timeout_s=0) is True
    assert await log.wait({("facts", 0): 1}, timeout_s=0.02) is False
    await log.append([message("facts", b"k", b"v", partition=1)])
    assert await log.wait({("facts", 0): 1}, timeout_s=0.02) is False


async def test_latest_is_the_newest_of_a_key(log: Log) -> None:
    """The last record written under a key, a null included; None for a key never seen."""
    await log.append(
        [message("facts", b"a", b"1"), message("facts", b"b", b"2"), message("facts", b"a", b"3")]
    )
    newest = await log.latest("facts", 0, b"a")
    assert newest is not None and (newest.offset, newest.value) == (2, b"3")
    assert await log.latest("facts", 0, b"c") is None
    assert await log.latest("facts", 1, b"a") is None


async def test_no_null_is_missing_of_what_was_just_written(log: Log) -> None:
    """Who has read nothing yet of young records misses no null of theirs; an empty partition has none."""
    assert await log.nulls_from("changes", 1) == 0
    await log.append([message("changes", b"a", b"1"), message("changes", b"a", None)])
    assert await log.nulls_from("changes", 0) == 0
    size = await log.size("changes")
    assert size.records >= 2


@pytest.mark.parametrize("backend", ["kafka"], indirect=True)
async def test_a_cluster_s_nulls_are_there_for_a_week(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was written longer ago a null may be gone: only who has read everything misses none."""
    await log.append([message("changes", b"a", b"1"), message("changes", b"a", None)])
    in_8_days_ms = now_ms() + 8 * 86_400_000
    monkeypatch.setattr("streams.log.kafka.log.now_ms", lambda: in_8_days_ms)
    assert await log.nulls_from("changes", 0) == log.end_offset("changes", 0) == 2


async def test_a_clock_that_goes_back_changes_no_order(backend: "Backend") -> None:
    """Offsets rise and records are read in their order, whatever the time says."""
    log = await backend.open()
    await log.append([message("facts", b"k", b"1")])
    backend.now_ms -= 3_600_000
    await log.append([message("facts", b"k", b"2")])
    records = await everything(log, "facts")
    assert [record.value for record in records] == [b"1", b"2"]
    assert [record.offset for record in records] == [0, 1]


async def test_a_closed_log_does_nothing_more(log: Log) -> None:
    """After close every call is an error; closing again is none."""
    writer = await log.writer("g", "source", 0)
    await log.append([message("facts", b"k", b"v")])
    await log.close()
    await log.close()
    with pytest.raises(LogError):
        await log.append([message("facts", b"k", b"v")])
    with pytest.raises(LogError):
        await log.read("facts", 0, 0, 1)
    with pytest.raises(LogError):
        await writer.commit([], 1)


async def test_what_waits_at_close_is_written(backend: "Backend") -> None:
    """An append under way when the log is closed is acknowledged, and there afterwards."""
    log = await backend.open()
    pending = [asyncio.create_task(log.append([message("facts", b"k", b"%d" % i)])) for i in range(20)]
    await asyncio.sleep(0)
    await log.close()
    assert sorted(offset for (offset,) in await asyncio.gather(*pending)) == list(range(20))
    assert len(await everything(await backend.open(), "facts")) == 20


async def test_the_head_of_a_partition_goes_when_it_is_told_to(backend: "Backend") -> None:
    """What is before an offset is gone for every reader, also after a restart; what is behind it stays."""
    log = await backend.open()
    await log.append([message("facts", b"%d" % n, b"v") for n in range(10)])
    await log.append([message("facts", b"other", b"v", partition=1)])
    assert await log.trim("facts", 0, 4) == 4
    assert log.start_offset("facts", 0) == 4
    assert [record.offset for record in await log.read("facts", 0, 0, 100)] == list(range(4, 10))
    assert await log.trim("facts", 0, 2) == 4, "what is gone already is no error"
    assert (log.start_offset("facts", 1), log.end_offset("facts", 0)) == (0, 10)
    await log.close()
    again = await backend.open()
    assert again.start_offset("facts", 0) == 4
    assert [record.key for record in await everything(again, "facts", 0)] == [b"%d" % n for n in range(4, 10)]
    assert list(await again.append([message("facts", b"10", b"v")])) == [10]


async def test_the_last_record_of_a_partition_never_goes(log: Log) -> None:
    """However far somebody trims, the next offset can be told from what is left."""
    assert await log.trim("facts", 0, 5) == 0, "of nothing there is nothing to go"
    await log.append([message("facts", b"%d" % n, b"v") for n in range(3)])
    assert await log.trim("facts", 0, 99) == 2
    assert [record.offset for record in await log.read("facts", 0, 0, 100)] == [2]
