"""The file that views are rebuilt into: tables as the live ones, positions, and what it is being made from.

    aside = Aside.open(path, origin)     # made, or found as an earlier run left it
    aside.take(step); aside.commit()
    aside.finish(Path("views.db"))       # a database like the live one, in one file

An interrupted rebuild goes on from the positions in the file. One that was begun from another log, or for
other views, is thrown away.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from projections import schema
from projections.rebuild.courses import Step
from projections.rebuild.plan import VIEWS, Part
from projections.stores.lock import FileLock
from projections.stores.sqlite import CHECKPOINT_PAGES, write
from projections.view import Folded, Position, position_name
from streams import faultpoints
from streams.errors import ViewError, ViewFull

Stands = dict[tuple[str, str, int], Position]

CACHE_KIB = 524_288
# What an interrupted rebuild has to do again, at most.
COMMIT_RECORDS = 10_000
# Made anew at the end: kept up to date row by row they cost more than the rows.
_LATE_INDEXES = ("processed_generations", "usage_points")


class Origin(msgspec.Struct, frozen=True):
    """What a rebuild is made from: two of the same are the same rebuild."""

    log: str
    source: str
    parts: tuple[Part, ...]
    versions: Mapping[str, int]
    until_ms: int | None
    revision: str = schema.HEAD
    #: The snapshot that it begins from; '' when it begins with the first fact.
    snapshot: str = ""


class Aside:
    """A file that is being made. One process at a time: a lock says so."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: FileLock) -> None:
        self.path = path
        self.connection = connection
        self._lock = lock
        self._uncommitted = 0

    @classmethod
    def open(cls, path: Path, origin: Origin, *, anew: bool = False) -> "Aside":
        """The file as it was left, if it was begun so; else a new one. `ViewBusy` while another has it."""
        lock = FileLock(path)
        try:
            if anew or origin_of(path) != origin:
                remove(path)
            if not path.exists():
                _make(path, origin)
            return cls(path, _connect(path), lock)
        except BaseException:
            lock.release()
            raise

    def positions(self) -> Stands:
        """Where each view stands, by topic and partition."""
        return stands(self.connection)

    def take(self, step: Step) -> None:
        """Write what a batch comes to. It is kept from the next commit on, which comes by itself too."""
        try:
            if not self.connection.in_transaction:
                self.connection.execute("BEGIN IMMEDIATE")
            for change in step.changes:
                work = Folded(VIEWS[change.view], change.before, change.after, change.changes)
                for _ in write(self.connection, step.topic, step.partition, work):
                    pass
            self._uncommitted += step.records
            if self._uncommitted >= COMMIT_RECORDS:
                self.commit()
        except sqlite3.Error as error:
            raise self._told(error) from error

    def commit(self) -> None:
        """Keep what was taken."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("COMMIT")
                faultpoints.reached("rebuild")
        except sqlite3.Error as error:
            raise self._told(error) from error
        self._uncommitted = 0

    def finish(self, path: Path) -> None:
        """Make what is left of it, and one whole file of it all under its own name; it is closed."""
        with self._ending():
            self.commit()
            # All or nothing: with some of its indexes it could neither be gone on with nor be finished.
            self.connection.execute("BEGIN")
            for statement in _late(self.connection):
                self.connection.execute(statement)
            self.connection.execute("DROP TABLE rebuild")
            self.connection.execute("COMMIT")
        self.hand_over(path)

    def hand_over(self, path: Path) -> None:
        """Close it as one file, under the name by which others take it."""
        with self._ending():
            self.commit()
            self.connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        self.close()
        self.path.rename(path)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """What fails leaves the file closed, for the next run to go on with."""
        try:
            yield
        except sqlite3.Error as error:
            told = self._told(error)
            self.close()
            raise told from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it as it is: the next run goes on from here."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self.connection.close()
        self._lock.release()
        self.path.with_name(self.path.name + ".lock").unlink(missing_ok=True)

    def remove(self) -> None:
        """Close it, and leave nothing of it."""
        self.close()
        remove(self.path)

    def _told(self, error: sqlite3.Error) -> ViewError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return ViewFull(
                f"{self.path}: the disk is full. Make room, then begin again: it goes on from here"
            )
        return ViewError(f"{self.path}: {error}")


def stands(connection: sqlite3.Connection, schema: str = "main") -> Stands:
    """Where each view stands in a file, whatever version of it made the rows."""
    query = f"""SELECT "partition", usage_offset, source_offset, digest, records
        FROM {schema}.positions WHERE projection = ?"""
    return {
        (view.name, topic, row[0]): Position(*row[1:])
        for view in VIEWS.values()
        for topic in view.topics
        for row in connection.execute(query, (position_name(view, topic),))
    }


def positions_of(path: Path) -> Stands:
    """Where each view stands in an unfinished file."""
    with closing(sqlite3.connect(path)) as connection:
        return stands(connection)


def origin_of(path: Path) -> Origin | None:
    """What an unfinished file is made from; None when there is none, or it is not such a file."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT origin FROM rebuild").fetchone()
            return msgspec.json.decode(found[0], type=Origin)
    except (sqlite3.Error, msgspec.MsgspecError, TypeError):
        return None


def _make(path: Path, origin: Origin) -> None:
    """Under another name first: a file of this name has everything that makes it one."""
    begun = path.with_name(path.name + ".begun")
    remove(begun)
    schema.upgrade(begun)
    with closing(sqlite3.connect(begun, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE rebuild (origin BLOB NOT NULL, late TEXT NOT NULL) STRICT")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name"
            f" IN ({', '.join('?' * len(_LATE_INDEXES))})",
            _LATE_INDEXES,
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        late = msgspec.json.encode([sql for _, sql in indexes]).decode()
        connection.execute("INSERT INTO rebuild VALUES (?, ?)", (msgspec.json.encode(origin), late))
        connection.execute("COMMIT")
    begun.with_name(begun.name + ".lock").unlink(missing_ok=True)
    begun.rename(path)


def _late(connection: sqlite3.Connection) -> list[str]:
    """The statements that make the indexes which were left out."""
    (late,) = connection.execute("SELECT late FROM rebuild").fetchone()
    return msgspec.json.decode(late, type=list[str])


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in (
        "journal_mode = WAL",
        # Begun again after a power failure it goes on from an older position: nothing is lost by it.
        "synchronous = NORMAL",
        f"cache_size = -{CACHE_KIB}",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def remove(path: Path) -> None:
    """What there is of a file, with what belongs to it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
