"""The head of `usage` on a cluster: the brokers delete records, and the views begin with the snapshot."""

import asyncio
from pathlib import Path

import pytest

from genledger.main import run
from genledger.roles.views import open_database, open_followers, path_of
from projections import schema
from streams import clock, fact, snapshots, times, topics
from streams.fact import Entry, Fact
from streams.log.backends import open_log
from streams.log.batches import Batch
from streams.log.interface import Log, Message
from streams.log.kafka.administration import ensure
from streams.settings import Settings, load
from tests.kafka.fixtures import Cluster
from tests.retention.head import digest_of

PARTITIONS = 2
OLD, YOUNG = 40, 10
OLD_DAYS = 200


def fact_message(partition: int, n: int, now_ms: int) -> Message:
    """A fact of a partition: the first ones are old."""
    time_ms = now_ms - (OLD_DAYS * topics.DAY_MS if n < OLD else 0)
    day = times.day_of(time_ms * times.MS_NS, "UTC")
    entry = Entry("acme", day, day, model="m", total_tokens=n, cost_nano=n * 1000, markup_nano=n * 1000)
    told = Fact("counted", f"gen-{partition}-{n}", partition, n, n - 1, time_ms, plus=entry, number=n + 1)
    return Message(topics.USAGE, partition, told.id.encode(), fact.encode(told), fact.SCHEMA_HEADERS)


async def made(settings: Settings) -> None:
    """Topics, facts, and the live views of them."""
    await ensure(settings, partitions=PARTITIONS, replication=1)
    log = await open_log(settings)
    try:
        now_ms = clock.now_ms()
        await log.append([Message(topics.GENERATIONS, 0, b"gen-0-0", b"{}")])
        for n in range(PARTITIONS):
            await log.append([fact_message(n, number, now_ms) for number in range(OLD + YOUNG)])
        await follow(settings, log)
    finally:
        await log.close()


async def follow(settings: Settings, log: Log) -> None:
    """Bring the live views to the log's end."""
    schema.upgrade(path_of(settings))
    database = await open_database(settings)
    try:
        for follower in await open_followers(settings, database, log, lambda _: None):
            for n in range(PARTITIONS if topics.USAGE in follower.topics else 0):
                start = min(follower.next_offset(view, topics.USAGE, n) for view in follower.views)
                found = await log.read(topics.USAGE, n, start, 1000)
                if found:
                    await follower.take(Batch(topics.USAGE, n, start, found))
    finally:
        await database.close()


async def begun_anew(settings: Settings) -> tuple[list[int], int]:
    """Views that were lost are there again; where the partitions begin, and the snapshot's number."""
    log = await open_log(settings)
    try:
        for path in Path(settings.data).glob("genledger.db*"):
            path.unlink()
        await follow(settings, log)
        manifest = await snapshots.beginning(log)
        assert manifest is not None
        return [log.start_offset(topics.USAGE, n) for n in range(PARTITIONS)], manifest.number
    finally:
        await log.close()


def test_old_facts_go_from_the_brokers_and_the_views_are_proven_from_what_is_left(
    kafka: Cluster,
    topic_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`genledger trim` where the views are: checked, then the leaders delete; lost views come back."""
    monkeypatch.setenv("GENLEDGER_BROKER", kafka.url)
    monkeypatch.setenv("GENLEDGER_TOPIC_PREFIX", topic_prefix)
    settings = load({}, broker=kafka.url, topic_prefix=topic_prefix, data=str(tmp_path))
    asyncio.run(made(settings))
    before = digest_of(path_of(settings))
    assert run(["trim", "--days", "120", "--data", str(tmp_path)]) == 0
    assert "80 facts from before" in capsys.readouterr().err
    assert asyncio.run(begun_anew(settings)) == ([OLD - 1, OLD - 1], 1)
    assert digest_of(path_of(settings)) == before
    assert run(["prove", "--data", str(tmp_path)]) == 0
    assert "80 facts from before" in capsys.readouterr().err
