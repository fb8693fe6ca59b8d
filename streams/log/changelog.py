"""Recovery by batches: the second seam between a log and Faust.

Stock Faust recovers a table by passing each changelog record through its streams (10,000 keys a second).
Here the recovery service asks each table to read its changelog straight from the log, in batches, and
then lets Faust go on. A table that takes part has `async def recover(partition)`.
"""

import asyncio
import logging
from collections.abc import Set as AbstractSet
from typing import Any, cast

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service

from streams.errors import LogUnavailable

RECOVERIES_AT_ONCE = 4
UNAVAILABLE_RETRY_S = 1.0

_logger = logging.getLogger("genledger.log")


class BatchRecovery(Recovery):
    """Recovers the partitions of the tables whose source partitions were assigned."""

    _partitions: frozenset[int] = frozenset()
    _recovering: asyncio.Task[None] | None = None

    async def on_rebalance(
        self,
        assigned: AbstractSet[TP],
        revoked: AbstractSet[TP],
        newly_assigned: AbstractSet[TP],
        generation_id: int = 0,
    ) -> None:
        """Remember what is ours now, and start a recovery of it."""
        if generation_id == self.app.consumer_generation_id:
            self._partitions = frozenset(tp.partition for tp in assigned)
            self._generation_id = generation_id
            self.signal_recovery_start.set()

    def on_partitions_revoked(self, revoked: AbstractSet[TP]) -> None:
        """Nothing is buffered, so there is nothing to flush."""

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(cast(Any, self.signal_recovery_start)):
                return
            self.signal_recovery_start.clear()
            generation_id = self._generation_id
            if generation_id != self.app.consumer_generation_id:
                continue  # given back before it began
            self.in_recovery = True
            self._recovering = asyncio.create_task(self._recover(self._partitions))
            await asyncio.wait([self._recovering])
            if self._recovering.cancelled():
                continue  # given up, for the partitions are no longer ours: others come
            error = _first(self._recovering.exception())
            if isinstance(error, LogUnavailable):
                _logger.warning("the tables can't be read back now: %s", error)
                await self.sleep(UNAVAILABLE_RETRY_S)
                cast(Any, self.app.consumer).rejoin()
                continue
            if error is not None:
                await self.app.crash(error)
                return
            if generation_id != self.app.consumer_generation_id:
                continue  # given back as it ended
            self.in_recovery = False
            await self._resume_streams(generation_id=generation_id)

    async def _recover(self, partitions: frozenset[int]) -> None:
        """Every table's partitions, a few at once: most of the time is waiting for the log."""
        await cast(Any, self.app).prepare(partitions)
        room = asyncio.Semaphore(RECOVERIES_AT_ONCE)

        async def recover(table: Any, partition: int) -> None:
            async with room:
                await table.recover(partition)

        async with asyncio.TaskGroup() as group:
            for table in self.tables.values():
                for partition in sorted(partitions):
                    group.create_task(recover(table, partition))

    async def give_up(self) -> None:
        """End a recovery that is under way or due: when this returns, it takes nothing over any more."""
        self.signal_recovery_start.clear()
        self._partitions = frozenset()
        if self._recovering is not None and not self._recovering.done():
            self._recovering.cancel()
            await asyncio.wait([self._recovering])

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Changelogs are not delivered to streams, so there is nothing to slurp."""

    @Service.task
    async def _publish_stats(self) -> None:
        """The tables report their own progress."""

    async def on_stop(self) -> None:
        """Nothing is buffered, so there is nothing to flush."""


def _first(error: BaseException | None) -> BaseException | None:
    """The error that made a group of tasks fail."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class BatchTableManager(TableManager):
    """A table manager whose recovery is by batches. Set as Faust's `TableManager`."""

    _recovery: Recovery | None

    @property
    def recovery(self) -> Recovery:
        """The recovery service, made once."""
        if self._recovery is None:
            self._recovery = BatchRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """As Faust's, without its second of sleep."""
        await self._update_channels()
        await self.recovery.start()

    async def _update_channels(self) -> None:
        # No channel is subscribed to a changelog: a table reads it straight from the log.
        self._tables_finalized.set()
        for table in self.values():
            await table.maybe_start()
            await asyncio.sleep(0)
        self._tables_registered.set()
