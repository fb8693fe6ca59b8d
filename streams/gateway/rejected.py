"""What was not taken, with its bytes and why; and the way back onto the log, for an administrator.

GET  /api/v1/rejected?limit=100&after=0:17
GET  /api/v1/rejected/0/18
POST /api/v1/rejected/0/18/redrive {"force": true}

What is redriven and refused again is a new record of the same key and bytes. The list shows the newest of
those only, so it does not grow by trying: `Newest` knows which that is.
"""

import asyncio
import base64
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from streams import records, topics
from streams.gateway import body as bodies
from streams.gateway.answers import Refusal, answer, invalid, not_found
from streams.gateway.intake import Intake
from streams.gateway.newest import Newest
from streams.gateway.organizations import decoded, time_of
from streams.log.interface import Headers, Log, Message, Record
from streams.log.partition import partition_of
from streams.settings import Settings

LIMIT = 100
LIMIT_MAX = 1000
DIGITS_MAX = 18
# A page looks at no more records than this, however many of them it hides: the next page goes on.
LOOKED_AT_MAX = 20_000
BATCH_RECORDS = 1000
# Who has no key: an open service's caller.
NO_KEY = "an administrator without a key"
# What the rejected record says of itself; the rest of its headers were the record's own.
_KEPT_HEADERS = ("schema", records.KIND, "known")


_logger = logging.getLogger("genledger.gateway")


class Redrive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`force` has an event counted that the horizon would refuse."""

    force: bool = False


class Rejected:
    """The handlers."""

    def __init__(self, log: Log, intake: Intake, room: bodies.Room, settings: Settings) -> None:
        self._log = log
        self._intake = intake
        self._room = room
        self._newest = Newest(log, topics.REJECTED, kept_headers)
        self._limits = bodies.small(settings)

    async def list(self, request: web.Request) -> web.Response:
        """GET /api/v1/rejected: by partition, then offset; `next` goes into the next call's `after`.

        A page may be short, or empty, where much of it is hidden: only a `next` of null is the end.
        """
        limit = min(_number("limit", request.query.get("limit", str(LIMIT))), LIMIT_MAX) or LIMIT
        first, offset = _place_after(request.query.get("after", ""))
        found, last = await self._page(first, offset, limit)
        body = {
            "rejected": [shown(record) for record in found],
            "next": None if last is None else f"{last[0]}:{last[1]}",
            "truncated": self._newest.truncated,
        }
        return answer(200, body)

    async def _page(
        self, first: int, offset: int, limit: int
    ) -> tuple[Sequence[Record], tuple[int, int] | None]:
        """The newest of their kind from a place on, and the last place looked at; None at the end of all."""
        found: list[Record] = []
        left = LOOKED_AT_MAX
        for partition in range(first, self._log.partitions(topics.REJECTED)):
            await self._newest.catch_up(partition)
            while batch := await self._log.read(topics.REJECTED, partition, offset, min(BATCH_RECORDS, left)):
                for record in batch:
                    if self._newest.has(record):
                        found.append(record)
                    if len(found) == limit:
                        return found, (partition, record.offset)
                offset, left = batch[-1].offset + 1, left - len(batch)
                if left <= 0:
                    return found, (partition, offset - 1)
                await asyncio.sleep(0)
            offset = 0
        return found, None

    async def show(self, request: web.Request) -> web.Response:
        """GET /api/v1/rejected/{partition}/{offset}"""
        record = await self._record(request)
        return answer(200, shown(record) | _value_of(record.value))

    async def redrive(self, request: web.Request) -> web.Response:
        """POST /api/v1/rejected/{partition}/{offset}/redrive"""
        with self._room.seat() as seat:
            text = await bodies.read(request, self._limits, seat)
        wanted = decoded(text, Redrive) if text else Redrive()
        forced_by = (request["caller"].key_id or NO_KEY) if wanted.force else ""
        record = await self._record(request)
        message = again(record, forced_by, self._log.partitions(topics.GENERATIONS))
        offsets = await self._intake.append([message])
        if forced_by:
            place = f"{record.partition}/{record.offset}"
            _logger.info("%s has the rejected record %s counted by force", forced_by, place)
        return answer(202, {"partition": message.partition, "offset": offsets[0], "forced": wanted.force})

    async def _record(self, request: web.Request) -> Record:
        partition = _number("partition", request.match_info["partition"])
        offset = _number("offset", request.match_info["offset"])
        if partition < self._log.partitions(topics.REJECTED):
            found = await self._log.read(topics.REJECTED, partition, offset, 1)
            if found and found[0].offset == offset:
                return found[0]
        raise not_found("there is no rejected record at that place")


def kept_headers(record: Record) -> Headers:
    """The headers that are the record's own, and go with it again."""
    return tuple((name, value) for name, value in record.headers if name in _KEPT_HEADERS)


def again(record: Record, forced_by: str, partitions: int) -> Message:
    """A rejected record as it goes onto `generations` once more, for whom by force, if so. Pure."""
    if record.key is None or record.value is None:
        missing = "key" if record.key is None else "value"
        raise Refusal(409, "no_" + missing, f"the record has no {missing}: publish its event anew")
    if records.header(record, "reason") == records.REFUSED_POINT:
        message = (
            "it is a point that InfluxDB refused, not an event: `genledger reconcile --fix` sends it anew"
        )
        raise Refusal(409, "a_point", message)
    headers = kept_headers(record)
    if forced_by:
        headers += ((records.FORCE, forced_by.encode()),)
    partition = partition_of(record.key, partitions)
    return Message(topics.GENERATIONS, partition, record.key, record.value, headers)


def shown(record: Record) -> dict[str, Any]:
    """A rejected record as JSON, without its bytes."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    return {
        "partition": record.partition,
        "offset": record.offset,
        "time": time_of(record.time_ms),
        "key": None if record.key is None else record.key.decode(errors="backslashreplace"),
        "reason": headers.get("reason", ""),
        "error": headers.get("error", ""),
        "source_partition": headers.get("partition"),
        "source_offset": headers.get("offset"),
        "size_bytes": len(record.value or b""),
    }


def _value_of(value: bytes | None) -> dict[str, Any]:
    """The bytes as text when they are UTF-8, else as base64."""
    if value is None:
        return {"value": None, "encoding": "null"}
    try:
        return {"value": value.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"value": base64.b64encode(value).decode(), "encoding": "base64"}


def _number(field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise invalid(field, "must be a whole number, 0 or more")
    return int(text)


def _place_after(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    partition, colon, offset = text.partition(":")
    if not colon:
        raise invalid("after", "must be PARTITION:OFFSET, as `next` was")
    return _number("after", partition), _number("after", offset) + 1
