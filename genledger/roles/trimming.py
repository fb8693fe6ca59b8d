"""The head of `usage` goes behind a snapshot: what the service does of it, and when.

    start_snapshots(settings, log, watch, stack)    # embedded: only this process may write the log
    start_trims(settings, watch, stack)             # each night, where GENLEDGER_USAGE_KEPT_DAYS is given

`genledger trim` makes a snapshot and checks it; what writes the log waits in a file beside the views for
whoever may. On a cluster that is the command itself.
"""

import asyncio
import logging
import sqlite3
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec

from genledger.roles import nightly
from genledger.roles.nightly import Nightly, Work
from genledger.roles.tasks import keep
from genledger.roles.views import path_of
from genledger.watch import Watch
from projections.snapshot.package import waiting
from projections.snapshot.publish import go_on
from streams import metrics
from streams.errors import LogDamaged, LogMismatch
from streams.log.backends import is_embedded
from streams.log.interface import Log
from streams.settings import Settings

RESULT = "trim-last.json"
REFUSED = "snapshot-refused.txt"
LOOK_EVERY_S = 0.5
# A new snapshot each night would publish every row for one day's facts.
NIGHTLY_DAYS = 7
MINUTES_A_DAY = 1440
# The retention job has the hour before: what it forgets is not in the next snapshot.
MINUTES_LATER = 60

_logger = logging.getLogger("genledger.snapshot")


class Result(nightly.Result, frozen=True, kw_only=True):
    """What is remembered of the last trim: the snapshot that `usage` begins at."""

    snapshot: int
    until: str
    facts: int


def start_snapshots(settings: Settings, log: Log, watch: Watch, stack: AsyncExitStack) -> None:
    """Do what waits for the log's one writer, until the stack ends."""
    if not is_embedded(settings):
        return
    folder = path_of(settings).parent

    async def look() -> None:
        while True:
            await write_waiting(log, folder)
            await asyncio.sleep(LOOK_EVERY_S)

    keep(look(), "the writing of snapshots", watch, stack)


async def write_waiting(log: Log, folder: Path) -> None:
    """One step of a snapshot that waits; what can't be is thrown away, with its reason beside it."""
    try:
        await go_on(log, folder)
    except (LogMismatch, LogDamaged, sqlite3.Error, OSError, msgspec.MsgspecError) as error:
        _logger.error("the snapshot can't be written: %s", error)
        with suppress(OSError):
            (folder / REFUSED).write_text(str(error))
        package = waiting(folder)
        if package is not None:
            package.remove()


def refusal(folder: Path) -> str:
    """Why the last one was thrown away, '' if it was not; said once."""
    path = folder / REFUSED
    reason = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return reason


def start_trims(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """Each night, an hour after old ids are forgotten."""
    if settings.usage_kept_days is None:
        return
    work = Work(
        name="the trim",
        command=("trim", "--at-least", str(NIGHTLY_DAYS)),
        at=hour_after(settings.cleanup_at),
        file=RESULT,
        result=Result,
        timestamp=metrics.TRIM_LAST_TIMESTAMP,
        differences=metrics.TRIM_DIFFERENCES,
    )
    Nightly(work, settings).start(watch, stack)


def hour_after(at: str) -> str:
    """A time of day, later. None is none: then it is left to whoever runs the command.

    >>> hour_after("23:30")
    '00:30'
    """
    if not at:
        return ""
    hour, _, minute = at.partition(":")
    late = (int(hour) * 60 + int(minute) + MINUTES_LATER) % MINUTES_A_DAY
    return f"{late // 60:02d}:{late % 60:02d}"
