"""What stands on a real cluster, read back by the log: also what no client of ours would write."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.producer import message_accumulator
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from streams.errors import LogMismatch, UnknownTopic
from streams.log.interface import Message, Record, TopicSpec
from streams.log.kafka.log import KafkaLog, open_log
from streams.log.kafka.slices import Slice
from streams.settings import Settings, load
from tests.kafka.topics import make_topics

FACTS = TopicSpec("facts", 2)
CHANGES = TopicSpec("changes", 1, compacted=True)


@pytest.fixture
def settings(kafka, topic_prefix: str) -> Settings:
    return load({}, broker=kafka.url, topic_prefix=topic_prefix)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_read(settings: Settings, codec: str) -> None:
    """What a producer has compressed comes out as it went in."""
    await make_topics(settings, [FACTS])
    async with AIOKafkaProducer(bootstrap_servers=settings.broker[8:], compression_type=codec) as producer:
        for n in range(50):
            await producer.send_and_wait(f"{settings.topic_prefix}facts", b"v%d" % n, b"k", partition=0)
    log = await open_log(settings, [FACTS])
    try:
        assert [record.value for record in await log.read("facts", 0, 0, 100)] == [
            b"v%d" % n for n in range(50)
        ]
    finally:
        await log.close()


class _NoText(str):
    """A header's name as only a client in another language would send it."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xff-name"


async def test_a_header_name_that_is_no_text_stops_nobody(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record whose header's name is not UTF-8 is read, its name escaped, and so is what comes after it."""
    # The encoder in Python takes what the compiled one refuses.
    monkeypatch.setattr(message_accumulator, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    await make_topics(settings, [FACTS])
    log = await open_log(settings, [FACTS])
    try:
        for n in range(3):  # a batch each: none is given twice
            await log.append([Message("facts", 0, b"k", b"v%d" % n, (("plain", b"1"),))])
        await log.append([Message("facts", 0, b"k", b"poison", ((_NoText("name"), b"x"),))])
        await log.append([Message("facts", 0, b"k", b"after")])
        records = await log.read("facts", 0, 0, 100)
        assert [record.value for record in records] == [b"v0", b"v1", b"v2", b"poison", b"after"]
        assert records[3].headers == (("\\xff-name", b"x"),)
        assert records[0].headers == (("plain", b"1"),)
    finally:
        await log.close()


async def test_what_the_cleaner_removed_is_not_missed(settings: Settings) -> None:
    """After the real cleaner has run, the newest record of each key is read, from any position."""
    configs = {
        "segment.bytes": "1048576",
        "min.cleanable.dirty.ratio": "0.001",
        "max.compaction.lag.ms": "100",
    }
    await make_topics(settings, [CHANGES], configs)
    log = await open_log(settings, [CHANGES])
    try:
        for n in range(400):
            value = b"%d" % n + b"x" * 20_000
            await log.append([Message("changes", 0, b"key-%d" % (n % 10), value)])
        end = log.end_offset("changes", 0)
        async with asyncio.timeout(60):
            while len(await _all(log)) > 100:  # what is left besides: the segment that is being written
                await asyncio.sleep(0.25)
        records = await _all(log)
        assert records[0].offset > 0, "nothing was removed"
        newest = {record.key: record.offset for record in records}
        assert newest == {b"key-%d" % (n % 10): n for n in range(390, 400)}
        [following] = await log.read("changes", 0, 1, 1)
        assert following == records[0]
        assert log.end_offset("changes", 0) == end == 400
    finally:
        await log.close()


async def _all(log: KafkaLog) -> list[Record]:
    found: list[Record] = []
    while records := await log.read("changes", 0, found[-1].offset + 1 if found else 0, 1000):
        found += records
    return found


async def test_a_topic_made_again_is_another_log(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted and made again while in use, it is noticed; opened anew, its identity is another."""
    monkeypatch.setattr("streams.log.kafka.log.IDENTITY_CHECK_S", 0.1)
    await make_topics(settings, [FACTS])
    log = await open_log(settings, [FACTS])
    client = AIOKafkaAdminClient(bootstrap_servers=settings.broker[8:])
    await client.start()
    try:
        await client.delete_topics([f"{settings.topic_prefix}facts"])
        async with asyncio.timeout(10):
            assert isinstance(await log.failed, LogMismatch)
            while f"{settings.topic_prefix}facts" in await client.list_topics():
                await asyncio.sleep(0.1)
        await make_topics(settings, [FACTS])
        again = await open_log(settings, [FACTS])
        assert again.identity != log.identity
        await again.close()
    finally:
        await client.close()
        await log.close()


async def test_a_cut_head_is_skipped_and_a_cut_end_is_said(settings: Settings) -> None:
    """A position before the beginning goes on at the beginning; one behind the end stops its reader."""
    await make_topics(settings, [FACTS])
    log = await open_log(settings, [FACTS])
    client = AIOKafkaAdminClient(bootstrap_servers=settings.broker[8:])
    await client.start()
    try:
        await log.append([Message("facts", 0, b"k", b"%d" % n) for n in range(60)])
        place = TopicPartition(f"{settings.topic_prefix}facts", 0)
        await client.delete_records({place: RecordsToDelete(before_offset=50)})
        assert await log.wait({("facts", 0): 17}, 5) is True
        assert [record.offset for record in await log.read("facts", 0, 17, 3)] == [50, 51, 52]
        assert log.start_offset("facts", 0) == 50
        with pytest.raises(LogMismatch, match="ends before 99"):
            await log.wait({("facts", 0): 99}, 5)
    finally:
        await client.close()
        await log.close()


async def test_what_a_broker_does_not_show_yet_is_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer from a leader that is behind is no end: a reader would believe that nothing is missing."""
    await make_topics(settings, [FACTS])
    log = await open_log(settings, [FACTS])
    try:
        await log.append([Message("facts", 0, b"k", b"v")])
        await log.refresh(["facts"])
        fetch, behind = log._cluster.fetch, [2]

        async def late(node, offsets, **how):
            slices, starts = await fetch(node, offsets, **how)
            if behind[0] == 0:
                return slices, starts
            behind[0] -= 1
            return [Slice(one.topic, one.partition, 0, 0, b"", None) for one in slices], starts

        monkeypatch.setattr(log._cluster, "fetch", late)
        assert [record.value for record in await log.read("facts", 0, 0, 10)] == [b"v"]
        assert behind == [0]
    finally:
        await log.close()


async def test_another_number_of_partitions_is_refused(settings: Settings) -> None:
    """A topic with another number than it had stops whoever opens it; a missing one is named."""
    await make_topics(settings, [FACTS])
    with pytest.raises(LogMismatch, match="2 partitions, not 3"):
        await open_log(settings, [TopicSpec("facts", 3)])
    with pytest.raises(UnknownTopic, match="topics apply"):
        await open_log(settings, [CHANGES])
