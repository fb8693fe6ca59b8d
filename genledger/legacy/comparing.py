"""The legacy tables beside ours: rows, sums, and each row that differs by its name.

    for table in compared(source, here, first, last, manifests): ...

The values of a legacy row are rounded as the migration rounds them; from there on nothing is: two rows are
equal, or they differ.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from genledger.legacy.backups import Manifest
from genledger.legacy.findings import Findings
from genledger.legacy.here import IDS_AT_ONCE, Here, Line
from genledger.legacy.overlap import Day
from genledger.legacy.source import Source, figures
from genledger.legacy.tables import PROCESSED, SUMMARIES, Table
from streams.money import text_of

DIFFERENCES_MAX = 1000
FIELDS = ("requests", "total_tokens", "raw_cost", "markup_cost")


class Side(msgspec.Struct):
    """What one system's table adds up to."""

    rows: int = 0
    requests: int = 0
    total_tokens: int = 0
    cost_nano: int = 0
    markup_nano: int = 0

    def add(self, values: Sequence[int]) -> None:
        """One more row."""
        self.rows += 1
        self.requests += values[0]
        self.total_tokens += values[1]
        self.cost_nano += values[2]
        self.markup_nano += values[3]


class Difference(msgspec.Struct, frozen=True):
    """A row that is not the same in both: `legacy` or `here` is None where there is no such row."""

    table: str
    organization: str
    day: str
    row: str
    legacy: Mapping[str, Any] | None
    here: Mapping[str, Any] | None


class Compared(msgspec.Struct):
    """One table. `left_out` are rows of days that the migration left out, for both had counted them; `shared`
    rows of days where it added to what was counted here, so that here is more.
    """

    table: str
    legacy: Side = msgspec.field(default_factory=Side)
    here: Side = msgspec.field(default_factory=Side)
    differing: int = 0
    left_out: int = 0
    shared: int = 0
    differences: list[Difference] = []

    def differ(self, difference: Difference) -> None:
        """One more row that differs; a bounded number of them is named."""
        self.differing += 1
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(difference)


def compared(
    source: Source, here: Here, first: str, last: str, manifests: Sequence[Manifest], found: Findings
) -> list[Compared]:
    """Every table of the file that was carried over. Days of ours that the file has nothing of are ours."""
    left_out = {day for one in manifests if one.overlap == "skip" for day in one.left_out}
    shared = {day for one in manifests if one.overlap == "add" for day in one.left_out}
    wanted = source.days(first, last) - left_out
    tables = [
        _summary(table, source, here, (first, last), wanted, shared, found)
        for table in SUMMARIES
        if source.has(table)
    ]
    if source.has(PROCESSED) and here.has_ids:
        tables.append(_processed(source, here, (first, last), left_out, found))
    return tables


def _summary(
    table: Table,
    source: Source,
    here: Here,
    days: tuple[str, str],
    wanted: set[Day],
    shared: set[Day],
    found: Findings,
) -> Compared:
    told = Compared(table.name)
    theirs: Iterator[Line] = (
        (one.organization, one.day, one.user or one.model, *figures(one))
        for one in source.balances(table, *days, found)
    )
    ours = (line for line in here.lines(table, *days) if line[:2] in wanted)
    for left, right in merged(theirs, ours):
        if left is not None and left[:2] not in wanted:
            told.left_out += 1
            continue
        if left is not None:
            told.legacy.add(left[3:])
        if right is not None:
            told.here.add(right[3:])
        name = left or right
        assert name is not None
        if name[:2] in shared and right is not None and _is_within(left, right):
            told.shared += 1
        elif left != right:
            told.differ(Difference(table.name, *name[:3], _shown(left), _shown(right)))
    return told


def _is_within(left: Line | None, right: Line) -> bool:
    return left is None or all(one <= other for one, other in zip(left[3:], right[3:], strict=True))


def merged(lefts: Iterable[Line], rights: Iterable[Line]) -> Iterator[tuple[Line | None, Line | None]]:
    """Two sorted sequences of lines side by side, by their names. Pure."""
    left_rest, right_rest = iter(lefts), iter(rights)
    left, right = next(left_rest, None), next(right_rest, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[:3] < right[:3]):
            yield left, None
            left = next(left_rest, None)
        elif left is None or right[:3] < left[:3]:
            yield None, right
            right = next(right_rest, None)
        else:
            yield left, right
            left, right = next(left_rest, None), next(right_rest, None)


def _shown(line: Line | None) -> Mapping[str, Any] | None:
    if line is None:
        return None
    values = (line[3], line[4], text_of(line[5]), text_of(line[6]))
    return dict(zip(FIELDS, values, strict=True))


def _processed(
    source: Source, here: Here, days: tuple[str, str], left_out: set[Day], found: Findings
) -> Compared:
    told = Compared(PROCESSED.name)
    rows = source.known_ids(*days, found)
    while piece := list(islice(rows, IDS_AT_ONCE)):
        there = here.known(row.id for row in piece)
        for row in piece:
            if (row.organization, row.day) in left_out:
                told.left_out += 1
                continue
            left = (row.organization, row.day, row.cost_nano, row.total_tokens)
            right = there.get(row.id)
            told.legacy.add((1, row.total_tokens, row.cost_nano, 0))
            if right is not None:
                told.here.add((1, right[3], right[2] or 0, 0))
            if left != right:
                difference = (row.organization, row.day, row.id, _shown_id(left), _shown_id(right))
                told.differ(Difference(PROCESSED.name, *difference))
    return told


def _shown_id(line: tuple[str, str, int | None, int] | None) -> Mapping[str, Any] | None:
    if line is None:
        return None
    organization, day, cost_nano, total_tokens = line
    cost = None if cost_nano is None else text_of(cost_nano)
    return {"organization": organization, "day": day, "total_tokens": total_tokens, "total_cost": cost}
