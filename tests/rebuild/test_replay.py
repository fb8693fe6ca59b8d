"""A of Proof: the views made again, beside the live ones and in their place."""

import json
import signal
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from genledger.main import run
from projections import schema
from projections.digest import digest
from projections.rebuild.aside import Aside, Origin
from projections.rebuild.build import build
from projections.rebuild.plan import Plan
from projections.view import Position
from streams.errors import ViewBusy
from streams.settings import load
from tests.model.traffic import Traffic
from tests.rebuild.command import genledger, replayed
from tests.rebuild.polling import Polling
from tests.road.files import Files
from tests.road.harness import COMMAND, clean_environ, running, set_up, wait_until
from tests.road.run import check, feed, settle, sizes

VIEWS = "genledger.db"
# Enough that traffic goes on all the while.
DELIVERIES = 10_000


def digest_of(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return digest(connection)


def roots(path: Path) -> set[int]:
    with closing(sqlite3.connect(path)) as connection:
        return {
            row[0] for row in connection.execute("SELECT rootpage FROM sqlite_schema WHERE type = 'table'")
        }


def test_a_file_rebuilt_beside_a_running_service_is_the_live_one_table_by_table(data, serve, tmp_path):
    """Replay equals live: every table's digest, into a file that is a database like the live one."""
    serve()
    said = replayed(data, "--into", tmp_path / "again.db")
    assert "records in" in said
    assert digest_of(tmp_path / "again.db") == digest_of(data / VIEWS)
    found = genledger("db", "check", "--data", data)
    assert found.returncode == 0, found.stderr
    with closing(sqlite3.connect(tmp_path / "again.db")) as connection:
        indexes = {
            row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")
        }
    assert {"idx_processed_client_date", "idx_processed_at", "idx_processed_generation_id"} <= indexes
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("again")] == ["again.db"]


def test_readers_never_see_a_mix_while_traffic_goes_on_and_the_views_are_replaced(
    tmp_path: Path, traffic: Traffic
) -> None:
    """Old or new, in one step, and never further back: under traffic, twice in a row, exact at the end."""
    data = tmp_path / "data"
    deliveries = traffic.deliveries[:DELIVERIES]
    half = len(deliveries) // 2
    with running(data) as service:
        set_up(service, traffic)
        told: Counter[int] = feed(service, deliveries[:half], sizes(1, 500, 1000))
        settle(service)
        with Polling(data / VIEWS) as polling:
            command = [str(COMMAND), "replay", "--data", str(data)]
            with subprocess.Popen(command, env=clean_environ(), stderr=subprocess.PIPE, text=True) as replay:
                start = half
                while replay.poll() is None and start < len(deliveries):
                    told += feed(service, deliveries[start : start + 200], sizes(1, 50, 100))
                    start += 200
                assert replay.wait(60) == 0, replay.stderr.read()
            told += feed(service, deliveries[start:], sizes(1, 500, 1000))
            settle(service)
        assert start > half + 200, "no traffic went on meanwhile"
        assert polling.wrong == []
        assert polling.looks > 20
        assert len(polling.roots) == 2, "the tables were not replaced"
        service.assert_books_balance()
        assert service.stop() == 0, service.tail()
    check(data, traffic, told)
    assert not list(data.glob("replay*"))


def test_killed_in_the_middle_the_old_tables_serve_and_the_next_run_goes_on(data):
    """Fault row 7: kill -9 of the replay leaves the live views alone, and loses little of its work."""
    before, old = digest_of(data / VIEWS), roots(data / VIEWS)
    killed = genledger("replay", "--data", data, kill_at="rebuild:1")
    assert killed.returncode == -signal.SIGKILL
    assert (digest_of(data / VIEWS), roots(data / VIEWS)) == (before, old)
    asked = genledger("replay", "--data", data, "--dry-run")
    assert "an earlier run has read" in asked.stderr, asked.stderr
    said = replayed(data)
    again = int(said.split(" records rebuilt")[0].split()[-1].replace(",", ""))
    whole = int(asked.stderr.split(" records: it would")[0].split()[-1].replace(",", ""))
    assert 0 < again < whole
    assert digest_of(data / VIEWS) == before
    assert roots(data / VIEWS) != old


@pytest.mark.parametrize(
    "point",
    [
        "swap-transaction",
        pytest.param("swap-copying:5", marks=pytest.mark.soak),
        pytest.param("swapped", marks=pytest.mark.soak),
    ],
)
def test_a_service_killed_while_it_takes_the_rebuilt_views_over_does_it_after_its_restart(data, serve, point):
    """Wherever the kill -9 falls, the tables are the old or the new ones, and in the end the new ones."""
    before, old = digest_of(data / VIEWS), roots(data / VIEWS)
    service = serve(kill_at=point)
    command = [str(COMMAND), "replay", "--data", str(data)]
    with subprocess.Popen(command, env=clean_environ(), stderr=subprocess.PIPE, text=True) as replay:
        assert service.wait_killed(30), "the point was not reached"
        replay.kill()  # it would finish what nobody does
        replay.wait(10)
    service.kill() if service.alive else None
    assert digest_of(data / VIEWS) == before
    serve()
    wait_until(lambda: not (data / "replay-done.db").exists(), 20, "taken over")
    assert digest_of(data / VIEWS) == before
    assert roots(data / VIEWS) != old
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name LIKE 'shadow%'").fetchall()


def test_views_that_are_damaged_or_lost_are_rebuilt_where_no_service_runs(data):
    """Without a service the command does it all, or one part; what is not a view is left as it was."""
    before = digest_of(data / VIEWS)
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        connection.execute("DELETE FROM processed_generations")
        connection.execute("UPDATE client_daily_usage SET raw_cost_nano = 1, unique_users = 0")
        connection.execute("DELETE FROM positions WHERE projection = 'summaries'")
        connection.execute("CREATE TABLE my_own (note TEXT)")
        connection.execute("INSERT INTO my_own VALUES ('kept')")
        connection.commit()
    replayed(data, "--projection", "processed")
    now = digest_of(data / VIEWS)
    assert now["processed_generations"] == before["processed_generations"]
    assert now["client_daily_usage"] != before["client_daily_usage"]
    replayed(data, "--projection", "summaries")
    assert digest_of(data / VIEWS) == before
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        assert connection.execute("SELECT note FROM my_own").fetchall() == [("kept",)]
    for path in data.glob("genledger.db*"):
        path.unlink()
    replayed(data)
    assert digest_of(data / VIEWS) == before
    assert schema.check(data / VIEWS) == []


def test_until_a_log_time_is_the_views_as_they_were_then(data, tmp_path):
    """`--until` stops at a log time: every fact up to it is booked, and none after it."""
    rows = Files(data).rows("usage")
    facts = [json.loads(row[3]) for found in rows.values() for row in found]
    until_ms = sorted(fact["time_ms"] for fact in facts)[len(facts) // 2]
    settings = load({}, data=str(data))
    plan = Plan(settings=settings, parts=("summaries",), until_ms=until_ms)
    build(plan, tmp_path / "then.part").finish(tmp_path / "then.db")
    with closing(sqlite3.connect(tmp_path / "then.db")) as then:
        (booked,) = then.execute("SELECT sum(records) FROM books").fetchone()
    assert 0 < booked < len(facts)
    # Of one partition, up to the first that is later: a clock may step back.
    expected = 0
    for number in {fact["partition"] for fact in facts}:
        times = [fact["time_ms"] for fact in facts if fact["partition"] == number]
        expected += next((n for n, time_ms in enumerate(times) if time_ms > until_ms), len(times))
    assert booked == expected


def test_events_decided_anew_come_to_the_same_views(data, tmp_path):
    """`--from-topic generations`: each decision made again, with the settings of its time, is the same."""
    replayed(data, "--from-topic", "generations", "--into", tmp_path / "anew.db")
    assert digest_of(tmp_path / "anew.db") == digest_of(data / VIEWS)
    assert [path.name for path in tmp_path.iterdir()] == ["data", "anew.db"]


def test_a_rebuild_that_was_begun_from_another_log_is_thrown_away(tmp_path):
    """Half a rebuild of one ledger is never finished from another."""
    path = tmp_path / "replay.db"
    mine = Origin("one", "usage", ("processed",), {"processed": 1}, None)
    aside = Aside.open(path, mine)
    aside.connection.execute("INSERT INTO positions VALUES ('processed', 0, 5, 5, 'x', 1, 6)")
    aside.close()
    assert Aside.open(path, mine).positions() == {("processed", "usage", 0): Position(5, 5, "x", 6)}
    (tmp_path / "replay.db.lock").unlink()
    other = Aside.open(path, replace(mine, log="other"))
    assert other.positions() == {}
    with pytest.raises(ViewBusy):
        Aside.open(path, mine)
    other.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--until", "2026-11-20T00:00:00Z"], "--until needs --into"),
        (["--until", "yesterday", "--into", "x.db"], "--until"),
        (["--from-topic", "generations"], "needs --into"),
        (["--into", "there.db"], "is there already"),
        (["--into", "no/such/folder/x.db"], "there is no folder"),
        (["--projection", "nothing"], "projection"),
    ],
)
def test_wrong_use_is_told_before_anything_is_done(tmp_path, monkeypatch, capsys, arguments, said):
    """Exit code 2, and what was meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.db").write_bytes(b"mine")
    assert run(["replay", "--data", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "there.db").read_bytes() == b"mine"


def test_on_a_cluster_views_that_are_elsewhere_are_not_made_here(tmp_path, monkeypatch, capsys):
    """Run on the wrong machine it makes no second database, and says where to run it."""
    monkeypatch.setenv("GENLEDGER_BROKER", "kafka://127.0.0.1:1")
    assert run(["replay", "--data", str(tmp_path)]) == 1
    assert "where the summaries worker keeps them" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_log_is_an_error_that_says_so(tmp_path, capsys):
    """Nothing to rebuild from: exit code 1, and nothing is made."""
    assert run(["replay", "--data", str(tmp_path / "nothing")]) == 1
    assert "no log here" in capsys.readouterr().err
    assert not (tmp_path / "nothing" / VIEWS).exists()
