"""No more ledger workers than partitions: one more would have nothing to do, and nobody would notice.

    await wait_for_seat(log, partitions, settings, standby=False)

A worker that was killed keeps its seat until its session has timed out, so a new one waits for as long
before it gives up; a standby waits until somebody goes.
"""

import asyncio
import logging

from streams import topics
from streams.clock import monotonic_s
from streams.errors import GenledgerError, LogUnavailable
from streams.log.kafka.log import KafkaLog
from streams.settings import Settings

LOOK_EVERY_S = 0.5
# Beyond the session's time: for the group to notice.
PATIENCE_S = 4.0

_logger = logging.getLogger("genledger.ledger")


async def wait_for_seat(log: KafkaLog, settings: Settings, *, standby: bool) -> None:
    """Returns when there is a partition to have; `GenledgerError` when others have them all."""
    seats = log.partitions(topics.GENERATIONS)
    deadline_s = monotonic_s() + settings.kafka_session_timeout_s + PATIENCE_S
    told = False
    while True:
        try:
            taken = len(await log.members(topics.LEDGER_GROUP))
        except LogUnavailable:
            if not standby and monotonic_s() > deadline_s:
                raise
            taken = seats
        if taken < seats:
            return
        if not standby and monotonic_s() > deadline_s:
            raise GenledgerError(
                f"{taken} ledger workers have the {seats} partitions of {topics.GENERATIONS}: one more would"
                " have nothing to do. Stop one first, or start this one with --standby to take over when"
                " one goes"
            )
        if not told:
            _logger.warning("all %d partitions are taken: waiting for one", seats)
            told = True
        await asyncio.sleep(LOOK_EVERY_S)
