"""docs/producing.md: its programs run as they stand there, and records become what it says."""

import asyncio
import json
import re
import runpy
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams import fact, generation, records, settings, topics
from streams.app import ledger_app
from streams.clock import now_ms
from streams.directory import Directory, message_of
from streams.known import Horizon
from streams.log.kafka import administration
from streams.log.kafka.log import open_log
from streams.log.partition import partition_of
from streams.organizations import Organization
from streams.times import DAY_NS, MS_NS, nanoseconds_of, text_of
from tests.kafka.broker import NoKafka, java, libraries

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "producing.md"
EXAMPLES = ROOT / "examples" / "producing"
PARTITIONS = 4
EVENTS = 300
RUN_S = 60
DECIDED_S = 20
PRODUCING = runpy.run_path(str(EXAMPLES / "produce.py"))
SCHEMA = [("schema", b"1")]


def line_of(id, **fields):
    """An event in one line, as some program may write it."""
    given = {"id": id, "organization": "acme", "model": "m", **fields}
    return json.dumps(given, ensure_ascii=False).encode()


LINES = [
    line_of(f"gen-{n}" if n % 3 else f"gén-{n}-試", cost=f"0.{n:09}", user="zoë", prompt_tokens=n)
    for n in range(EVENTS)
]


def command_of(example):
    """How the page says that an example is started."""
    if example == "produce.py":
        return [sys.executable, str(EXAMPLES / example)]
    try:
        return [*java(f"{libraries()}/*"), str(EXAMPLES / example)]
    except NoKafka as error:
        pytest.skip(f"no Java client: {error}")


@asynccontextmanager
async def installation(kafka, prefix, tmp_path, **more):
    """Topics as `genledger topics apply` makes them, and the log on them."""
    values = {"data": str(tmp_path), "partitions": PARTITIONS, **more}
    found = settings.load({}, None, broker=kafka.url, topic_prefix=prefix, **values)
    await administration.ensure(found)
    log = await open_log(found, topics.topic_table(found.partitions))
    try:
        yield found, log
    finally:
        await log.close()


async def read_all(log, topic):
    """Every record of a topic."""
    await log.refresh([topic])
    found = []
    for partition in range(log.partitions(topic)):
        offset = 0
        while batch := await log.read(topic, partition, offset, 1000):
            found += batch
            offset = batch[-1].offset + 1
    return found


async def decide_all(log, found):
    """Run a ledger until it has decided all that is on `generations`; its facts."""
    directory = Directory(log)
    await directory.refresh()
    app, ledger, _table = ledger_app(log, found, directory)
    app.grouped, app.address = True, "http://127.0.0.1:1"
    await app.start()
    try:
        async with asyncio.timeout(DECIDED_S):
            while not await at_end(log, ledger):
                assert app.crash_reason is None
                await asyncio.sleep(0.02)
    finally:
        await app.stop()
    return [fact.decode(record.value, record.headers) for record in await read_all(log, topics.USAGE)]


async def at_end(log, ledger):
    """Has it decided everything, its own records included?"""
    await log.refresh([topics.GENERATIONS])
    ends = [log.end_offset(topics.GENERATIONS, partition) for partition in range(PARTITIONS)]
    return all(ledger.next_offset(partition) >= end for partition, end in enumerate(ends))


def produce(kafka, topic, messages, **config):
    """Publish by librdkafka; what the cluster said of each message: None, or the error's name."""
    producer = Producer({**PRODUCING["CONFIG"], "bootstrap.servers": kafka.bootstrap, **config})
    told = {}
    for key, value, headers in messages:
        producer.produce(
            topic,
            value,
            key,
            headers=headers,
            on_delivery=lambda error, _, key=key: told.update({key: error}),
        )
    producer.flush(DECIDED_S)
    assert len(told) == len(messages)
    return {key: error and error.name() for key, error in told.items()}


@pytest.mark.parametrize(("language", "example"), [("python", "produce.py"), ("java", "Produce.java")])
def test_the_page_has_the_example(language, example):
    """What stands on the page is the program that is tested."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks == [(EXAMPLES / example).read_text()]


def test_the_page_says_where_a_key_lives():
    """Who writes a partitioner of their own can check it by the page."""
    key, partitions = b"gen-1", 12
    expected = (
        f"which is {partition_of(key, partitions)} for the key `{key.decode()}` and {partitions} partitions"
    )
    assert expected in " ".join(PAGE.read_text().split())


@pytest.mark.parametrize("example", ["produce.py", "Produce.java"])
async def test_an_example_publishes_events_as_the_ledger_wants_them(example, kafka, topic_prefix, tmp_path):
    """Each event is in murmur2's partition, under its id, as it was written; what failed comes out again."""
    async with installation(kafka, topic_prefix, tmp_path) as (_, log):
        too_large = line_of("large", metadata={"text": "x" * 2_000_000})
        command = [*command_of(example), kafka.bootstrap, topic_prefix + topics.GENERATIONS]
        given = b"\n".join([*LINES[:-1], too_large, LINES[-1]]) + b"\n"
        done = await asyncio.to_thread(
            subprocess.run, command, input=given, capture_output=True, check=False, timeout=RUN_S
        )
        assert (done.returncode, done.stdout) == (1, too_large + b"\n"), done.stderr[-2000:]
        there = await read_all(log, topics.GENERATIONS)
    assert sorted(record.value for record in there) == sorted(LINES)
    for record in there:
        assert record.partition == partition_of(record.key, PARTITIONS)
        assert record.headers == generation.SCHEMA_HEADERS
        assert records.event_of(record).id.encode() == record.key
        assert abs(record.time_ms - now_ms()) < RUN_S * 1000


async def test_an_event_of_another_partitioner_is_counted_once(kafka, topic_prefix, tmp_path):
    """A crc32 default spreads keys by crc32: what lies elsewhere is forwarded, and ids count once."""
    async with installation(kafka, topic_prefix, tmp_path) as (found, log):
        topic = topic_prefix + topics.GENERATIONS
        messages = [(generation.decode(line).id.encode(), line, SCHEMA) for line in LINES]
        produce(kafka, topic, messages, partitioner="consistent_random")
        astray = [
            record
            for record in await read_all(log, topics.GENERATIONS)
            if record.partition != partition_of(record.key, PARTITIONS)
        ]
        assert astray
        produce(kafka, topic, messages[::2])  # retries, by a producer that was mended meanwhile
        facts = await decide_all(log, found)
    fates = Counter(each.fate for each in facts)
    assert fates["counted"] == EVENTS
    assert fates["duplicate"] == EVENTS // 2
    assert fates["rerouted"] >= len(astray)
    entries = [entry for each in facts for sign, entry in fact.effects(each) if sign == 1]
    assert len(entries) == EVENTS
    assert sum(entry.cost_nano for entry in entries) == sum(range(EVENTS))


LATER = text_of((now_ms() * MS_NS) + 2 * DAY_NS)
HORIZON = Horizon("cleanup-1", nanoseconds_of("2021-01-01T00:00:00Z"), nanoseconds_of("2021-01-01T00:00:00Z"))
BAD = {
    "not an event: no JSON in UTF-8, a field of a wrong type or out of bounds": (
        b"bad-cost",
        line_of("bad-cost", cost="-1"),
        SCHEMA,
    ),
    "an unknown field": (b"bad-field", line_of("bad-field", colour="red"), SCHEMA),
    "a key that is not the id": (b"bad-key", line_of("gen-1"), SCHEMA),
    "a null": (b"bad-null", None, SCHEMA),
    "`schema` other than `1`": (b"bad-schema", line_of("bad-schema"), [("schema", b"2")]),
    "headers of more than 16,384 bytes": (
        b"bad-headers",
        line_of("bad-headers"),
        [*SCHEMA, ("trace", b"x" * 16_384)],
    ),
    "`created_at` more than 24 hours after it came": (
        b"bad-early",
        line_of("bad-early", created_at=LATER),
        SCHEMA,
    ),
    "an unknown organisation, where they are rejected": (
        b"bad-organization",
        line_of("bad-organization", organization="nobody"),
        SCHEMA,
    ),
    "another organisation's id": (b"bad-owner", line_of("bad-owner", organization="globex"), SCHEMA),
    "an unknown id dated before the horizon": (
        b"bad-old",
        line_of("bad-old", created_at="2020-11-20T10:00:00Z"),
        SCHEMA,
    ),
}


async def test_a_bad_record_becomes_what_the_page_says(kafka, topic_prefix, tmp_path):
    """Each row of the table of bad records: the fate, the reason, and the bytes where they are kept."""
    _, _, part = PAGE.read_text().partition("| record | fate | reason |")
    rows = re.findall(r"^\| (.+?) \| `(\w+)` \| `(\w+)` \|", part, re.MULTILINE)
    said = {what: (fate, reason) for what, fate, reason in rows}
    assert set(said) == set(BAD)
    async with installation(kafka, topic_prefix, tmp_path, unknown_organizations="reject") as (found, log):
        home = partition_of(b"bad-old", PARTITIONS)
        known = [message_of(Organization(id=name, created_ms=0)) for name in ("acme", "globex")]
        await log.append([*known, records.horizon_message(HORIZON, home)])
        topic = topic_prefix + topics.GENERATIONS
        produce(kafka, topic, [(b"bad-owner", line_of("bad-owner"), SCHEMA)])
        produce(kafka, topic, [*BAD.values(), (b"good", line_of("good"), None)])
        facts = await decide_all(log, found)
        kept = {record.key: record.value for record in await read_all(log, topics.REJECTED)}
    became = {each.id: (each.fate, each.reason) for each in facts if each.reason}
    assert became == {key.decode(): said[what] for what, (key, _, _) in BAD.items()}
    assert kept == {key: value for key, value, _ in BAD.values()}
    assert "good" in {each.id for each in facts if each.fate == "counted"}


async def test_what_the_cluster_does_not_take_its_producer_hears_of(kafka, topic_prefix, tmp_path):
    """A batch with a record that has no key, or one above the limit, fails with the error on the page."""
    no_key, too_large = re.findall(r"^\| .+ \| `([A-Z_]+)`", PAGE.read_text(), re.MULTILINE)
    large = line_of("large", metadata={"text": "x" * topics.INTAKE_BATCH_BYTES})
    packed = {"message.max.bytes": 2 * topics.INTAKE_BATCH_BYTES, "compression.type": "zstd"}
    async with installation(kafka, topic_prefix, tmp_path, partitions=1) as (_, log):
        topic = topic_prefix + topics.GENERATIONS
        together = [(b"gen-1", LINES[1], SCHEMA), (None, LINES[2], SCHEMA)]
        assert produce(kafka, topic, together, **{"linger.ms": 500}) == {b"gen-1": no_key, None: no_key}
        assert produce(kafka, topic, [(b"large", large, SCHEMA)], **packed) == {b"large": too_large}
        assert produce(kafka, topic, together[:1], **packed) == {b"gen-1": None}
        assert [record.value for record in await read_all(log, topics.GENERATIONS)] == [LINES[1]]
