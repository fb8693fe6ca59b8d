"""The swap and the file aside, step by step, on a small log made by hand."""

import sqlite3
from contextlib import closing

import pytest

from genledger.main import run
from genledger.roles.proofs import last_result
from genledger.roles.rebuilt import BUILT, HANDED_OVER, REFUSED, refusal, take_over
from projections import schema
from projections.digest import digest
from projections.rebuild import aside as asides
from projections.rebuild import plan
from projections.rebuild import swap as swaps
from projections.rebuild.aside import Aside, Origin
from projections.rebuild.plan import tables_of
from projections.rebuild.swap import swap
from projections.stores.sqlite import Database
from projections.summaries import Summaries
from projections.view import START
from streams import fact as facts
from streams import topics
from streams.errors import LogMismatch, ViewError, ViewFull
from streams.log.interface import Message
from streams.log.sqlite.log import open_log
from tests.projections.samples import entry, fact

FACTS = [fact(n, plus=entry(f"org-{n % 3}", user=f"u-{n % 5}", model=f"m-{n % 4}")) for n in range(40)]
PARTS = ("summaries", "processed")


@pytest.fixture
async def log(tmp_path):
    """A log with facts in partition 0."""
    made = await open_log(f"sqlite:///{tmp_path}/log", topics.topic_table(4))
    writer = await made.writer(topics.LEDGER_GROUP, topics.GENERATIONS, 0)
    messages = [
        Message(topics.USAGE, 0, one.id.encode(), facts.encode(one), facts.SCHEMA_HEADERS) for one in FACTS
    ]
    await writer.commit(messages, len(FACTS))
    yield made
    await made.close()


@pytest.fixture
async def live(tmp_path):
    """A live database with nothing in it."""
    path = tmp_path / "genledger.db"
    schema.upgrade(path)
    database = Database.open(path)
    yield database
    await database.close()


async def filled(database: Database, log, count: int) -> None:
    """Bring the views of a database forward by so many records."""
    from projections.processed import Processed

    records = await log.read(topics.USAGE, 0, 0, count)
    await database.apply([(Summaries(), START), (Processed(), START)], topics.USAGE, 0, records)


async def built(tmp_path, log, count: int = len(FACTS), name: str = HANDED_OVER):
    """A rebuilt file that has taken so many records, as `build` leaves it."""
    other = tmp_path / "other.db"
    origin = Origin(log.identity, "usage", PARTS, {"organizations": 1, "summaries": 1, "processed": 1}, None)
    made = Aside.open(other, origin)
    made.close()
    database = Database.open(other)
    await filled(database, log, count)
    await database.close()
    other.with_name("other.db.lock").unlink(missing_ok=True)
    return other.rename(tmp_path / name)


def digest_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return digest(connection)["all"]


@pytest.mark.parametrize(("ahead", "behind"), [(40, 25), (25, 40), (40, 0), (0, 40), (40, 40)])
async def test_whichever_had_come_further_the_views_end_there(tmp_path, log, live, ahead, behind):
    """Rebuilt rows that are behind catch up in the swap; no figure ever goes back."""
    if ahead:
        await filled(live, log, ahead)
    path = await built(tmp_path, log, behind) if behind else await built(tmp_path, log, 1)
    await swap(live, path, log)
    await live.close()
    whole = tmp_path / "whole.db"
    schema.upgrade(whole)
    database = Database.open(whole)
    await filled(database, log, max(ahead, behind))
    await database.close()
    assert digest_of(live.path) == digest_of(whole)
    assert schema.check(live.path) == []


async def test_rows_of_facts_that_the_log_lacks_are_refused(tmp_path, log, live):
    """A log that was cut back since the rebuild: taken over, later events would count nowhere."""
    path = await built(tmp_path, log)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE positions SET usage_offset = 400 WHERE projection = 'summaries'")
        connection.commit()
    with pytest.raises(LogMismatch, match="does not have"):
        await swap(live, path, log)
    assert await live.positions(Summaries()) == {}


async def test_views_with_a_partition_that_the_log_lacks_are_replaced(tmp_path, log, live):
    """The way out that `LogBehindView` names works: what the log does not have is not caught up with."""
    with closing(sqlite3.connect(live.path)) as connection:
        connection.execute("INSERT INTO positions VALUES ('summaries', 7, 5, 5, 'x', 1, 6)")
        connection.commit()
    await swap(live, await built(tmp_path, log), log)
    assert list(await live.positions(Summaries())) == [0]


async def test_a_view_that_somebody_made_over_our_tables_stays(tmp_path, log, live):
    """A user's own SQL view neither stops the swap nor is lost."""
    with closing(sqlite3.connect(live.path)) as connection:
        connection.execute("CREATE VIEW mine AS SELECT sum(total_requests) AS n FROM client_daily_usage")
    await swap(live, await built(tmp_path, log), log)
    with closing(sqlite3.connect(live.path)) as connection:
        assert connection.execute("SELECT n FROM mine").fetchone() == (len(FACTS),)


async def test_a_full_disk_during_the_swap_is_told_and_the_next_one_works(tmp_path, log, live, monkeypatch):
    """The service goes on with the old rows; nothing is left attached, and the rebuilt file goes back."""
    await filled(live, log, 10)
    before = digest_of(live.path)
    await built(tmp_path, log)

    async def full(*_):
        raise ViewFull("the disk is full; nothing was written")

    with monkeypatch.context() as patch:
        patch.setattr(swaps, "_copy", full)
        assert "the disk is full" in await take_over(live, log)
    assert digest_of(live.path) == before
    assert (tmp_path / BUILT).exists()
    assert refusal(live.path) == "the disk is full; nothing was written"
    (tmp_path / BUILT).rename(tmp_path / HANDED_OVER)
    (tmp_path / REFUSED).write_text("of another time")
    assert await take_over(live, log) == ""
    assert refusal(live.path) == "", "what an earlier one was refused for is not told of this one"
    assert digest_of(live.path) != before


def test_an_end_while_it_is_finished_leaves_a_rebuild_that_can_be_finished(tmp_path, monkeypatch):
    """Interrupted between two indexes it has none of them, and the next run makes them all."""
    origin = Origin("log", "usage", ("processed",), {"processed": 1}, None)
    path = tmp_path / "x.db.part"
    made = Aside.open(path, origin)
    late = asides._late(made.connection)
    with monkeypatch.context() as patch:
        patch.setattr(asides, "_late", lambda _: [*late, "CREATE INDEX extra ON nowhere (x)"])
        with pytest.raises(ViewError, match="nowhere"):
            made.finish(tmp_path / "x.db")
    assert not (tmp_path / "x.db").exists()
    Aside.open(path, origin).finish(tmp_path / "x.db")
    assert schema.check(tmp_path / "x.db") == []


def test_every_table_of_a_view_belongs_to_one_part():
    """What a swap replaces and what a proof compares is all that is made from the log."""
    kept = {"positions"}
    assert sorted(tables_of(plan.PARTS)) == sorted(set(schema.TABLES) - kept)


def test_a_part_that_holds_does_not_hide_that_the_whole_did_not(data, capsys):
    """`prove --projection` tells its own result and leaves the last whole one."""
    with closing(sqlite3.connect(data / "genledger.db")) as connection:
        connection.execute("UPDATE client_daily_usage SET raw_cost_nano = raw_cost_nano + 1")
        connection.commit()
    assert run(["prove", "--data", str(data)]) == 3
    assert run(["prove", "--data", str(data), "--projection", "processed"]) == 0
    assert last_result(data / "genledger.db").holds is False


def test_a_file_of_somebody_elses_is_not_built_over(tmp_path, monkeypatch, capsys):
    """FILE.part that is no rebuild is refused, and stays."""
    (tmp_path / "x.db.part").write_text("my notes")
    assert run(["replay", "--data", str(tmp_path), "--into", str(tmp_path / "x.db")]) == 2
    assert "is no rebuild" in capsys.readouterr().err
    assert (tmp_path / "x.db.part").read_text() == "my notes"
