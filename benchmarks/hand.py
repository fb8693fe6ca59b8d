"""The same work in loops written by hand on aiokafka: what our roles are measured against.

    alone(decode_loop, bootstrap, topic, count)              # getmany and orjson, nothing else
    alone(ledger_loop, bootstrap, source, prefix, count)     # decode, dedup, exact cost, facts and changelog
    alone(summaries_loop, bootstrap, usage, path, count)     # decode facts, three summaries, a row each id
    alone(road_loop, bootstrap, source, prefix, path, count) # both in one process, `usage` read from Kafka
    alone(points_loop, bootstrap, usage, port, bucket, count) # decode facts, post a line of each to InfluxDB

Each answers how long it took, and how much processor, from its first asking for records until its last are
durable. Consumers are assigned and connected before that. The loops are as quick as they could be made: large
batches, the cyclic collector off, msgspec's structs, facts and changelog in batches made by `create_batch`,
a batch on its way while the next is decided. They can't be trusted with money: what was sent and not yet
committed is sent again after a kill, the dictionary of ids is read back by nobody, and no version, timezone
or markup can change.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, closing
from hashlib import blake2b
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord, TopicPartition

from benchmarks import BenchmarkFailed
from benchmarks.preload import PARTITIONS
from benchmarks.tables import Processed, Sums, Tables
from benchmarks.wire import Pool, request_of
from streams import clock, times
from streams.money import NANO

BATCH = 10_000
FETCH_BYTES = 4 << 20
BATCH_BYTES = 4 << 20
# The most that one body has, as our writer's.
LINES = 5000
POLL_MS = 200
STALL_S = 30.0
ZONE = "UTC"
# The markup, as a ratio of integers: the service's default.
RATE, RATE_UNIT = 1000, 1000

_SCALE = tuple(10 ** (9 - digits) for digits in range(10))

Batch = Mapping[TopicPartition, Sequence[ConsumerRecord]]


class Took(NamedTuple):
    """What a loop needed."""

    wall_s: float
    cpu_s: float


class Event(msgspec.Struct, gc=False):
    """What a ledger needs of an event."""

    id: str
    organization: str
    user: str
    model: str
    provider: str
    prompt_tokens: int
    completion_tokens: int
    cost: str
    created_at: str
    source: str


class Plus(msgspec.Struct, gc=False):
    """What an id is worth, and where: named as in our own facts, so that either kind can be read."""

    organization: str
    day: str
    today: str
    model: str
    user: str
    provider: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_nano: int
    markup_nano: int
    created_at: str
    source: str


class Fact(msgspec.Struct, gc=False, omit_defaults=True):
    """One for each record read."""

    fate: str
    id: str
    partition: int
    offset: int
    prev: int
    time_ms: int
    plus: Plus | None = None


class Counted(msgspec.Struct, gc=False):
    """What the summaries need of `Plus`: what is not named is skipped."""

    organization: str
    day: str
    model: str = ""
    user: str = ""
    provider: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost_nano: int = 0
    markup_nano: int = 0


class Called(Counted):
    """What a point needs besides."""

    source: str = ""
    user_id: str = ""
    created_ns: int = 0


class Told(msgspec.Struct, gc=False):
    """What a point needs of a fact."""

    fate: str
    id: str
    offset: int
    time_ms: int
    plus: Called | None = None


class Read(msgspec.Struct, gc=False):
    """What the summaries need of a fact."""

    fate: str
    id: str
    time_ms: int
    plus: Counted | None = None


_event = msgspec.json.Decoder(Event)
_fact = msgspec.json.Decoder(Read)
_told = msgspec.json.Decoder(Told)
_json = msgspec.json.Encoder()
_packed = msgspec.msgpack.Encoder()


def decode_loop(bootstrap: str, topic: str, count: int) -> Took:
    """The bare loop."""
    return asyncio.run(_decode(bootstrap, topic, count))


def ledger_loop(bootstrap: str, source: str, prefix: str, count: int) -> Took:
    """The ledger's step."""
    return asyncio.run(_run(bootstrap, prefix, count, source=source))


def summaries_loop(bootstrap: str, usage: str, path: Path, count: int, *, indexed: bool = True) -> Took:
    """The summaries' step; not `indexed`: processed_generations is a table of its key alone."""
    return asyncio.run(_run(bootstrap, "", count, usage=usage, path=path, indexed=indexed))


def road_loop(bootstrap: str, source: str, prefix: str, path: Path, count: int) -> Took:
    """Both steps in one process."""
    usage = f"{prefix}usage"
    return asyncio.run(_run(bootstrap, prefix, count, source=source, usage=usage, path=path))


def points_loop(bootstrap: str, usage: str, port: int, bucket: str, count: int) -> Took:
    """The points' step, into a bucket of the InfluxDB on this port."""
    return asyncio.run(_points(bootstrap, usage, port, bucket, count))


async def _points(bootstrap: str, usage: str, port: int, bucket: str, count: int) -> Took:
    async with AsyncExitStack() as stack:
        consumer = await _consumer(stack, bootstrap, usage)
        pool = await Pool.open(port, 1)
        stack.callback(pool.close)
        since = _now()
        under_way: asyncio.Task[None] | None = None
        lines: list[str] = []
        async for batch in _batches(consumer, count):
            for records in batch.values():
                lines += [point_line(told) for told in map(_told.decode, _values(records)) if told.plus]
            while len(lines) >= LINES or (lines and under_way is None):
                if under_way is not None:
                    await under_way
                under_way = asyncio.create_task(_post(pool, port, bucket, lines[:LINES]))
                del lines[:LINES]
                await asyncio.sleep(0)
        if under_way is not None:
            await under_way
        if lines:
            await _post(pool, port, bucket, lines)
        return _since(since)


def _values(records: Sequence[ConsumerRecord]) -> list[bytes]:
    return [record.value for record in records]


def point_line(told: Told) -> str:
    """A fact as the line that our worker makes of it; names of this traffic need no escape."""
    plus = told.plus
    assert plus is not None
    created_ns, nano = plus.created_ns, plus.cost_nano
    span_ns = 10**9 if created_ns % 10**9 == 0 else 10**6
    spread = int.from_bytes(blake2b(told.id.encode(), digest_size=8).digest(), "big") % span_ns
    return (
        f"llm_usage,organization={plus.organization},model={plus.model},provider={plus.provider}"
        f',source={plus.source} request_id="{told.id}",user="{plus.user}"'
        f',user_id="{plus.user_id or plus.user}",day="{plus.day}"'
        f",prompt_tokens={plus.prompt_tokens}i,completion_tokens={plus.completion_tokens}i"
        f",total_tokens={plus.total_tokens}i,cost_nano={nano}i,markup_nano={plus.markup_nano}i"
        f",cost={nano}e-9,unpriced=0i,requests=1i,untimed=1i,created_ns={created_ns}i"
        f",offset={told.offset}i,logged_ms={told.time_ms}i {created_ns // span_ns * span_ns + spread}"
    )


async def _post(pool: Pool, port: int, bucket: str, lines: Sequence[str]) -> None:
    await post_lines(pool, port, bucket, "\n".join(lines).encode())


async def post_lines(pool: Pool, port: int, bucket: str, body: bytes) -> None:
    """One bare POST, answered with 204."""
    path = f"/api/v2/write?bucket={bucket}&precision=ns"
    status, said = await pool.ask(request_of(port, body, "text/plain", path))
    if status != 204:
        raise BenchmarkFailed(f"InfluxDB answers {status} {said[:300].decode(errors='replace')}")


async def _decode(bootstrap: str, topic: str, count: int) -> Took:
    async with AsyncExitStack() as stack:
        consumer = await _consumer(stack, bootstrap, topic)
        since = _now()
        async for batch in _batches(consumer, count):
            for records in batch.values():
                for record in records:
                    orjson.loads(record.value)
        return _since(since)


async def _run(
    bootstrap: str,
    prefix: str,
    count: int,
    *,
    source: str = "",
    usage: str = "",
    path: Path | None = None,
    indexed: bool = True,
) -> Took:
    async with AsyncExitStack() as stack:
        steps = []
        if source:
            events = await _consumer(stack, bootstrap, source, group=f"{prefix}hand")
            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap,
                acks="all",
                max_batch_size=BATCH_BYTES,
                max_request_size=4 * BATCH_BYTES,
            )
            await producer.start()
            stack.push_async_callback(producer.stop)
            steps.append(LedgerStep(events, producer, prefix).run(count))
        if path is not None:
            facts = await _consumer(stack, bootstrap, usage)
            tables = stack.enter_context(closing(Tables(path, indexed=indexed)))
            steps.append(_summaries(facts, tables, count))
        since = _now()
        await asyncio.gather(*steps)
        return _since(since)


def _now() -> Took:
    return Took(clock.monotonic_s(), process_time())


def _since(then: Took) -> Took:
    now = _now()
    return Took(now.wall_s - then.wall_s, now.cpu_s - then.cpu_s)


async def _consumer(
    stack: AsyncExitStack, bootstrap: str, topic: str, group: str | None = None
) -> AIOKafkaConsumer:
    """Assigned and connected, at the beginning."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_bytes=4 * FETCH_BYTES,
    )
    await consumer.start()
    stack.push_async_callback(consumer.stop)
    places = [TopicPartition(topic, n) for n in range(PARTITIONS)]
    # Not fetching yet: what it fetched while others are set up would count as done in no time.
    consumer.assign(places)
    consumer.pause(*places)
    await consumer.end_offsets(places)
    if group is not None:
        await consumer.committed(places[0])  # finds the group's coordinator
    return consumer


async def _batches(consumer: AIOKafkaConsumer, count: int) -> Any:
    """Batches, until so many records were read."""
    consumer.resume(*consumer.assignment())
    read, stalled_s = 0, clock.monotonic_s() + STALL_S
    while read < count:
        batch: Batch = await consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)
        if batch:
            read += sum(map(len, batch.values()))
            stalled_s = clock.monotonic_s() + STALL_S
            yield batch
        elif clock.monotonic_s() > stalled_s:
            raise BenchmarkFailed(f"of {count} records {read} came; nothing for {STALL_S:g} s")


class LedgerStep:
    """Facts and changelog entries; a batch is acknowledged before the offsets of the next are committed."""

    def __init__(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, prefix: str) -> None:
        self._consumer = consumer
        self._producer = producer
        self._usage, self._changelog = f"{prefix}usage", f"{prefix}changelog"
        self._known: dict[bytes, bytes] = {}
        self._prev = dict.fromkeys(range(PARTITIONS), -1)

    async def run(self, count: int) -> None:
        """Take so many records."""
        under_way: asyncio.Task[None] | None = None
        async for batch in _batches(self._consumer, count):
            offsets = {place: records[-1].offset + 1 for place, records in batch.items()}
            decided = [(place.partition, *self._decide(place.partition, r)) for place, r in batch.items()]
            if under_way is not None:
                await under_way
            under_way = asyncio.create_task(self._write(decided, offsets))
            await asyncio.sleep(0)
        if under_way is not None:
            await under_way

    def _decide(
        self, partition: int, records: Sequence[ConsumerRecord]
    ) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
        facts, changes = [], []
        known, prev = self._known, self._prev[partition]
        decode, encode, pack, scale = _event.decode, _json.encode, _packed.encode, _SCALE
        today = times.day_of(records[0].timestamp * 1_000_000, ZONE)
        for record in records:
            key, offset = record.key, record.offset
            event = decode(record.value)
            if key in known:
                fact = Fact("duplicate", event.id, partition, offset, prev, record.timestamp)
            else:
                whole, _, part = event.cost.partition(".")
                nano = int(whole) * NANO + (int(part) * scale[len(part)] if part else 0)
                prompt, completion = event.prompt_tokens, event.completion_tokens
                plus = Plus(
                    event.organization,
                    event.created_at[:10],
                    today,
                    event.model,
                    event.user,
                    event.provider,
                    prompt,
                    completion,
                    prompt + completion,
                    nano,
                    _marked_up(nano),
                    event.created_at,
                    event.source,
                )
                fact = Fact("counted", event.id, partition, offset, prev, record.timestamp, plus)
                known[key] = value = pack(plus)
                changes.append((key, value))
            facts.append((key, encode(fact)))
            prev = offset
        self._prev[partition] = prev
        return facts, changes

    async def _write(
        self,
        decided: Sequence[tuple[int, list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]],
        offsets: Mapping[TopicPartition, int],
    ) -> None:
        sent: list[asyncio.Future[object]] = []
        for partition, facts, changes in decided:
            sent += await self._send(self._usage, partition, facts)
            sent += await self._send(self._changelog, partition, changes)
        await asyncio.gather(*sent)
        await self._consumer.commit(offsets)

    async def _send(
        self, topic: str, partition: int, rows: Sequence[tuple[bytes, bytes]]
    ) -> list[asyncio.Future[object]]:
        sent = []
        builder = self._producer.create_batch()
        for key, value in rows:
            if builder.append(timestamp=None, key=key, value=value) is None:
                sent.append(await self._producer.send_batch(builder, topic, partition=partition))
                builder = self._producer.create_batch()
                builder.append(timestamp=None, key=key, value=value)
        if builder.record_count():
            sent.append(await self._producer.send_batch(builder, topic, partition=partition))
        return sent


def _marked_up(nano: int) -> int:
    """Half-even, as the ledger rounds."""
    whole, rest = divmod(nano * RATE, RATE_UNIT)
    return whole + (2 * rest > RATE_UNIT or (2 * rest == RATE_UNIT and whole & 1))


async def _summaries(consumer: AIOKafkaConsumer, tables: Tables, count: int) -> None:
    """Each batch one transaction."""
    async for batch in _batches(consumer, count):
        sums, processed = fold([record.value for records in batch.values() for record in records])
        positions = {place.partition: records[-1].offset for place, records in batch.items()}
        tables.write(sums, processed, clock.now_ms() // 1000, positions)


def fold(values: Sequence[bytes]) -> tuple[Sums, list[Processed]]:
    """Facts, ours or by hand, to what they add."""
    sums, decode = Sums(), _fact.decode
    add = sums.add
    processed: list[Processed] = []
    for value in values:
        fact = decode(value)
        plus = fact.plus
        if plus is None or fact.fate != "counted":
            continue
        organization, day, nano = plus.organization, plus.day, plus.cost_nano
        add(
            (organization, day, plus.user),
            (organization, day, plus.model, plus.provider),
            (plus.prompt_tokens, plus.completion_tokens, nano, plus.markup_nano),
        )
        processed.append((fact.id, organization, day, fact.time_ms // 1000, plus.total_tokens, nano))
    return sums, processed
