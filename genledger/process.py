"""What every process of genledger has: its log output, its stop, and its end when something is wrong.

return run(settings, start)     # start(watch, stack)
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from genledger.watch import Watch
from streams import clock
from streams.settings import Settings

WATCH_INTERVAL_S = 0.25
# The collector walks every object again and again: what is here at the start stays, and needs no walk.
GC_THRESHOLDS = (50_000, 20, 50)
QUIET_LOGGERS = (
    "alembic.runtime.plugins",
    "alembic.runtime.migration",
    "faust",
    "genledger.access",
    "mode",
    "projections.schema",
    "streams.app",
    "streams.log",
    "streams.seen",
)


def set_up_logging(settings: Settings) -> None:
    """Messages to stderr, ours at the level that is set."""
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # What aiokafka can't do it tries again; what that comes to, our own messages say.
    logging.getLogger("aiokafka").setLevel(
        logging.DEBUG if settings.log_level == "DEBUG" else logging.CRITICAL
    )
    # What others say about themselves at INFO is for their developers, as is a line a request.
    quiet = logging.DEBUG if settings.log_level == "DEBUG" else logging.WARNING
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(quiet)
    # Faust reports an agent that is stopped as one that crashed; one that did crash ends the process.
    logging.getLogger("faust.agents.actor").setLevel(logging.CRITICAL)


Start = Callable[[Watch, AsyncExitStack], Awaitable[None]]


def run(settings: Settings, start: Start) -> int:
    """Be a process until SIGTERM, Ctrl-C or a failure; the exit code."""
    set_up_logging(settings)
    reason = asyncio.run(_until_stopped(settings, start))
    if reason:
        print(f"genledger: {reason}", file=sys.stderr)
    return 1 if reason else 0


async def _until_stopped(settings: Settings, start: Start) -> str:
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            give_up("stopped twice")
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    watch = Watch(settings.stall_timeout_s)
    return await lived(partial(start, watch), watch, stopped, settings.drain_timeout_s)


async def lived(
    start: Callable[[AsyncExitStack], Awaitable[None]],
    watch: Watch,
    stopped: asyncio.Event,
    drain_timeout_s: float,
) -> str:
    """Start, look after what was started until it is stopped or fails, and stop; the reason of a failure."""
    bound: asyncio.TimerHandle | None = None
    try:
        async with AsyncExitStack() as stack:
            starting = asyncio.create_task(_started(start, stack))
            reason = await _look_after(watch, stopped, starting)
            if starting.done():
                await starting
                reason = reason or await _look_after(watch, stopped)
            else:  # a start may wait for long: for a partition, or for a table to be read back
                starting.cancel()
                await asyncio.wait([starting], timeout=drain_timeout_s)
                if starting.done() and not starting.cancelled():
                    starting.exception()
            # A drain that hangs must not keep a stopped process alive: the log is safe at any moment.
            bound = asyncio.get_running_loop().call_later(drain_timeout_s, give_up, reason)
    finally:
        if bound is not None:
            bound.cancel()
    return reason


async def _started(start: Callable[[AsyncExitStack], Awaitable[None]], stack: AsyncExitStack) -> None:
    await start(stack)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _look_after(watch: Watch, stopped: asyncio.Event, until: asyncio.Task[None] | None = None) -> str:
    """What is wrong, or '' when it was stopped, or when what it was to wait for is done."""
    stop = asyncio.create_task(stopped.wait())
    ends: list[asyncio.Task[Any]] = [stop] if until is None else [stop, until]
    try:
        while not any(end.done() for end in ends):
            await asyncio.wait(ends, timeout=WATCH_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED)
            reason = watch.look(clock.monotonic_s())
            if reason:
                return reason
        return ""
    finally:
        stop.cancel()


def give_up(reason: str) -> None:
    """End at once: what is acknowledged is on the log, and the rest will be done again."""
    print(f"genledger: {reason or 'stopped'}; what was begun did not finish in time", file=sys.stderr)
    os._exit(1)
