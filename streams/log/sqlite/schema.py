"""The format of one file of the log: its tables, its number, and how errors of SQLite read.

| table          | holds                                                                        |
| -------------- | ---------------------------------------------------------------------------- |
| meta           | the log's identity; in the first store also the names of all stores          |
| commits        | one row: how many commits the file has had                                   |
| partitions     | first and next offset of each partition, and how far it has been compacted   |
| writers        | the epoch and committed source offset of each writer                         |
| compaction     | the last whole pass over each partition: how far, what it left, when         |
| <topic>-<n>    | the records of a partition, by offset; appended at the end only              |
"""

import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

from streams.errors import LogDamaged, LogError, LogFull

APPLICATION_ID = 0x67656E6C  # "genl"
FORMAT = 1
PAGE_BYTES = 16_384

# Came later: a file that lacks it gets it when it is opened to be written.
COMPACTION_TABLE = """
    CREATE TABLE IF NOT EXISTS compaction (
        id INTEGER PRIMARY KEY,
        below INTEGER NOT NULL,
        kept INTEGER NOT NULL,
        done_ms INTEGER NOT NULL,
        crc INTEGER NOT NULL
    ) STRICT
"""

TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE commits (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL) STRICT",
    "INSERT INTO commits VALUES (1, 0)",
    """
    CREATE TABLE partitions (
        id INTEGER PRIMARY KEY,
        topic TEXT NOT NULL,
        "partition" INTEGER NOT NULL,
        first_offset INTEGER NOT NULL DEFAULT 0,
        next_offset INTEGER NOT NULL DEFAULT 0,
        compacted_below INTEGER NOT NULL DEFAULT 0,
        UNIQUE (topic, "partition")
    ) STRICT
    """,
    """
    CREATE TABLE writers (
        "group" TEXT,
        topic TEXT,
        "partition" INTEGER,
        epoch INTEGER NOT NULL,
        source_offset INTEGER,
        crc INTEGER NOT NULL,
        PRIMARY KEY ("group", topic, "partition")
    ) STRICT, WITHOUT ROWID
    """,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {FORMAT}",
)

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


def table_of(topic: str, partition: int) -> str:
    """The quoted name of a partition's table."""
    if not _NAME.fullmatch(topic):
        raise LogError(f"topic {topic!r}: only letters, digits, '.', '_' and '-', at most 200 of them")
    return f'"{topic}-{partition}"'


def records_table(topic: str, partition: int) -> str:
    """The statement that makes a partition's table."""
    return (
        f'CREATE TABLE {table_of(topic, partition)} ("offset" INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, '
        "key BLOB, value BLOB, headers BLOB NOT NULL, crc INTEGER NOT NULL) STRICT"
    )


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """A connection without Python's own transactions. Threads take turns: the caller sees to it."""
    uri = f"file:{quote(str(path))}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA cache_size = -65536")
        if not read_only:
            _make_durable(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise log_error(path, error) from error
    return connection


def _make_durable(connection: sqlite3.Connection, path: Path) -> None:
    """WAL with an fsync at every commit.

    In this mode SQLite syncs the WAL before it publishes the commit in the wal-index, so that no reader
    ever sees what is not durable. Checkpoints are ours (`Store.checkpoint`): SQLite's automatic ones
    swallow their errors, a failed fsync among them.
    """
    # Rows are a few hundred bytes and only appended: larger pages cost a fifth less. Counts for a new file.
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    # Also for a new file only: free pages can be given back, a few at a time.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise LogError(f"{path}: this file system can't hold SQLite's WAL (journal mode {mode!r})")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA journal_size_limit = 67108864")


def log_error(path: Path, error: sqlite3.Error) -> LogError:
    """SQLite's error in the log's words."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LogDamaged(f"{path}: {error}. {RESTORE}")
    if primary == sqlite3.SQLITE_FULL:
        return LogFull(
            f"{path}: the disk is full; free some room, then try again", disk=True, retry_after_s=10
        )
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return LogError(f"{path}: {error} ({name}). Check the disk, then start again")


RESTORE = "Stop, keep the files as they are, and restore the log from a backup"
