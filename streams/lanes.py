"""Batches of several partitions at work at once, those of one partition in turn.

    lanes = Lanes(take, crash)
    await lanes.put(partition, batch, done)      # returns when there is room, not when it is taken
    await lanes.settle(partitions, bound_s)      # nothing of these is at work any more

While one partition's transaction is on its way, another's batch is decided.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from faust.types import TP

from streams.log.batches import Batch

# A batch is up to GENLEDGER_BATCH_BYTES_MAX: this bounds memory. More than four gained nothing measurable.
LANES = 4


class Lanes:
    """The batches at work. An error of `take` goes to `failed`, once, and what follows is not begun."""

    def __init__(
        self,
        take: Callable[[Batch], Awaitable[None]],
        failed: Callable[[BaseException], Awaitable[None]],
    ) -> None:
        self._take = take
        self._failed = failed
        self._room = asyncio.Semaphore(LANES)
        self._running: dict[TP, asyncio.Task[None]] = {}
        self._broken = False

    async def put(
        self, tp: TP, batch: Batch, done: Callable[[], None], wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Begin a batch when the one before it in its partition has ended and there is room.

        `wanted` is asked then: a batch of a partition that was given back meanwhile is not begun.
        """
        before = self._running.get(tp)
        if before is not None:
            await asyncio.wait([before])
        await self._room.acquire()
        if self._broken or not wanted():
            self._room.release()
            return
        task = self._running[tp] = asyncio.create_task(self._work(batch, done))
        task.add_done_callback(lambda task: self._ended(tp, task))

    async def _work(self, batch: Batch, done: Callable[[], None]) -> None:
        try:
            await self._take(batch)
        except Exception as error:  # noqa: BLE001 -- whatever failed, going on would skip the batch
            self._broken = True
            await self._failed(error)
        else:
            done()
        finally:
            self._room.release()

    def _ended(self, tp: TP, task: asyncio.Task[None]) -> None:
        if self._running.get(tp) is task:
            del self._running[tp]

    async def settle(self, tps: Iterable[TP], bound_s: float) -> None:
        """Let what is begun end, for so long; then end it. A batch that was ended is taken again later."""
        tasks = [self._running[tp] for tp in tps if tp in self._running]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=bound_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
