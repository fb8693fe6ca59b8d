"""Rows of SQLite that are not what the log says, of some days; and every side's figures for each model.

rows = differing(connection, scope)        # the live file, with the desk attached as `built`
gather(desk, connection)                   # the figures of the live rows, the log's and the points'
for cell in cells(desk): ...               # those that are not the same on all sides
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from projections.rebuild.compare import SHOWN_MAX, Difference
from projections.reconciling.desk import FIGURES, SAYS, Desk, Scope
from projections.reconciling.residue import INFLUXDB, LOG, SQLITE, Figures, Found, add
from projections.schema import TABLES
from projections.stores.pieces import pieces

MODELS = "client_model_daily_usage"
DAILY = ("client_daily_usage", "client_user_daily_usage", MODELS, "model_daily_providers")
#: The figures, as the tables' columns are called.
COLUMNS = (
    *("total_requests", "prompt_tokens", "completion_tokens", "total_tokens"),
    *("raw_cost_nano", "markup_cost_nano", "unpriced_requests"),
)
_MARGINS = {"client_daily_usage": "day", "client_user_daily_usage": "user"}
_MARKUP = frozenset(("markup_cost", "markup_cost_nano"))


class Cell(msgspec.Struct, frozen=True):
    """An organisation's day of a model that is not the same on all sides. None: that side was not asked."""

    organization: str
    day: str
    model: str
    sqlite: Figures
    influxdb: Figures | None
    log: Figures


class Changed(msgspec.Struct, frozen=True):
    """Rows that differ: the first of them, and how many there are by cause."""

    rows: Sequence[Difference]
    counts: Mapping[str, int]


def differing(connection: sqlite3.Connection, desk: Desk) -> Changed:
    """The rows of these days that are another in `built`, or on one side only; the residue has them too."""
    rows: list[Difference] = []
    counts: dict[str, int] = {}
    desk.connection.execute("BEGIN IMMEDIATE")
    for table in DAILY:
        for row in _of_table(connection, table, desk.scope):
            cause = cause_of(row)
            counts[cause] = counts.get(cause, 0) + 1
            if len(rows) < SHOWN_MAX:
                rows.append(row)
            add(desk.connection, _found(row, cause))
    desk.connection.execute("COMMIT")
    return Changed(rows, counts)


def cause_of(row: Difference) -> str:
    """Only the markup: then the money that was spent is right, and what is billed for it is not. Pure."""
    whole = row.live is not None and row.rebuilt is not None
    return "wrong_markup" if whole and _MARKUP.issuperset(row.columns) else "changed_row"


def _of_table(connection: sqlite3.Connection, table: str, scope: Scope) -> Iterator[Difference]:
    columns, key = TABLES[table].columns, TABLES[table].key
    on = " AND ".join(f'l."{name}" = b."{name}"' for name in key)
    listed = {side: ", ".join(f'{side}."{name}"' for name in columns) for side in "lb"}
    both = f"SELECT {listed['l']}, {listed['b']} FROM"
    queries = (
        f"""{both} main.{table} l LEFT JOIN built.{table} b ON {on}
        WHERE {_within("l", scope)} AND ({listed["l"]}) IS NOT ({listed["b"]})""",
        f"""{both} built.{table} b LEFT JOIN main.{table} l ON {on}
        WHERE {_within("b", scope)} AND l.usage_date IS NULL""",
    )
    values = [*scope.days, *([scope.organization] if scope.organization else [])]
    for query in queries:
        for found in connection.execute(query, values):
            live = _row(columns, found[: len(columns)])
            rebuilt = _row(columns, found[len(columns) :])
            whole = rebuilt or live or {}
            yield Difference(table, {name: whole[name] for name in key}, live, rebuilt)


def _within(side: str, scope: Scope) -> str:
    marks = ",".join("?" * len(scope.days))
    of_one = f" AND {side}.client_org_id = ?" if scope.organization else ""
    return f"{side}.usage_date IN ({marks}){of_one}"


def _row(columns: Sequence[str], values: Sequence[Any]) -> Mapping[str, Any] | None:
    row = dict(zip(columns, values, strict=True))
    return None if row["usage_date"] is None else row


def _found(row: Difference, cause: str) -> Found:
    """A row that differs, by how much. A provider's row has no figures of its own: the model's has them."""
    live, rebuilt, key = row.live or {}, row.rebuilt or {}, row.key
    columns = COLUMNS if row.table != "model_daily_providers" else ()
    off = tuple((live.get(name) or 0) - (rebuilt.get(name) or 0) for name in columns)
    model = key.get("model_name", "")
    return Found(
        cause,
        SQLITE,
        key["client_org_id"],
        key["usage_date"],
        model,
        "",
        off or (0,) * len(FIGURES),
        row.table,
        margin=_MARGINS.get(row.table, "model"),
    )


def gather(desk: Desk, connection: sqlite3.Connection, *, points: bool) -> None:
    """Every side's figures of each organisation, day and model."""
    desk.connection.execute("BEGIN IMMEDIATE")
    for store, schema in ((SQLITE, "main"), (LOG, "built")):
        query = f"""SELECT client_org_id, usage_date, model_name, {", ".join(COLUMNS)}
            FROM {schema}.{MODELS} l WHERE {_within("l", desk.scope)}"""
        values = [*desk.scope.days, *([desk.scope.organization] if desk.scope.organization else [])]
        for rows in pieces(connection.execute(query, values)):
            _put(desk, [(store, *row) for row in rows])
    if points:
        _gather_points(desk)
    desk.connection.execute("COMMIT")


def _gather_points(desk: Desk) -> None:
    marks = ",".join("?" * len(desk.scope.days))
    desk.connection.execute(
        f"""INSERT INTO cells SELECT '{INFLUXDB}', organization, day, model, count(*), sum(prompt_tokens),
        sum(completion_tokens), sum(total_tokens), sum(ifnull(cost_nano, 0)), sum(ifnull(markup_nano, 0)),
        sum(cost_nano IS NULL) FROM stored_points WHERE whole AND day IN ({marks}) GROUP BY 2, 3, 4""",
        desk.scope.days,
    )
    desk.connection.execute(
        f"""INSERT INTO cells SELECT '{INFLUXDB}', organization, day, "row", {", ".join(FIGURES)}
        FROM stored_openings s WHERE margin = 'model' AND {SAYS.format("s")}"""
    )


def _put(desk: Desk, rows: Sequence[Sequence[Any]]) -> None:
    desk.connection.executemany(f"INSERT INTO cells VALUES ({','.join('?' * (4 + len(FIGURES)))})", rows)


def count(desk: Desk) -> int:
    """How many organisations' days of a model there are, on any side."""
    query = "SELECT count(*) FROM (SELECT DISTINCT organization, day, model FROM cells)"
    found: int = desk.connection.execute(query).fetchone()[0]
    return found


def cells(desk: Desk, *, points: bool) -> Iterator[Cell]:
    """Those that are not the same on all sides."""
    sides = (SQLITE, INFLUXDB, LOG) if points else (SQLITE, LOG)
    sums = {
        side: [f"sum(CASE store WHEN '{side}' THEN {name} ELSE 0 END)" for name in FIGURES] for side in sides
    }
    same = " AND ".join(f"({', '.join(sums[side])}) = ({', '.join(sums[LOG])})" for side in sides[:-1])
    listed = ", ".join(text for side in sides for text in sums[side])
    query = f"""SELECT organization, day, model, {listed} FROM cells
        GROUP BY organization, day, model HAVING NOT ({same}) ORDER BY day, organization, model"""
    n = len(FIGURES)
    for row in desk.rows(query):
        figures = {side: tuple(row[3 + i * n : 3 + (i + 1) * n]) for i, side in enumerate(sides)}
        yield Cell(row[0], row[1], row[2], figures[SQLITE], figures.get(INFLUXDB), figures[LOG])
