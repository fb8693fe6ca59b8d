"""One day's summaries, made from InfluxDB alone or from the log alone: equal, if the points are right.

    digest = await from_influx(settings, target, Scope(("2026-11-20",)), Path("day.db"))
    digest == from_log(settings, Scope(("2026-11-20",)), Path("other.db"))

Both go through the same fold and the same writer as the live rows. The digest is one across logs (law 5):
what a rebuild from points can't know is left out: log times, live counters, rows of no requests.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from projections import summaries
from projections.digest import digest
from projections.points import Opening, Point
from projections.rebuild import build
from projections.rebuild.aside import Aside, Origin
from projections.rebuild.build import Progress
from projections.rebuild.plan import Plan
from projections.reconciling.desk import Scope
from projections.reconciling.rows import DAILY
from projections.reconciling.run import opened, require_own
from projections.stores import summaries as written
from projections.stores.influxdb.reader import Reader, day_ns, reader_of
from projections.stores.influxdb.target import Target
from streams import times
from streams.fact import Entry, Fact
from streams.settings import Settings

FACTS_AT_ONCE = 5000

Told = Callable[[Progress], None]


def fact_of(point: Point) -> Fact:
    """What the ledger decided of a point's call, as far as a summary asks. Pure."""
    entry = Entry(
        organization=point.organization,
        day=point.day,
        today=point.day,
        model=point.model,
        user=point.user,
        user_id=point.user_id,
        provider=point.provider,
        prompt_tokens=point.prompt_tokens,
        completion_tokens=point.completion_tokens,
        total_tokens=point.total_tokens,
        cost_nano=point.cost_nano,
        markup_nano=point.markup_nano,
        created_ns=point.time_ns,
    )
    return Fact("counted", point.request_id, 0, point.offset, -1, point.logged_ms, plus=entry)


def fact_of_opening(opening: Opening) -> Fact:
    """The same of an opening balance. Pure."""
    margin = opening.margin
    assert margin in ("day", "user", "model")
    entry = Entry(
        organization=opening.organization,
        day=opening.day,
        today=opening.day,
        model=opening.row if margin == "model" else "",
        user=opening.row if margin == "user" else "",
        user_id=opening.user_id,
        provider=opening.provider,
        requests=opening.requests,
        prompt_tokens=opening.prompt_tokens,
        completion_tokens=opening.completion_tokens,
        total_tokens=opening.total_tokens,
        cost_nano=opening.cost_nano,
        markup_nano=opening.markup_nano,
        margin=margin,  # type: ignore[arg-type]
        unpriced_requests=opening.unpriced,
    )
    return Fact("opening", "", 0, opening.offset, -1, opening.logged_ms, plus=entry)


async def from_influx(settings: Settings, target: Target, scope: Scope, into: Path) -> str:
    """Make the rows of some days from the points and the opening balances; their digest."""
    aside = Aside.open(_begun(into), Origin("influxdb", "points", ("summaries",), {}, None), anew=True)
    try:
        async with opened(target) as server:
            await require_own(server, settings, scope)
            days_at_once = settings.influxdb_aggregation_batch_size
            async for facts in _facts(reader_of(server), scope, days_at_once):
                _write(aside.connection, facts)
        found = _digest(aside.connection)
    except BaseException:
        aside.remove()
        raise
    aside.finish(into)
    return found


async def _facts(reader: Reader, scope: Scope, days_at_once: int) -> AsyncIterator[Sequence[Fact]]:
    """As many as are folded at once."""
    some: list[Fact] = []
    async for fact in _each(reader, scope, days_at_once):
        some.append(fact)
        if len(some) == FACTS_AT_ONCE:
            yield some
            some = []
    yield some


async def _each(reader: Reader, scope: Scope, days_at_once: int) -> AsyncIterator[Fact]:
    first_ns, last_ns = scope.span_ns
    for start_ns in range(first_ns, last_ns, days_at_once * times.DAY_NS):
        end_ns = min(start_ns + days_at_once * times.DAY_NS, last_ns)
        async for point in reader.points(start_ns, end_ns, scope.organization):
            if point.day in scope.days:
                yield fact_of(point)
    first_ns, last_ns = day_ns(scope.days[0]), day_ns(scope.days[-1]) + times.DAY_NS
    async for opening in reader.openings(first_ns, last_ns, scope.organization):
        if opening.day in scope.days:
            yield fact_of_opening(opening)


def _write(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    """Through the fold and the writer of the live rows. There are no books and no counters in points."""
    changes = summaries.fold(facts)
    changes.books.clear()
    changes.live.clear()
    connection.execute("BEGIN IMMEDIATE")
    for _ in written.write(connection, 0, changes):
        pass
    connection.execute("COMMIT")


def from_log(settings: Settings, scope: Scope, into: Path, told: Told = lambda _: None) -> str:
    """Make the same rows from the log; their digest."""
    plan = Plan(settings=settings, parts=("summaries",), anew=True)
    aside = build.build(plan, _begun(into), told)
    try:
        _leave_only(aside.connection, scope)
        found = _digest(aside.connection)
    except BaseException:
        aside.remove()
        raise
    aside.finish(into)
    return found


def _leave_only(connection: sqlite3.Connection, scope: Scope) -> None:
    """Rows of other days and other organisations go, and what is of no day."""
    marks = ",".join("?" * len(scope.days))
    connection.execute("BEGIN IMMEDIATE")
    for table in DAILY:
        connection.execute(f"DELETE FROM {table} WHERE usage_date NOT IN ({marks})", scope.days)
        if scope.organization:
            connection.execute(f"DELETE FROM {table} WHERE client_org_id <> ?", (scope.organization,))
    for table in ("client_live_counters", "books", "positions"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("COMMIT")


def _digest(connection: sqlite3.Connection) -> str:
    return digest(connection, across_logs=True, tables=DAILY)["all"]


def _begun(into: Path) -> Path:
    return into.with_name(into.name + ".part")
