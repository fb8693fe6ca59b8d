"""What the ledger has not decided yet: how far it is in each partition, and how old the oldest that waits is.

    await decided_to(log, partition)           # the offset on `generations` that is to be decided next
    await oldest_waiting_ms(log)               # the log time of the oldest record that waits; None: none does

Compaction on a cluster knows of no reader: a record that has waited for longer than the topic's minimum
compaction lag may be taken away before it was decided. So an outage of the ledger that nears it is an alarm.
"""

import asyncio
import logging
from contextlib import AsyncExitStack

from genledger.roles.tasks import keep
from genledger.watch import Watch
from streams import clock, fact, metrics, topics
from streams.clock import Clock
from streams.errors import LogError
from streams.log.ends import last_record
from streams.log.interface import Log

LOOK_EVERY_S = 300.0
# From half of the lag on there is time left to mend it.
ALARM_SHARE = 0.5
HOUR_MS = 3_600_000
NAME = "the ledger"

_logger = logging.getLogger("genledger.jobs")


async def decided_to(log: Log, partition: int) -> int:
    """The offset that is decided next: as the ledger's group has committed it, else behind the last fact.

    A cluster forgets the offsets of a group that was away for a week.
    """
    committed = await log.committed(topics.LEDGER_GROUP, topics.GENERATIONS, partition)
    if committed is not None:
        return committed
    await log.refresh([topics.USAGE])
    last = await last_record(log, topics.USAGE, partition)
    return 0 if last is None else fact.decode(last.value or b"", last.headers).offset + 1


async def oldest_waiting_ms(log: Log) -> int | None:
    """The log time of the oldest record of `generations` that waits for its decision; None when none does."""
    topic = topics.GENERATIONS
    await log.refresh([topic])
    waiting: list[int] = []
    for partition in range(log.partitions(topic)):
        at = max(await decided_to(log, partition), log.start_offset(topic, partition))
        if log.end_offset(topic, partition) > at:
            waiting += [record.time_ms for record in await log.read(topic, partition, at, 1)]
    return min(waiting, default=None)


def alarm_of(waited_ms: int, lag_ms: int = topics.GENERATIONS_LAG_MS) -> str:
    """What an operator must know of a record that has waited for so long. Pure.

    >>> alarm_of(3 * topics.DAY_MS)
    ''
    >>> alarm_of(4 * topics.DAY_MS)
    'the ledger has not decided a record for 96 hours: after 168 compaction may take it away uncounted. Start ledger workers, or raise min.compaction.lag.ms of the topic generations first'
    """  # noqa: E501 -- it is what is said
    if waited_ms < lag_ms * ALARM_SHARE:
        return ""
    return (
        f"the ledger has not decided a record for {waited_ms // HOUR_MS} hours: after {lag_ms // HOUR_MS}"
        " compaction may take it away uncounted. Start ledger workers, or raise min.compaction.lag.ms of the"
        f" topic {topics.GENERATIONS} first"
    )


class Outage:
    """Looks now and then how long the oldest record has waited."""

    def __init__(self, log: Log, now_ms: Clock = clock.now_ms) -> None:
        self._log = log
        self._now_ms = now_ms
        self._oldest_ms: int | None = None

    def alarm(self) -> str:
        """As of the last look; while nobody can look, the time goes on."""
        return alarm_of(self._waited_ms())

    async def go_on(self) -> None:
        """Look, until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            metrics.OLDEST_UNDECIDED_SECONDS.set(0)  # of a leader no more

    async def look(self) -> None:
        """Once."""
        try:
            self._oldest_ms = await oldest_waiting_ms(self._log)
        except LogError as error:
            _logger.warning("how far the ledger is can't be looked at: %s", error)
        metrics.OLDEST_UNDECIDED_SECONDS.set(self._waited_ms() / 1000)

    def _waited_ms(self) -> int:
        return 0 if self._oldest_ms is None else max(0, self._now_ms() - self._oldest_ms)


def start_outage(log: Log, watch: Watch, stack: AsyncExitStack) -> None:
    """Begin, and end with the stack."""
    outage = Outage(log)
    watch.alarms[NAME] = outage.alarm
    stack.callback(watch.alarms.pop, NAME, None)
    keep(outage.go_on(), "the look at the ledger", watch, stack)
