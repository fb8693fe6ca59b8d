r"""Rows as CSV that a spreadsheet opens without running anything.

>>> csv_text(["model", "cost"], [{"model": "=HYPERLINK(0)", "cost": "-1.5"}], numbers=["cost"])
"model,cost\r\n'=HYPERLINK(0),-1.5\r\n"

A text that begins like a formula gets a leading '. Figures of ours stay numbers.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], numbers: Collection[str]) -> str:
    """The rows under their columns' names; `numbers` are decimal texts that we made ourselves."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([row[c] if c in numbers else quoted(row[c]) for c in columns])
    return out.getvalue()


def quoted(value: object) -> object:
    """A value that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
