"""B of Proof: whatever was changed in the views is found, and who explains it is named."""

import json
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from genledger.commands.prove import text_of
from genledger.commands.status import told_of
from genledger.main import run
from genledger.roles.nightly import is_due
from projections.digest import digest
from projections.rebuild.proof import Finding
from streams import fact as facts
from streams import times, topics
from streams.clock import now_ms
from streams.fact import Entry, Fact
from streams.log.interface import Message
from streams.log.partition import partition_of
from streams.log.sqlite.log import open_log
from tests.rebuild.command import genledger
from tests.road.harness import COMMAND, clean_environ, wait_until

VIEWS = "genledger.db"


def change(data: Path, *statements: str) -> None:
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount == 1, statement
        connection.commit()


def proved(data: Path) -> tuple[int, dict]:
    done = genledger("prove", "--data", data, "--json")
    assert done.returncode in (0, 3), (done.stdout, done.stderr)
    return done.returncode, json.loads(done.stdout)


def test_views_that_nobody_touched_hold_while_traffic_goes_on(data, serve):
    """Both are compared at the same positions: new events meanwhile are no difference."""
    service = serve()
    command = [str(COMMAND), "prove", "--data", str(data), "--json"]
    sent = 0
    event = b'{"id": "more-%d", "organization": "org-%02d", "model": "m", "cost": "1"}'
    again = [event % (n, n % 7) for n in range(9000)]
    with subprocess.Popen(command, env=clean_environ(), stdout=subprocess.PIPE, text=True) as prove:
        while prove.poll() is None and sent < len(again):
            assert service.send(again[sent : sent + 50]) == []
            sent += 50
        found = json.loads(prove.stdout.read())
        assert prove.wait(60) == 0, found
    assert sent > 100, "no traffic went on"
    assert found["holds"] is True
    assert found["live_digest"] == found["rebuilt_digest"]
    assert not list(data.glob("prove.db*"))
    wait_until(lambda: service.get("/api/v1/status")["proof"], 5, "told")
    said = service.get("/api/v1/status")["proof"]
    assert (said["holds"], said["digest"]) == (True, found["live_digest"])
    assert "the views held" in told_of(said)
    metrics = service.request("GET", "/metrics")[1]
    assert "genledger_prove_differences 0.0" in metrics


def test_a_changed_row_a_deleted_row_and_a_wrong_markup_are_found_and_their_ids_named(data):
    """Exactly the rows that were touched, each with the generations that explain it; exit code 3."""
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        (lost,) = connection.execute(
            "SELECT id FROM processed_generations WHERE total_tokens > 0 LIMIT 1"
        ).fetchone()
        marked = connection.execute(
            "SELECT client_org_id, usage_date, model_name FROM client_model_daily_usage"
            " WHERE total_requests BETWEEN 1 AND 15 ORDER BY id LIMIT 1"
        ).fetchone()
        before = digest(connection)["all"]
    change(
        data,
        f"DELETE FROM processed_generations WHERE id = '{lost}'",
        "UPDATE client_model_daily_usage SET markup_cost_nano = markup_cost_nano + 1 WHERE"
        f" client_org_id = '{marked[0]}' AND usage_date = '{marked[1]}' AND model_name = '{marked[2]}'",
        "UPDATE client_live_counters SET today_tokens = today_tokens + 1 WHERE client_org_id = (SELECT"
        " client_org_id FROM client_live_counters ORDER BY client_org_id LIMIT 1)",
        "DELETE FROM client_user_daily_usage WHERE id = (SELECT id FROM client_user_daily_usage WHERE"
        " total_requests = 1 ORDER BY id LIMIT 1)",
        "INSERT INTO books VALUES (3, 'invented', 5)",
    )
    code, found = proved(data)
    assert code == 3
    assert found["counts"] == {
        "processed_generations": 1,
        "client_model_daily_usage": 1,
        "client_live_counters": 1,
        "client_user_daily_usage": 1,
        "books": 1,
    }
    assert found["rebuilt_digest"] != found["live_digest"]
    rows = {finding["row"]["table"]: finding for finding in found["findings"]}
    assert rows["processed_generations"]["blamed"]["exact"] == [lost]
    assert rows["books"]["row"]["rebuilt"] is None
    model = rows["client_model_daily_usage"]
    assert list(model["row"]["key"].values()) == list(marked)
    ids = model["blamed"]["ids"]
    assert 1 <= len(ids) == min(20, model["blamed"]["generations"])
    [alone] = rows["client_user_daily_usage"]["blamed"]["exact"]
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        owners = {
            connection.execute(
                "SELECT client_org_id FROM processed_generations WHERE id = ?", (id,)
            ).fetchone()[0]
            for id in ids
        }
        assert owners == {marked[0]}
        assert connection.execute("SELECT 1 FROM processed_generations WHERE id = ?", (alone,)).fetchone()
    told = "\n".join(text_of(msgspec.convert(finding, Finding)) for finding in found["findings"])
    assert f"processed_generations {lost}: is missing" in told
    assert f"explained by {alone}" in told
    assert genledger("replay", "--data", data).returncode == 0
    assert before == _digest(data)


def _digest(data: Path) -> str:
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        return digest(connection)["all"]


async def test_a_fact_whose_markup_is_not_its_cost_times_its_rate_is_named(data, serve):
    """A wrong markup on the log itself is in live and rebuilt views alike: the arithmetic finds it."""
    id = b"gen-wrong"
    log = await open_log(f"sqlite:///{data}/log", topics.topic_table(4))
    partition = partition_of(id, 4)
    [last] = await log.read(topics.USAGE, partition, log.end_offset(topics.USAGE, partition) - 1, 1)
    before = facts.decode(last.value, last.headers)
    [offset] = await log.append([Message(topics.GENERATIONS, partition, id, b"{}")])
    entry = Entry(
        organization="acme", day="2026-11-20", today="2026-11-20", cost_nano=100, markup_nano=131, rate="1.3"
    )
    wrong = Fact(
        fate="counted", id=id.decode(), partition=partition, offset=offset, prev=before.offset,
        number=before.number + 1, time_ms=now_ms(), plus=entry,
    )  # fmt: skip
    writer = await log.writer(topics.LEDGER_GROUP, topics.GENERATIONS, partition)
    await writer.commit(
        [Message(topics.USAGE, partition, id, facts.encode(wrong), facts.SCHEMA_HEADERS)], offset + 1
    )
    await log.close()
    service = serve(without=["ledger"])
    wait_until(lambda: service.get("/api/v1/usage/daily?org=acme")["rows"], 10, "counted")
    code, found = proved(data)
    assert code == 3
    assert (found["findings"], found["counts"], found["contradicting"]) == ([], {}, 1)
    [contradiction] = found["contradictions"]
    assert contradiction["id"] == "gen-wrong"
    assert "0.00000013" in contradiction["text"]
    wait_until(lambda: "the proof" in service.get("/api/v1/status")["alarms"], 5, "alarmed")
    status = service.get("/api/v1/status")
    assert status["proof"]["differences"] == 1
    assert "the last proof found 1 differences" in status["alarms"]["the proof"]


def test_the_nightly_proof_makes_up_for_a_missed_night_and_tells_its_result(data, serve):
    """GENLEDGER_PROVE_AT: due since the last one was before that time; the status has the new one."""
    old = {"time_ms": 1, "holds": False, "differences": 7, "records": 1, "seconds": 1.0, "digest": "x"}
    (data / "prove-last.json").write_text(json.dumps(old))
    service = serve(GENLEDGER_PROVE_AT=time.strftime("%H:%M", time.gmtime(time.time() - 120)))
    assert service.get("/api/v1/status")["proof"]["differences"] == 7
    wait_until(lambda: service.get("/api/v1/status")["proof"]["holds"], 30, "proven", service)
    assert service.get("/api/v1/status")["proof"]["digest"] == _digest(data)


@pytest.mark.parametrize(
    ("at", "last", "now", "due"),
    [
        ("02:30", "2026-11-20T02:30:05Z", "2026-11-21T02:29:59Z", False),
        ("02:30", "2026-11-20T02:30:05Z", "2026-11-21T02:30:00Z", True),
        ("02:30", "2026-11-21T02:30:05Z", "2026-11-21T23:59:59Z", False),
        ("00:00", "2026-11-20T23:59:59Z", "2026-11-21T00:00:00Z", True),
        ("23:59", "2026-11-01T00:00:00Z", "2026-11-21T00:00:00Z", True),
    ],
)
def test_a_proof_is_due_once_a_day(at, last, now, due):
    """Once the time has come by since the last one, however long that was ago."""
    last_ms, now_ms = (times.nanoseconds_of(text) // times.MS_NS for text in (last, now))
    assert is_due(at, last_ms, now_ms) is due


@pytest.mark.parametrize("wrong", ["2:30", "24:00", "noon", "02:30:00"])
def test_a_time_that_is_none_is_refused_at_start(monkeypatch, capsys, tmp_path, wrong):
    """The setting's error names it and shows how it must be."""
    monkeypatch.setenv("GENLEDGER_PROVE_AT", wrong)
    assert run(["prove", "--data", str(tmp_path)]) == 2
    assert "GENLEDGER_PROVE_AT must be a time of day such as 02:30" in capsys.readouterr().err


def test_where_there_are_no_views_there_is_nothing_to_prove(capsys, tmp_path):
    """Exit code 1, and what to do."""
    assert run(["prove", "--data", str(tmp_path)]) == 1
    assert "there are no views to prove" in capsys.readouterr().err
