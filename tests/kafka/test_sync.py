"""The sync on a cluster: the leading jobs worker runs it, any gateway passes questions on to it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from streams import clock
from tests.kafka.installation import Installation, Role
from tests.providers.account import Account
from tests.providers.documented import Documented
from tests.road.harness import COMMAND, clean_environ, wait_until

CALLS = 40


def test_the_leader_syncs_and_another_goes_on_when_it_is_gone(
    kafka: Any, topic_prefix: str, tmp_path: Path
) -> None:
    """Known ids get the provider's figures, asked for at the gateway; after kill -9 by the next leader."""
    account = Account.seeded("acme", "sk-acme", seed=1, count=CALLS, newest_ms=clock.now_ms(), days=1)
    with Documented([account]) as provider:
        site = Installation(
            f"kafka://{kafka.bootstrap}", topic_prefix, tmp_path, partitions=2,
            GENLEDGER_PROVIDER_URL=provider.url, GENLEDGER_PROVIDER_RATE_PER_S="1000", ACME_KEY="sk-acme",
            BACKGROUND_SYNC_INTERVAL="100000", GENLEDGER_KAFKA_SESSION_TIMEOUT_S="5",
        )  # fmt: skip
        site.apply()
        with (
            site.running("gateway", "ledger", "ledger", "summaries") as (gateway, *_),
            site.running("jobs", GENLEDGER_DATA=str(tmp_path / "one")) as (first,),
            site.running("jobs", GENLEDGER_DATA=str(tmp_path / "two")) as (_,),
        ):
            gateway.post("/api/v1/organizations", {"id": "acme", "provider_key": "env:ACME_KEY"})
            wait_until(lambda: answers(gateway), 60, "led by one", gateway)
            half = CALLS // 2
            tell(gateway, account, 0, half)
            sync(gateway)
            assert sum(one["amended"] for one in gateway.get("/api/v1/sync")["reports"]) == half
            assert gateway.get("/api/v1/status")["sync"]["acme"]["awaited"] == 0
            first.kill()
            tell(gateway, account, half, CALLS)
            wait_until(lambda: answers(gateway), 60, "led by the other", gateway)
            assert sync(gateway)["awaited"] == 0
            assert sum(one["amended"] for one in gateway.get("/api/v1/sync")["reports"]) == CALLS - half
            rows = gateway.get("/api/v1/usage/daily?org=acme")["rows"]
            assert sum(row["total_requests"] for row in rows) == CALLS
            assert sum(row["unpriced_requests"] for row in rows) == 0


def tell(gateway: Role, account: Account, first: int, last: int) -> None:
    """A webhook knows of the calls, and not what they cost."""
    events = [call.event("acme", cost=None) for call in account.calls[first:last]]
    gateway.post("/api/v1/generations", events)
    wait_until(lambda: counted(gateway) == last, 60, "counted", gateway)


def counted(gateway: Role) -> int:
    rows = gateway.get("/api/v1/usage/daily?org=acme")["rows"]
    return sum(row["total_requests"] for row in rows)


def answers(gateway: Role) -> bool:
    """Whether the gateway finds a leader who knows of the organisation."""
    status, found, _ = gateway.request("GET", "/api/v1/sync")
    return status == 200 and bool(found["organizations"])


def sync(gateway: Role) -> Any:
    """`genledger sync --once`, asked of a gateway; the organisation's report."""
    environ = {**clean_environ(), "GENLEDGER_URL": f"http://127.0.0.1:{gateway.port}"}
    command = [str(COMMAND), "sync", "--once", "--org", "acme", "--json"]
    ended = subprocess.run(command, env=environ, capture_output=True, check=False, timeout=60)
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    [report] = json.loads(ended.stdout)
    return report
