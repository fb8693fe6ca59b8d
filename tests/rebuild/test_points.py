"""Raw points in SQLite, beside the whole service: proven, rebuilt, and left where they stood meanwhile."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.rebuild.command import genledger, replayed
from tests.road.harness import Service, running, wait_until

VIEWS = "genledger.db"
# Nobody is there: the points wait, and everything else goes on.
AWAY = {"INFLUXDB_URL": "http://127.0.0.1:1", "INFLUXDB_BUCKET": "usage"}


def ask(data: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
    return found


def ids(data: Path) -> list[object]:
    return [row[0] for row in ask(data, "SELECT id FROM usage_points ORDER BY id")]


def places(data: Path) -> list[tuple[object, ...]]:
    return ask(data, """SELECT * FROM positions WHERE projection = 'points' ORDER BY "partition" """)


def test_points_that_are_not_what_the_log_says_are_found_and_made_again(data: Path) -> None:
    """A changed one, a lost one, an invented one: each by its id; `replay` of the one part restores them."""
    before = ids(data)
    assert len(before) > 1000
    changed, lost = before[7], before[20]
    ask(data, f"UPDATE usage_points SET latency_ms = -5 WHERE id = '{changed}'")
    ask(data, f"DELETE FROM usage_points WHERE id = '{lost}'")
    ask(
        data,
        "INSERT INTO usage_points (id, client_org_id, usage_date, time_ns, model_name, provider, source,"
        " user_id, openrouter_user_id, prompt_tokens, completion_tokens, total_tokens, logged_ms)"
        " VALUES ('invented', 'o', '2026-11-20', 1, 'm', '', '', '', '', 0, 0, 0, 0)",
    )
    done = genledger("prove", "--data", data, "--json", "--projection", "points")
    found = json.loads(done.stdout)
    assert (done.returncode, found["counts"]) == (3, {"usage_points": 3})
    named = {finding["row"]["key"]["id"]: finding["blamed"]["exact"] for finding in found["findings"]}
    assert named == {id: [id] for id in (changed, lost, "invented")}
    replayed(data, "--projection", "points")
    assert ids(data) == before
    assert genledger("prove", "--data", data).returncode == 0


def told(service: Service, number: int) -> None:
    """So many calls of one organisation, in the summaries."""

    def counted() -> bool:
        rows = service.get("/api/v1/usage/daily?org=switched")["rows"]
        return sum(row["total_requests"] for row in rows) == number

    wait_until(counted, 20, f"{number} calls counted", service)


def calls(first: int, beyond: int) -> list[bytes]:
    event = '{"id": "call-%02d", "organization": "switched", "model": "m", "cost": "0.01", "total_tokens": 3}'
    return [(event % number).encode() for number in range(first, beyond)]


def test_a_time_with_influxdb_first_leaves_sqlite_alone_and_loses_it_nothing(tmp_path: Path) -> None:
    """Nothing of points goes to SQLite, not in an outage either; in legacy mode it goes on from there."""
    data = tmp_path / "data"
    every = [f"call-{number:02d}" for number in range(30)]
    with running(data) as service:
        assert service.send(calls(0, 10)) == []
        told(service, 10)
        assert service.stop() == 0
    stood = places(data)
    assert ids(data) == every[:10]
    with running(data, **AWAY) as service:
        # The tenth call is amended while nobody looks.
        assert service.send([*calls(10, 20), calls(9, 10)[0].replace(b"0.01", b"0.02")]) == []
        told(service, 20)
        status = service.get("/api/v1/admin/usage/service-status")
        assert (status["influxdb_first_enabled"], status["bucket"]) == (True, "usage")
        assert service.get_status("/api/v1/usage/points?org=switched") == 409
        assert service.stop() == 0
    assert (ids(data), places(data)) == (every[:10], stood)
    assert genledger("prove", "--data", data, **AWAY).returncode == 0
    with running(data) as service:
        assert service.send(calls(20, 30)) == []
        told(service, 30)
        found = service.get("/api/v1/usage/points?org=switched")["rows"]
        assert sorted(row["id"] for row in found) == every
        costs = {row["id"]: row["raw_cost"] for row in found}
        assert costs == dict.fromkeys(every, "0.01") | {"call-09": "0.02"}
        assert service.get("/api/v1/admin/usage/service-status")["note"] == "Legacy mode"
        assert service.stop() == 0
    assert genledger("prove", "--data", data).returncode == 0
