"""The audit of clean-ups: a projection of the facts, one row a run, the same however they are read."""

import asyncio
import random
import sqlite3
from contextlib import closing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections import cleanup, schema
from projections.cleanup import Cleanup
from projections.processed import Processed
from projections.rebuild.plan import tables_of
from projections.stores.sqlite import Database
from projections.view import START
from streams import clock
from tests.projections.samples import applied, digest_of, reading, row_of
from tests.projections.samples import records as as_records
from tests.retention.audited import NOON_MS, Ledger, night

TABLE = "processed_generation_cleanup_log"
TABLES = tables_of(["cleanup"])


async def written(database: Any, ledgers: list[Ledger], batches: dict[int, list[int]] | None = None) -> None:
    """The facts of partitions, one partition after the other; `batches`: how many at once."""
    for ledger in ledgers:
        stand, stored = START, as_records(ledger.told, partition=ledger.partition)
        sizes = (batches or {}).get(ledger.partition, [len(stored)])
        while stored:
            size = sizes.pop(0) if sizes else len(stored)
            batch, stored = stored[:size], stored[size:]
            stand = await applied(database, Cleanup(), "usage", ledger.partition, batch, stand)


def audits(path: Any) -> list[dict[str, Any]]:
    with reading(path) as connection:
        return [dict(row) for row in connection.execute(f"SELECT * FROM {TABLE} ORDER BY cleanup_date, id")]


def known(path: Any) -> dict[int, int]:
    with reading(path) as connection:
        return dict(
            tuple(row) for row in connection.execute('SELECT "partition", known_ids FROM cleanup_partitions')
        )


async def test_a_run_has_one_row_with_every_field_of_the_seed(database, path):
    """What went, what stayed, what it was worth, how long it took, by log times alone."""
    await written(database, [night()])
    row = row_of(path, TABLE)
    assert row == {
        "id": "night-1",
        "cleanup_date": "2026-11-20T12:00:01Z",
        "cutoff_date": "2026-11-20",
        "days_retained": 90,
        "records_before": 14,
        "records_deleted": 8,
        "records_remaining": 6,
        "old_tokens_removed": 330,
        "old_cost_removed": 0.004,
        "storage_saved_kb": cleanup.saved_kb(8),
        "cleanup_duration_seconds": 1.0,
        "success": 1,
        "error_message": None,
        "created_at": NOON_MS // 1000 + 2,
        "old_cost_removed_nano": 4_000_000,
    }
    assert known(path) == {0: 6}
    with reading(path) as connection:
        parts = connection.execute("SELECT * FROM cleanup_organizations ORDER BY client_org_id").fetchall()
    assert [tuple(part) for part in parts] == [
        ("night-1", "acme", 5, 205, 2_500_000, "2026-11-19", "2026-11-19"),
        ("night-1", "globex", 3, 125, 1_500_000, "2026-11-19", "2026-11-19"),
    ]


async def test_the_row_comes_when_all_partitions_have_ended(database, path):
    """Until then the run is under way, and no health query may count it."""
    first, second = night(0, 2), night(1, 2)
    await written(database, [first])
    assert audits(path) == []
    await written(database, [second])
    [row] = audits(path)
    assert (row["records_before"], row["records_deleted"], row["success"]) == (28, 16, 1)


async def test_tombstones_published_twice_count_once(database, path):
    """A job that was killed and goes on tells of the same ids again."""
    ledger = Ledger().call("a").call("b").begin("r")
    for id in ("a", "a", "b", "a", "b"):
        ledger.forget(id, "r")
    ledger.begin("r").end("r").end("r").begin("r")
    await written(database, [ledger])
    [row] = audits(path)
    assert (row["records_before"], row["records_deleted"], row["old_tokens_removed"]) == (2, 2, 60)
    assert known(path) == {0: 0}


async def test_a_run_that_failed_says_why(database, path):
    """Each partition's own reason, or the one that all have."""
    a, b = Ledger(0).begin("r", 2), Ledger(1).begin("r", 2)
    a.end("r", 2, "the disk is full")
    b.end("r", 2, "the disk is full")
    await written(database, [a, b])
    [row] = audits(path)
    assert (row["success"], row["error_message"]) == (0, "the disk is full")


async def test_partitions_that_fail_for_their_own_reasons_are_told_apart(database, path):
    """One that ended well is not named."""
    ledgers = [Ledger(n).begin("r", 3) for n in range(3)]
    for ledger, error in zip(ledgers, ("no space", "", "fenced"), strict=True):
        ledger.end("r", 3, error)
    await written(database, ledgers)
    assert audits(path)[0]["error_message"] == "partition 0: no space; partition 2: fenced"


async def test_a_run_that_is_overtaken_has_failed(database, path):
    """It never ends: the run that came before its end says so, and has a row of its own."""
    ledger = Ledger().call("a").call("b").call("c").begin("first").forget("a", "first")
    ledger.begin("second").forget("b", "second").forget("c", "first").end("first").end("second")
    await written(database, [ledger])
    first, second = audits(path)
    assert (first["id"], first["success"], first["error_message"]) == ("first", 0, "overtaken by run second")
    assert (first["records_before"], first["records_deleted"]) == (3, 2)
    assert (second["success"], second["records_before"], second["records_deleted"]) == (1, 2, 1)


async def test_a_run_that_reached_some_partitions_only_is_overtaken_too(database, path):
    """Its beginning was cut short: it has a row all the same."""
    began = Ledger(0).begin("first", 2).begin("second", 2).end("second", 2)
    other = Ledger(1).begin("second", 2).end("second", 2)
    await written(database, [began, other])
    assert [(row["id"], row["success"]) for row in audits(path)] == [("first", 0), ("second", 1)]


async def test_a_run_that_begins_again_after_it_was_overtaken_goes_on(database, path):
    """Its row is gone until it has ended, and counts from its first beginning."""
    ledger = Ledger().call("a").call("b").begin("r").forget("a", "r").begin("s")
    overtaken = len(ledger.told)
    await written(database, [ledger.begin("r")], {0: [overtaken]})
    assert [row["id"] for row in audits(path)] == ["s"]
    ledger.forget("b", "r").end("r")
    with closing(sqlite3.connect(path)) as connection:
        for table in (*TABLES, "positions"):
            connection.execute(f"DELETE FROM {table}")
        connection.commit()
    await written(database, [ledger])
    row = row_of(path, TABLE, "id = 'r'")
    assert (row["success"], row["records_before"], row["records_deleted"]) == (1, 2, 2)


async def test_tombstones_of_no_run_are_in_no_audit(database, path):
    """They forget all the same."""
    await written(database, [Ledger().call("a").call("b").forget("a", "stray").begin("r").end("r")])
    [row] = audits(path)
    assert (row["records_before"], row["records_deleted"], row["records_remaining"]) == (1, 0, 1)


async def test_an_unknown_cost_is_worth_nothing_in_the_audit(database, path):
    """The tokens are known, and are summed."""
    ledger = Ledger().call("a", cost=None).call("b").begin("r").forget("a", "r").forget("b", "r").end("r")
    await written(database, [ledger])
    [row] = audits(path)
    assert (row["old_tokens_removed"], row["old_cost_removed_nano"]) == (60, 500_000)


async def test_sums_stay_within_their_bound(database, path):
    """Ten thousand of the dearest calls are more than 64 bits: the sum stays at the bound."""
    one = Ledger().call("a", cost="1000000").begin("r").forget("a", "r").end("r").told
    facts = [
        msgspec.structs.replace(one[n], offset=offset, prev=offset - 1)
        for offset, n in enumerate((0, 1, *[2] * 10_000, 3))
    ]
    await applied(database, Cleanup(), "usage", 0, as_records(facts))
    assert row_of(path, TABLE)["old_cost_removed_nano"] == 2**63 - 1


def traffic(seed: int, partitions: int = 3) -> list[Ledger]:
    """Calls, amendments, voids, and runs that end, fail, are overtaken and publish twice."""
    rng = random.Random(seed)
    ledgers = [Ledger(n) for n in range(partitions)]
    for number in range(4):
        name, first = f"run-{number}", rng.random() < 0.2
        for ledger in ledgers:
            ids = [f"{ledger.partition}-{rng.randrange(12)}" for _ in range(6)]
            for id in ids:
                created_at = rng.choice(("2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"))
                cost = rng.choice(("0.1", "0.2", None))
                ledger.call(id, rng.choice(("acme", "globex")), cost=cost, created_at=created_at)
            if first and ledger.partition:
                continue
            ledger.begin(name, partitions)
            for id in ids[: rng.randrange(6)] * rng.choice((1, 2)):
                ledger.forget(id, name)
            if rng.random() < 0.8:
                ledger.end(name, partitions, rng.choice(("", "", "no room")))
    return ledgers


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_any_order_of_partitions_and_any_batches_give_the_same_rows(made_audit, seed, data):
    """Replay equals live, to the last column."""
    ledgers = traffic(seed)
    expected = made_audit(ledgers, None)
    sizes = st.lists(st.integers(1, 9), max_size=40)
    batches = {ledger.partition: data.draw(sizes) for ledger in ledgers}
    assert made_audit(data.draw(st.permutations(ledgers)), batches) == expected


@pytest.fixture(scope="module")
def made_audit(tmp_path_factory):
    """Makes the rows of facts in a database of its own, and says what they are."""
    path = tmp_path_factory.mktemp("audit") / "genledger.db"
    schema.upgrade(path)

    def made(ledgers: list[Ledger], batches: dict[int, list[int]] | None) -> list[Any]:
        async def go() -> None:
            database = Database.open(path)
            await written(database, ledgers, batches)
            await database.close()

        with closing(sqlite3.connect(path)) as connection:
            for table in (*TABLES, "positions"):
                connection.execute(f"DELETE FROM {table}")
            connection.commit()
        asyncio.run(go())
        with closing(sqlite3.connect(path)) as connection:
            return [connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in TABLES]

    return made


SUCCESSES = """SELECT COUNT(*) as successful_cleanups
FROM processed_generation_cleanup_log
WHERE cleanup_date >= date('now', '-7 days') AND success = 1;"""
FAILURES = """SELECT COUNT(*) as failures, GROUP_CONCAT(error_message) as errors
FROM processed_generation_cleanup_log
WHERE cleanup_date >= date('now', '-7 days') AND success = 0;"""


async def test_the_seeds_health_queries_work_as_they_are_written(database, path):
    """Runs of the last week count, older ones don't."""
    now_ms = clock.now_ms()
    ledger = Ledger(time_ms=now_ms - 9 * 86_400_000).begin("old").end("old", error="long ago")
    ledger.time_ms = now_ms - 3_600_000
    ledger.begin("well").end("well").begin("bad").end("bad", error="the disk is full")
    ledger.begin("late").begin("later")
    await written(database, [ledger])
    with reading(path) as connection:
        assert tuple(connection.execute(SUCCESSES).fetchone()) == (1,)
        assert tuple(connection.execute(FAILURES).fetchone()) == (
            2,
            "the disk is full,overtaken by run later",
        )


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (SUCCESSES, "INDEX idx_cleanup_date_success (cleanup_date>?)"),
        (FAILURES, "INDEX idx_cleanup_date_success (cleanup_date>?)"),
        (
            "SELECT id FROM processed_generations WHERE id = 'gen-1'",
            "INDEX sqlite_autoindex_processed_generations_1 (id=?)",
        ),
        (
            "SELECT id FROM processed_generations WHERE client_org_id = '' AND generation_date < '2026'",
            "INDEX idx_processed_client_date (client_org_id=? AND generation_date<?)",
        ),
        (
            "SELECT id FROM processed_generations WHERE processed_at < 1",
            "INDEX idx_processed_at (processed_at<?)",
        ),
    ],
)
def test_the_seeds_look_ups_use_their_indexes(path, query, index):
    """However long the tables are, they are searched, not read."""
    with reading(path) as connection:
        [step] = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
    assert step["detail"].startswith("SEARCH") and index in step["detail"]


async def test_known_ids_are_the_rows_that_processed_generations_has(database, path):
    """Written by both views from the same facts."""
    for ledger in traffic(7):
        await written(database, [ledger])
        await applied(
            database,
            Processed(),
            "usage",
            ledger.partition,
            as_records(ledger.told, partition=ledger.partition),
        )
    with reading(path) as connection:
        [rows] = connection.execute("SELECT count(*) FROM processed_generations").fetchone()
    assert sum(known(path).values()) == rows > 0


async def test_the_audit_is_in_the_digests_of_one_log_only(database, path):
    """Another log of the same deliveries has other runs, at other times."""
    await written(database, [night()])
    before, across = digest_of(path), digest_of(path, across_logs=True)
    with closing(sqlite3.connect(path)) as connection:
        for table, column in zip(
            TABLES, ("known_ids", "days", "tokens_removed", "days_retained"), strict=True
        ):
            connection.execute(f"UPDATE {table} SET {column} = {column} + 1")
        connection.commit()
    after = digest_of(path)
    assert {name for name in before if before[name] != after[name]} == {*TABLES, "all"}
    assert digest_of(path, across_logs=True) == across


def test_what_does_not_concern_the_audit_moves_one_number():
    """A counted fact is one more known id, and nothing is kept of it."""
    changes = cleanup.fold(Ledger().call("a").call("b").call("a").told)
    assert (changes.known, changes.steps) == (2, [])


@pytest.mark.parametrize("seed", range(5))
def test_from_what_compaction_leaves_no_run_is_made_up(seed):
    """The ids that are known stay the same; of a run that is over nothing is told, rather than half of it."""
    for ledger in traffic(seed):
        ledger.begin("last", 3).end("last", 3)
        left = ledger.compacted().run().facts
        live, anew = cleanup.fold(ledger.facts), cleanup.fold(left)
        assert anew.known == live.known > 0
        assert (len(live.steps) > 0, anew.steps) == (True, [])


async def test_a_tombstone_that_comes_late_still_shows_in_the_row(database, path):
    """Its run has a row already: what went is added to it, in whatever batch it comes."""
    ledger = Ledger().call("a").call("b").begin("r").forget("a", "r").end("r")
    early = len(ledger.told)
    ledger.forget("b", "r")
    await written(database, [ledger], {0: [early]})
    [row] = audits(path)
    assert (row["records_deleted"], row["records_remaining"], row["success"]) == (2, 0, 1)
