"""A rebuild from beginning to end: readers fold the partitions, one file takes what comes of it.

    aside = build(plan, Path("data/replay.db"), told)

It reads the log directly, in big batches, with no consumer group, beside the running service. Interrupted
(also by kill -9) and begun again, it goes on where it was.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

import msgspec

from projections.digest import digest
from projections.rebuild import reader
from projections.rebuild.aside import Aside, Origin, origin_of, positions_of
from projections.rebuild.courses import Contradiction, Step
from projections.rebuild.plan import Place, Plan, topics_of
from projections.rebuild.reader import Begun, Ended, Reader
from projections.snapshot.load import load
from projections.stores.sqlite import holds
from projections.view import START
from streams import snapshots, times
from streams.errors import LogDamaged, ViewError
from streams.log.backends import open_log
from streams.log.interface import Log
from streams.snapshots import Manifest

READ_BYTES = 16_777_216


class Progress(msgspec.Struct, frozen=True):
    """How far it is: records that were read, and how many there are in all, as far as is known."""

    done: int
    total: int


Told = Callable[[Progress], None]
Heard = Callable[[Sequence[Contradiction]], None]


def build(plan: Plan, path: Path, told: Told = lambda _: None, heard: Heard = lambda _: None) -> Aside:
    """Rebuild into a file, from where an earlier run was ended; the file, still open.

    What is decided anew begins anew: half of what was known of ids is worse than nothing.
    """
    tables = path.with_name(path.name + ".tables")
    if plan.source == "generations":
        plan = msgspec.structs.replace(plan, anew=True, tables=str(tables))
    aside, places = asyncio.run(_begun(plan, path))
    try:
        shutil.rmtree(tables, ignore_errors=True)
        bring(plan, aside, places, told, heard)
    except BaseException:
        aside.close()
        raise
    finally:
        shutil.rmtree(tables, ignore_errors=True)
    return aside


def bring(
    plan: Plan,
    aside: Aside,
    places: Sequence[Place],
    told: Told = lambda _: None,
    heard: Heard = lambda _: None,
) -> None:
    """Bring an open file as far as the plan says; `heard` is told of facts that contradict themselves."""
    positions = aside.positions()
    settings = msgspec.structs.replace(plan.settings, batch_bytes_max=READ_BYTES)
    plan = msgspec.structs.replace(plan, settings=settings)
    readers = [reader.start(plan, share, positions) for share in _shares(places)]
    running = {one.connection: one for one in readers}
    done = total = 0
    try:
        while running:
            for connection in _ready(running):
                said = _said(running[connection])
                if isinstance(said, Begun):
                    total += said.records
                elif isinstance(said, Step):
                    aside.take(said)
                    heard(said.contradictions)
                    done += said.records
                    total = max(total, done)
                else:
                    del running[connection]
                told(Progress(done, total))
        aside.commit()
    except ViewError:
        _require_same_beginning(plan, aside.path)
        raise
    finally:
        for one in readers:
            one.stop()


def _require_same_beginning(plan: Plan, path: Path) -> None:
    """Facts that went while they were read are not missing: they are behind a snapshot by now."""
    made_from, snapshot = origin_of(path), begins(plan)
    name = "" if snapshot is None else snapshot.name
    if made_from is not None and made_from.snapshot != name:
        raise ViewError("facts went behind a snapshot while they were read: begin again") from None


def origin(plan: Plan, log: str, snapshot: Manifest | None = None) -> Origin:
    """What the plan makes of this log, to know it again."""
    versions = {view.name: view.version for view in plan.views}
    begins = "" if snapshot is None else snapshot.name
    return Origin(log, plan.source, plan.parts, versions, plan.until_ms, snapshot=begins)


async def begins_at(plan: Plan, log: Log) -> Manifest | None:
    """The snapshot that a plan's views begin from; None when they begin with the first fact."""
    if plan.source == "generations":
        return None
    found = plan.snapshot or await snapshots.beginning(log)
    if found is not None and plan.until_ms is not None and plan.until_ms < found.until_ms - 1:
        before = times.text_of(found.until_ms * times.MS_NS)
        raise ViewError(f"the facts before {before} are behind a snapshot: --until must not be earlier")
    return found


def _ready(running: Mapping[Connection, Reader]) -> list[Connection]:
    """The readers that have something to say."""
    return [one for one in wait(list(running)) if isinstance(one, Connection)]


def _said(one: Reader) -> Begun | Step | Ended:
    try:
        said: Begun | Step | Ended = one.connection.recv()
    except (EOFError, OSError):  # killed between two messages, or inside one
        raise ViewError("a process that read the log has died: begin again, it goes on from here") from None
    if isinstance(said, Ended) and said.error:
        raise ViewError(said.error)
    return said


def _shares(places: Sequence[Place]) -> Sequence[Sequence[Place]]:
    """The partitions shared out: a reader for each core but one, which writes."""
    cores = len(os.sched_getaffinity(0))
    readers = min(len(places), max(1, cores - 1))
    return [places[n::readers] for n in range(readers)]


async def look(plan: Plan) -> list[Place]:
    """The log's partitions of the topics that are read."""
    log = await open_log(plan.settings, read_only=True)
    try:
        return _places(plan, log)
    finally:
        await log.close()


def _places(plan: Plan, log: Log) -> list[Place]:
    return [(topic, n) for topic in topics_of(plan.views) for n in range(log.partitions(topic))]


async def _begun(plan: Plan, path: Path) -> tuple[Aside, list[Place]]:
    """The file to go on with, or a new one: the log may be another, have been cut back, or restored."""
    log = await open_log(plan.settings, read_only=True)
    try:
        await log.refresh(topics_of(plan.views))
        snapshot = await begins_at(plan, log)
        made_from = origin(plan, log.identity, snapshot)
        aside = Aside.open(path, made_from, anew=plan.anew)
        try:
            for (_, topic, partition), position in aside.positions().items():
                if not await holds(log, topic, partition, position):
                    aside.remove()
                    aside = Aside.open(path, made_from)
                    break
            if snapshot is not None and not aside.positions():
                await load(log, snapshot, aside.connection, plan.parts)
                _require_digest(aside, plan)
        except BaseException:
            aside.close()
            raise
        return aside, _places(plan, log)
    finally:
        await log.close()


def _require_digest(aside: Aside, plan: Plan) -> None:
    """A snapshot that is to be checked has the digest that was taken of the rows before."""
    held = plan.snapshot
    if held is not None and digest(aside.connection, tables=tuple(held.tables))["all"] != held.digest:
        raise LogDamaged(f"snapshot {held.number} does not have its digest: it was not written whole")


def is_behind(plan: Plan, aside: Aside) -> bool:
    """Whether any of the plan's views is not at its stop yet: to start readers for nothing takes a second."""
    positions, names = aside.positions(), {view.name for view in plan.views}
    return any(
        offset > positions.get(place, START).usage_offset
        for place, offset in (plan.stops or {}).items()
        if place[0] in names
    )


def begins(plan: Plan) -> Manifest | None:
    """The snapshot that a plan begins from; None when it begins with the first record."""
    return asyncio.run(_begins(plan))


async def _begins(plan: Plan) -> Manifest | None:
    log = await open_log(plan.settings, read_only=True)
    try:
        return await begins_at(plan, log)
    finally:
        await log.close()


def left(plan: Plan, path: Path) -> tuple[int, int]:
    """How many records there are to read, after what an earlier run has read; and how many in all."""
    return asyncio.run(_left(plan, path))


async def _left(plan: Plan, path: Path) -> tuple[int, int]:
    log = await open_log(plan.settings, read_only=True)
    try:
        views = topics_of(plan.views)
        await log.refresh(views)
        made_from = origin(plan, log.identity, await begins_at(plan, log))
        positions = positions_of(path) if origin_of(path) == made_from else {}
        whole = rest = 0
        for topic in views:
            for n in range(log.partitions(topic)):
                start, end = log.start_offset(topic, n), log.end_offset(topic, n)
                stands = [positions.get((view.name, topic, n), START) for view in views[topic]]
                whole += end - start
                rest += end - max(start, min(stand.usage_offset for stand in stands) + 1)
        return rest, whole
    finally:
        await log.close()
