"""The entries of one migration, in the order in which they are published: known ids first, then balances.

    with Plan.make(path) as plan:
        plan.add("gen-1", line)
    for n, line in Plan(path).lines(0, 1000): ...

Made once, from one state of the legacy file, and kept: so that a run which was killed goes on with the same
entries, and a rollback takes back what was published, whatever has become of the legacy file.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_TABLE = """CREATE TABLE entries (n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, line BLOB NOT NULL,
    organization TEXT NOT NULL, day TEXT NOT NULL, margin TEXT NOT NULL, requests INTEGER NOT NULL) STRICT"""


class Plan:
    """One migration's entries."""

    def __init__(self, path: Path, *, make: bool = False) -> None:
        self.size = 0
        if make:
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.execute("BEGIN")
            self._connection.execute(_TABLE)
        else:
            self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            self.size = self._connection.execute("SELECT count(*) FROM entries").fetchone()[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._connection.in_transaction:
            self._connection.execute("COMMIT")
        self._connection.close()

    def add(
        self, key: str, line: bytes, *, organization: str, day: str, margin: str, requests: int = 0
    ) -> None:
        """One more at the end."""
        row = (self.size, key, line, organization, day, margin, requests)
        self._connection.execute("INSERT INTO entries VALUES (?,?,?,?,?,?,?)", row)
        self.size += 1

    def line_of(self, key: str) -> bytes | None:
        """The entry under a key."""
        found = self._connection.execute("SELECT line FROM entries WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def keys_and_lines(self, first: int, last: int) -> Sequence[tuple[str, bytes]]:
        """Entries by their numbers, the last not included."""
        sql = "SELECT key, line FROM entries WHERE n >= ? AND n < ? ORDER BY n"
        return self._connection.execute(sql, (first, last)).fetchall()

    def requests(self) -> Iterator[tuple[str, str, int]]:
        """Organisation, day and requests of every day's balance."""
        yield from self._connection.execute(
            "SELECT organization, day, requests FROM entries WHERE margin = 'day'"
        )
