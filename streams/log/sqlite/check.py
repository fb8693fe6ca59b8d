"""What is verified before a file is written to. Nothing is repaired here, and nothing changed.

In order, each with its own refusal: the file is one of ours and of a format we know; its structure is sound
(small files); its topics have the partitions they should; everything ever acknowledged is there; the newest
records have their checksums and no record is missing between them.

All of it over a connection that only reads: closing one that writes would copy a damaged WAL into the file,
and with it the evidence away.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from streams.errors import LogDamaged, LogMismatch
from streams.log.interface import TopicSpec
from streams.log.sqlite import marks
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.records import Damage, verify
from streams.log.sqlite.schema import APPLICATION_ID, FORMAT, RESTORE, connect, log_error
from streams.log.sqlite.store import load_partitions, marks_path
from streams.log.sqlite.transaction import Partition, Place


class Found(msgspec.Struct, frozen=True):
    """A sound file, as it was before opening."""

    meta: Mapping[str, str]
    partitions: Mapping[Place, Partition]

    @property
    def is_empty(self) -> bool:
        return not any(partition.next for partition in self.partitions.values())


def inspect(path: Path, topics: Sequence[TopicSpec], bounds: Bounds, *, deep: bool = True) -> Found | None:
    """The file as found, or None when there is none yet. `deep` also looks at the records."""
    mark = marks.read(marks_path(path))
    wal = path.with_name(path.name + "-wal")
    size_bytes = path.stat().st_size if path.exists() else 0
    if size_bytes == 0:
        if mark is not None or (wal.exists() and wal.stat().st_size):
            raise LogDamaged(f"{path}: the file is missing or empty. {RESTORE}")
        return None
    connection = connect(path, read_only=True)
    try:
        return _inspect(connection, path, size_bytes, topics, mark, bounds, deep)
    except Damage as error:
        raise LogDamaged(f"{path}: {error}. {RESTORE}") from error
    except sqlite3.Error as error:
        raise log_error(path, error) from error
    finally:
        connection.close()


def _inspect(
    connection: sqlite3.Connection,
    path: Path,
    size_bytes: int,
    topics: Sequence[TopicSpec],
    mark: marks.Mark | None,
    bounds: Bounds,
    deep: bool,
) -> Found | None:
    if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall() and mark is None:
        return None  # killed while it was being made: nothing had been written
    _check_format(connection, path)
    if deep and size_bytes <= bounds.quick_check_bytes:
        _check_structure(connection, path)
    found = Found(dict(connection.execute("SELECT name, value FROM meta")), load_partitions(connection))
    _check_topics(found.partitions, topics, path)
    if deep:
        (commits,) = connection.execute("SELECT count FROM commits").fetchone()
        check_mark(found, commits, mark, path)
        _check_newest(connection, found.partitions, path, bounds)
    return found


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise LogMismatch(f"{path}: not a file of genledger's log (application id {application:#x})")
    if version != FORMAT:
        raise LogMismatch(f"{path}: format {version}, and this genledger knows {FORMAT}: use a newer one")


def _check_structure(connection: sqlite3.Connection, path: Path) -> None:
    rows = connection.execute("PRAGMA quick_check(3)").fetchall()
    if rows != [("ok",)]:
        raise LogDamaged(f"{path}: {'; '.join(str(row[0]) for row in rows)}. {RESTORE}")


def _check_topics(partitions: Mapping[Place, Partition], topics: Sequence[TopicSpec], path: Path) -> None:
    counts = Counter(topic for topic, _ in partitions)
    for spec in topics:
        if counts[spec.name] not in (0, spec.partitions):
            raise LogMismatch(
                f"{path}: topic {spec.name} has {counts[spec.name]} partitions, not {spec.partitions}. "
                f"A key's partition depends on their number: set it back, or replay into a new log"
            )


def check_mark(found: Found, commits: int, mark: marks.Mark | None, path: Path) -> None:
    """All that was acknowledged is in the file."""
    if mark is None:
        return
    advice = f"{RESTORE}. After restoring one, remove {marks_path(path).name}"
    if mark.identity != found.meta.get("identity"):
        raise LogMismatch(f"{path}: its marks are those of another log, {mark.identity}. {advice}")
    missing = [
        f"{partition.topic}/{partition.number} offsets {partition.next}..{end - 1}"
        for partition, end in zip(found.partitions.values(), mark.next_offsets, strict=False)
        if partition.next < end
    ]
    if missing:
        raise LogDamaged(f"{path}: acknowledged records are missing: {', '.join(missing)}. {advice}")
    if commits < mark.commits or len(found.partitions) < len(mark.next_offsets):
        raise LogDamaged(f"{path}: {commits} commits, and {mark.commits} were acknowledged. {advice}")


def _check_newest(
    connection: sqlite3.Connection, partitions: Mapping[Place, Partition], path: Path, bounds: Bounds
) -> None:
    share = max(1, len(partitions))
    for partition in partitions.values():
        try:
            _check_ends(connection, partition)
            _check_tail(connection, partition, bounds.check_records // share, bounds.check_bytes // share)
        except Damage as error:
            raise LogDamaged(f"{path}: {partition.topic}/{partition.number} {error}. {RESTORE}") from error


def _check_ends(connection: sqlite3.Connection, partition: Partition) -> None:
    """The first and the last record are where the counters say."""
    ends = (
        f'SELECT (SELECT min("offset") FROM {partition.table}), (SELECT max("offset") FROM {partition.table})'
    )
    first, last = connection.execute(ends).fetchone()
    expected = (partition.first, partition.next - 1) if partition.next else (None, None)
    if (first, last) != expected:
        raise Damage(
            partition.first, f"records {first}..{last} are there, {expected[0]}..{expected[1]} should be"
        )


def _check_tail(connection: sqlite3.Connection, partition: Partition, limit: int, budget_bytes: int) -> None:
    """The newest records, from the end backwards: checksums and, where there can be none, no gap."""
    expected = partition.next
    for row in connection.execute(f'{partition.select} ORDER BY "offset" DESC LIMIT ?', (limit,)):
        expected -= 1
        if partition.is_dense and row[0] != expected:
            raise Damage(expected, f"the record is missing, the one before it is {row[0]}")
        verify(partition.seed, *row)
        budget_bytes -= sum(len(field) for field in row[2:5] if field)
        if budget_bytes <= 0:
            return
