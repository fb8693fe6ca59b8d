"""A: one event, all the way; and the only way to the tables is the log."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.road.files import VIEWS, connect
from tests.road.harness import Service, running, wait_until

EVENT = {
    "id": "gen-1",
    "organization": "acme",
    "user": "alice",
    "model": "anthropic/claude-sonnet-4",
    "provider": "Anthropic",
    "prompt_tokens": 1200,
    "completion_tokens": 340,
    "cost": "0.0123",
    "created_at": "2025-11-20T10:00:00Z",
}
DAILY = "/api/v1/usage/daily?org=acme&from=2025-11-20&to=2025-11-20"


def daily_rows(data: Path) -> list[Any]:
    with closing(connect(data / VIEWS)) as connection:
        try:
            return connection.execute(
                "SELECT client_org_id, usage_date, total_requests, total_tokens, raw_cost_nano"
                " FROM client_daily_usage"
            ).fetchall()
        except sqlite3.OperationalError:
            return []


def test_an_event_is_in_the_summaries_within_a_second(tmp_path: Path) -> None:
    """A posted generation gets 202, and a second later the API and the tables show it."""
    with running(tmp_path / "data") as service:
        answer = service.post("/api/v1/generations", EVENT)
        assert answer["accepted"] == 1
        posted_s = time.monotonic()
        wait_until(lambda: daily_rows(service.data) != [], 5, "in the daily summary", service)
        assert time.monotonic() - posted_s < 1.0
        assert daily_rows(service.data) == [("acme", "2025-11-20", 1, 1540, 12_300_000)]
        assert "0.0123" in str(service.get(DAILY))
        assert service.stop() == 0


def test_the_only_way_to_the_tables_is_the_log(tmp_path: Path) -> None:
    """With the summaries stopped a POST still gets 202 and daily stays; started again, daily moves."""
    data = tmp_path / "data"
    stopped = Service(data, without=["summaries"]).start()
    try:
        assert stopped.post("/api/v1/generations", EVENT)["accepted"] == 1
        time.sleep(1.0)
        assert daily_rows(data) == []
        assert "0.0123" not in str(stopped.get(DAILY))
        assert stopped.stop() == 0
    finally:
        if stopped.alive:
            stopped.kill()
    with running(data) as service:
        wait_until(lambda: daily_rows(data) != [], 5, "in the daily summary", service)
        assert daily_rows(data) == [("acme", "2025-11-20", 1, 1540, 12_300_000)]
