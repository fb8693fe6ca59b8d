"""Lines of several batches in one write: what waits goes together, and who waits hears when it is there.

    outbox = Outbox(writer, least=100, linger_s=0.25)
    refused = await outbox.put(lines)         # when all of them are there, but for those that were refused

While a write is on its way the next one fills. A trickle waits a moment for company; a queue does not.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from projections.stores.influxdb.writer import Line, Refusal, Writer
from streams.settings import POINTS_MAX


class _Parcel:
    """The lines of one who waits."""

    __slots__ = ("done", "left", "lines", "refused")

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.left = len(lines)
        self.refused: list[Refusal] = []
        self.done: asyncio.Future[Sequence[Refusal]] = asyncio.get_running_loop().create_future()


# Whose lines a write has, from which on, and how many.
_Part = tuple[_Parcel, int, int]


class Outbox:
    """One write at a time, of up to POINTS_MAX lines, in the order in which they were put."""

    def __init__(self, writer: Writer, least: int, linger_s: float) -> None:
        self._writer = writer
        self._least = least
        self._linger_s = linger_s
        self._waiting: deque[tuple[_Parcel, int]] = deque()  # a parcel, and how much of it is on its way
        self._count = 0
        self._more = asyncio.Event()

    async def put(self, lines: Sequence[Line]) -> Sequence[Refusal]:
        """Returns when every line is there or refused. Whoever is cancelled has sent some or all of them."""
        if not lines:
            return ()
        parcel = _Parcel(lines)
        self._waiting.append((parcel, 0))
        self._count += len(lines)
        self._more.set()
        return await parcel.done

    async def go_on(self) -> None:
        """Write what is put, until cancelled. An error is that of all who wait."""
        try:
            while True:
                await self._enough()
                await self._send()
        except BaseException as error:
            for parcel, _ in self._waiting:
                if not parcel.done.done():
                    parcel.done.set_exception(
                        error if isinstance(error, Exception) else asyncio.CancelledError()
                    )
            raise

    async def _enough(self) -> None:
        while not self._waiting:
            self._more.clear()
            await self._more.wait()
        deadline_s = asyncio.get_running_loop().time() + self._linger_s
        while self._count < self._least:
            self._more.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline_s):
                    await self._more.wait()
                    continue
            return

    async def _send(self) -> None:
        parts: list[_Part] = []
        lines: list[Line] = []
        while self._waiting and len(lines) < POINTS_MAX:
            parcel, begun = self._waiting.popleft()
            if parcel.done.cancelled():
                self._count -= len(parcel.lines) - begun
                continue
            some = parcel.lines[begun : begun + POINTS_MAX - len(lines)]
            lines += some
            parts.append((parcel, begun, len(some)))
            if begun + len(some) < len(parcel.lines):
                self._waiting.appendleft((parcel, begun + len(some)))
        self._count -= len(lines)
        try:
            refused = await self._write(parts, lines) if lines else ()
        except BaseException as error:
            for parcel, *_ in parts:
                if not parcel.done.done() and isinstance(error, Exception):
                    parcel.done.set_exception(error)
                parcel.done.cancel()
            raise
        if refused is None:
            self._put_back(parts)
        else:
            self._tell(parts, refused)

    async def _write(self, parts: Sequence[_Part], lines: Sequence[Line]) -> Sequence[Refusal] | None:
        """None: one of them was cancelled meanwhile.

        His lines must not be tried again: whoever has his partition now may have written newer ones by then.
        """
        writing = asyncio.ensure_future(self._writer.write(lines))

        def stop(done: asyncio.Future[Sequence[Refusal]]) -> None:
            if done.cancelled():
                writing.cancel()

        for parcel, *_ in parts:
            parcel.done.add_done_callback(stop)
        try:
            await asyncio.wait([writing])
        except asyncio.CancelledError:
            writing.cancel()
            await asyncio.wait([writing])
            raise
        return None if writing.cancelled() else writing.result()

    def _put_back(self, parts: Sequence[_Part]) -> None:
        """What the others had in a write that was ended goes again, as it was."""
        for parcel, begun, count in reversed(parts):
            if parcel.done.done():
                continue
            if self._waiting and self._waiting[0][0] is parcel:
                self._waiting.popleft()  # it goes on behind this part
            self._waiting.appendleft((parcel, begun))
            self._count += count

    def _tell(self, parts: Sequence[_Part], refused: Sequence[Refusal]) -> None:
        owners = {id(line): parcel for parcel, *_ in parts for line in parcel.lines} if refused else {}
        for refusal in refused:
            owners[id(refusal.line)].refused.append(refusal)
        for parcel, _, count in parts:
            parcel.left -= count
            if parcel.left == 0 and not parcel.done.done():
                parcel.done.set_result(parcel.refused)
