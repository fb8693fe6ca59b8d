"""The facts as somebody outside gets them: which of them, what of each, and how he sees that none is missing.

    scope = Scope(organization="acme", month="2026-11")
    ranges = await ranges_of(log)
    begun_ms = await facts_from_ms(log, [one.partition for one in ranges])
    header = header_of(scope, log.identity, ranges, begun_ms)
    async for batch in batches(log, ranges, scope, limit=1000):
        for row in batch.rows: ...                       # a line of the export

    seen_by(fact, "acme")                                # the fact without another organisation's side

What the lines mean, and the rules by which they add up to a statement: docs/auditing.md.
"""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from streams import fact as facts
from streams import times, topics
from streams.fact import SCHEMA_HEADERS, Entry, Fact
from streams.log.interface import Log, Record

NAME = "genledger facts"
SCHEMA = 1
# What these fields say, the live counters' day, is no part of any statement.
LEFT_OUT = ("today", "today_zone")
PARTIES = ("holder", "claimant")
SIDES: tuple[Literal["minus", "plus"], ...] = ("minus", "plus")

Row = dict[str, Any]

_MONTH = re.compile(r"2[01][0-9]{2}-(?:0[1-9]|1[0-2])")
_encoder = msgspec.json.Encoder()


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. An organisation or all; a month of days, or a range of log times, or everything."""

    organization: str = ""
    month: str = ""
    from_ns: int | None = None
    to_ns: int | None = None  # itself not within


class Range(msgspec.Struct, frozen=True):
    """The offsets of one partition of `usage` that were read: `end` is the first one that was not."""

    partition: int
    start: int
    end: int


class Batch(msgspec.Struct, frozen=True):
    """The rows among some records, and how far that makes it."""

    rows: Sequence[Row]
    records: int


def month_text(text: str) -> str:
    """A month as it was given, checked; `ValueError` says what is wrong with it."""
    if _MONTH.fullmatch(text) is None:
        raise ValueError("must be a month such as 2026-11")
    return text


async def ranges_of(log: Log) -> Sequence[Range]:
    """All that is on `usage` now."""
    await log.refresh([topics.USAGE])
    numbers = range(log.partitions(topics.USAGE))
    for n in numbers:  # by reading, a log learns where a partition begins by now
        await log.read(topics.USAGE, n, log.start_offset(topics.USAGE, n), 1)
    return [Range(n, log.start_offset(topics.USAGE, n), log.end_offset(topics.USAGE, n)) for n in numbers]


async def batches(log: Log, ranges: Sequence[Range], scope: Scope, limit: int) -> AsyncIterator[Batch]:
    """The rows of the scope, partition by partition in the log's order, a batch of records at a time."""
    needles = _needles(scope)
    for one in ranges:
        offset = one.start
        while offset < one.end:
            records = await log.read(topics.USAGE, one.partition, offset, min(limit, one.end - offset))
            if not records:
                break  # on a cluster only the ends of transactions are left
            offset = records[-1].offset + 1
            within = [record for record in records if record.offset < one.end]
            rows = [row for record in within if (row := _row(record, scope, needles)) is not None]
            yield Batch(rows, len(records))


def _needles(scope: Scope) -> Sequence[bytes]:
    """Bytes without which a fact is not of the scope: most are told apart without decoding them."""
    needles = []
    if scope.organization:
        needles.append(b'"organization":' + _encoder.encode(scope.organization))
    if scope.month:
        needles.append(b'"day":"' + scope.month.encode() + b"-")
    return needles


def _row(record: Record, scope: Scope, needles: Sequence[bytes]) -> Row | None:
    value = record.value or b""
    # One of another schema is decoded whatever it holds, which stops the export.
    if needles and record.headers == SCHEMA_HEADERS and not all(needle in value for needle in needles):
        return None
    return row_of(facts.decode(value, record.headers), record.offset, scope)


def row_of(fact: Fact, usage_offset: int, scope: Scope) -> Row | None:
    """A fact as a line of the export; None when it is not of the scope. Pure."""
    if scope.from_ns is not None and fact.time_ms * times.MS_NS < scope.from_ns:
        return None
    if scope.to_ns is not None and fact.time_ms * times.MS_NS >= scope.to_ns:
        return None
    fact = seen_by(fact, scope.organization)
    own = [side for side in (fact.minus, fact.plus) if side is not None]
    if scope.organization and not own:
        return None
    if scope.month and not any(side.day[:7] == scope.month for side in own):
        return None
    row = {"partition": fact.partition, "usage_offset": usage_offset} | msgspec.structs.asdict(fact)
    for name in SIDES:
        row[name] = _side_of(row[name])
    return row


def _side_of(entry: Entry | None) -> Row | None:
    if entry is None:
        return None
    side = msgspec.structs.asdict(entry)
    for name in LEFT_OUT:
        del side[name]
    return side


def seen_by(fact: Fact, organization: str) -> Fact:
    """A fact as an organisation may see it: nothing of another's. '' is everybody's owner. Pure."""
    if not organization:
        return fact
    changes: dict[str, Any] = {
        name: None for name in SIDES if (side := getattr(fact, name)) and side.organization != organization
    }
    if fact.detail and fact.fate in ("conflict", "quarantined"):
        changes["detail"] = ""  # it names the other one, or quotes what could not be read
    changes |= {name: "" for name in PARTIES if getattr(fact, name) not in ("", organization)}
    return msgspec.structs.replace(fact, **changes) if changes else fact


def header_of(scope: Scope, identity: str, ranges: Sequence[Range], facts_from_ms: int | None = None) -> Row:
    """The first line: what this is an export of, how much of the log it read, and from when it has facts."""
    return {
        "export": NAME,
        "schema": SCHEMA,
        "organization": scope.organization or None,
        "month": scope.month or None,
        "from": None if scope.from_ns is None else times.text_of(scope.from_ns),
        "to": None if scope.to_ns is None else times.text_of(scope.to_ns),
        "log": identity,
        "facts_from": None if facts_from_ms is None else times.text_of(facts_from_ms * times.MS_NS),
        "partitions": msgspec.to_builtins(ranges),
    }


def trailer_of(count: int, more: Mapping[str, Any]) -> Row:
    """The last line: without it the export was cut."""
    return {"end": NAME, "facts": count, **more}


def line_of(row: Mapping[str, Any]) -> bytes:
    """One line of NDJSON."""
    return _encoder.encode(row) + b"\n"
