"""Fault row 27, from end to end: an event older than the retention, told to a real service after a run."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tests.rebuild.command import genledger
from tests.road.harness import Service, running, wait_until

KEPT_DAYS = 90
OLD_DAYS = 100
OLD = ("late-0", "late-1")


def event(id: str, days_ago: int, cost: str = "0.5") -> bytes:
    created = datetime.now(UTC) - timedelta(days=days_ago)
    return json.dumps(
        {
            "id": id,
            "organization": "acme",
            "model": "m",
            "prompt_tokens": 7,
            "cost": cost,
            "created_at": created.strftime("%Y-%m-%dT12:00:00Z"),
        }
    ).encode()


def settle(service: Service) -> None:
    """Until the ledger and the views have everything."""
    wait_until(lambda: not any(service.get("/api/v1/status")["lag"].values()), 30, "settled", service)


def totals(service: Service) -> tuple[int, Decimal]:
    """Requests and cost of all days."""
    rows = service.get("/api/v1/usage/daily?org=acme")["rows"]
    return sum(row["total_requests"] for row in rows), sum(
        (Decimal(row["raw_cost"]) for row in rows), Decimal(0)
    )


def fates(service: Service, id: str) -> list[str]:
    """What was decided of an id, as `explain` tells it."""
    return [one["fate"] for one in service.get(f"/api/v1/generations/{id}")["history"]]


def test_an_event_older_than_the_retention_is_expired_and_counts_once_when_it_is_forced(
    tmp_path: Path,
) -> None:
    """It is taken, not counted, and visible wherever one looks; an administrator counts it, once."""
    with running(tmp_path / "data") as service:
        assert service.send([event("old", OLD_DAYS), event("young", 1)]) == []
        settle(service)
        run = service.post("/api/v1/admin/cleanup", {"days": KEPT_DAYS})["run"]
        stands = "/api/v1/admin/cleanup/stands"
        wait_until(lambda: not service.get(stands)["running"], 30, "swept", service)
        settle(service)
        assert (service.get(stands)["run"], service.get(stands)["state"]) == (run, "ended")
        before = totals(service)
        assert before == (2, Decimal(1))

        # The twin of one that was forgotten, and two that never came: all are taken, none counts.
        assert service.send([event("old", OLD_DAYS), *(event(id, OLD_DAYS) for id in OLD)]) == []
        settle(service)
        assert totals(service) == before
        partitions = service.get("/api/v1/books")["partitions"]
        assert sum(one["fates"].get("expired", 0) for one in partitions) == 3
        listed = genledger("rejected", "list", "--json", GENLEDGER_URL=f"http://127.0.0.1:{service.port}")
        rejected = {one["key"]: one for one in json.loads(listed.stdout)}
        assert {id: one["reason"] for id, one in rejected.items()} == dict.fromkeys(("old", *OLD), "expired")
        assert "expired" in fates(service, "late-0")
        assert fates(service, "old")[:3] == ["counted", "forgotten", "expired"]

        place = f"{rejected['late-0']['partition']}/{rejected['late-0']['offset']}"
        for _ in range(2):
            done = genledger(
                *("rejected", "redrive", place, "--force"),
                GENLEDGER_URL=f"http://127.0.0.1:{service.port}",
            )
            assert done.returncode == 0, (done.stdout, done.stderr)
            settle(service)
        assert totals(service) == (3, Decimal("1.5"))
        assert [fate for fate in fates(service, "late-0") if fate in ("counted", "duplicate")] == [
            "counted",
            "duplicate",
        ]
        service.assert_books_balance(b"expired")
