"""The service's tables, read from outside, read-only: totals, how far they have come, and when.

    await wait_applied(service, 100_000, timeout_s=60)    # until the views have taken so many records
    check(data / "genledger.db", traffic.totals())        # every table adds up to exactly that

    with Watcher(data / "genledger.db") as watcher:
        ...
    watcher.seen                         # [(time_s, partition, source offset), ...]

A position changes in the transaction that changes the rows, so an event is visible in the summaries exactly
when the position has come to its offset. The watcher is a process of its own and looks about every
millisecond; it notes the time after it has read, so what it says is never too early.
"""

import asyncio
import multiprocessing
import os
import signal
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from time import sleep
from typing import Self

from benchmarks import BenchmarkFailed
from benchmarks.service import Service
from benchmarks.traffic import Totals
from streams import clock

Seen = tuple[float, int, int]

WATCH_S = 0.001
LOOK_S = 0.002
BUSY_S = 10.0
START_S = 30.0
FOLLOWERS = ("summaries", "processed")

NOTHING = Totals()

_POSITIONS = 'SELECT "partition", source_offset FROM positions WHERE projection = ?'
_APPLIED = "SELECT ifnull(sum(records), 0) FROM positions WHERE projection = ?"
_DAYS = "SELECT sum(total_requests), sum(total_tokens), sum(raw_cost_nano) FROM {}"
_MARKUPS = "SELECT sum(markup_cost_nano) FROM {}"
_SUMMARIES = ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage")
_TOTALS = {name: _DAYS.format(name) for name in _SUMMARIES}
_TOTALS["processed_generations"] = (
    "SELECT count(*), sum(total_tokens), sum(total_cost_nano) FROM processed_generations"
    " WHERE generation_date >= :since"
)


def connect(path: Path) -> sqlite3.Connection:
    """A database, to be read only."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)


def check(path: Path, sent: Totals, old: Totals = NOTHING, since: str = "") -> None:
    """Each table must add up to what was sent, to the nano-dollar.

    What is `old`, from before the day `since`, is in the summaries, and may have been forgotten as ids.
    """
    expected = sent + old
    with closing(connect(path)) as connection:
        for name, query in _TOTALS.items():
            found = Totals(*(value or 0 for value in connection.execute(query, {"since": since}).fetchone()))
            wanted = sent if name == "processed_generations" else expected
            if found != wanted:
                raise BenchmarkFailed(f"{name} adds up to {found}, sent was {wanted}")
        for name in _SUMMARIES:
            marked_up = connection.execute(_MARKUPS.format(name)).fetchone()[0] or 0
            if marked_up != expected.cost_nano:
                raise BenchmarkFailed(f"{name} is marked up to {marked_up}, by 1 it is {expected.cost_nano}")


def applied(connection: sqlite3.Connection) -> int:
    """How many records every view has taken."""
    return min(int(connection.execute(_APPLIED, (name,)).fetchone()[0]) for name in FOLLOWERS)


async def wait_applied(service: Service, records: int, timeout_s: float) -> None:
    """Until both views have taken so many records, counted from the beginning of the log."""
    deadline_s = clock.monotonic_s() + timeout_s
    with closing(connect(service.data / "genledger.db")) as connection:
        while True:
            found = applied(connection)
            if found >= records:
                return
            service.check()
            if clock.monotonic_s() > deadline_s:
                raise BenchmarkFailed(f"after {timeout_s:g} s the views have {found} of {records} records")
            await asyncio.sleep(LOOK_S)


class Watcher:
    """A process that notes when the summaries' positions move."""

    def __init__(self, path: Path) -> None:
        self.seen: list[Seen] = []
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._results, results = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_watch, args=(path, self._stop, results, os.getpid()), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        try:
            self._receive()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        try:
            self._stop.set()
            if kind is None:
                self.seen = self._receive()
        finally:
            self._end()

    def _receive(self) -> list[Seen]:
        if not self._results.poll(START_S):
            raise BenchmarkFailed("the process that watches the tables does not answer")
        found: list[Seen] = self._results.recv()
        return found

    def _end(self) -> None:
        self._process.join(1.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _watch(path: Path, stop: Event, results: Connection, parent: int) -> None:
    # Ctrl-C is for the process that started us: it ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seen: list[Seen] = []
    stood: dict[int, int] = {}
    with closing(connect(path)) as connection:
        results.send([])
        while True:
            # Looked at before the reading: the last reading comes after what was waited for.
            last = stop.is_set() or os.getppid() != parent
            rows = connection.execute(_POSITIONS, ("summaries",)).fetchall()
            now_s = clock.monotonic_s()
            for partition, offset in rows:
                if stood.get(partition) != offset:
                    stood[partition] = offset
                    seen.append((now_s, partition, offset))
            if last:
                break
            sleep(WATCH_S)
    results.send(seen)
