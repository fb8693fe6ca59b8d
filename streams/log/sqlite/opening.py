"""The files of a log's directory: made once, together, and refused when one is missing or another's.

The first store is written last, with the names of all: as long as it is not there, the log is not made.
"""

import os
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from streams.errors import LogDamaged, LogError, LogMismatch
from streams.log.interface import TopicSpec
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.check import Found, inspect
from streams.log.sqlite.schema import COMPACTION_TABLE, RESTORE, TABLES, connect, log_error, records_table
from streams.log.sqlite.store import Store

WRITERS_STORE = "ledger"
_SCHEME = "sqlite:///"


class Opened(msgspec.Struct, frozen=True):
    """A log's files by store."""

    identity: str
    stores: Mapping[str, Store]


def directory_of(url: str) -> Path:
    """`sqlite:///relative/dir` or `sqlite:////absolute/dir`.

    >>> str(directory_of("sqlite:////srv/log"))
    '/srv/log'
    """
    if not url.startswith(_SCHEME) or len(url) == len(_SCHEME):
        raise LogError(f"{url}: a log's address is sqlite:///relative/dir or sqlite:////absolute/dir")
    return Path(url.removeprefix(_SCHEME))


def by_store(topics: Sequence[TopicSpec]) -> dict[str, list[TopicSpec]]:
    """The topics of each file; the writers' file is always there."""
    stores: dict[str, list[TopicSpec]] = {}
    for spec in topics:
        stores.setdefault(spec.store, []).append(spec)
    stores.setdefault(WRITERS_STORE, [])
    return stores


def open_to_read(directory: Path, topics: Sequence[TopicSpec], bounds: Bounds) -> Opened:
    """The files as they are, also while another process writes them."""
    found = _inspect_all(directory, topics, bounds, deep=False)
    missing = [name for name, file in found.items() if file is None]
    if missing:
        raise LogError(f"{directory}: there is no log here ({', '.join(missing)}): start the service once")
    identity = _identity(directory, found)
    return Opened(identity, _open_all(directory, found, identity, bounds, read_only=True))


def open_to_write(directory: Path, topics: Sequence[TopicSpec], bounds: Bounds) -> Opened:
    """Check all, make what is not there yet, open all."""
    found = _inspect_all(directory, topics, bounds, deep=True)
    identity = _identity(directory, found)
    names = list(found)
    for name, specs in reversed(by_store(topics).items()):
        _prepare(_path(directory, name), found[name], specs, identity, names if name == names[0] else [])
    _sync(directory)
    return Opened(identity, _open_all(directory, found, identity, bounds, read_only=False))


def _path(directory: Path, store: str) -> Path:
    return directory / f"{store}.db"


def _inspect_all(
    directory: Path, topics: Sequence[TopicSpec], bounds: Bounds, *, deep: bool
) -> dict[str, Found | None]:
    stores = by_store(topics)
    return {name: inspect(_path(directory, name), specs, bounds, deep=deep) for name, specs in stores.items()}


def _identity(directory: Path, found: Mapping[str, Found | None]) -> str:
    """The one identity of all the files; a new one when the log is being made."""
    first = next(iter(found))
    head = found[first]
    others = {name: file for name, file in found.items() if file is not None and name != first}
    if head is None:
        if not all(file.is_empty for file in others.values()):
            raise LogDamaged(f"{_path(directory, first)} is missing, and other files are there. {RESTORE}")
        return next((file.meta["identity"] for file in others.values()), uuid.uuid4().hex)
    for name in head.meta["stores"].split(","):
        if name in found and name != first and name not in others:
            raise LogDamaged(f"{_path(directory, name)} is missing. {RESTORE}")
    identity = head.meta["identity"]
    for name, file in others.items():
        if file.meta["identity"] != identity:
            raise LogMismatch(f"{_path(directory, name)}: belongs to another log than {first}.db. {RESTORE}")
    return identity


def _prepare(
    path: Path, found: Found | None, specs: Sequence[TopicSpec], identity: str, stores: Sequence[str]
) -> None:
    """Make the file's tables, or those it lacks, in one transaction."""
    connection = connect(path, read_only=False)
    try:
        # What an earlier process could not sync may be in the WAL all the same, in memory only: copying it
        # into the file writes and syncs it anew, so that nobody reads what a power failure would take.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        if found is None:
            for statement in TABLES:
                connection.execute(statement)
        connection.execute(COMPACTION_TABLE)
        _set_meta(connection, "identity", identity)
        if stores:
            _set_meta(connection, "stores", ",".join(stores))
        known = set(found.partitions) if found else set()
        for place in ((spec.name, number) for spec in specs for number in range(spec.partitions)):
            if place not in known:
                connection.execute(records_table(*place))
                connection.execute('INSERT INTO partitions (topic, "partition") VALUES (?, ?)', place)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise log_error(path, error) from error
    finally:
        connection.close()


def _set_meta(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value "
        "WHERE value <> excluded.value",
        (name, value),
    )


def _open_all(
    directory: Path, found: Mapping[str, Found | None], identity: str, bounds: Bounds, *, read_only: bool
) -> dict[str, Store]:
    """All files, or none: what was opened is closed again when one can't be."""
    stores: dict[str, Store] = {}
    try:
        for name in found:
            stores[name] = Store(_path(directory, name), identity, bounds, read_only=read_only)
    except BaseException:
        for store in stores.values():
            store.close()
        raise
    return stores


def _sync(directory: Path) -> None:
    """The names of new files must outlive a power failure too."""
    for path in (directory, directory.parent):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
