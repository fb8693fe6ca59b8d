"""Waiting for the disk without starving anybody.

A thread that comes back from an fsync needs the interpreter lock. A busy event loop lets go of it for
microseconds only, at each turn, and has it again before the thread wakes up; and each time the thread's
claim on the lock starts anew. Measured: a commit of 0.2 ms took seconds. So:

- `Syncer` commits on the loop's own thread while the disk is quick: 0.2 ms of standing still cost less;
- on a slow disk it uses a thread, and meanwhile the loop sleeps for a moment now and then, long enough for
  the thread to get through (`run_in_thread`, also for what is long by nature).

    syncer = Syncer("commit-usage")
    await syncer.commit(lambda: connection.execute("COMMIT"))
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from time import sleep
from typing import TypeVar

from streams.clock import monotonic_s

T = TypeVar("T")

TURN_S = 0.003
PAUSE_S = 0.0002
QUICK_MS = 2.0
# The average's memory: a few slow ones in a row move it, a single one does not.
SAMPLES = 8


async def run_in_thread(executor: Executor, function: Callable[[], T]) -> T:
    """The function's result; the event loop goes on meanwhile, at some 7 % less.

    A caller that is cancelled waits for the end of what was begun, for it can't be undone.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, function)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future}, timeout=TURN_S)
        except asyncio.CancelledError as error:
            cancelled = error
        sleep(PAUSE_S)  # noqa: ASYNC251 -- blocking is the point: only this gives the thread its turn
    if cancelled is not None:
        future.exception()
        raise cancelled
    return future.result()


class Syncer:
    """One file's commits: here while they are quick, in a thread of its own when they are slow."""

    def __init__(self, name: str, quick_ms: float = QUICK_MS) -> None:
        self._quick_ms = quick_ms
        self._average_ms = 0.0
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def commit(self, function: Callable[[], object]) -> None:
        """Run a commit; returns when it is durable. Its time says where the next one runs."""
        await self.run(lambda: self._timed(function))

    async def run(self, function: Callable[[], object]) -> None:
        """Run what is as quick, or as slow, as a commit."""
        if self._average_ms < self._quick_ms:
            function()
        else:
            await run_in_thread(self.thread, function)

    def _timed(self, function: Callable[[], object]) -> None:
        started_s = monotonic_s()
        function()
        self._average_ms += ((monotonic_s() - started_s) * 1000 - self._average_ms) / SAMPLES

    def close(self) -> None:
        """Let the thread end."""
        self.thread.shutdown()
