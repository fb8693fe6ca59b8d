"""The file in which a snapshot waits for its next step: its chunks, ready for the log, and its manifest.

    package = Package.make(path, manifest_of, connection, tables)
    for some in package.messages(bytes_max): ...
    package.note(replace(manifest, first=17))

Its name says which step is next, so that whoever is killed, another goes on:

| name                  | what is next                                               | by whom          |
| --------------------- | ---------------------------------------------------------- | ---------------- |
| snapshot-ready.db     | its chunks go onto the log                                 | the log's writer |
| snapshot-published.db | they are read back, and the views rebuilt from them        | the command      |
| snapshot-checked.db   | the manifest goes onto the log, then the facts are deleted | the log's writer |
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

from projections.rebuild.aside import remove
from projections.schema import columns_of
from projections.snapshot import chunks
from projections.stores.sqlite import read_only
from streams import snapshots, topics
from streams.log.interface import Message
from streams.snapshots import Manifest, Rows

READY, PUBLISHED, CHECKED = "snapshot-ready.db", "snapshot-published.db", "snapshot-checked.db"
_TABLES = """
CREATE TABLE chunks (n INTEGER PRIMARY KEY, key BLOB NOT NULL, value BLOB NOT NULL) STRICT;
CREATE TABLE manifest (one INTEGER PRIMARY KEY CHECK (one = 1), value BLOB NOT NULL) STRICT;
"""


def make(
    path: Path,
    source: sqlite3.Connection,
    number: int,
    tables: Sequence[str],
    manifest_of: Callable[[Mapping[str, Rows]], Manifest],
) -> Manifest:
    """Pack the rows of these tables; the file has its name when it is whole."""
    begun = path.with_name(path.name + ".part")
    remove(begun)
    with closing(sqlite3.connect(begun, isolation_level=None)) as connection:
        connection.executescript("PRAGMA journal_mode = OFF;" + _TABLES)
        connection.execute("BEGIN")
        held = {table: _pack(connection, source, number, table) for table in tables}
        manifest = manifest_of(held)
        connection.execute("INSERT INTO manifest VALUES (1, ?)", (snapshots.encode(manifest),))
        connection.execute("COMMIT")
    _sync(begun)
    begun.rename(path)
    _sync(path.parent)
    return manifest


def _pack(connection: sqlite3.Connection, source: sqlite3.Connection, number: int, table: str) -> Rows:
    columns, key = columns_of(source, table)
    listed, order = (", ".join(f'"{name}"' for name in names) for names in (columns, key))
    found = source.execute(f"SELECT {listed} FROM main.{table} ORDER BY {order}")
    hashed = blake2b(digest_size=16)
    rows = count = 0
    for part in chunks.shared_out(found):
        value = chunks.encode(columns, part)
        hashed.update(value)
        key_of = snapshots.chunk_key(number, table, count)
        connection.execute("INSERT INTO chunks (key, value) VALUES (?, ?)", (key_of, value))
        rows, count = rows + len(part), count + 1
    return Rows(rows, count, hashed.hexdigest())


class Package:
    """A file that is there. `step` gives it the name of its next step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def manifest(self) -> Manifest:
        """What it is a snapshot of."""
        with closing(sqlite3.connect(read_only(self.path), uri=True)) as connection:
            return snapshots.decode(connection.execute("SELECT value FROM manifest").fetchone()[0])

    def note(self, manifest: Manifest) -> None:
        """Keep what is known of it by now."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE manifest SET value = ?", (snapshots.encode(manifest),))

    def messages(self, records: int) -> Iterator[list[Message]]:
        """Its chunks as messages, at most so many at once."""
        with closing(sqlite3.connect(read_only(self.path), uri=True)) as connection:
            found = connection.execute("SELECT key, value FROM chunks ORDER BY n")
            while some := found.fetchmany(records):
                yield [Message(topics.SNAPSHOTS, 0, key, value) for key, value in some]

    def step(self, name: str) -> None:
        """It waits for another step."""
        path = self.path.with_name(name)
        self.path.rename(path)
        self.path = path
        _sync(path.parent)

    def remove(self) -> None:
        """It is done with."""
        remove(self.path)


def waiting(folder: Path) -> Package | None:
    """The snapshot that waits in a folder."""
    for name in (CHECKED, PUBLISHED, READY):
        if (folder / name).exists():
            return Package(folder / name)
    return None


def _sync(path: Path) -> None:
    """A name, or what is under it, must outlive a power failure."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
