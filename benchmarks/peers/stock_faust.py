"""Stock Faust doing both of our steps: two agents, its own transport, its own table and changelog.

    two_steps(bench)      # {"per_s": ..., "facts_per_s": ...}

Agent 1 decodes an event with the project's decoder, looks its id up in a Table, keeps the entry of a new one
(Faust writes it to the changelog), and sends a fact for each record to a second topic. Agent 2 takes facts in
batches (`stream.take`, what its guide recommends for batches), folds three summaries and writes SQLite. The
table's store is memory, the fastest that Faust has; values are bytes, made by the code that ours are made by.
Acks=all, at-least-once, and 50 ms of linger, which double its rate; defaults otherwise. The broker's scheme
is `aiokafka://`, for our package registers a transport of its own for `kafka://`; that it is Faust's own is
asserted, and that its table manager is too.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import BenchmarkFailed
from benchmarks.bench import Bench, Figures
from benchmarks.peers import EVENTS, sums
from benchmarks.peers.sums import BATCH, Event, Sums
from benchmarks.state import child
from benchmarks.traffic import deliveries
from streams import clock, fact, generation, known, times
from streams.fact import Entry, Fact
from streams.known import Known, Terms

MODULE = "benchmarks.peers.stock_faust"
PARTITIONS = 4
SCHEME = "aiokafka"
WITHIN_S = 0.2
# Without it a fact and an entry go to the broker one by one, at half the rate.
LINGER_MS = 50
LOOK_S = 0.02
TIMEOUT_S = 300.0
TRANSPORT = "faust.transport.drivers.aiokafka"
TABLES = "faust.tables.manager"
ZONE = "UTC"


class Plan(msgspec.Struct, frozen=True):
    """What the process is to do."""

    bootstrap: str
    prefix: str
    records: int
    base: str


def two_steps(bench: Bench) -> Figures:
    """Fill a topic, and let it run until the summaries have all of it."""
    from benchmarks import preload

    traffic = bench.traffic.first(EVENTS)
    records = preload.fill(bench.bootstrap, bench.prefix + "generations", deliveries(traffic))
    preload.make_topics(bench.bootstrap, bench.prefix + "usage")
    plan = Plan(bench.bootstrap, bench.prefix, records, str(bench.base))
    figures = child.run(MODULE, plan)
    sums.check(bench.base / "sums.db", traffic.totals())
    written = [(f"{bench.prefix}stock-seen-changelog", len(traffic.lines)), (f"{bench.prefix}usage", records)]
    for topic, expected in written:
        found = asyncio.run(_count(bench.bootstrap, topic))
        if found != expected:
            raise BenchmarkFailed(f"{topic} has {found} records, not {expected}")
    return figures


async def _count(bootstrap: str, topic: str) -> int:
    """How many records a topic has."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, n) for n in range(PARTITIONS)])
    finally:
        await consumer.stop()
    return sum(ends.values())


class Run:
    """What has been done so far, and when."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.taken = 0
        self.folded = 0
        self.started_s = self.taken_s = self.ended_s = 0.0
        self.sums = Sums(Path(plan.base) / "sums.db")

    def figures(self) -> Figures:
        """Records a second through both steps, and through the first."""
        if not self.ended_s:
            raise BenchmarkFailed(f"{self.taken} records were taken, {self.folded} facts folded: not all")
        records = self.plan.records
        return {
            "records": records,
            "per_s": records / (self.ended_s - self.started_s),
            "facts_per_s": records / (self.taken_s - self.started_s),
        }


def make_app(name: str, bootstrap: str, base: Path, **settings: Any) -> Any:
    """A Faust app as its maker ships it; that it is that is checked."""
    import faust

    app = faust.App(
        name,
        broker=f"{SCHEME}://{bootstrap}",
        datadir=base / "faust",
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        producer_linger_ms=LINGER_MS,
        **settings,
    )
    modules = type(app.transport).__module__, type(app.tables).__module__
    if modules != (TRANSPORT, TABLES):
        raise BenchmarkFailed(f"this is not stock Faust: {modules}")
    return app


def _agents(app: Any, run: Run) -> None:
    plan = run.plan
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    generations = app.topic(plan.prefix + "generations", **raw)
    usage = app.topic(plan.prefix + "usage", **raw)
    seen = app.Table("seen", partitions=PARTITIONS, key_type=bytes, value_type=bytes)

    async def ledger(stream: Any) -> None:
        async for record in stream.events():
            if not run.taken:
                run.started_s = clock.monotonic_s()
            key, value = decide(record, seen)
            await usage.send(key=key, value=value)
            run.taken += 1
            if run.taken == plan.records:
                run.taken_s = clock.monotonic_s()

    async def summaries(stream: Any) -> None:
        async for values in stream.take(BATCH, within=WITHIN_S):
            for value in values:
                fold(run.sums, value)
            run.sums.write()
            run.folded += len(values)
            if run.folded >= plan.records:
                run.ended_s = clock.monotonic_s()

    app.agent(generations)(ledger)
    app.agent(usage)(summaries)


def decide(record: Any, seen: Any) -> tuple[bytes, bytes]:
    """The first step for one record: the fact's key and value; a new id is kept."""
    key, message = record.key, record.message
    event = generation.decode(record.value)
    place = {
        "partition": message.partition,
        "offset": message.offset,
        "prev": message.offset - 1,
        "time_ms": int(message.timestamp * 1000),
    }
    if key in seen:
        return key, fact.encode(Fact(fate="duplicate", id=event.id, **place))
    created_ns = event.created_ns or 0
    day = times.day_of(created_ns, ZONE)
    seen[key] = known.encode(Known(event, Terms("1", ZONE, day, ""), None, created_ns))
    plus = Entry(
        organization=event.organization,
        day=day,
        today=day,
        model=event.model,
        user=event.user,
        provider=event.provider,
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        total_tokens=event.total_tokens,
        cost_nano=event.cost_nano,
        markup_nano=event.cost_nano,
        created_ns=created_ns,
        source=event.source,
    )
    return key, fact.encode(Fact(fate="counted", id=event.id, plus=plus, **place))


def fold(totals: Sums, value: bytes) -> None:
    """The second step for one fact."""
    plus = fact.decode(value).plus
    if plus is not None:
        totals.add(
            Event(
                plus.organization,
                plus.day,
                plus.user,
                plus.model,
                plus.provider,
                plus.total_tokens,
                plus.cost_nano or 0,
            )
        )


async def _work(plan: Plan) -> Figures:
    run = Run(plan)
    app = make_app(f"{plan.prefix}stock", plan.bootstrap, Path(plan.base))
    _agents(app, run)
    deadline_s = clock.monotonic_s() + TIMEOUT_S
    await app.start()
    try:
        while True:
            await asyncio.sleep(LOOK_S)
            if run.ended_s or app.should_stop or clock.monotonic_s() > deadline_s:
                break
    finally:
        await app.stop()
        run.sums.close()
    return run.figures()


def measure(plan: Plan) -> Figures:
    """In the process itself."""
    return asyncio.run(_work(plan))


if __name__ == "__main__":
    child.main(sys.argv[1], Plan, measure)
