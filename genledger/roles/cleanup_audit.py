"""The audit of clean-ups, looked at again and again: one line a run, and an alarm for a night that failed or
was missed.

await start_cleanup_audit(queries, settings, watch, stack)

Whoever keeps the views does it. Which run was told of last is a file beside them: none is told of twice, nor
left out because the process was not there when its row came.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from genledger.roles.tasks import keep
from genledger.roles.views import path_of
from genledger.watch import Watch
from projections.queries import Queries
from streams import clock, metrics, times
from streams.errors import GenledgerError
from streams.settings import Settings

EVERY_S = 3.0
FILE = "cleanup-told.json"
# More runs than can have ended between two looks.
LATEST = 50
# A day, and what a run may take or begin late.
MISSED_AFTER_S = 26 * 3600
# At start a missed night is made up for: no alarm until that may be done.
GRACE_S = 2 * 3600
ERROR_SHOWN = 300

_logger = logging.getLogger("genledger.cleanup")

Row = Mapping[str, Any]


class Told(msgspec.Struct, frozen=True, order=True):
    """The run that was told of last: when it ended, and its name."""

    created_at: int = 0
    id: str = ""


class Seen(msgspec.Struct, frozen=True):
    """What a look has found: the newest run that ended, and what a missed night is told by."""

    newest: Row | None = None
    ids: int = 0
    oldest_day: str = ""
    since_s: int = 0  # the first that the views have of anybody
    last_s: int = 0  # the last success


class Looker:
    """Looks, tells, and remembers what it has found."""

    def __init__(self, queries: Queries, settings: Settings) -> None:
        self._queries = queries
        self._settings = settings
        self._path = path_of(settings).with_name(FILE)
        self._started_s = clock.now_ms() // 1000
        self._told: Told | None = None
        self.seen = Seen()

    async def go_on(self) -> None:
        """Look, until cancelled."""
        while True:
            try:
                await self.look()
            except (GenledgerError, OSError) as error:  # the next look may find the tables, or room, again
                _logger.debug("the audit of clean-ups can't be read: %s", error)
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Once."""
        rows = await self._queries.cleanup_latest(LATEST)
        at_hand = await self._queries.cleanup_at_hand()
        newest = max(rows, key=_place_of, default=None)
        self.seen = Seen(newest, **{name: value for name, value in at_hand.items() if value})
        # Where nothing is to be forgotten an old success is no fault.
        metrics.CLEANUP_LAST_SUCCESS.set(self.seen.last_s if self._settings.cleanup_enabled else 0)
        metrics.CLEANUP_LAST_FAILED.set(int(newest is not None and not newest["success"]))
        self._tell(rows, newest)

    def _tell(self, rows: Sequence[Row], newest: Row | None) -> None:
        if self._told is None:
            self._told = _read(self._path)
        if self._told is None:  # what was there before anybody looked is no news
            self._told = Told() if newest is None else _place_of(newest)
            _write(self._path, self._told)
        for row in sorted(rows, key=_place_of):
            if _place_of(row) > self._told:
                _logger.info("%s", line_of(row))
                self._told = _place_of(row)
                _write(self._path, self._told)

    def alarm(self) -> str:
        """What an operator should look at; '' while there is nothing."""
        now_s = clock.now_ms() // 1000
        is_new = now_s - self._started_s < GRACE_S
        return alarm_of(self.seen, now_s, self._settings, is_new=is_new)


def alarm_of(seen: Seen, now_s: int, settings: Settings, *, is_new: bool = False) -> str:
    """A newest run that has failed, or none that went well for longer than a night. Pure.

    A night is missed where there are ids, days that are older than they are kept, and somebody to do it: not
    in a new installation, nor where it is switched off or left to commands, nor by one that has just been
    started.
    """
    if seen.newest is not None and not seen.newest["success"]:
        error = str(seen.newest["error_message"] or "")[:ERROR_SHOWN]
        return f"the last run failed ({seen.newest['id']}): {error}. The next night tries again"
    days = settings.cleanup_retention_days
    oldest_kept = times.utc_day(now_s * 1000, days)
    has_nights = settings.cleanup_enabled and settings.cleanup_at
    if is_new or not has_nights or not seen.ids or not "" < seen.oldest_day < oldest_kept:
        return ""
    if now_s - max(seen.since_s, seen.last_s) <= MISSED_AFTER_S:
        return ""
    last = f"since {times.text_of(seen.last_s * times.SECOND_NS)}" if seen.last_s else "yet"
    return f"no run has ended well {last}, and there are ids older than {days} days: see `genledger status`"


def line_of(row: Row) -> str:
    """A run that has ended, in a line. Pure."""
    told = (
        f"cleanup: {row['records_deleted']:,} ids forgotten, ~{row['storage_saved_kb']:,.1f} KB,"
        f" {row['cleanup_duration_seconds']:.2f} s"
    )
    return told if row["success"] else f"{told}, and the run failed"


def _place_of(row: Row) -> Told:
    return Told(row["created_at"], row["id"])


def _read(path: Path) -> Told | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Told)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write(path: Path, told: Told) -> None:
    begun = path.with_name(path.name + ".part")
    begun.write_bytes(msgspec.json.encode(told))
    begun.rename(path)


async def start_cleanup_audit(
    queries: Queries, settings: Settings, watch: Watch, stack: AsyncExitStack
) -> None:
    """Begin, and end with the stack."""
    looker = Looker(queries, settings)
    keep(looker.go_on(), "the look at the audit of clean-ups", watch, stack)
    watch.alarms["the clean-up's audit"] = looker.alarm
