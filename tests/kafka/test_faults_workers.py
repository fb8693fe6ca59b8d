"""Workers that stand still, that are too many, that come and go: fault rows 9, 13 and 14, on a real Kafka."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kafka.faults_load import Load, assert_exact, post_all, wait_counted
from tests.kafka.fixtures import Cluster
from tests.kafka.installation import Installation, Role
from tests.road.harness import wait_until

SESSION_S = 3.0
TAKE_OVER_S = 15.0


@pytest.fixture
def installation(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> Installation:
    """Two partitions; a worker that stands still is missed after three seconds."""
    made = Installation(
        kafka.url, topic_prefix, tmp_path, partitions=2, GENLEDGER_KAFKA_SESSION_TIMEOUT_S=f"{SESSION_S:g}"
    )
    made.apply()
    return made


@pytest.fixture
def starting(installation: Installation) -> Iterator[Callable[..., Role]]:
    """Starts roles that need not get ready, and that are gone afterwards."""
    roles: list[Role] = []

    def start(name: str, *options: str, **environ: str) -> Role:
        roles.append(installation.role(name, *options, **environ))
        roles[-1].start(wait=False)
        return roles[-1]

    yield start
    for role in roles:
        if role.alive:
            role.kill()


def decided(worker: Role) -> int:
    """How many records this process has decided and committed."""
    status, text, _ = worker.request("GET", "/metrics")
    assert status == 200
    counts = re.findall(
        r'^genledger_records_total\{fate="\w+",stage="ledger"\} ([\d.]+)$', text, re.MULTILINE
    )
    return int(sum(map(float, counts)))


def shares(worker: Role) -> bool:
    """Whether it listens and has decided something."""
    return worker.get_status("/livez") == 200 and decided(worker) > 0


def test_a_worker_that_stood_still_for_too_long_writes_nothing_late_and_works_on(
    installation: Installation,
) -> None:
    """Fault row 9: stopped past its session it loses its partition; continued, it has a share again."""
    with installation.running("gateway", "ledger", "ledger", "summaries") as (gateway, stopped, other, _):
        with Load(gateway, per_s=400) as load:
            wait_until(lambda: decided(stopped) and decided(other), 20, "both deciding")
            before = decided(stopped)
            stopped.pause()
            time.sleep(SESSION_S + 1)
        # All is counted while it stands still: its partition is the other's now.
        wait_counted(gateway, load.acknowledged, TAKE_OVER_S)
        stopped.resume()
        with Load(gateway, per_s=400, first=load.posted) as more:
            wait_until(lambda: decided(stopped) > before, 20, "deciding again", stopped)
        assert_exact(installation, gateway, load.costs | more.costs)
        assert stopped.alive and other.alive


def test_one_worker_more_is_refused_and_a_standby_takes_over_from_both(
    installation: Installation, starting: Callable[..., Role]
) -> None:
    """Fault row 13: the third on two partitions exits with 1 and says why; a standby has both within 15 s."""
    with installation.running("gateway", "ledger", "ledger", "summaries") as (gateway, one, two, _):
        costs = post_all(gateway, range(500))
        wait_counted(gateway, 500)
        third, standby = starting("ledger"), starting("ledger", "--standby")
        assert third._ended(SESSION_S + 15) == 1
        assert "one more would have nothing to do" in third.tail() and "--standby" in third.tail()
        assert standby.alive and decided(standby) == 0
        costs |= post_all(gateway, range(500, 1000))
        one.kill()
        two.kill()
        killed_s = time.monotonic()
        costs |= post_all(gateway, range(1000, 1500))
        wait_until(lambda: decided(standby) >= 500, TAKE_OVER_S, "taken over", standby)
        print(f"row 13: the standby has decided all {time.monotonic() - killed_s:.1f} s after the kills")
        assert_exact(installation, gateway, costs)


def test_workers_that_come_and_go_hold_up_nothing(
    installation: Installation, starting: Callable[..., Role]
) -> None:
    """Fault row 14: a worker joins and leaves every 5 s under load: each time all moves on, all exact."""
    with installation.running("gateway", "ledger", "summaries") as (gateway, steady, _):
        with Load(gateway, per_s=300) as load:
            for _ in range(2):
                began_s = time.monotonic()
                guest = starting("ledger")
                wait_until(lambda: shares(guest), 15, "sharing", guest)  # noqa: B023 -- asked at once
                time.sleep(max(0.0, began_s + 2.5 - time.monotonic()))
                assert guest.stop() == 0, guest.tail()
                time.sleep(max(0.0, began_s + 5 - time.monotonic()))
                wait_counted(gateway, load.acknowledged, 5)
        assert_exact(installation, gateway, load.costs)
        assert steady.alive
