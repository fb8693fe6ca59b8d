"""Fault row 8: a real service killed with -9 all along a run of the retention job, and started again."""

import json
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from streams import fact, retention, topics
from streams.clock import now_ms
from streams.fact import Fact
from streams.times import MS_NS, text_of
from tests.ledger.test_ledger_log import PARTITIONS, road
from tests.retention.forks import Forks
from tests.road.files import VIEWS, connect
from tests.road.harness import Service, free_port, wait_until
from tests.road.run import settle

DAY_NS = 86_400 * 10**9
OLD, YOUNG = 1600, 200
ENDS_S = 60.0
# Where the process dies, the how-manieth time it gets there, and whether its table has gone by then. In this
# order one run meets them all: a partition has some 400 ids that go, in three batches.
KILLS = (
    ("sweep-begun", 1, False),
    ("sweep-walked", 1, False),
    ("sweep-appended", 1, False),
    ("sweep-decided", 2, False),
    ("sweep-ending", 1, False),
    ("sweep-ended", 1, False),
    ("transaction-open", 2, False),
    ("transaction-committed", 2, False),
    ("store-written", 1, False),
    ("recovery", 1, True),
)
# The whole of the time may be taken: there is nobody else. And no night falls while this runs.
SETTINGS = {"GENLEDGER_CLEANUP_SHARE": "1", "GENLEDGER_CLEANUP_AT": ""}


def lines(kind: str, count: int, ago: int) -> list[bytes]:
    at = text_of(now_ms() * MS_NS - ago * DAY_NS)
    return [
        json.dumps(
            {
                "id": f"{kind}-{n}",
                "organization": f"org-{n % 3}",
                "model": "m",
                "cost": "0.01",
                "total_tokens": 7,
                "created_at": at,
            }
        ).encode()
        for n in range(count)
    ]


async def prepare(data: Path) -> Counter[tuple[str, str]]:
    """Ids that have grown old and ids that have not, and a run begun; what counts of them."""
    async with road(data) as it:
        await it.post(*lines("old", OLD, ago=200), *lines("young", YOUNG, ago=3))
        await it.quiet()
        run = retention.plan(await retention.newest_ms(it.log), 90, PARTITIONS, "run-1")
        await it.log.append(retention.start_messages(run))
        return counted(await it.facts())


def counted(facts: Sequence[Fact]) -> Counter[tuple[str, str]]:
    """Requests, tokens and money of each organisation."""
    found: Counter[tuple[str, str]] = Counter()
    for one in facts:
        for sign, entry in fact.effects(one):
            found[entry.organization, "requests"] += sign * entry.requests
            found[entry.organization, "tokens"] += sign * entry.total_tokens
            found[entry.organization, "cost"] += sign * (entry.cost_nano or 0)
    return +found


async def test_a_run_that_is_killed_at_ten_points_ends_as_one_run(tmp_path: Path) -> None:
    """It resumes each time: each id goes once, no total moves, the audit has one row, twins don't count."""
    data, output = tmp_path / "data", tmp_path / "output"
    before = await prepare(data)
    assert before["org-0", "requests"] and len(KILLS) == 10
    with Forks(**SETTINGS) as forks:
        for point, count, loses_table in KILLS:
            if loses_table:
                shutil.rmtree(data / "tables")
            command = ["serve", "--data", str(data), "--port", str(free_port())]
            assert forks.run(command, output, f"{point}:{count}") == -signal.SIGKILL, output.read_text()
            assert output.read_text().count(f"killed at {point}\n") == 1
    with Service(data, **SETTINGS) as service:
        wait_until(lambda: has_ended(data), ENDS_S, "ended", service)
        assert not service.send(lines("old", OLD, ago=200))
        settle(service)
        rows = [row for n in range(3) for row in service.get(f"/api/v1/usage/daily?org=org-{n}")["rows"]]
        assert sum(row["total_requests"] for row in rows) == OLD + YOUNG
        service.assert_books_balance(b"expired")
        assert service.stop() == 0
    await check_facts(data, before)


def audit(data: Path) -> list[tuple[Any, ...]]:
    with closing(connect(data / VIEWS)) as views:
        sql = "SELECT records_before, records_deleted, old_tokens_removed, success, error_message"
        return views.execute(sql + " FROM processed_generation_cleanup_log").fetchall()


def has_ended(data: Path) -> bool:
    with suppress(sqlite3.OperationalError):
        return bool(audit(data))
    return False


async def check_facts(data: Path, before: Counter[tuple[str, str]]) -> None:
    """What the log and the table say of it, and the audit."""
    assert audit(data) == [(OLD + YOUNG, OLD, 7 * OLD, 1, None)]
    async with road(data) as it:
        facts = await it.facts()
        assert counted(facts) == before
        sweeps = Counter(one.sweep.phase for one in facts if one.sweep)
        assert sweeps == {"started": PARTITIONS, "ended": PARTITIONS}
        assert len({one.run for one in facts if one.sweep}) == 1
        forgotten = [one.id for one in facts if one.fate == "forgotten" and one.minus]
        assert sorted(forgotten) == sorted(f"old-{n}" for n in range(OLD))
        assert Counter(one.fate for one in facts)["expired"] == OLD
        ids = set()
        for partition in range(PARTITIONS):
            ids |= {key for key, _ in it.table.scan(partition, None, 10_000)}
            assert it.log.end_offset(topics.GENERATIONS, partition) == it.ledger.next_offset(partition)
        assert sum(key.startswith(b"young-") for key in ids) == len(ids) - PARTITIONS == YOUNG
