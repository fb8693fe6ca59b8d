"""What a comparison has found: each cell that differs with the causes that add up to it, bounded.

report.clean, report.differences, report.counts
report.cells[0].causes[0].ids
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from projections.rebuild.blame import Blamed
from projections.rebuild.compare import SHOWN_MAX, Difference
from projections.reconciling.desk import FIGURES, Desk
from projections.reconciling.residue import INFLUXDB, LAG, NOTHING, SQLITE, Figures, Found, add
from projections.reconciling.rows import Cell, cells
from streams.money import text_of

IDS_SHOWN_MAX = 20
_SUMS = ", ".join(f"sum({name})" for name in FIGURES)


class Share(msgspec.Struct, frozen=True):
    """One cause's part of a difference: by how much its store is off, and the first of the ids."""

    cause: str
    store: str
    count: int
    off: Mapping[str, Any]
    ids: Sequence[str]
    details: Sequence[str]


class Shared(msgspec.Struct, frozen=True):
    """An organisation's day of a model on all sides, and why they differ.

    Without a model it is the whole day's row, or a user's (`margin` says which), or an opening balance's.
    """

    organization: str
    day: str
    model: str
    margin: str
    sqlite: Mapping[str, Any] | None
    influxdb: Mapping[str, Any] | None
    log: Mapping[str, Any] | None
    causes: Sequence[Share]


class Finding(msgspec.Struct, frozen=True):
    """A row of SQLite that is not what the log says, and the generations that explain it."""

    row: Difference
    blamed: Blamed


class Report(msgspec.Struct, frozen=True):
    """What was compared, and what differs. It is clean when nothing does but what is on its way."""

    time_ms: int
    seconds: float
    days: Sequence[str]
    organization: str
    influxdb: bool
    compared: int
    counts: Mapping[str, int]
    #: Facts that the points had still to take when they were read.
    lag_records: int
    voids: int
    cells: Sequence[Shared]
    more_cells: int
    findings: Sequence[Finding]

    @property
    def clean(self) -> bool:
        """Nothing differs."""
        return self.differences == 0

    @property
    def differences(self) -> int:
        """Points, rows and balances that are not what the log says."""
        return sum(count for cause, count in self.counts.items() if cause != LAG)


def named(figures: Figures | Sequence[int]) -> Mapping[str, Any]:
    """Figures by their names, money as decimal text. Pure.

    >>> named((1, 2, 3, 5, 10**9, 2 * 10**9, 0))["cost"]
    '1'
    """
    requests, prompt, completion, total, cost_nano, markup_nano, unpriced = figures
    return {
        "requests": requests,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "cost": text_of(cost_nano),
        "markup": text_of(markup_nano),
        "unpriced": unpriced,
    }


def explain_rest(desk: Desk, *, points: bool) -> None:
    """What no cause explains is a cause of its own, so that they always add up."""
    rest = [found for cell in cells(desk, points=points) for found in _rest(desk, cell)]
    desk.connection.execute("BEGIN IMMEDIATE")
    for found in rest:
        add(desk.connection, found)
    desk.connection.execute("COMMIT")


def _rest(desk: Desk, cell: Cell) -> list[Found]:
    found = []
    for store, figures in ((SQLITE, cell.sqlite), (INFLUXDB, cell.influxdb)):
        if figures is None:
            continue
        row = desk.connection.execute(
            f"""SELECT {_SUMS} FROM residue WHERE organization = ? AND day = ? AND model = ?
            AND margin = 'model' AND store = ?""",
            (cell.organization, cell.day, cell.model, store),
        ).fetchone()
        known = NOTHING if row[0] is None else row
        off = tuple(a - b - c for a, b, c in zip(figures, cell.log, known, strict=True))
        if any(off):
            found.append(Found("unexplained", store, cell.organization, cell.day, cell.model, "", off))
    return found


def counts(desk: Desk) -> Mapping[str, int]:
    """How many things differ, by cause."""
    query = "SELECT cause, sum(counts) FROM residue GROUP BY cause ORDER BY cause"
    return dict(desk.connection.execute(query).fetchall())


def shared(desk: Desk, *, points: bool) -> tuple[Sequence[Shared], int]:
    """The first of all that differs, cell by cell, and how many more there are."""
    sides = {
        (cell.organization, cell.day, cell.model, "model"): cell
        for n, cell in enumerate(cells(desk, points=points))
        if n < SHOWN_MAX
    }
    query = """SELECT DISTINCT organization, day, model, margin FROM residue
        ORDER BY day, organization, margin, model"""
    keys = dict.fromkeys((*sides, *map(tuple, desk.rows(query))))
    found = [_shared(desk, key, sides.get(key)) for key in list(keys)[:SHOWN_MAX]]
    return found, max(0, len(keys) - SHOWN_MAX)


def _shared(desk: Desk, key: tuple[str, ...], cell: Cell | None) -> Shared:
    query = f"""SELECT cause, store, sum(counts), {_SUMS} FROM residue
        WHERE organization = ? AND day = ? AND model = ? AND margin = ? GROUP BY cause, store"""
    causes = [
        Share(cause, store, count, named(off), *_examples(desk, key, cause, store))
        for cause, store, count, *off in desk.connection.execute(query, key).fetchall()
    ]
    sides = (None, None, None) if cell is None else (cell.sqlite, cell.influxdb, cell.log)
    sqlite, influxdb, log = (None if figures is None else named(figures) for figures in sides)
    organization, day, model, margin = key
    return Shared(organization, day, model, margin, sqlite, influxdb, log, causes)


def _examples(desk: Desk, key: tuple[str, ...], cause: str, store: str) -> tuple[list[str], list[str]]:
    rows = desk.connection.execute(
        """SELECT id, detail FROM residue WHERE organization = ? AND day = ? AND model = ? AND margin = ?
        AND cause = ? AND store = ? ORDER BY id LIMIT ?""",
        (*key, cause, store, IDS_SHOWN_MAX),
    ).fetchall()
    return [id for id, _ in rows if id], [f"{id}: {text}" if id else text for id, text in rows if text]
