"""The file in which what is compared lies together: the log's rows, rebuilt, and the points as they stand.

    desk = Desk.open(path, origin, anew=True)      # a rebuild's file, with some tables more
    desk.prepare(Scope(("2026-11-20",), "acme"))
    build.bring(plan, desk, places)                # the summaries, and of the points those of these days
    await desk.store(reader, days_at_once)

Of the points only those of the days in question are kept, so a day of a long log is a small file. Everything
that could be large lies on disk here, not in memory.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from projections.points import Changes, Opening, Point, stamp_ns
from projections.rebuild.aside import Aside
from projections.rebuild.courses import Change, Step
from projections.stores.influxdb.reader import Reader, Stored, day_ns, span_of
from streams import times

ROWS_AT_ONCE = 2000
POINT = Point.__struct_fields__
OPENING = Opening.__struct_fields__
_TEXTS = frozenset(("request_id", "organization", "model", "provider", "source", "user", "user_id", "day"))
_TEXTS |= frozenset(("margin", "row"))
#: What an opening balance is the balance of.
OPENING_KEY = ("organization", "day", "margin", "row")
#: Whether a balance says anything: an earlier system's row may have money and no requests.
SAYS = "({0}.requests <> 0 OR {0}.total_tokens <> 0 OR {0}.cost_nano <> 0 OR {0}.markup_nano <> 0)"
#: What makes two points one point: a write to the same tags and time writes over.
PLACE = ("stamp_ns", "organization", "model", "provider", "source")
FIGURES = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost_nano",
    "markup_nano",
    "unpriced",
)


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}" {"TEXT" if name in _TEXTS else "INTEGER"}' for name in names)


_FIGURES = ", ".join(f"{name} INTEGER NOT NULL" for name in FIGURES)
_OPENINGS = f"({_columns(OPENING)}, PRIMARY KEY ({', '.join(OPENING_KEY)})) WITHOUT ROWID"
_CELL = "store TEXT NOT NULL, organization TEXT NOT NULL, day TEXT NOT NULL, model TEXT NOT NULL"
_TABLES = (
    f"CREATE TABLE log_points ({_columns(POINT)}, stamp_ns INTEGER, PRIMARY KEY (request_id)) WITHOUT ROWID",
    f"CREATE INDEX log_place ON log_points ({', '.join(PLACE)})",
    f"CREATE TABLE stored_points ({_columns(POINT)}, stamp_ns INTEGER, whole INTEGER, twice INTEGER)",
    f"CREATE INDEX stored_place ON stored_points ({', '.join(PLACE)}, request_id)",
    f"CREATE TABLE voids ({_columns(POINT)}, stamp_ns INTEGER)",
    f"CREATE TABLE log_openings {_OPENINGS}",
    f"CREATE TABLE stored_openings {_OPENINGS}",
    # Ids that facts have touched beyond where the points stood when they were read.
    "CREATE TABLE moving (id TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE refused (id TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE contradicting (id TEXT, offset INTEGER, text TEXT)",
    f"""CREATE TABLE residue (cause TEXT NOT NULL, {_CELL}, margin TEXT NOT NULL, id TEXT NOT NULL,
        {_FIGURES}, detail TEXT NOT NULL, counts INTEGER NOT NULL)""",
    "CREATE INDEX residue_cell ON residue (organization, day, model, cause)",
    f"CREATE TABLE cells ({_CELL}, {_FIGURES})",
    "CREATE INDEX cells_of ON cells (organization, day, model)",
)
_MARKS = ",".join("?" * len(POINT))
_KEEP = f"INSERT OR REPLACE INTO log_points VALUES ({_MARKS},?)"
_STORE = f"INSERT INTO stored_points VALUES ({_MARKS},?,?,?)"
_VOID = f"INSERT INTO voids VALUES ({_MARKS},?)"
_OPENING_MARKS = ",".join("?" * len(OPENING))


class Scope(msgspec.Struct, frozen=True):
    """Which days are compared, in order, and of whom; "" is everybody."""

    days: tuple[str, ...]
    organization: str = ""

    @property
    def span_ns(self) -> tuple[int, int]:
        """The nanoseconds that hold these days in every zone."""
        return span_of(self.days[0], self.days[-1])

    def covers(self, organization: str) -> bool:
        """Whether this organisation is in question."""
        return not self.organization or organization == self.organization


class Desk(Aside):
    """A rebuild's file whose points are kept here. `marks` says to remember whose facts come by."""

    scope: Scope
    marks = False
    #: Whether one place has room for one id only: not with the id as a tag.
    shared_places = True

    def prepare(self, scope: Scope) -> None:
        """Make the tables, in a new file."""
        self.scope = scope
        for statement in _TABLES:
            self.connection.execute(statement)

    def take(self, step: Step) -> None:
        """Write what a batch comes to, of the points what is in question."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")
        changes = [self._taken(change) for change in step.changes]
        self.connection.executemany(
            "INSERT INTO contradicting VALUES (?, ?, ?)",
            [(one.id, one.offset, one.text) for one in step.contradictions],
        )
        super().take(msgspec.structs.replace(step, changes=changes))

    def _taken(self, change: Change) -> Change:
        if change.view != "points":
            return change
        self._keep(change.changes)
        return msgspec.structs.replace(change, changes=Changes())

    def _keep(self, changes: Changes) -> None:
        first_ns, last_ns = self.scope.span_ns
        kept, gone = [], {point.request_id for point in changes.gone}
        for point in changes.points.values():
            time_ns = stamp_ns(point.time_ns, point.request_id)
            if first_ns <= time_ns < last_ns and self.scope.covers(point.organization):
                kept.append((*msgspec.structs.astuple(point), time_ns))
            else:
                gone.add(point.request_id)
        execute = self.connection.executemany
        execute("DELETE FROM log_points WHERE request_id = ?", [(id,) for id in gone])
        execute(_KEEP, kept)
        if self.marks:
            self.mark({*changes.points, *(point.request_id for point in changes.gone)})
            self.mark({opening_id(opening) for opening in changes.openings.values()})
        execute(
            f"INSERT OR REPLACE INTO log_openings VALUES ({_OPENING_MARKS})",
            [msgspec.structs.astuple(one) for one in changes.openings.values() if self._has(one)],
        )

    def _has(self, opening: Opening) -> bool:
        return self.scope.covers(opening.organization) and opening.day in self.scope.days

    def mark(self, ids: Iterable[str]) -> None:
        """These ids are on their way: whatever differs of them is lag."""
        self.connection.executemany("INSERT OR IGNORE INTO moving VALUES (?)", [(id,) for id in ids])

    async def store(self, reader: Reader, days_at_once: int) -> None:
        """Take what InfluxDB has of these days, some days at once."""
        first_ns, last_ns = self.scope.span_ns
        step_ns = days_at_once * times.DAY_NS
        self.connection.execute("BEGIN IMMEDIATE")
        for start_ns in range(first_ns, last_ns, step_ns):
            end_ns = min(start_ns + step_ns, last_ns)
            rows: list[Stored] = []
            async for stored in reader.stored(start_ns, end_ns, self.scope.organization):
                rows.append(stored)
                if len(rows) == ROWS_AT_ONCE:
                    self._store(rows)
                    rows.clear()
            self._store(rows)
        await self._store_openings(reader)
        self._find_twice()
        self.connection.execute("COMMIT")

    def _store(self, rows: Sequence[Stored]) -> None:
        execute = self.connection.executemany
        execute(
            _STORE,
            [
                (*msgspec.structs.astuple(one.point), one.stamp_ns, int(one.whole), 0)
                for one in rows
                if not one.void
            ],
        )
        execute(_VOID, [(*msgspec.structs.astuple(one.point), one.stamp_ns) for one in rows if one.void])

    async def _store_openings(self, reader: Reader) -> None:
        first_ns, last_ns = day_ns(self.scope.days[0]), day_ns(self.scope.days[-1]) + times.DAY_NS
        found: AsyncIterator[Opening] = reader.openings(first_ns, last_ns, self.scope.organization)
        async for opening in found:
            if self._has(opening):
                self.connection.execute(
                    f"INSERT OR REPLACE INTO stored_openings VALUES ({_OPENING_MARKS})",
                    msgspec.structs.astuple(opening),
                )

    def _find_twice(self) -> None:
        """The same id at the same place in two series: INFLUXDB_DEDUP was changed in between."""
        self.connection.execute(
            f"""UPDATE stored_points SET twice = 1 WHERE rowid NOT IN (
                SELECT min(rowid) FROM stored_points GROUP BY {", ".join(PLACE)}, request_id)"""
        )

    def rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[Sequence[Any]]:
        """What a query finds, while other statements go on."""
        cursor = self.connection.execute(query, values)
        while some := cursor.fetchmany(ROWS_AT_ONCE):
            yield from some


def opening_id(opening: Opening) -> str:
    """What an opening balance is called where points go by their ids."""
    return "-".join(getattr(opening, name) for name in OPENING_KEY if getattr(opening, name))
