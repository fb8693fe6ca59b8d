"""Table recovery: keys a second of a table that is read back from its changelog on Kafka.

    ours(bench)       # 200,000 keys into RocksDB, by streams/seen/table.py
    stock(bench)      # 50,000 keys into memory, by stock Faust

The changelog is full of entries of some 290 bytes (`entries.py`) in 4 partitions, their keys in random order
(UUIDs). Timed is the recovery alone: ours from before the former owners are fenced until every partition's
shelf stands at the end of its changelog; stock Faust's while its app says that it recovers. Not timed is the
start of the process, nor joining a group. Stock Faust's rate does not depend on the number of keys (3,350 a
second of 50,000, 3,090 of 100,000, side by side), so it is given fewer; its store is memory, its fastest.
Every key is looked up afterwards, and must be there.
"""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import BenchmarkFailed
from benchmarks.bench import Bench, Figures
from benchmarks.peers.stock_faust import make_app as make_stock
from benchmarks.preload import PARTITIONS
from benchmarks.state import child
from benchmarks.state.entries import Entry, maker
from streams import clock, topics
from streams.log.backends import open_log
from streams.log.kafka import administration
from streams.log.partition import partition_of
from streams.seen import SeenTable
from streams.settings import Settings

MODULE = "benchmarks.state.recovery"
KEYS = 200_000
STOCK_KEYS = 50_000
KIND = "uuid"
LOOK_S = 0.002
TIMEOUT_S = 60.0
LOOKUP_KEYS = 4_000


class Plan(msgspec.Struct, frozen=True):
    """What the process is to do."""

    bootstrap: str
    prefix: str
    base: str
    keys: int
    stock: bool
    table_store: str = "rocksdb"


def ours(bench: Bench, keys: int = KEYS, table_store: str = "rocksdb") -> Figures:
    """The ledger's table."""
    from benchmarks import preload

    plan = Plan(bench.bootstrap, bench.prefix, str(bench.base), keys, stock=False, table_store=table_store)
    asyncio.run(administration.apply(_settings(plan), partitions=PARTITIONS, replication=1))
    asyncio.run(preload.write(bench.bootstrap, bench.prefix + topics.SEEN_CHANGELOG, entries(keys)))
    return child.run(MODULE, plan)


def stock(bench: Bench, keys: int = STOCK_KEYS) -> Figures:
    """A table of stock Faust."""
    from benchmarks import preload

    plan = Plan(bench.bootstrap, bench.prefix, str(bench.base), keys, stock=True)
    preload.make_topics(bench.bootstrap, bench.prefix + "generations")
    preload.make_topics(bench.bootstrap, f"{bench.prefix}stock-seen-changelog", compacted=True)
    asyncio.run(preload.write(bench.bootstrap, f"{bench.prefix}stock-seen-changelog", entries(keys)))
    return child.run(MODULE, plan)


def entries(count: int) -> Iterator[Entry]:
    """The same for both."""
    return map(maker(KIND), range(count))


def _settings(plan: Plan) -> Settings:
    return Settings(
        data=plan.base,
        broker=f"kafka://{plan.bootstrap}",
        topic_prefix=plan.prefix,
        partitions=PARTITIONS,
        table_store="memory" if plan.table_store == "memory" else "rocksdb",
    )


async def _ours(plan: Plan) -> Figures:
    from streams.app import make_app

    settings = _settings(plan)
    log = await open_log(settings)
    where = f"seen://{Path(plan.base) / 'seen'}" if settings.table_store == "rocksdb" else "seen://memory"
    app = make_app("ledger", log, settings)
    table = SeenTable(app, name="seen", partitions=PARTITIONS, store=where)

    async def take_over(partition: int) -> int:
        await log.writer(topics.LEDGER_GROUP, topics.GENERATIONS, partition)
        return 0

    table.take_over = take_over
    try:
        started_s = clock.monotonic_s()
        await asyncio.gather(*(table.recover(n) for n in range(PARTITIONS)))
        took_s = clock.monotonic_s() - started_s
        found = _look_up(table, plan.keys)
        table.release(range(PARTITIONS))
    finally:
        await log.close()
    return figures_of(plan, found, took_s)


def _look_up(table: SeenTable, keys: int) -> int:
    """How many of the entries are there as they were written."""
    parts: list[list[Entry]] = [[] for _ in range(PARTITIONS)]
    for entry in entries(keys):
        parts[partition_of(entry[0], PARTITIONS)].append(entry)
    found = 0
    for partition, part in enumerate(parts):
        for i in range(0, len(part), LOOKUP_KEYS):
            some = part[i : i + LOOKUP_KEYS]
            values = table.get_many(partition, [key for key, _ in some])
            found += sum(value == written for value, (_, written) in zip(values, some, strict=True))
    return found


async def _stock(plan: Plan) -> Figures:
    app = make_stock(f"{plan.prefix}stock", plan.bootstrap, Path(plan.base), stream_recovery_delay=0.0)
    generations = app.topic(plan.prefix + "generations", value_type=bytes)
    seen = app.Table("seen", partitions=PARTITIONS, key_type=bytes, value_type=bytes)

    async def ledger(stream: object) -> None:
        async for _ in stream:  # type: ignore[attr-defined]
            raise BenchmarkFailed("nothing is there to be decided")

    app.agent(generations)(ledger)
    watching = asyncio.create_task(_watch(app))  # it may be through before the app says it has started
    await app.start()
    try:
        took_s = await asyncio.wait_for(watching, TIMEOUT_S)
        found = sum(seen.get(key) == value for key, value in entries(plan.keys))
    finally:
        await app.stop()
    return figures_of(plan, found, took_s)


async def _watch(app: Any) -> float:
    """How long the app says that it recovers."""
    started_s = None
    while started_s is None or app.in_recovery:
        await asyncio.sleep(LOOK_S)
        if started_s is None and app.in_recovery:
            started_s = clock.monotonic_s()
    return clock.monotonic_s() - started_s


def figures_of(plan: Plan, found: int, took_s: float) -> Figures:
    """Keys a second, if every key is there."""
    if found != plan.keys:
        raise BenchmarkFailed(f"{plan.keys} keys were written, {found} recovered")
    return {"keys": plan.keys, "keys_per_s": plan.keys / took_s}


def measure(plan: Plan) -> Figures:
    """In the process itself."""
    return asyncio.run(_stock(plan) if plan.stock else _ours(plan))


if __name__ == "__main__":
    child.main(sys.argv[1], Plan, measure)
