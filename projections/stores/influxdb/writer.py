"""Lines until they are there: pieces, retries, the circuit, and the one bad point among many.

    writer = Writer(server)
    refused = await writer.write(lines)      # every other line is there
    writer.circuit, writer.trouble()

What the server can't do now is tried again for ever, after 1, 2, 4, 8 s and then every 8 s, and not before
it asks for. Three failures in a row open the circuit: then nothing is sent until the next try, and that is a
small one. What the server does not take is halved until exactly the bad lines are left: they are refused,
the others are there. A line may be written more than once, which is the same point; lines of one point are
written in their order. Whoever cancels a write has written some of its lines, or all.

Refusing is for points, not for servers: before a line is refused, a void point of nobody's must be
taken. A server that takes not even that is out of order, and is waited for like one that denies us.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from projections.points import Opening, Point, stamp_ns
from projections.stores.influxdb.line import void_line_of
from projections.stores.influxdb.server import (
    DELETES_MAX,
    BadPoints,
    Denied,
    InfluxError,
    Server,
    Throttled,
    TooLarge,
    Unreachable,
)
from streams import clock
from streams.settings import POINTS_MAX
from streams.times import HOUR_NS, MS_NS

BODY_BYTES_MAX = 8_388_608  # 1.8 takes 25 MB, 2 takes 50, 3 takes 10
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
JITTER = 0.25  # at most so much longer
FAILURES_MAX = 3  # in a row: then the circuit is open
RETRY_AFTER_S_MAX = 300.0
DENIED_S = 30.0  # between two looks whether the settings or the server were mended
SMALL_LINES = 100  # of the first write after the circuit was open
REFUSALS_MAX = 100  # after so many a good point is tried again: the server may be out of order by now
# How long points are removed behind one write; those left stay as voids. 100 take 1.8 some 110 ms in a bucket
# of one shard and 20 series, 600 ms in one of 13 shards and 600 series, 30 s in one of 11,000 series
# (measured): so a request has few at first, and more while they are quick.
DELETES_FIRST = 4
GONE_S = 1.0

# These say that the server is full, whichever the point.
_PARTIAL = "(?:failure writing points to database: )?partial write:"
_FULL = re.compile(_PARTIAL + " max-(values-per-tag|series-per-database) limit exceeded")
_DROPPED = re.compile(_PARTIAL + r" .* dropped=([0-9]{1,9})", re.DOTALL)

Circuit = Literal["closed", "half-open", "open"]
Sleep = Callable[[float], Awaitable[None]]


class Line(msgspec.Struct, frozen=True):
    """A line of the protocol, and what it is a line of: None, if not of a point.

    `gone`: it writes a point as void, which is to be removed where the server can.
    """

    text: bytes
    of: Point | Opening | None
    gone: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """A line that the server does not take, and its own words about it."""

    line: Line
    message: str


class _Full(InfluxError):
    """The server takes no new series, whichever the point."""


class _Work:
    """One call's lines: pieces of them still to be written, the first on top, and those refused."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.refused: list[Refusal] = []
        self.pieces = [(0, len(lines))] if lines else []
        self.trusted = 0  # so many may be refused before a good point is tried again

    def taken(self, start: int, stop: int, most: int) -> tuple[int, int]:
        """The first lines of a piece that make one body; what is left of it waits its turn."""
        size = count = 0
        for line in self.lines[start : min(stop, start + most)]:
            size += len(line.text) + 1
            if count and size > BODY_BYTES_MAX:
                break
            count += 1
        if start + count < stop:
            self.pieces.append((start + count, stop))
        return start, start + count

    def body(self, start: int, stop: int) -> bytes:
        return b"\n".join([line.text for line in self.lines[start:stop]])

    def halve(self, start: int, stop: int) -> None:
        middle = (start + stop) // 2
        self.pieces += [(middle, stop), (start, middle)]

    def refuse(self, start: int, stop: int, message: str) -> None:
        self.refused += [Refusal(line, message) for line in self.lines[start:stop]]
        self.trusted -= stop - start


class Writer:
    """Writes to one server. Several may write at once; when the server is in trouble they take turns."""

    def __init__(self, server: Server, *, sleep: Sleep = asyncio.sleep) -> None:
        self._server = server
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._failures = 0
        self._next_s = 0.0
        self._most = POINTS_MAX
        self._deletes = DELETES_FIRST
        self._trouble = ""
        self.circuit: Circuit = "closed"
        self.last_error = ""
        #: Lines written, failures, and points gone that were left as voids.
        self.written = 0
        self.errors = 0
        self.left_void = 0

    def trouble(self) -> str:
        """Why lines wait, or ''."""
        return self._trouble

    async def write(self, lines: Sequence[Line]) -> Sequence[Refusal]:
        """Returns when every line is there or refused. It retries for ever."""
        work = _Work(lines)
        while work.pieces:
            async with self._place() as most:
                start, stop = work.taken(*work.pieces.pop(), most)
                await self._write_piece(work, start, stop)
        await self._remove_gone(lines)
        return work.refused

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[int]:
        """When the next write may go out, and how many lines it may have."""
        if not self._failures:
            yield self._most
            return
        async with self._turn:
            if self._failures:
                await self._sleep(max(0.0, self._next_s - clock.monotonic_s()))
            if self.circuit == "open":
                self.circuit = "half-open"
            try:
                yield self._most if self.circuit == "closed" else min(SMALL_LINES, self._most)
            finally:
                if self.circuit == "half-open":
                    self.circuit = "open"  # it was cancelled, or did not succeed

    async def _write_piece(self, work: _Work, start: int, stop: int) -> None:
        """One write, and what its answer means for the rest."""
        failures = self._failures
        try:
            await self._server.write(work.body(start, stop))
        except TooLarge as error:
            self._succeeded(0)
            if stop - start == 1:
                work.refuse(start, stop, str(error))
            else:
                work.halve(start, stop)
        except BadPoints as error:
            await self._part(work, start, stop, error)
        except InfluxError as error:
            work.pieces.append((start, stop))
            self._failed(error, failures)
        else:
            self._succeeded(stop - start)

    async def _part(self, work: _Work, start: int, stop: int, error: BadPoints) -> None:
        """The server does not take one of these lines, or more: which?"""
        dropped = _DROPPED.fullmatch(error.message)
        wholly = stop - start == 1 or (dropped is not None and int(dropped[1]) >= stop - start)
        try:
            if _FULL.match(error.message):
                raise _Full(f"InfluxDB is full: {error.message}")
            if work.trusted <= 0:
                await self._try_good_point()
                work.trusted = REFUSALS_MAX
        except InfluxError as trouble:
            work.pieces.append((start, stop))
            self._failed(trouble, self._failures)
            return
        self._succeeded(0)
        if wholly:
            work.refuse(start, stop, error.message)
        else:
            work.halve(start, stop)

    async def _try_good_point(self) -> None:
        """A void of nobody's, at this hour: with every tag and field of a point. No reader counts it."""
        us, hour_ns = "genledger", clock.now_ms() * MS_NS // HOUR_NS * HOUR_NS
        good = Point(us, hour_ns, us, us, us, us, "", "", "", 0, 0, 0, 0, 0, 0, 0, 0)
        try:
            await self._server.write(void_line_of(good, self._server.target.dedup))
        except BadPoints as error:
            raise Denied(f"InfluxDB takes no point at all ({error.status}): {error.message}") from None

    def _succeeded(self, lines: int) -> None:
        """It answered about lines: whatever it said of them, it is there."""
        self._failures = 0
        self._trouble = ""
        self.circuit = "closed"
        self.written += lines
        self._most = min(POINTS_MAX, self._most * 2)

    def _failed(self, error: InfluxError, failures: int) -> None:
        """`failures` is how many there were when the write began: of writes at once only one counts."""
        self.errors += 1
        self.last_error = self._trouble = str(error)
        if isinstance(error, Unreachable) and error.slow:
            self._most = max(1, self._most // 2)
        if failures == self._failures:
            self._failures += 1
        pause_s = PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]
        pause_s *= 1 + random.uniform(0.0, JITTER)  # noqa: S311 - no secret
        if isinstance(error, Throttled):
            pause_s = max(pause_s, min(error.retry_after_s, RETRY_AFTER_S_MAX))
        if isinstance(error, Denied | _Full):
            self._failures = max(self._failures, FAILURES_MAX)
            pause_s = DENIED_S
        if self._failures >= FAILURES_MAX:
            self.circuit = "open"
        self._next_s = clock.monotonic_s() + pause_s

    async def _remove_gone(self, lines: Sequence[Line]) -> None:
        """Voids are right as they are: one that can't be removed now stays."""
        gone = [line.of for line in lines if line.gone and isinstance(line.of, Point)]
        if not gone:
            return
        kept = {_place(line.of) for line in lines if not line.gone and isinstance(line.of, Point)}
        free = [point for point in gone if _place(point) not in kept]
        done = 0
        deadline_s = clock.monotonic_s() + GONE_S
        try:
            while done < len(free) and (begun_s := clock.monotonic_s()) < deadline_s:
                some = free[done : done + self._deletes]
                self.left_void += len(await self._server.delete(some))
                done += len(some)
                quick = clock.monotonic_s() - begun_s < GONE_S / 8
                self._deletes = min(DELETES_MAX, self._deletes * 2) if quick else max(1, self._deletes // 2)
        except InfluxError as error:
            self.last_error = str(error)
            self._deletes = 1
        self.left_void += len(free) - done


def _place(point: Point) -> tuple[str, str, str, str, int]:
    """Where a point stands, whichever call's it is: two ids may fall on one place."""
    at = stamp_ns(point.time_ns, point.request_id)
    return point.organization, point.model, point.provider, point.source, at
