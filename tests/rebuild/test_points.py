"""Raw points in SQLite, beside the whole service: proven and rebuilt."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.rebuild.command import genledger, replayed

VIEWS = "genledger.db"


def ask(data: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(data / VIEWS)) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
    return found


def ids(data: Path) -> list[object]:
    return [row[0] for row in ask(data, "SELECT id FROM usage_points ORDER BY id")]


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
    assert genledger("prove", "--data", data, "--projection", "points").returncode == 0
