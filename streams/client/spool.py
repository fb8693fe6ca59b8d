"""A queue that outlives its process: one SQLite file, one owner.

    spool = Spool(Path("ledger.spool"), bytes_max=268_435_456)
    spool.add(line)                  # on disk when it returns

`add` returns after the commit that has its line is synced to disk (write-ahead log, synchronous=FULL), so
neither kill -9 nor a power cut takes it back. Threads that add at once share one commit. What a kill cuts
short was not committed, and SQLite drops it. The file is its owner's alone as long as it is open:
SQLite's own lock, which ends with the process however it ends.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.client.errors import ClientError, SpoolBusy, SpoolFull, SpoolUnusable
from streams.client.queue import Row, within

FORMAT = 1
APPLICATION_ID = 0x676C7370  # "glsp"
# What a row costs beside its line, about.
ROW_BYTES = 32

_open: "weakref.WeakSet[Spool]" = weakref.WeakSet()


def _keep_open() -> None:
    """A child process must not end what it has of its parent's spools.

    SQLite would think that the last owner closes the file, and take away the log that the parent writes to.
    """
    import ctypes

    for spool in _open:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(spool._connection))  # noqa: SLF001  never freed here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_open)


class Spool:
    """The events of one process that are not yet sent."""

    durable = True

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        # `_disk` guards the connection, `_places` what waits for a commit. `_disk` is taken first.
        self._places = threading.Lock()
        self._disk = threading.Lock()
        self._waiting: dict[int, bytes] = {}
        with self._errors():
            self._connection = _opened(path)
            count, size_bytes, last = self._connection.execute(
                f"SELECT count(*), coalesce(sum(length(line) + {ROW_BYTES}), 0), coalesce(max(n), 0)"
                " FROM events"
            ).fetchone()
        self._count: int = count
        self._bytes: int = size_bytes
        self._last: int = last
        _open.add(self)

    def add(self, line: bytes) -> None:
        size_bytes = len(line) + ROW_BYTES
        with self._places:
            if self._bytes + size_bytes > self._bytes_max:
                raise SpoolFull(f"{self._path}: {self._bytes} bytes wait to be sent, {self._bytes_max} may")
            self._last += 1
            n = self._last
            self._waiting[n] = line
            self._bytes += size_bytes
        try:
            with self._disk:
                # Whoever came first has committed for all who were waiting.
                if n in self._waiting:
                    self._commit()
        except ClientError:
            with self._places:
                del self._waiting[n]
                self._bytes -= size_bytes
            raise

    def _commit(self) -> None:
        with self._places:
            rows = list(self._waiting.items())
        with self._errors(), self._connection:
            # A commit that failed may have been made nevertheless.
            self._connection.executemany("INSERT OR REPLACE INTO events (n, line) VALUES (?, ?)", rows)
        with self._places:
            for n, _ in rows:
                del self._waiting[n]
            self._count += len(rows)

    def oldest(self, count_max: int, bytes_max: int, skip: Container[int]) -> list[Row]:
        with self._disk, self._errors():
            found = self._connection.execute("SELECT n, line FROM events ORDER BY n")
            return within((Row(*row) for row in found), count_max, bytes_max, skip)

    def remove(self, ns: Iterable[int]) -> None:
        gone = [(n,) for n in ns]
        with self._disk:
            with self._errors(), self._connection:
                size_bytes = sum(
                    self._connection.execute("SELECT length(line) FROM events WHERE n = ?", n).fetchone()[0]
                    for n in gone
                )
                self._connection.executemany("DELETE FROM events WHERE n = ?", gone)
            with self._places:
                self._count -= len(gone)
                self._bytes -= size_bytes + ROW_BYTES * len(gone)

    def first(self) -> int | None:
        with self._disk, self._errors():
            found: int | None = self._connection.execute("SELECT min(n) FROM events").fetchone()[0]
            return found

    def last(self) -> int:
        return self._last

    def size(self) -> tuple[int, int]:
        with self._places:
            return self._count, self._bytes

    def close(self) -> None:
        with self._disk:
            self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise _meaning(self._path, error) from None


def _meaning(path: Path, error: Exception) -> ClientError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SpoolBusy(f"{path} is open elsewhere: each process, and each client, needs a spool of its own")
    if code == sqlite3.SQLITE_FULL:
        return SpoolFull(f"{path}: the disk is full")
    return SpoolUnusable(f"{path} can't be used as a spool: {error}")


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # it holds who used what
    connection = sqlite3.connect(path, timeout=0, check_same_thread=False)
    try:
        # Before the journal's mode: then no other process can even look, and there is no shared memory.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
        [application, version] = [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        ]
        made = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if made and (application, version) != (APPLICATION_ID, FORMAT):
            raise SpoolUnusable(f"{path} is a database, but no spool of this version: it is left as it is")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(
            "BEGIN; CREATE TABLE IF NOT EXISTS events (n INTEGER PRIMARY KEY, line BLOB NOT NULL) STRICT;"
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
        )
    except BaseException:
        connection.close()
        raise
    return connection
