"""The network between a role and the broker fails: fault rows 7 and 15 to 17, through a TCP proxy.

Each role has a listener and so a proxy of its own: what is done to one is not done to the others.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.broker import Broker, Listener, NoKafka, find_java, libraries
from tests.kafka.faults_load import (
    Load,
    assert_exact,
    post_all,
    requests_now,
    rss_bytes,
    wait_counted,
    wait_settled,
)
from tests.kafka.installation import Installation, Role
from tests.kafka.proxy import BROKER, CLIENT, END_TXN, JOIN_GROUP, PRODUCE, TXN_OFFSET_COMMIT, Proxy
from tests.road.harness import wait_until

ROLES = ("gateway", "ledger", "summaries")
LISTENERS = {name: Listener(name.upper(), proxied=True) for name in ROLES}
BACK_S = 20.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One for all these tests: only the lines to it fail."""
    try:
        find_java()
        libraries()
    except NoKafka as error:
        pytest.skip(f"no Kafka: {error}")
    made = Broker(tmp_path_factory.mktemp("network"), *LISTENERS.values()).start()
    yield made
    made.kill()


class Site:
    """Roles that each reach the broker by a line of their own."""

    def __init__(self, broker: Broker, prefix: str, folder: Path, stack: ExitStack) -> None:
        self._stack = stack
        self._broker = broker
        self.lines: dict[str, Proxy] = {
            name: stack.enter_context(broker.proxy(listener.name)) for name, listener in LISTENERS.items()
        }
        self.installation = Installation(
            f"kafka://{broker.bootstrap}", prefix, folder, partitions=2,
            GENLEDGER_KAFKA_SESSION_TIMEOUT_S="5", GENLEDGER_KAFKA_REQUEST_TIMEOUT_S="4",
        )  # fmt: skip
        self.installation.apply()

    def start(self, name: str, **environ: str) -> Role:
        """A role, ready, behind its proxy."""
        address = self._broker.address(LISTENERS[name].name)
        role = self.installation.role(name, GENLEDGER_BROKER=f"kafka://{address}", **environ)
        role.start(wait=False)
        self._stack.callback(_gone, role)
        role.wait_ready()
        return role


def _gone(role: Role) -> None:
    if role.alive:
        role.kill()


@pytest.fixture
def site(broker: Broker, topic_prefix: str, tmp_path: Path) -> Iterator[Site]:
    """An installation; its proxies and processes end with the test."""
    with ExitStack() as stack:
        yield Site(broker, topic_prefix, tmp_path, stack)


def test_an_acknowledgement_that_is_lost_counts_once(site: Site) -> None:
    """Fault row 15: the broker did it and the answer is lost, of events, offsets and ends of transactions."""
    gateway, ledger, summaries = (site.start(name) for name in ROLES)
    costs: dict[str, int] = {}
    for number, (name, request) in enumerate(
        [("gateway", PRODUCE), ("ledger", PRODUCE), ("ledger", TXN_OFFSET_COMMIT), ("ledger", END_TXN)]
    ):
        line = site.lines[name]
        line.lose_next_answer(request)
        costs |= post_all(gateway, range(number * 200, (number + 1) * 200))
        wait_until(lambda: line.counts.lost_answers > 0, 10, "lost")  # noqa: B023 -- asked at once
        line.counts.lost_answers = 0
        took_s = wait_counted(gateway, len(costs), BACK_S)
        print(f"row 15: {name}, request {request}: all counted {took_s:.1f} s after it was acknowledged")
    assert_exact(site.installation, gateway, costs)
    assert gateway.alive and ledger.alive and summaries.alive


@pytest.mark.parametrize("to", [CLIENT, BROKER])
def test_a_half_open_connection_does_not_hold_a_worker(site: Site, to: str) -> None:
    """Fault row 16: one direction goes silent for the ledger and the summaries: all moves on within 20 s."""
    gateway, ledger, summaries = (site.start(name) for name in ROLES)
    costs = post_all(gateway, range(200))
    wait_counted(gateway, 200)
    for name in ("ledger", "summaries"):
        setattr(site.lines[name], f"drop_to_{to}", True)
    costs |= post_all(gateway, range(200, 400))
    for name in ("ledger", "summaries"):
        counts = site.lines[name].counts
        wait_until(lambda: counts.dropped_bytes[to] > 0, 10, f"{name} not heard")  # noqa: B023
    time.sleep(1)
    assert requests_now(gateway) == 200
    for name in ("ledger", "summaries"):
        site.lines[name].heal()  # for new connections: those that were there stay silent
    took_s = wait_counted(gateway, 400, BACK_S)
    print(f"row 16: nothing to the {to}: all counted {took_s:.1f} s after new connections could be made")
    assert_exact(site.installation, gateway, costs)
    assert gateway.alive and ledger.alive and summaries.alive


def test_a_slow_and_narrow_line_only_slows(site: Site) -> None:
    """Fault row 17: at 500 ms and 50 KB/s memory is bounded, nobody rejoins again and again, all is counted."""
    gateway, ledger, summaries = (site.start(name) for name in ROLES)
    costs = post_all(gateway, range(200))
    wait_counted(gateway, 200)
    before = {role.name: rss_bytes(role.pid) for role in (gateway, ledger, summaries)}
    for line in site.lines.values():
        line.delay_ms, line.bytes_per_s = 500, 50_000
    with Load(gateway, per_s=200, batch=100, first=200) as load:
        time.sleep(12)
    costs |= load.costs
    took_s = wait_settled(site.installation, gateway, len(costs), 60)
    grown = {role.name: rss_bytes(role.pid) - before[role.name] for role in (gateway, ledger, summaries)}
    print(f"row 17: {load.acknowledged} events in 12 s, settled {took_s:.1f} s later; grown by {grown}")
    for line in site.lines.values():
        assert line.counts.delayed_chunks > 0 and line.counts.limited_bytes > 0
        line.heal()
    assert max(grown.values()) < 64 * 1024 * 1024
    assert_exact(site.installation, gateway, costs)
    assert gateway.alive and ledger.alive and summaries.alive
