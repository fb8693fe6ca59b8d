"""Faults of the views' database: kills, a full disk, old backups, other logs, slow readers."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from projections.processed import Processed
from projections.stores.sqlite import Database
from projections.summaries import Summaries
from projections.view import START
from streams import fact as facts
from streams import topics
from streams.errors import LogBehindView, ViewFull
from streams.log.interface import Message
from streams.log.sqlite.log import open_log
from tests.projections.samples import applied, apply, digest_of, entry, fact, reading, row_of

SUMMARIES = Summaries()
ROOT = Path(__file__).parents[2]


def run_killed(path, count, size, where):
    command = [sys.executable, "-m", "tests.projections.killed", str(path), str(count), str(size), where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(("where", "applied"), [("inside", 400), ("commit", None), ("after", 800)])
async def test_kill_9_leaves_rows_and_position_that_agree(path, made_tables, tmp_path, where, applied):
    """Killed inside its transaction or after it, the view goes on from its own position to the same rows."""
    said = run_killed(path, 1200, 400, where)
    assert said[0] == where
    if where == "inside":
        assert said[1:] == ["True", "800"]  # the second batch was there, uncommitted
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database = Database.open(path)
    position = (await database.positions(SUMMARIES))[0]
    with reading(path) as connection:
        total = connection.execute("SELECT sum(total_requests) FROM client_daily_usage").fetchone()[0]
    assert total == position.source_offset + 1
    assert applied is None or total == applied

    items = [fact(i, plus=entry(f"org-{i % 7}", user=f"u-{i % 50}", model=f"m-{i % 9}")) for i in range(1200)]
    await apply(database, SUMMARIES, items[total:], position)
    await database.close()
    never_killed = shutil.copy(made_tables, tmp_path / "never_killed.db")
    other = Database.open(never_killed)
    await apply(other, SUMMARIES, items)
    await other.close()
    assert digest_of(path) == digest_of(never_killed)


async def test_a_full_disk_changes_nothing_and_passes(database, path):
    """With no room left the position stands; with room again the same batch goes in."""
    after = await apply(database, Processed(), [fact(0, plus=entry())])
    before = digest_of(path)
    many = [fact(i, plus=entry()) for i in range(1, 3001)]
    connection = database._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    assert connection.execute(f"PRAGMA max_page_count = {pages + 3}").fetchone()[0] == pages + 3
    for _ in range(2):
        with pytest.raises(ViewFull, match="disk is full"):
            await apply(database, Processed(), many, after)
        assert await database.positions(Processed()) == {0: after}
        assert digest_of(path) == before
    connection.execute("PRAGMA max_page_count = 1000000")
    await apply(database, Processed(), many, after)
    with reading(path) as reader:
        assert reader.execute("SELECT count(*) FROM processed_generations").fetchone()[0] == 3001


async def test_a_reader_that_stays_for_long_does_not_stop_the_writer(database, path):
    """The writer goes on past an old snapshot, and the size of the write-ahead log shows it."""
    after = await apply(database, Processed(), [fact(0, plus=entry())])
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM processed_generations").fetchone() == (1,)
        before = database.wal_bytes()
        for first in range(1, 4001, 1000):
            batch = [fact(i, plus=entry()) for i in range(first, first + 1000)]
            after = await apply(database, Processed(), batch, after)
        assert reader.execute("SELECT count(*) FROM processed_generations").fetchone() == (1,)
        assert database.wal_bytes() > before + 500_000
    assert after.usage_offset == 4000


def specs():
    return topics.topic_table()


async def filled(url, items, changed=""):
    """A log with so many facts, one of them of another organisation if asked."""
    log = await open_log(url, specs())
    messages = [
        Message("usage", 0, item.id.encode(), facts.encode(fact(item.offset, plus=entry(changed or "acme"))))
        for item in items
    ]
    writer = await log.writer("ledger", "generations", 0)
    await writer.commit(messages, items[-1].offset + 1)
    await writer.close()
    return log


async def follow(database, log, view=SUMMARIES):
    """Bring a view to the log's end, as the follower does."""
    await database.check_log(view, log)
    position = (await database.positions(view)).get(0, START)
    while position.usage_offset + 1 < log.end_offset("usage", 0):
        batch = await log.read("usage", 0, position.usage_offset + 1, 7)
        position = await applied(database, view, "usage", 0, batch, position)
    return position


async def test_yesterdays_backup_catches_up_from_its_own_position(path, tmp_path):
    """A backup put back goes on from where it stood; nothing is lost or counted twice."""
    items = [fact(i, plus=entry()) for i in range(40)]
    log = await filled(f"sqlite:///{tmp_path}/log", items)
    database = Database.open(path)
    first = await log.read("usage", 0, 0, 15)
    await applied(database, SUMMARIES, "usage", 0, first)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "backup.db")) as target:
        source.backup(target)
    await follow(database, log)
    await database.close()
    whole = digest_of(path)
    assert row_of(path, "client_daily_usage")["total_requests"] == 40

    for leftover in path.parent.glob("genledger.db*"):
        leftover.unlink()
    shutil.copy(tmp_path / "backup.db", path)
    assert row_of(path, "client_daily_usage")["total_requests"] == 15
    database = Database.open(path)
    await follow(database, log)
    await database.close()
    await log.close()
    assert digest_of(path) == whole


@pytest.mark.parametrize(
    ("count", "changed"),
    [(3, ""), (10, "other"), (30, "other")],
    ids=["shorter", "as long", "grown past the view"],
)
async def test_another_log_is_refused(path, tmp_path, count, changed):
    """A log that was cut back or recreated stops the view with a message that says what to do."""
    log = await filled(f"sqlite:///{tmp_path}/log", [fact(i, plus=entry()) for i in range(10)])
    database = Database.open(path)
    position = await follow(database, log)
    await database.check_log(SUMMARIES, log)
    await log.close()
    before = digest_of(path)

    other = await filled(
        f"sqlite:///{tmp_path}/other", [fact(i, plus=entry()) for i in range(count)], changed
    )
    with pytest.raises(LogBehindView, match=r"cut back, recreated or restored\. Put back"):
        await follow(database, other)
    assert await database.positions(SUMMARIES) == {0: position}
    assert digest_of(path) == before
    await other.close()
    await database.close()


async def test_an_empty_log_is_refused_only_by_a_view_that_has_taken_something(path, tmp_path):
    """A new view may start on a new log."""
    log = await open_log(f"sqlite:///{tmp_path}/log", specs())
    database = Database.open(path)
    await database.check_log(SUMMARIES, log)
    await apply(database, SUMMARIES, [fact(0, plus=entry())])
    with pytest.raises(LogBehindView):
        await database.check_log(SUMMARIES, log)
    await database.close()
    await log.close()
