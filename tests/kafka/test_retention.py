"""Retention on a real cluster: a run forgets, Kafka's own log cleaner takes away, and a rebuild is right."""

import json
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from genledger.roles.undecided import oldest_waiting_ms
from streams import clock, settings, topics
from streams.log.kafka.log import open_log
from tests.kafka.fixtures import Cluster
from tests.kafka.installation import Installation, Role
from tests.kafka.topics import make_topics
from tests.rebuild.command import genledger
from tests.road.harness import wait_until

PARTITIONS = 2
OLD, LIVE = 300, 300
DAYS = 30
RUNS = "/api/v1/admin/cleanup/runs"
# An open segment is never cleaned: these are closed by the next record after a moment.
QUICK = {
    "segment.ms": "400",
    "min.cleanable.dirty.ratio": "0.01",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "400",
    "delete.retention.ms": "100",
}
TABLES = {
    "client_daily_usage": "total_tokens, total_requests, raw_cost_nano, markup_cost_nano, unpriced_requests,"
    " primary_model, unique_users",
    "client_user_daily_usage": "openrouter_user_id, total_tokens, total_requests, raw_cost_nano",
    "client_model_daily_usage": "model_name, provider, total_tokens, total_requests, raw_cost_nano",
}


def at(days_ago: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def call(id: str, created_at: str, **more: Any) -> bytes:
    given = {"id": id, "organization": "acme", "user": f"u-{len(id) % 3}", "model": "m", "total_tokens": 7}
    return json.dumps(given | {"created_at": created_at} | more).encode()


def versions(names: Sequence[str], created_at: str) -> list[list[bytes]]:
    """Of each id one without its cost, one with it, and a lesser one that comes too late."""
    return [
        [call(name, created_at) for name in names],
        [call(name, created_at, cost="0.02") for name in names],
        [call(name, created_at, cost="9", authority="estimate") for name in names],
    ]


def on_the_log(bootstrap: str, topic: str) -> tuple[Sequence[Message], int]:
    """Every committed record of a topic as another program reads it, and how many offsets there are."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{topic}-nobody",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "auto.offset.reset": "earliest",
        }
    )
    places = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
    found: list[Message] = []
    with closing(consumer):
        consumer.assign(places)
        left = PARTITIONS
        while left:
            for message in consumer.consume(1000, 0.1):
                left -= message.error() is not None
                found += [message] if message.error() is None else []
        offsets = sum(consumer.get_watermark_offsets(place)[1] for place in places)
    return found, offsets


def by_id(found: Sequence[Message]) -> Mapping[str, list[Message]]:
    told: dict[str, list[Message]] = defaultdict(list)
    for message in found:
        told[(message.key() or b"").decode()].append(message)
    return told


class Filling:
    """New ids in every partition, so that segments close behind those that matter."""

    def __init__(self, gateway: Role) -> None:
        self._gateway = gateway
        self._sent = 0

    def go_on(self) -> None:
        self._gateway.send([call(f"more-{self._sent + n}", at(0), cost="0.01") for n in range(8)])
        self._sent += 8


def cleaned(kafka: Cluster, topic: str, old: Sequence[str], live: Sequence[str]) -> bool:
    """Whether what was forgotten has gone, its tombstones too, and of the rest the newest is left."""
    told = by_id(on_the_log(kafka.bootstrap, topic)[0])
    return not any(id in told for id in old) and all(len(told[id]) == 1 for id in live)


def day_rows(path: Path, table: str, since: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as views:
        query = f"""SELECT client_org_id, usage_date, {TABLES[table]} FROM {table}
            WHERE usage_date >= ? ORDER BY 1, 2, 3, 4, 5"""
        return views.execute(query, (since,)).fetchall()


def ask(role: Role, value: Mapping[str, Any]) -> tuple[int, Any]:
    return role.request("POST", "/api/v1/admin/cleanup", json.dumps(value).encode(), "application/json")[:2]


def begun(gateway: Role) -> str:
    """A run of so many days, as soon as somebody leads and every partition has its ledger."""
    found: list[Any] = []

    def is_begun() -> bool:
        status, answer = ask(gateway, {"days": DAYS})
        assert status in (202, 503), answer
        found.append(answer)
        return status == 202

    wait_until(is_begun, 60, "begun", gateway)
    return str(found[-1]["run"])


def ended(gateway: Role, run: str) -> bool:
    status, found, _ = gateway.request("GET", f"{RUNS}/{run}")
    return status == 200 and found["state"] == "ended"


async def waiting_ms(bootstrap: str, prefix: str) -> int | None:
    """The log time of the oldest record that waits for the ledger."""
    found = settings.load({}, None, broker=f"kafka://{bootstrap}", topic_prefix=prefix)
    log = await open_log(found, topics.topic_table(PARTITIONS))
    try:
        return await oldest_waiting_ms(log)
    finally:
        await log.close()


async def test_the_log_cleaner_leaves_each_live_ids_winner_and_rebuilds_are_right(
    kafka: Cluster, topic_prefix: str, tmp_path: Path
) -> None:
    """Of amended and forgotten ids; the leader is killed in the middle, and the next one knows the run."""
    site = Installation(
        kafka.url, topic_prefix, tmp_path, partitions=PARTITIONS, GENLEDGER_KAFKA_SESSION_TIMEOUT_S="4"
    )
    loaded = settings.load({}, None, broker=kafka.url, topic_prefix=topic_prefix)
    specs = topics.topic_table(PARTITIONS)
    quick = [one for one in specs if one.name in (topics.GENERATIONS, topics.SEEN_CHANGELOG)]
    await make_topics(loaded, quick, QUICK)
    await make_topics(loaded, [one for one in specs if one not in quick])
    old, live = ([f"{kind}-{n}" for n in range(count)] for kind, count in (("old", OLD), ("live", LIVE)))
    topic = topic_prefix + topics.GENERATIONS
    with (
        site.running("gateway", "ledger", "summaries") as (gateway, ledger, _),
        site.running("jobs", GENLEDGER_DATA=str(tmp_path / "one")) as (first,),
        site.running("jobs", GENLEDGER_DATA=str(tmp_path / "two")) as (second,),
    ):
        for batch in (*versions(old, at(40)), *versions(live, at(0))):
            assert gateway.send(batch) == []
        run = begun(gateway)
        wait_until(lambda: ended(gateway, run), 60, "ended", gateway)
        told = gateway.get(f"{RUNS}/{run}")
        assert (told["records_before"], told["records_deleted"]) == (OLD + LIVE, OLD)
        leader = max((first, second), key=lambda role: "genledger_jobs_leader 1.0" in role.get("/metrics"))
        leader.kill()
        filling = Filling(gateway)

        def is_clean() -> bool:
            filling.go_on()
            time.sleep(0.3)
            return cleaned(kafka, topic, old, live)

        wait_until(is_clean, 60, "cleaned", gateway)
        left, offsets = on_the_log(kafka.bootstrap, topic)
        told_of = by_id(left)
        acknowledged, kept = 3 * (OLD + LIVE), sum(len(told_of.get(id, ())) for id in (*old, *live))
        assert (acknowledged - kept, kept) == (2 * LIVE + 3 * OLD, LIVE), "removed by Kafka's cleaner"
        assert offsets - len(left) >= acknowledged - kept
        for id in live:
            [message] = told_of[id]
            assert json.loads(message.value() or b"")["cost"] == "0.02"
        gateway.assert_books_balance(b"forgotten")
        rebuilt(site, told["cutoff_date"])
        wait_until(lambda: stands(gateway) == run, 30, "led by the other", gateway)
        assert await waiting_ms(kafka.bootstrap, topic_prefix) is None
        assert ledger.stop() == 0
        before_ms = clock.now_ms()
        gateway.send([call("late", at(0))])
        since_ms = await waiting_ms(kafka.bootstrap, topic_prefix)
        assert since_ms is not None
        assert abs(since_ms - before_ms) < 30_000


def stands(gateway: Role) -> str:
    status, found, _ = gateway.request("GET", "/api/v1/admin/cleanup/stands")
    return str(found["run"]) if status == 200 else ""


def rebuilt(site: Installation, cutoff: str) -> None:
    """From `usage` all days are as live; from what the cleaner left, those after the horizon."""
    done = genledger("prove", **site.environ)
    assert done.returncode == 0, (done.stdout, done.stderr)
    anew = site.folder / "anew.db"
    done = genledger("replay", "--from-topic", "generations", "--into", str(anew), **site.environ)
    assert done.returncode == 0, (done.stdout, done.stderr)
    horizon = (datetime.fromisoformat(cutoff) + timedelta(days=2)).strftime("%Y-%m-%d")
    views = site.data / "genledger.db"
    for table in TABLES:
        assert day_rows(anew, table, horizon) == day_rows(views, table, horizon) != []
        days = Counter(row[1] for row in day_rows(views, table, "2000-01-01"))
        assert any(day < horizon for day in days), "the totals of what was forgotten stay"
