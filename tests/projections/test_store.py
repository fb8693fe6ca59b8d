"""Positions: what is skipped, what stops a view, who may write."""

import asyncio
import sqlite3
import threading
import time

import pytest

from projections.processed import Processed
from projections.stores.sqlite import Database
from projections.summaries import Summaries
from projections.view import START, Position
from streams import fact as facts
from streams.errors import Hole, PositionMoved, SchemaMismatch, ViewBusy
from tests.projections.samples import applied, apply, digest_of, entry, fact, reading, records, row_of

SUMMARIES = Summaries()
COUNTED = [fact(i, plus=entry()) for i in range(6)]


async def test_a_position_is_kept_with_the_rows(database, path):
    """After a batch the view stands behind its last record and knows that record's digest."""
    after = await apply(database, SUMMARIES, COUNTED[:3])
    assert after == Position(2, 2, facts.digest(facts.encode(COUNTED[2])), 3)
    assert await database.positions(SUMMARIES) == {0: after}
    assert await database.positions(Processed()) == {}


async def test_a_fact_seen_before_is_skipped(database, path):
    """A fact at or below the source offset has no effect; the position goes on past its record."""
    after = await apply(database, SUMMARIES, COUNTED[:3])
    after = await apply(database, SUMMARIES, [COUNTED[1], COUNTED[2], COUNTED[3]], after)
    assert (after.usage_offset, after.source_offset) == (5, 3)
    assert row_of(path, "client_daily_usage")["total_requests"] == 4
    after = await apply(database, SUMMARIES, [COUNTED[3]], after)
    assert (after.usage_offset, after.source_offset) == (6, 3)
    assert row_of(path, "client_daily_usage")["total_requests"] == 4


async def test_records_below_the_position_are_not_taken_again(database, path):
    """A batch that begins before the position counts from the position on."""
    after = await apply(database, SUMMARIES, COUNTED[:3])
    for known in (1, 2, 3):
        assert await applied(database, SUMMARIES, "usage", 0, records(COUNTED[:known]), after) == after
    await applied(database, SUMMARIES, "usage", 0, records(COUNTED), after)
    assert row_of(path, "client_daily_usage")["total_requests"] == 6


async def test_a_missing_fact_stops_the_view(database, path):
    """A fact whose predecessor was never seen is a hole, and nothing of its batch is written."""
    after = await apply(database, SUMMARIES, COUNTED[:2])
    before = digest_of(path)
    with pytest.raises(Hole, match="follows record 3"):
        await apply(database, SUMMARIES, [COUNTED[2], COUNTED[4]], after)
    assert digest_of(path) == before
    assert await database.positions(SUMMARIES) == {0: after}


async def test_source_offsets_may_have_gaps(database, path):
    """What compaction removed is no hole: the predecessor is what counts."""
    sparse = [fact(5, prev=-1, plus=entry()), fact(9, prev=5, plus=entry()), fact(12, prev=9, plus=entry())]
    after = await apply(database, SUMMARIES, sparse)
    assert after.source_offset == 12


async def test_a_position_counts_records_as_the_facts_do(database, path):
    """A fact that says its number is taken at its word; one seen before moves the count no further."""
    sparse = [
        fact(5, prev=-1, number=1, plus=entry()),
        fact(9, prev=5, number=2, plus=entry()),
    ]
    after = await apply(database, SUMMARIES, sparse)
    assert (after.source_offset, after.records) == (9, 2)
    after = await apply(database, SUMMARIES, [sparse[1]], after)
    assert (after.usage_offset, after.records) == (2, 2)
    assert await database.positions(SUMMARIES) == {0: after}


async def test_two_writers_can_not_overwrite_each_other(database, path):
    """A batch folded from a position that has moved since is refused."""
    await apply(database, SUMMARIES, COUNTED[:2])
    with pytest.raises(PositionMoved):
        await applied(database, SUMMARIES, "usage", 0, records(COUNTED[:3]), START)
    assert row_of(path, "client_daily_usage")["total_requests"] == 2


async def test_partitions_and_views_move_each_by_itself(database, path):
    """Batches that are applied at the same time stand in line, each in its own transaction."""
    processed = Processed()
    others = [fact(i, partition=1, id=f"other-{i}", plus=entry()) for i in range(4)]
    await asyncio.gather(
        applied(database, SUMMARIES, "usage", 0, records(COUNTED)),
        applied(database, SUMMARIES, "usage", 1, records(others, partition=1)),
        applied(database, processed, "usage", 0, records(COUNTED)),
    )
    assert row_of(path, "client_daily_usage")["total_requests"] == 10
    assert sorted(await database.positions(SUMMARIES)) == [0, 1]
    assert sorted(await database.positions(processed)) == [0]


async def test_a_cancelled_batch_is_wholly_in_or_wholly_out(database, path):
    """Stopping in the middle leaves rows and position that agree, and a database that works."""
    many = [fact(i, plus=entry(f"org-{i}")) for i in range(1500)]
    for turns in (1, 3, 5, 7, 9):
        stored = (await database.positions(SUMMARIES)).get(0, START)
        batch = [fact(i, plus=entry(f"org-{i}")) for i in range(stored.source_offset + 1, 1500)]
        task = asyncio.create_task(apply(database, SUMMARIES, batch, stored))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        position = (await database.positions(SUMMARIES)).get(0, START)
        with reading(path) as connection:
            count = connection.execute("SELECT count(*) FROM client_daily_usage").fetchone()[0]
        assert count == position.source_offset + 1
    if position == START:
        await apply(database, SUMMARIES, many)
    assert digest_of(path)["all"]


class SlowCommits:
    """The connection, with a commit that takes its time and tells when it has begun."""

    def __init__(self, connection):
        self.connection = connection
        self.begun = threading.Event()

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def execute(self, statement, *values):
        if statement == "COMMIT":
            self.begun.set()
            time.sleep(0.1)
        return self.connection.execute(statement, *values)


async def test_a_commit_that_has_begun_is_waited_for(database, path):
    """A batch that is cancelled with its commit under way ends only when the outcome is certain."""
    slow = database._connection = SlowCommits(database._connection)
    database._syncer._average_ms = 1000.0  # a slow disk: the commit is in the thread
    task = asyncio.create_task(apply(database, SUMMARIES, COUNTED[:3]))
    await asyncio.to_thread(slow.begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not slow.connection.in_transaction
    after = (await database.positions(SUMMARIES))[0]
    assert after.usage_offset == 2
    await apply(database, SUMMARIES, COUNTED[3:], after)
    assert row_of(path, "client_daily_usage")["total_requests"] == 6


async def test_only_one_process_writes(database, path):
    """A second writer of the file is refused with a message that says so."""
    with pytest.raises(ViewBusy, match="another process"):
        Database.open(path)


async def test_rows_of_another_version_of_a_view_are_refused(database, path):
    """A view whose meaning changed does not go on from rows of the old meaning."""
    after = await apply(database, SUMMARIES, COUNTED[:1])
    later = Summaries()
    later.version = 2
    with pytest.raises(SchemaMismatch, match="genledger replay"):
        await database.positions(later)
    with pytest.raises(SchemaMismatch, match="genledger replay"):
        await apply(database, later, COUNTED[1:2], after)


def test_tables_of_another_revision_are_refused(tmp_path):
    """A database without this version's tables is not opened, and its lock is let go."""
    path = tmp_path / "genledger.db"
    sqlite3.connect(path).close()
    for _ in range(2):
        with pytest.raises(SchemaMismatch, match="genledger db upgrade"):
            Database.open(path)
