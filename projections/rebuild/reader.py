"""A process that reads some partitions and folds them, and sends what their views' rows change by.

    reader = start(plan, [("usage", 0), ("usage", 1)], positions)
    reader.connection.recv()          # Step, then Step, ... and Ended at last
    reader.stop()

Decoding and folding is most of a rebuild's work, and each partition's is independent: with more cores, more
readers. The one who writes the rows (`build.py`) takes the steps in whatever order they come. A reader ends
by itself when nobody takes them any more.
"""

import asyncio
import gc
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import msgspec

from projections.rebuild.courses import Course, Reads
from projections.rebuild.decided import Decided
from projections.rebuild.plan import Place, Plan, topics_of
from projections.view import START, Position
from streams.errors import GenledgerError
from streams.log.backends import open_log

Positions = Mapping[tuple[str, str, int], Position]
STOP_S = 10.0
# Batches come and go whole: there are no cycles to be found among them.
GC_THRESHOLDS = (100_000, 50, 100)


class Begun(msgspec.Struct, frozen=True):
    """The log is open; so many records are to be read, as far as is known."""

    records: int


class Ended(msgspec.Struct, frozen=True):
    """Nothing more comes. `error` says why, if something was wrong."""

    error: str = ""


class Reader:
    """A reader as the one who started it sees it."""

    def __init__(self, process: SpawnProcess, connection: Connection) -> None:
        self._process = process
        self.connection = connection

    def stop(self) -> None:
        """End it, whatever it does."""
        self.connection.close()
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(STOP_S)


def start(plan: Plan, places: Sequence[Place], positions: Positions) -> Reader:
    """Start a reader of these partitions, from these positions on."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(plan, list(places), dict(positions), sender), daemon=True)
    process.start()
    sender.close()
    return Reader(process, receiver)


def _main(plan: Plan, places: Sequence[Place], positions: Positions, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started it, who then ends it
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with suppress(BrokenPipeError):  # nobody takes it any more
        try:
            asyncio.run(_read(plan, places, positions, sender))
            sender.send(Ended())
        except GenledgerError as error:
            sender.send(Ended(str(error)))


async def _read(plan: Plan, places: Sequence[Place], positions: Positions, sender: Connection) -> None:
    log = await open_log(plan.settings, read_only=True)
    decided = None if plan.tables is None else Decided(log, plan.settings, Path(plan.tables))
    try:
        reads = decided or log
        await reads.refresh({topic for topic, _ in places})
        courses = [_course(reads, plan, place, positions) for place in places]
        sender.send(Begun(sum(course.left for course in courses)))
        # In turn, so that ids which rise with time come to the tables nearly in order.
        while courses:
            for course in list(courses):
                step = await course.step()
                if step is None:
                    courses.remove(course)
                else:
                    sender.send(step)
    finally:
        if decided is not None:
            decided.close()
        await log.close()


def _course(log: Reads, plan: Plan, place: Place, positions: Positions) -> Course:
    views = topics_of(plan.views)[place[0]]
    stops: dict[str, Any] | None = None
    if plan.stops is not None:
        given = plan.stops
        stops = {view.name: given.get((view.name, *place), -1) for view in views}
    stands = {view.name: positions.get((view.name, *place), START) for view in views}
    return Course(log, place, stands, views, stops, plan.until_ms, checks=plan.checks)
