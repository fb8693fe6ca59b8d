"""A point as a line, and back from what a real server says, to the letter."""

import asyncio
import itertools
import random
from datetime import date

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.points import Opening, Point, stamp_ns
from projections.stores.influxdb.line import (
    OPENING,
    USAGE,
    line_of,
    opening_line_of,
    opening_ns,
    opening_of_row,
    point_of_row,
    tag_text,
    tags_of,
    text_of_tag,
    void_line_of,
)
from projections.stores.influxdb.reader import reader_of
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.target import Target
from streams.money import COST_NANO_MAX
from tests.influxdb.fake import parse
from tests.influxdb.samples import NOW_NS, POINT

HARD = [
    "",
    "\\",
    "a\\",
    "a\\\\",
    ",",
    "=",
    " ",
    " a ",
    "a,b=c d",
    '"',
    "'",
    "%",
    "%20",
    "%5C",
    "100%",
    "\u2028",
    "\x85",
    "\ufeff",
    "é",
    "e\u0301",
    "😀",
    '") |> yield()',
    "' OR 1=1",
    "#",
    "a\\,b",
    "a\\ ",
    "a\\=",
    "\\,",
    "/.*/",
    "${x}",
    "a" * 300,
    "true",
    "1i",
    "NaN",
    "null",
    "_measurement",
]
# What the door lets through: no control characters, no halves of characters.
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12) | st.sampled_from(HARD)
counts = st.integers(0, 2**53)


def points():
    # Up to what one call may cost: there the float beside it still tells nano-dollars apart.
    priced = st.none() | st.tuples(st.integers(0, COST_NANO_MAX), counts)
    return st.builds(
        lambda id_, tags, user, user_id, tokens, money, latency, offset: Point(
            id_,
            0,
            *tags,
            user,
            user_id,
            "2026-11-20",
            *tokens,
            *(money or (None, None)),
            latency,
            offset,
            offset,
        ),
        texts.filter(bool),
        st.tuples(*[texts] * 4),
        texts,
        texts,
        st.tuples(*[counts] * 3),
        priced,
        st.none() | counts,
        counts,
    )


def test_a_point_is_one_line_with_all_that_is_known_of_it():
    """A reader of the protocol finds the tags, every field with its type, and the nanosecond."""
    read = parse(line_of(POINT, "time"))
    assert read.measurement == USAGE
    assert read.tags == {
        "organization": "acme",
        "model": "openai/gpt-4o",
        "provider": "OpenAI",
        "source": "webhook",
    }
    assert read.time_ns == stamp_ns(NOW_NS, "gen-1")
    assert read.fields == {
        "request_id": "gen-1",
        "user": "u1",
        "user_id": "anna",
        "day": "2026-11-20",
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "cost_nano": 12_300_000,
        "markup_nano": 15_990_000,
        "cost": 0.0123,
        "unpriced": 0,
        "requests": 1,
        "latency_ms": 321,
        "untimed": 0,
        "created_ns": NOW_NS,
        "offset": 17,
        "logged_ms": 1_795_217_400_123,
    }
    assert isinstance(read.fields["cost"], float)


def test_unknown_is_not_zero():
    """A cost and a latency that nobody knows are said to be unknown, and come back so."""
    point = msgspec.structs.replace(POINT, cost_nano=None, markup_nano=None, latency_ms=None)
    fields = parse(line_of(point, "time")).fields
    assert (fields["unpriced"], fields["cost_nano"], fields["markup_nano"], fields["cost"]) == (1, 0, 0, 0.0)
    assert fields["untimed"] == 1
    assert "latency_ms" not in fields
    # The server merges fields: what an older write of the point said of the latency is still there.
    assert point_of_row(row_of(line_of(point, "time")) | {"latency_ms": 321}) == point


def test_a_void_is_zeros_in_every_field_that_a_sum_may_take():
    """It has the tags, the time and the fields of its point, so that it is written over all of it."""
    point, void = parse(line_of(POINT, "time")), parse(void_line_of(POINT, "time"))
    assert void.key == point.key
    assert set(void.fields) == set(point.fields)
    summed = (
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cost_nano",
        "markup_nano",
        "cost",
        "requests",
    )
    assert [void.fields[name] for name in summed] == [0] * len(summed)
    assert {name: type(value) for name, value in void.fields.items()} == {
        name: type(value) for name, value in point.fields.items()
    }
    assert point_of_row(row_of(void_line_of(POINT, "time"))) is None


def test_the_id_is_a_tag_where_that_is_asked_for():
    """Then two calls of one nanosecond are two points; the id is never both, a tag and a field."""
    read = parse(line_of(POINT, "tag"))
    assert read.tags["request_id"] == "gen-1"
    assert "request_id" not in read.fields
    assert parse(void_line_of(POINT, "tag")).key == read.key
    assert tags_of(POINT, "tag") == read.tags


@given(points(), st.sampled_from(["time", "tag"]))
def test_every_point_comes_back_from_its_line(point, dedup):
    """Whatever the texts and the figures."""
    assert point_of_row(row_of(line_of(point, dedup))) == point


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_comes_back_from_a_tag(text):
    """Control characters, too; and what is in the tag has no backslash."""
    tag = tag_text(text)
    assert "\\" not in tag
    assert tag.isprintable() or not text.isprintable()
    assert text_of_tag(tag) == text


def row_of(line):
    """A line as a query's row."""
    read = parse(line)
    return {**read.tags, **read.fields}


OPENED = Opening(
    "acme, inc\\",
    "2025-01-31",
    "user",
    'u "1"\\',
    "",
    "",
    7,
    100,
    50,
    150,
    300_000_000,
    390_000_000,
    2,
    17,
    1_795_217_400_123,
)


def test_an_opening_balance_comes_back_from_its_line():
    """Its time is in its day, and its own: two rows of a day are two points."""
    row = row_of(opening_line_of(OPENED))
    assert opening_of_row(row) == OPENED
    other = msgspec.structs.replace(OPENED, row="u2")
    midnight_ns = (date(2025, 1, 31) - date(1970, 1, 1)).days * 86_400_000_000_000
    assert opening_ns(OPENED) != opening_ns(other)
    assert all(0 <= opening_ns(one) - midnight_ns < 86_400_000_000_000 for one in (OPENED, other))


def target_of(influxdb, bucket, dedup="time"):
    return Target(
        url=influxdb.url,
        token=influxdb.token,
        org=influxdb.org,
        bucket=bucket,
        write_timeout_s=20.0,
        dedup=dedup,
    )


@pytest.mark.parametrize("dedup", ["time", "tag"])
def test_what_a_real_server_was_given_it_gives_back(influxdb, bucket, dedup):
    """Points with any text in their tags and fields are the same to the letter, read by Flux."""
    seconds = itertools.count(1)

    @settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(points(), min_size=1, max_size=60))
    def go(made):
        # Each example has an hour of its own.
        start_ns = NOW_NS + next(seconds) * 3_600_000_000_000
        wanted = [
            msgspec.structs.replace(p, request_id=f"{p.request_id}{n}", time_ns=start_ns + n * 1_000_000)
            for n, p in enumerate(made)
        ]
        assert sorted(asyncio.run(through(wanted, start_ns)), key=str) == sorted(wanted, key=str)

    async def through(wanted, start_ns):
        server = Server(target_of(influxdb, bucket, dedup))
        try:
            await server.open()
            await server.write(b"\n".join(line_of(point, dedup) for point in wanted))
            return [p async for p in reader_of(server).points(start_ns, start_ns + 3_600_000_000_000)]
        finally:
            await server.close()

    go()


async def test_every_hard_text_comes_back_from_a_real_server(influxdb, bucket):
    """In each tag, alone and beside the others, and in the id and the user."""
    pick = random.Random(7)
    wanted = []
    for n in range(400):
        tags = [pick.choice(HARD) for _ in range(6)] if n >= len(HARD) else [HARD[n]] * 6
        changes = dict(
            zip(("organization", "model", "provider", "source", "user", "user_id"), tags, strict=True)
        )
        at = {"request_id": f"{tags[0]}{n}", "time_ns": NOW_NS + n * 1_000_000}
        wanted.append(msgspec.structs.replace(POINT, **changes, **at))
    server = Server(target_of(influxdb, bucket))
    await server.open()
    await server.write(b"\n".join([*(line_of(p, "time") for p in wanted), opening_line_of(OPENED)]))
    reader = reader_of(server)
    found = [point async for point in reader.points(NOW_NS, NOW_NS + 10**10)]
    at_ns = opening_ns(OPENED)
    openings = [opening async for opening in reader.openings(at_ns, at_ns + 1)]
    await server.close()
    assert sorted(found, key=str) == sorted(wanted, key=str)
    assert openings == [OPENED]
    assert influxdb.count(bucket, OPENING) == 1
