"""A process beside the service: it is told what to do on its stdin, and tells what it does on its stdout.

    child = Child("genledger.views", Order(settings), hear)     # in the service
    ending = await child.start()
    return run_child(start)                                 # what `python -m genledger.views` does

The first line of stdin is the order; the end of stdin is the order to stop, so a child also ends when the
service was killed. What comes between are answers to what the child has asked. Its stderr is the service's.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from genledger.process import lived, set_up_logging
from genledger.watch import Watch
from streams.errors import GenledgerError
from streams.settings import Settings

LINE_BYTES_MAX = 1 << 24

_encoder = msgspec.json.Encoder()


class Order(msgspec.Struct, frozen=True):
    """What the service tells the process it starts."""

    settings: Settings
    without: tuple[str, ...] = ()


_order = msgspec.json.Decoder(Order)

Start = Callable[[Order, Watch, AsyncExitStack], Awaitable[None]]


def tell(line: Any) -> None:
    """One line to the service."""
    sys.stdout.buffer.write(_encoder.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def run_child(start: Start, heard: Callable[[bytes], None] = lambda _line: None) -> int:
    """The process, from inside: read the order, do it, end with stdin. `heard` takes the lines between."""
    order = _order.decode(sys.stdin.buffer.readline())
    set_up_logging(order.settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the service, which then closes stdin
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        reason = asyncio.run(_run(order, start, heard))
    except GenledgerError as error:
        reason = str(error)
    if reason:
        print(f"genledger: {reason}", file=sys.stderr)
    return 1 if reason else 0


async def _run(order: Order, start: Start, heard: Callable[[bytes], None]) -> str:
    stopped = asyncio.Event()
    watch = Watch(order.settings.stall_timeout_s)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def listen() -> None:
        while line := await reader.readline():
            heard(line)
        stopped.set()

    listening = asyncio.create_task(listen())
    try:
        return await lived(
            lambda stack: start(order, watch, stack), watch, stopped, order.settings.drain_timeout_s
        )
    finally:
        listening.cancel()


class Child:
    """The process as the service sees it. `hear` takes its lines."""

    def __init__(self, module: str, order: Order, hear: Callable[[bytes], None]) -> None:
        self._module = module
        self._order = order
        self._hear = hear
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[int] | None = None

    async def start(self) -> "asyncio.Task[int]":
        """Start it; its exit code, once it has ended."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        self.answer(self._order)
        self._listening = asyncio.create_task(self._listen(self._process))
        return self._listening

    def answer(self, line: Any) -> None:
        """One line to the child; nothing if it has gone."""
        assert self._process is not None and self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(_encoder.encode(line) + b"\n")

    async def _listen(self, process: asyncio.subprocess.Process) -> int:
        assert process.stdout is not None
        async for raw in process.stdout:
            self._hear(raw)
        return await process.wait()

    async def stop(self) -> None:
        """Order it to stop, and wait until it has."""
        if self._process is None or self._listening is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._listening
