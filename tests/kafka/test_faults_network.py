"""The network between a role and the broker fails: fault rows 15 to 17 and I11, through a TCP proxy.

Each role has a listener and so a proxy of its own: what is done to one is not done to the others.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kafka.broker import Broker, Listener, NoKafka, find_java, libraries
from tests.kafka.faults_load import (
    Load,
    assert_exact,
    post_all,
    requests_now,
    rss_bytes,
    wait_counted,
)
from tests.kafka.faults_seams import Zombie
from tests.kafka.installation import Installation, Role
from tests.kafka.proxy import BROKER, CLIENT, END_TXN, PRODUCE, TXN_OFFSET_COMMIT, Proxy
from tests.road.harness import wait_until

ROLES = ("gateway", "ledger", "summaries")
LISTENERS = {name: Listener(name.upper(), proxied=True) for name in ROLES}
BACK_S = 20.0
STALLED_S = 20.0
GROWTH_BYTES_MAX = 64 * 1024 * 1024
REJOINED_CONNECTIONS_MIN = 4


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

    def __init__(self, broker: Broker, prefix: str, folder: Path, stack: ExitStack, **environ: str) -> None:
        self._stack = stack
        self._broker = broker
        self.lines: dict[str, Proxy] = {
            name: stack.enter_context(broker.proxy(listener.name)) for name, listener in LISTENERS.items()
        }
        self.installation = Installation(
            f"kafka://{broker.bootstrap}", prefix, folder, partitions=2, **environ
        )
        self.installation.apply()

    def start(self, name: str, **environ: str) -> Role:
        """A role, ready, behind its proxy."""
        broker = f"kafka://{self.address(name)}"
        return self.run(self.installation.role(name, GENLEDGER_BROKER=broker, **environ))

    def address(self, name: str) -> str:
        """Where a role's proxy listens."""
        return self._broker.address(LISTENERS[name].name)

    def run(self, role: Role) -> Role:
        """Start it, to be gone with the test."""
        role.start(wait=False)
        self._stack.callback(_gone, role)
        role.wait_ready()
        return role


def _gone(role: Role) -> None:
    if role.alive:
        role.kill()


@pytest.fixture
def site(broker: Broker, topic_prefix: str, tmp_path: Path) -> Iterator[Site]:
    """An installation with its own settings; its proxies and processes end with the test."""
    with ExitStack() as stack:
        yield Site(broker, topic_prefix, tmp_path, stack)


@pytest.fixture
def quick_site(broker: Broker, topic_prefix: str, tmp_path: Path) -> Iterator[Site]:
    """The same, with less patience: an answer that does not come is given up after 4 s."""
    quick = {"GENLEDGER_KAFKA_REQUEST_TIMEOUT_S": "4", "GENLEDGER_KAFKA_SESSION_TIMEOUT_S": "4"}
    with ExitStack() as stack:
        yield Site(broker, topic_prefix, tmp_path, stack, **quick)


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
def test_a_half_open_connection_does_not_hold_a_worker(quick_site: Site, to: str) -> None:
    """Fault row 16: one direction goes silent for the ledger and the summaries: all moves on within 20 s."""
    site = quick_site
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


@pytest.mark.parametrize("events", [300, pytest.param(2000, marks=pytest.mark.soak)])
def test_a_slow_and_narrow_line_only_slows(site: Site, events: int) -> None:
    """Fault row 17: 500 ms each way at 50 KB/s: memory is bounded, nobody rejoins, all is counted."""
    roles = [site.start(name) for name in ROLES]
    gateway = roles[0]
    costs = post_all(gateway, range(100))
    wait_counted(gateway, 100)
    before = {role.name: (rss_bytes(role.pid), _connections(site, role)) for role in roles}
    for line in site.lines.values():
        line.delay_ms, line.bytes_per_s = 500, 50_000
    with Load(gateway, per_s=100, batch=50, first=100) as load:
        wait_until(lambda: load.acknowledged >= events, 15 + events / 20, "taken", gateway)
    costs |= load.costs
    took_s = wait_counted(gateway, len(costs), 15 + events / 10)
    for role in roles:
        grown_bytes = rss_bytes(role.pid) - before[role.name][0]
        connections = _connections(site, role) - before[role.name][1]
        print(f"row 17: {role.name} grew by {grown_bytes} bytes and made {connections} connections")
        assert grown_bytes < GROWTH_BYTES_MAX
        # Whoever rejoins takes its partitions over anew, on new connections.
        assert connections < REJOINED_CONNECTIONS_MIN
    print(f"row 17: {load.acknowledged} events, the last counted {took_s:.1f} s after it was acknowledged")
    for line in site.lines.values():
        assert line.counts.delayed_chunks > 0 and line.counts.limited_bytes > 0
        line.heal()
    assert_exact(site.installation, gateway, costs)
    assert all(role.alive for role in roles)


def _connections(site: Site, role: Role) -> int:
    """How many this role has made, up to now."""
    return site.lines[role.name].counts.connections


def test_a_worker_that_is_cut_off_ends_and_says_why(quick_site: Site) -> None:
    """I11: where its partition can't move for longer than the stall time, it exits with 1."""
    site = quick_site
    gateway, summaries = site.start("gateway"), site.start("summaries")
    cut_off = Zombie(
        site.installation,
        "transaction-open",
        GENLEDGER_BROKER=f"kafka://{site.address('ledger')}",
        GENLEDGER_STALL_TIMEOUT_S="5",
        GENLEDGER_DRAIN_TIMEOUT_S="5",
    )
    site.run(cut_off)
    costs = post_all(gateway, range(200))
    wait_until(lambda: cut_off.stands_still, 10, "in a transaction", cut_off)
    line = site.lines["ledger"]
    line.refuse = True
    assert line.cut() > 0
    cut_off.resume()
    cut_s = time.monotonic()
    assert cut_off._ended(STALLED_S) == 1
    print(f"I11: it ended {time.monotonic() - cut_s:.1f} s after it was cut off")
    assert "stands still" in cut_off.tail() and "Start it again" in cut_off.tail()
    assert line.counts.refused > 0
    line.heal()
    site.start("ledger")
    assert_exact(site.installation, gateway, costs)
    assert summaries.alive
