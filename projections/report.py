"""A statement of usage: one organisation, one month, by user, model or day, with its sums.

    statement = await made(queries, "acme", "2026-11", "model")
    print(as_csv(statement))

Sums are made of integers, never of rounded or floating figures.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from projections.exports import csv_text
from projections.queries import By, Queries, Row
from streams.money import text_of

COUNTS = ("requests", "unpriced_requests", "prompt_tokens", "completion_tokens", "total_tokens")
MONEY = ("raw_cost", "markup_cost")
NAMES: dict[By, tuple[str, ...]] = {"day": ("day",), "model": ("model",), "user": ("user", "user_id")}


class Statement(msgspec.Struct, frozen=True):
    """The lines with their money as decimal text, and the sums in a line of the same shape."""

    organization: str
    month: str
    by: By
    lines: Sequence[Row]
    total: Row

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of a line's fields, in order."""
        return (*NAMES[self.by], *COUNTS, *MONEY)


async def made(queries: Queries, organization: str, month: str, by: By) -> Statement:
    """The statement; `ValueError` when the month is none (YYYY-MM)."""
    rows = await queries.statement(organization, month, by)
    total: dict[str, Any] = {name: sum(row[name] for row in rows) for name in COUNTS}
    total |= {f"{name}_nano": sum(row[f"{name}_nano"] for row in rows) for name in MONEY}
    return Statement(organization, month, by, [_line(row) for row in rows], _line(total))


def as_csv(statement: Statement) -> str:
    """The lines and a last one with the sums, its name `total`."""
    first = NAMES[statement.by][0]
    total = dict.fromkeys(NAMES[statement.by], "") | {first: "total"} | statement.total
    return csv_text(statement.columns, [*statement.lines, total], (*COUNTS, *MONEY))


def as_json(statement: Statement) -> bytes:
    """The statement as one JSON object."""
    return msgspec.json.format(msgspec.json.encode(statement), indent=2)


def _line(row: Row) -> Row:
    names = {name: value for name, value in row.items() if not name.endswith("_nano")}
    return names | {name: text_of(row[f"{name}_nano"]) for name in MONEY}
