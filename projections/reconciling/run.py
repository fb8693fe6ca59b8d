"""The whole comparison: SQLite and InfluxDB with the log, some days, while traffic goes on.

    async with compared(settings, Scope(("2026-11-20",)), files, told) as (report, desk): ...

The log's own rows are rebuilt aside, as `prove` does. First it is noted where the points in InfluxDB stand,
then they are read, then one read transaction fixes where the live rows are; the rebuild comes there, and the
three are compared. Ids that any fact has touched beyond where the points stood are on their way: what differs
of them is lag.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec

from projections.points import fold
from projections.rebuild import build
from projections.rebuild.aside import Aside, Stands, remove, stands
from projections.rebuild.blame import blame
from projections.rebuild.build import Progress
from projections.rebuild.courses import READ_RECORDS
from projections.rebuild.plan import Part, Place, Plan, topics_of
from projections.reconciling import report as told_as
from projections.reconciling import residue, rows
from projections.reconciling.desk import PLACE, Desk, Scope, opening_id
from projections.reconciling.report import Finding, Report
from projections.reconciling.residue import RateOf
from projections.snapshot.load import load
from projections.stores.influxdb.positions import read_positions, read_prefixes
from projections.stores.influxdb.reader import reader_of
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.target import Target, target_of
from projections.stores.sqlite import read_only
from projections.view import decode_fact
from streams import clock, records, times, topics
from streams.directory import Directory
from streams.errors import ViewError
from streams.log.backends import open_log
from streams.log.interface import Log
from streams.organizations import value_at
from streams.settings import Settings
from streams.snapshots import Manifest

VIEWS = ("organizations", "summaries")
PARTS: tuple[Part, ...] = ("summaries", "points")
_MISSING = f"""SELECT 1 FROM log_points l LEFT JOIN stored_points s
    ON {" AND ".join(f"s.{name} = l.{name}" for name in (*PLACE, "request_id"))}
    WHERE s.stamp_ns IS NULL LIMIT 1"""

Told = Callable[[str, Progress], None]
# An event may be dated a day ahead of its log time, and zones are up to a day apart.
DAYS_BEYOND = 3
# How far the points had come, by partition.
Offsets = Mapping[int, int]


class Files(msgspec.Struct, frozen=True):
    """Where the rebuild may lie, and where the live rows do."""

    aside: Path
    live: Path


@asynccontextmanager
async def compared(
    settings: Settings, scope: Scope, files: Files, told: Told = lambda *_: None
) -> AsyncIterator[tuple[Report, Desk]]:
    """Compare; the desk with all that differs is there as long as the context, and nothing is left of it."""
    if not files.live.exists():
        raise ViewError(
            f"{files.live} does not exist: there are no views to compare. Name the folder with --data"
        )
    run = _Run(settings, scope, files, told)
    try:
        async with AsyncExitStack() as stack:
            try:
                found = await run.compare(stack)
            except (sqlite3.Error, OSError) as error:
                raise ViewError(f"{files.live} can't be compared: {error}") from error
            yield found
    finally:
        run.end()


class _Run:
    """One comparison."""

    def __init__(self, settings: Settings, scope: Scope, files: Files, told: Told) -> None:
        self._settings = settings
        self._scope = scope
        self._files = files
        self._told = told
        self._target = target_of(settings)
        self._desk: Desk | None = None
        self._started_s = clock.monotonic_s()
        self._started_ms = clock.now_ms()
        self._lag_records = 0

    async def compare(self, stack: AsyncExitStack) -> tuple[Report, Desk]:
        log = await open_log(self._settings, read_only=True)
        stack.push_async_callback(log.close)
        await log.refresh(topics_of(Plan(settings=self._settings, parts=PARTS).views))
        stood = await self._stood(log)
        connection = stack.enter_context(closing(_reader(self._files.live)))
        plan = Plan(
            settings=self._settings,
            parts=PARTS,
            stops=_stops(stands(connection), stood),
            checks=True,
            anew=True,
        )
        desk = await self._begun(plan, log)
        build.bring(plan, desk, _places(plan, log), lambda progress: self._told("rebuilding", progress))
        if self._target is not None:
            async with opened(self._target) as server:
                await desk.store(reader_of(server), self._settings.influxdb_aggregation_batch_size)
        return await self._look(connection, plan, desk, log), desk

    async def _stood(self, log: Log) -> Offsets | None:
        """Where the points are that InfluxDB surely has; None where none is asked."""
        if self._target is None:
            return None
        async with opened(self._target) as server:
            await require_own(server, self._settings, self._scope)
            kept = await read_positions(server, self._settings.topic_prefix)
        if any(one.log not in ("", log.identity) for one in kept.values()):
            raise ViewError(
                "another ledger's points are in this bucket: nothing was compared. Give each installation a"
                " bucket of its own, or a GENLEDGER_TOPIC_PREFIX"
            )
        stood = {partition: one.at.usage_offset for partition, one in kept.items()}
        for n in range(log.partitions(topics.USAGE)):
            first = max(log.start_offset(topics.USAGE, n), stood.get(n, -1) + 1)
            self._lag_records += max(0, log.end_offset(topics.USAGE, n) - first)
        return stood

    async def _begun(self, plan: Plan, log: Log) -> Desk:
        snapshot = await build.begins_at(plan, log)
        if snapshot is not None and self._target is not None:
            _require_within(self._scope, snapshot)
        aside: Aside = Desk.open(self._files.aside, build.origin(plan, log.identity, snapshot), anew=True)
        assert isinstance(aside, Desk)
        self._desk = aside
        aside.prepare(self._scope)
        if snapshot is not None:
            await load(log, snapshot, aside.connection, plan.parts)
        aside.shared_places = self._target is None or self._target.dedup == "time"
        return aside

    def end(self) -> None:
        """Leave nothing."""
        if self._desk is not None:
            self._desk.close()
            remove(self._files.aside)

    async def _look(self, connection: sqlite3.Connection, plan: Plan, desk: Desk, log: Log) -> Report:
        """Side by side, inside one read transaction on the live rows."""
        points = self._target is not None
        desk.marks = points
        connection.execute("ATTACH ? AS built", (read_only(desk.path),))
        connection.execute("BEGIN")
        live = stands(connection)  # the first look fixes what this transaction sees of the live rows
        plan = msgspec.structs.replace(plan, stops=_stops(live, None))
        if build.is_behind(plan, desk):
            build.bring(plan, desk, _places(plan, log))
        await log.refresh([topics.USAGE])
        changed = rows.differing(connection, desk)
        rows.gather(desk, connection, points=points)
        connection.execute("ROLLBACK")
        if points:
            await _mark_beyond(desk, log, live)
            if desk.connection.execute(_MISSING).fetchone() is not None:
                await _find_refused(desk, log)
            residue.find(desk)
        residue.find_wrong_rates(desk, await _rates(log))
        told_as.explain_rest(desk, points=points)
        assert plan.stops is not None
        blamed = await blame(log, changed.rows, plan.stops) if changed.rows else []
        findings = [Finding(row, one) for row, one in zip(changed.rows, blamed, strict=True)]
        return self._report(desk, findings)

    def _report(self, desk: Desk, findings: Sequence[Finding]) -> Report:
        points = self._target is not None
        shown, more = told_as.shared(desk, points=points)
        return Report(
            time_ms=self._started_ms,
            seconds=round(clock.monotonic_s() - self._started_s, 3),
            days=self._scope.days,
            organization=self._scope.organization,
            influxdb=points,
            compared=rows.count(desk),
            counts=told_as.counts(desk),
            lag_records=self._lag_records,
            voids=desk.connection.execute("SELECT count(*) FROM voids").fetchone()[0],
            cells=shown,
            more_cells=more,
            findings=findings,
        )


@asynccontextmanager
async def opened(target: Target) -> AsyncIterator[Server]:
    """The server, for some questions."""
    server = Server(target)
    try:
        await server.open()
        yield server
    finally:
        await server.close()


async def require_own(server: Server, settings: Settings, scope: Scope) -> None:
    """Points don't say which installation's they are: of a bucket that is shared, only one organisation's
    are surely ours, when somebody says so.
    """
    others = await read_prefixes(server) - {settings.topic_prefix}
    if others and not scope.organization:
        named = ", ".join(sorted(others)) or "none"
        raise ViewError(
            f"other installations write to this bucket, too (GENLEDGER_TOPIC_PREFIX {named}), and points"
            " don't say whose they are. Name an organisation that only this one has with --org; if the other"
            " is no more, delete its series of genledger_positions"
        )


def _require_within(scope: Scope, snapshot: Manifest) -> None:
    """Of the days that a snapshot has facts of, not every point can be made again."""
    first = times.day_of(snapshot.until_ms * times.MS_NS + DAYS_BEYOND * times.DAY_NS, "UTC")
    if scope.days[0] < first:
        raise ViewError(
            f"facts of the days before {first} are behind snapshot {snapshot.number}: their points can't be"
            f" compared with the log any more. Begin with --from {first}"
        )


def _stops(live: Stands, stood: Offsets | None) -> dict[tuple[str, str, int], int]:
    """The summaries as far as the live ones; the points no further, and no further than they stood."""
    stops = {place: position.usage_offset for place, position in live.items() if place[0] in VIEWS}
    points = {}
    for (view, topic, n), offset in stops.items():
        if view == "summaries":
            points["points", topic, n] = offset if stood is None else min(offset, stood.get(n, -1))
    return stops | points


def _places(plan: Plan, log: Log) -> list[Place]:
    return [(topic, n) for topic in topics_of(plan.views) for n in range(log.partitions(topic))]


async def _mark_beyond(desk: Desk, log: Log, live: Stands) -> None:
    """Ids that facts beyond the live rows touch: InfluxDB may have been ahead of them."""
    desk.connection.execute("BEGIN IMMEDIATE")
    for n in range(log.partitions(topics.USAGE)):
        position = live.get(("summaries", topics.USAGE, n))
        offset = max(log.start_offset(topics.USAGE, n), -1 if position is None else position.usage_offset + 1)
        while offset < log.end_offset(topics.USAGE, n):
            found = await log.read(topics.USAGE, n, offset, READ_RECORDS)
            if not found:
                break
            changes = fold([decode_fact(record) for record in found])
            desk.mark({*changes.points, *(point.request_id for point in changes.gone)})
            desk.mark({opening_id(opening) for opening in changes.openings.values()})
            offset = found[-1].offset + 1
    desk.connection.execute("COMMIT")


async def _find_refused(desk: Desk, log: Log) -> None:
    """Ids whose points InfluxDB did not take: they were put aside, with its message."""
    await log.refresh([topics.REJECTED])
    for n in range(log.partitions(topics.REJECTED)):
        offset = log.start_offset(topics.REJECTED, n)
        while offset < log.end_offset(topics.REJECTED, n):
            found = await log.read(topics.REJECTED, n, offset, READ_RECORDS)
            if not found:
                break
            ids = [
                ((record.key or b"").decode(errors="replace"),)
                for record in found
                if records.header(record, "reason") == records.REFUSED_POINT
            ]
            desk.connection.executemany("INSERT OR IGNORE INTO refused VALUES (?)", ids)
            offset = found[-1].offset + 1


async def _rates(log: Log) -> RateOf:
    """The markup in force, by the organisations' own settings. The installation's default is in no log."""
    directory = Directory(log)
    await directory.refresh()

    def rate_of(organization: str, time_ns: int, known_ms: int) -> str | None:
        settings = directory.organization(organization)
        rate: Any = None if settings is None else value_at(settings, "markup", time_ns, known_ms)
        return None if rate is None else str(rate)

    return rate_of


def _reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(read_only(path), uri=True, isolation_level=None)
