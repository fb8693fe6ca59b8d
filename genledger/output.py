r"""Prints data to stdout, safely: names come from strangers, and terminals obey them.

>>> visible("a\x1b[31mb")
'a\\x1b[31mb'
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

Format = Literal["table", "csv", "json"]
Row = Mapping[str, Any]


def visible(value: object) -> str:
    """A value as one line of text: control and direction characters become escapes."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def say(text: str) -> None:
    """A line to a person: stderr, so that stdout stays data."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_rows(rows: Sequence[Row], columns: Sequence[str], format: Literal["table", "json"]) -> None:
    """Rows of data in the format that was asked for."""
    if format == "json":
        print_json(rows)
    else:
        sys.stdout.write(table_text(rows, columns))


def table_text(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Columns lined up for reading; numbers to the right."""
    cells = [[visible(row.get(name)) for name in columns] for row in rows]
    widths = [max([len(name), *(len(line[i]) for line in cells)]) for i, name in enumerate(columns)]
    right = [bool(cells) and all(_is_number(line[i]) for line in cells) for i in range(len(columns))]
    return "".join(_line(line, widths, right) for line in [list(columns), *cells])


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    texts = [
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(texts).rstrip() + "\n"


def _is_number(text: str) -> bool:
    return text == "" or text.lstrip("-").replace(".", "", 1).isdigit()
