"""The views' process: the read side of `genledger serve`, beside the door and the ledger.

    ViewsProcess(settings, without).start()     # in the service
    python -m genledger.views                   # what it starts

It opens the log to read only, so the two sides share nothing but the log and a database: folding a large
batch keeps no request waiting, and the second core has work. What it does it tells line by line on its
stdout; the end of its stdin is its order to stop, so it also ends when the service was killed.
"""

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec

from genledger.process import lived, set_up_logging
from genledger.roles.opening import open_watched
from genledger.roles.rebuilt import start_takeover
from genledger.roles.views import open_database, open_followers, start_followers
from genledger.watch import Watch
from projections.agents import Follower, Full, Taken, measure
from projections.view import View
from streams import clock
from streams.errors import GenledgerError
from streams.log.interface import Log
from streams.settings import Settings

LINE_BYTES_MAX = 1 << 20
OPEN_TIMEOUT_S = 120.0


class Order(msgspec.Struct, frozen=True):
    """What the service tells the process it starts."""

    settings: Settings
    without: tuple[str, ...]


class Opened(msgspec.Struct, frozen=True, tag=True):
    """Every view is open; where each goes on from, by topic and partition."""

    places: list[tuple[str, str, int, int]]


Line = Opened | Taken | Full

_line = msgspec.json.Decoder(Line)
_order = msgspec.json.Decoder(Order)
_encoder = msgspec.json.Encoder()


def tell(line: Line) -> None:
    """One line to the service."""
    sys.stdout.buffer.write(_encoder.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """The process: read the order, follow the log, end with stdin."""
    order = _order.decode(sys.stdin.buffer.readline())
    set_up_logging(order.settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the service, which then closes stdin
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        reason = asyncio.run(_run(order))
    except GenledgerError as error:
        reason = str(error)
    if reason:
        print(f"genledger: {reason}", file=sys.stderr)
    return 1 if reason else 0


async def _run(order: Order) -> str:
    stopped = asyncio.Event()
    watch = Watch(order.settings.stall_timeout_s)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    waiting = asyncio.create_task(_until_closed(reader, stopped))

    async def start(stack: AsyncExitStack) -> None:
        await _start(order, watch, stack)

    try:
        return await lived(start, watch, stopped, order.settings.drain_timeout_s)
    finally:
        waiting.cancel()


async def _until_closed(reader: asyncio.StreamReader, stopped: asyncio.Event) -> None:
    await reader.read()
    stopped.set()


async def _start(order: Order, watch: Watch, stack: AsyncExitStack) -> None:
    settings = order.settings
    log = await open_watched(settings, watch, stack, read_only=True)
    database = await open_database(settings)
    stack.push_async_callback(database.close)
    followers = await open_followers(settings, database, log, tell, order.without)
    tell(
        Opened(
            [place for follower in followers for view in follower.views for place in _places(follower, view)]
        )
    )
    await start_followers(followers, log, settings, watch, stack)
    start_takeover(database, log, watch, stack)


def _places(follower: Follower, view: View[Any, Any]) -> list[tuple[str, str, int, int]]:
    return [(view.name, *place, at) for place, (at, _) in follower.places(view).items()]


class ViewsProcess:
    """The views' process as the service sees it."""

    def __init__(self, settings: Settings, without: Sequence[str], log: Log) -> None:
        self._order = Order(settings, tuple(without))
        self._log = log
        self._next: dict[str, dict[tuple[str, int], int]] = {}
        self._full: set[str] = set()
        self._changed = asyncio.Event()
        self._opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def start(self, stack: AsyncExitStack) -> None:
        """Start it, and return when every view is open; `GenledgerError` when one can't be."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "genledger.views",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(_encoder.encode(self._order) + b"\n")
        self._listening = asyncio.create_task(self._listen(self._process))
        stack.push_async_callback(self._stop)
        await asyncio.wait([self._opened, self.ended], timeout=OPEN_TIMEOUT_S, return_when="FIRST_COMPLETED")
        if not self._opened.done():
            raise GenledgerError(
                self.ended.result() if self.ended.done() else "the views did not open in time"
            )

    def places(self, view: str) -> Mapping[tuple[str, int], tuple[int, int]]:
        """Where a view stands and where the log ends, by topic and partition."""
        places = self._next.get(view, {})
        return {(topic, n): (at, self._log.end_offset(topic, n)) for (topic, n), at in places.items()}

    def full(self, view: str) -> bool:
        """Whether a view waits for room on the disk."""
        return view in self._full

    async def wait_for_change(self, timeout_s: float) -> bool:
        """Until the summaries' rows have changed, or the time is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
            return True
        return False

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            self._hear(_line.decode(raw))
        code = await process.wait()
        self.ended.set_result(f"the views' process ended with code {code}: its message is above this one")

    def _hear(self, line: Line) -> None:
        if isinstance(line, Opened):
            for view, topic, partition, at in line.places:
                self._next.setdefault(view, {})[topic, partition] = at
            self._opened.set_result(None)
            return
        measure(line, clock.now_ms())
        if isinstance(line, Full):
            (self._full.add if line.full else self._full.discard)(line.view)
            return
        self._next[line.view][line.topic, line.partition] = line.next_offset
        if line.view == "summaries":
            self._changed.set()
            self._changed = asyncio.Event()

    async def _stop(self) -> None:
        process = self._process
        assert process is not None and process.stdin is not None and self._listening is not None
        process.stdin.close()
        await self._listening


if __name__ == "__main__":
    sys.exit(main())
