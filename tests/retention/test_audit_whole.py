"""The audit of a real service: a run from beginning to end, told once, replayed and proven."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from genledger.main import run
from projections import schema
from projections.processed import (
    cleanup_old_processed_generations,
    is_duplicate,
    is_generation_processed,
)
from projections.rebuild.plan import tables_of
from tests.ledger.sim import event
from tests.road.harness import Service, running, wait_until

TABLES = tables_of(["cleanup"])
OLD, NEW = 30, 12
RUNS = "/api/v1/admin/cleanup/runs"


def exposed(service: Service) -> str:
    return str(service.request("GET", "/metrics")[1])


def calls() -> list[bytes]:
    old = [
        event(
            id=f"old-{n}",
            organization=("acme", "globex")[n % 2],
            cost="0.0005",
            created_at="2024-01-05T10:00:00Z",
        )
        for n in range(OLD)
    ]
    return old + [event(id=f"new-{n}", cost="1", created_at=None) for n in range(NEW)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any], str]]:
    """A service that has forgotten its old ids: its folder, the run's dictionary, what it printed."""
    data = tmp_path_factory.mktemp("audit") / "data"
    with running(data, CLEANUP_RETENTION_DAYS="90") as service, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENLEDGER_URL", f"http://127.0.0.1:{service.port}")
        service.send(calls())
        wait_until(lambda: is_generation_processed("old-1", "globex"), 20, "decided", service)
        done = cleanup_old_processed_generations(90, timeout_s=60)
        assert is_duplicate("new-1", "m-1", "1")
        assert not is_generation_processed("old-1", "globex")
        assert service.get(f"{RUNS}/{done['run']}")["records_deleted"] == OLD
        wait_until(lambda: "ids forgotten" in service.output.read_text(), 10, "told", service)
        metrics = service.request("GET", "/metrics")[1]
        assert re.search(
            r"^genledger_cleanup_last_success_timestamp_seconds 1\.\d+e\+09$", metrics, re.MULTILINE
        )
        assert "\ngenledger_cleanup_last_failed 0.0\n" in metrics
        assert service.stop() == 0, service.tail()
        printed = service.output.read_text()
    yield data, done, printed


def rows(data: Path) -> list[Any]:
    with closing(sqlite3.connect(data / "genledger.db")) as connection:
        return [connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in TABLES]


def test_a_run_is_audited_from_beginning_to_end(told: tuple[Path, dict[str, Any], str]) -> None:
    """The dictionary that the Python name returns, the row, and one line."""
    data, done, printed = told
    assert (done["success"], done["state"], done["days_retained"]) == (True, "ended", 90)
    figures = [done[f"records_{name}"] for name in ("before", "deleted", "remaining")]
    assert figures == [OLD + NEW, OLD, NEW]
    assert str(done["old_cost_removed"]) == "0.015"
    assert {name: part["records_deleted"] for name, part in done["organization_breakdown"].items()} == {
        "acme": OLD // 2,
        "globex": OLD // 2,
    }
    with closing(sqlite3.connect(data / "genledger.db")) as connection:
        [row] = connection.execute(
            "SELECT id, records_deleted FROM processed_generation_cleanup_log"
        ).fetchall()
        [(kept,)] = connection.execute("SELECT count(*) FROM processed_generations").fetchall()
        [(known,)] = connection.execute("SELECT sum(known_ids) FROM cleanup_partitions").fetchall()
    assert (row, kept, known) == ((done["run"], OLD), NEW, NEW)
    assert len(re.findall(r"cleanup: 30 ids forgotten, ~[\d.]+ KB, [\d.]+ s", printed)) == 1


def test_the_audit_is_replayed_and_proven(
    told: tuple[Path, dict[str, Any], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Rebuilt from the facts it is the same; a row that was touched is found, with the ids behind it."""
    data, done, _ = told
    before = rows(data)
    with closing(sqlite3.connect(data / "genledger.db")) as connection:
        connection.execute(
            "UPDATE cleanup_organizations SET records_deleted = records_deleted + 1, tokens_removed ="
            " tokens_removed + 7 WHERE client_org_id = 'acme'"
        )
        connection.execute("UPDATE processed_generation_cleanup_log SET success = 0")
        connection.commit()
    capsys.readouterr()
    assert run(["prove", "--data", str(data), "--projection", "cleanup", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"cleanup_organizations": 1, "processed_generation_cleanup_log": 1}
    part = found["findings"][0]
    assert part["row"]["key"] == {"run": done["run"], "client_org_id": "acme"}
    assert part["blamed"]["generations"] == OLD // 2 and "old-0" in part["blamed"]["ids"]
    assert run(["replay", "--data", str(data), "--projection", "cleanup"]) == 0
    assert rows(data) == before


def test_from_the_events_the_known_ids_are_the_same(
    told: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    """Decided anew, the ids that are left are those that the live views know."""
    data, _, _ = told
    made = tmp_path / "made.db"
    assert run(["replay", "--data", str(data), "--from-topic", "generations", "--into", str(made)]) == 0
    with closing(sqlite3.connect(made)) as connection:
        assert connection.execute("SELECT sum(known_ids) FROM cleanup_partitions").fetchone() == (NEW,)


def test_an_existing_database_gets_the_view_by_reading_the_facts_once(
    told: tuple[Path, dict[str, Any], str],
) -> None:
    """A version that had no audit left a database without it: the next start fills it, untold."""
    data, _, printed = told
    before = rows(data)
    schema.downgrade(data / "genledger.db", "20261122_006")
    with running(data) as service:
        wait_until(lambda: "last_success_timestamp_seconds 1." in exposed(service), 20, "filled", service)
        wait_until(lambda: not any(service.get("/api/v1/status")["lag"].values()), 20, "quiet", service)
        assert service.stop() == 0, service.tail()
        assert service.output.read_text().count("ids forgotten") == printed.count("ids forgotten") == 1
    assert rows(data) == before
