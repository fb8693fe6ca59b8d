"""The sync's memory: `sync.db`, which ids lack the provider's figures, what UTC days hold, cursors, reports.

    memory = Readback.open(Path("data/sync.db"))
    await memory.follow(log, frozenset(["acme"]), "gen-", "2026-10-22")
    due = await memory.due("acme", now_ms, 1000)

The rows made of `usage` stand with the offsets that they go up to, in one transaction. The file is no view
of the ledger's figures and may be lost: then `usage` is read once more, and the provider's list as well.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec

from projections.readback import SUMS, Changes, fold
from projections.stores.lock import FileLock
from streams import fact as facts
from streams import times, topics
from streams.log.interface import Log, Record
from streams.sync.interface import Awaited, Day, Report
from streams.sync.readback import DELAY_MS_MAX

LAYOUT = 2
READ_RECORDS = 2000
TURN_RECORDS = 250
REPORTS_KEPT = 50
BUSY_TIMEOUT_MS = 10_000
# Nothing is put off for longer: what is, was put off by another clock.
PUT_OFF_MS_MAX = 2 * DELAY_MS_MAX

_TABLES = f"""
CREATE TABLE followed (one INTEGER PRIMARY KEY CHECK (one = 1), what TEXT NOT NULL, log TEXT NOT NULL,
    first_day TEXT NOT NULL) STRICT;
CREATE TABLE positions ("partition" INTEGER PRIMARY KEY, "offset" INTEGER NOT NULL, digest TEXT NOT NULL) STRICT;
CREATE TABLE awaited (id TEXT, organization TEXT, since_ms INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0, due_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (id, organization)) STRICT, WITHOUT ROWID;
CREATE INDEX awaited_due ON awaited (organization, due_ms, since_ms);
CREATE TABLE days (organization TEXT, day TEXT, model TEXT, provider TEXT,
    {", ".join(f"{name} INTEGER NOT NULL" for name in SUMS)},
    PRIMARY KEY (organization, day, model, provider)) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (organization TEXT PRIMARY KEY, cursor BLOB NOT NULL) STRICT;
CREATE TABLE reports (id INTEGER PRIMARY KEY, organization TEXT NOT NULL, report BLOB NOT NULL) STRICT;
CREATE INDEX reports_organization ON reports (organization, id);
PRAGMA user_version = {LAYOUT};
"""  # noqa: E501
_ADD_DAY = f"""INSERT INTO days VALUES (?,?,?,?{",?" * len(SUMS)}) ON CONFLICT DO UPDATE SET
    {", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)}"""
_AWAIT = "INSERT INTO awaited (id, organization, since_ms) VALUES (?,?,?) ON CONFLICT DO NOTHING"


class Readback:
    """The one connection to the file. Statements are short and run on the event loop."""

    def __init__(self, connection: sqlite3.Connection, lock: FileLock) -> None:
        self._connection = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> "Readback":
        """Take the file's lock and open it. One of another layout is begun again."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            connection = _opened(path)
        except BaseException:
            lock.release()
            raise
        return cls(connection, lock)

    def close(self) -> None:
        """Close the file and let go of its lock."""
        self._connection.close()
        self._lock.release()

    async def follow(self, log: Log, organizations: frozenset[str], prefix: str, first_day: str) -> None:
        """Read `usage` to its end as it is now, for these organisations and from this UTC day on."""
        await log.refresh([topics.USAGE])
        wanted = msgspec.json.encode([sorted(organizations), prefix]).decode()
        await self._check(log, wanted, first_day)
        for partition in range(log.partitions(topics.USAGE)):
            end = log.end_offset(topics.USAGE, partition)
            offset = self._position(partition)[0] + 1
            offset = max(offset, log.start_offset(topics.USAGE, partition))
            while offset < end:
                records = await log.read(topics.USAGE, partition, offset, READ_RECORDS)
                if not records:
                    break
                changes = await _folded(records, organizations, prefix, first_day)
                self._write(partition, records[-1], changes)
                offset = records[-1].offset + 1
        first_ms = times.midnight_ns(first_day, "UTC") // times.MS_NS
        with self._connection:  # what has grown too old to be asked for since it was read
            self._connection.execute("DELETE FROM days WHERE day < ?", (first_day,))
            self._connection.execute("DELETE FROM awaited WHERE since_ms < ?", (first_ms,))

    async def _check(self, log: Log, wanted: str, first_day: str) -> None:
        """Begin again for other organisations, for earlier days, and on another log than was read."""
        row = self._connection.execute("SELECT what, log, first_day FROM followed").fetchone()
        same_log = row is not None and row[1] == log.identity and await self._stands_in(log)
        if same_log and row[0] == wanted and row[2] <= first_day:
            return
        # What the provider's list has told went onto the log that was: the one that is may lack it.
        cursors = () if same_log else ("cursors",)
        with self._connection:
            for table in ("followed", "positions", "awaited", "days", *cursors):
                self._connection.execute(f"DELETE FROM {table}")
            self._connection.execute(
                "INSERT INTO followed VALUES (1,?,?,?)", (wanted, log.identity, first_day)
            )

    async def _stands_in(self, log: Log) -> bool:
        """Whether the log has the records that were read last."""
        for partition, offset, digest in self._connection.execute("SELECT * FROM positions").fetchall():
            records: Sequence[Record] = ()
            if log.start_offset(topics.USAGE, partition) <= offset < log.end_offset(topics.USAGE, partition):
                records = await log.read(topics.USAGE, partition, offset, 1)
            if not records or facts.digest(records[0].value or b"") != digest:
                return False
        return True

    def _position(self, partition: int) -> tuple[int, str]:
        row = self._connection.execute(
            'SELECT "offset", digest FROM positions WHERE "partition" = ?', (partition,)
        ).fetchone()
        return (-1, "") if row is None else (row[0], row[1])

    def _write(self, partition: int, last: Record, changes: Changes) -> None:
        settled = [(id,) for id, change in changes.awaited.items() if change.settled]
        by = [(id, *one) for id, change in changes.awaited.items() for one in change.since_ms.items()]
        gone = [(id, organization) for id, organization, since_ms in by if since_ms is None]
        come = [one for one in by if one[2] is not None]
        position = (partition, last.offset, facts.digest(last.value or b""))
        with self._connection:
            self._connection.executemany("DELETE FROM awaited WHERE id = ?", settled)
            self._connection.executemany("DELETE FROM awaited WHERE id = ? AND organization = ?", gone)
            self._connection.executemany(_AWAIT, come)
            self._connection.executemany(_ADD_DAY, [(*key, *sums) for key, sums in changes.days.items()])
            self._connection.execute("INSERT OR REPLACE INTO positions VALUES (?,?,?)", position)

    async def due(self, organization: str, now_ms: int, limit: int) -> Sequence[Awaited]:
        """Ids to be asked for now, those longest awaited first. None waits for a clock that has gone back."""
        rows = self._connection.execute(
            """SELECT id, tries, since_ms FROM awaited
               WHERE organization = ?1 AND (due_ms <= ?2 OR due_ms > ?2 + ?3)
               ORDER BY due_ms, since_ms LIMIT ?4""",
            (organization, now_ms, PUT_OFF_MS_MAX, limit),
        )
        return [Awaited(*row) for row in rows]

    async def put_off(self, organization: str, id: str, due_ms: int) -> None:
        """Not before then; one more try is counted."""
        with self._connection:
            self._connection.execute(
                "UPDATE awaited SET tries = tries + 1, due_ms = ? WHERE id = ? AND organization = ?",
                (due_ms, id, organization),
            )

    async def hurry(self, organization: str) -> None:
        """Whatever was put off is due now."""
        with self._connection:
            self._connection.execute("UPDATE awaited SET due_ms = 0 WHERE organization = ?", (organization,))

    async def awaited(self, organization: str) -> int:
        """How many ids lack the provider's figures."""
        query = "SELECT count(*) FROM awaited WHERE organization = ?"
        return int(self._connection.execute(query, (organization,)).fetchone()[0])

    async def awaited_ids(self, organization: str, limit: int) -> Sequence[str]:
        """Some of them, those longest awaited first."""
        query = "SELECT id FROM awaited WHERE organization = ? ORDER BY since_ms, id LIMIT ?"
        return [row[0] for row in self._connection.execute(query, (organization, limit))]

    async def days(self, organization: str, first: str, last: str) -> Sequence[Day]:
        """What is counted from one UTC day to another. Rows that came back to nothing are left out."""
        rows = self._connection.execute(
            f"""SELECT day, model, provider, {", ".join(SUMS)} FROM days
                WHERE organization = ? AND day BETWEEN ? AND ? AND requests > 0
                ORDER BY day, model, provider""",
            (organization, first, last),
        )
        return [Day(*row) for row in rows]

    async def cursor(self, organization: str) -> bytes:
        """How far the list has been read; b"" at first."""
        query = "SELECT cursor FROM cursors WHERE organization = ?"
        row = self._connection.execute(query, (organization,)).fetchone()
        return b"" if row is None else row[0]

    async def keep_cursor(self, organization: str, cursor: bytes) -> None:
        """Durable when it returns."""
        with self._connection:
            self._connection.execute("INSERT OR REPLACE INTO cursors VALUES (?,?)", (organization, cursor))

    async def keep_report(self, report: Report) -> None:
        """Keep it, and of the organisation's older ones a number."""
        with self._connection:
            self._connection.execute(
                "INSERT INTO reports (organization, report) VALUES (?,?)",
                (report.organization, msgspec.json.encode(report)),
            )
            self._connection.execute(
                """DELETE FROM reports WHERE organization = ?1 AND id <= (SELECT id FROM reports
                   WHERE organization = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)""",
                (report.organization, REPORTS_KEPT),
            )

    async def reports(self, organization: str, limit: int) -> Sequence[Report]:
        """An organisation's runs, the newest first; of all organisations when it is ""."""
        rows = self._connection.execute(
            "SELECT report FROM reports WHERE ?1 IN ('', organization) ORDER BY id DESC LIMIT ?2",
            (organization, limit),
        )
        return [msgspec.json.decode(row[0], type=Report) for row in rows]

    async def last_reports(self) -> Sequence[Report]:
        """The newest of each organisation."""
        query = """SELECT report FROM reports WHERE id IN (SELECT max(id) FROM reports GROUP BY organization)
            ORDER BY organization"""
        return [msgspec.json.decode(row[0], type=Report) for row in self._connection.execute(query)]


async def _folded(
    records: Sequence[Record], organizations: frozenset[str], prefix: str, first_day: str
) -> Changes:
    """A batch decoded and folded, with a turn for others in between: this is nobody's hurry."""
    found = []
    for start in range(0, len(records), TURN_RECORDS):
        part = records[start : start + TURN_RECORDS]
        found += [facts.decode(record.value or b"", record.headers) for record in part]
        await asyncio.sleep(0)
    return fold(found, organizations, prefix, first_day)


def _opened(path: Path) -> sqlite3.Connection:
    connection = _connected(path)
    layout = connection.execute("PRAGMA user_version").fetchone()[0]
    if layout not in (0, LAYOUT):
        connection.close()
        for each in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            each.unlink(missing_ok=True)
        connection = _connected(path)
    if layout != LAYOUT:
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
    return connection


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    return connection
