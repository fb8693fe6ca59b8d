"""The rows of an answer in annotated CSV, as Flux gives them: one dict each, line by line.

    async for row in rows(lines): row["_time"], row["cost_nano"]

influxdb-client reads it too, but cuts times to microseconds and wants one more library for it. Here a time
stays the text that it is; an absent number is None, and an absent text is not told from an empty one.
"""

import csv
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any


class FailedMidway(Exception):
    """The server gave up in the midst of an answer; the text is its own."""


async def rows(lines: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Tables follow one another: each begins with its types and its names."""
    kinds: Sequence[str] = ()
    columns: Sequence[tuple[int, str, Callable[[str], Any]]] | None = None
    async for cells in _records(lines):
        if not cells:
            columns = None
        elif cells[0] == "#datatype":
            kinds, columns = cells, None
        elif columns is None:
            columns = _columns(cells, kinds)
            failed = "error" in cells[:2]
        elif failed:
            raise FailedMidway(" ".join(cells).strip())
        else:
            yield {name: read(cells[n]) for n, name, read in columns}


async def _records(lines: AsyncIterator[bytes]) -> AsyncIterator[list[str]]:
    """Lines as cells; a line feed between quotation marks is part of a cell."""
    begun = ""
    async for line in lines:
        begun += line.decode()
        if begun.count('"') % 2 == 0:
            yield next(csv.reader([begun]), [])
            begun = ""


def _columns(names: Sequence[str], kinds: Sequence[str]) -> Sequence[tuple[int, str, Callable[[str], Any]]]:
    typed = zip(names, [*kinds, *[""] * len(names)], strict=False)
    return [
        (n, name, _READ.get(kind, str))
        for n, (name, kind) in enumerate(typed)
        if name not in ("", "result", "table")
    ]


def _whole(cell: str) -> int | None:
    return int(cell) if cell else None


def _real(cell: str) -> float | None:
    return float(cell) if cell else None


_READ: dict[str, Callable[[str], Any]] = {
    "long": _whole,
    "unsignedLong": _whole,
    "double": _real,
    "boolean": lambda cell: cell == "true",
}
