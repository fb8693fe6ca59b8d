"""Retention: ids are forgotten, totals never. What a run is, and what is told of it.

    run = plan(newest_ms=1795217400000, days=90, partitions=4, run="cleanup-20261120T000500-3f2a")
    await log.append(start_messages(run))            # the leader: a horizon record on every partition
    stand_of(partition, horizon)                     # how far it has come there, as the ledger knows it

The leader begins a run; the ledger that has a partition raises its horizon, sweeps its own table for ids
whose latest date is before the cutoff, publishes a tombstone for each, and says when it is done
(`streams/sweeper.py`). All of it stands on the log, so whoever is killed, another goes on.
"""

from collections.abc import Sequence

import msgspec

from streams import records, times, topics
from streams.fact import Phase
from streams.known import Horizon
from streams.log.ends import last_record
from streams.log.interface import Log, Message

# Zones are up to a day apart, and two sources of one call may differ on when it was.
HORIZON_BEYOND_NS = 2 * times.DAY_NS


class Stand(msgspec.Struct, frozen=True):
    """How far the newest run has come in one partition. `scanned` and `published` are of this process."""

    partition: int
    run: str = ""
    phase: Phase = ""
    cutoff_ns: int = 0
    horizon_ns: int = 0
    days: int = 0
    started_ms: int = 0
    scanned: int = 0
    published: int = 0


def plan(newest_ms: int, days: int, partitions: int, run: str) -> Horizon:
    """A run that keeps ids for so many days, reckoned from the newest log time. Pure.

    >>> plan(90 * 86_400_000 + 5, days=90, partitions=4, run="r").cutoff_ns
    0
    """
    newest_ns = newest_ms * times.MS_NS
    cutoff_ns = max(0, newest_ns // times.DAY_NS * times.DAY_NS - days * times.DAY_NS)
    return beginning(run, cutoff_ns, days, partitions)


def beginning(run: str, cutoff_ns: int, days: int, partitions: int) -> Horizon:
    """A run with this cutoff, as its beginning says it. Pure."""
    # Before the cutoff nothing can be forgotten, so a cutoff of 0 must not make anything late.
    horizon_ns = cutoff_ns + HORIZON_BEYOND_NS if cutoff_ns else 0
    return Horizon(run, cutoff_ns, horizon_ns, "started", days, partitions)


def start_messages(run: Horizon) -> Sequence[Message]:
    """The run's beginning: a record on every partition."""
    return [records.horizon_message(run, partition) for partition in range(run.partitions)]


def stand_of(partition: int, horizon: Horizon | None, scanned: int = 0, published: int = 0) -> Stand:
    """What is told of a partition."""
    if horizon is None:
        return Stand(partition)
    return Stand(
        partition,
        horizon.run,
        horizon.phase,
        horizon.cutoff_ns,
        horizon.horizon_ns,
        horizon.days,
        horizon.started_ms,
        scanned,
        published,
    )


async def newest_ms(log: Log) -> int:
    """The newest log time of `generations`; 0 while it is empty. The wall clock has no say in it."""
    await log.refresh([topics.GENERATIONS])
    newest = 0
    for partition in range(log.partitions(topics.GENERATIONS)):
        record = await last_record(log, topics.GENERATIONS, partition)
        newest = max(newest, record.time_ms if record else 0)
    return newest
