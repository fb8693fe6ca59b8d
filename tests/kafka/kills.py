"""Kills with -9 on a cluster, at named points, with a backlog behind them; and how soon somebody takes over.

    with Kills(installation, bootstrap, traffic, deliveries, seed) as kills:
        for phase in phases:
            kills.until(phase)          # a worker dies there, another takes its partitions over
        kills.at_random(200)               # any role, at any moment, while traffic goes on
        told = kills.finish()           # the rest is posted and taken, the books balance, all roles stop
        check(installation.data, traffic, told, at_least=True, log=kills.log)

A backlog is made while both ledger workers stand still (SIGSTOP, for less than their session): so the one
that dies has its share of it undecided, and nobody else may touch that share while its session lasts.
"""

import random
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tests.kafka.installation import Installation, Role
from tests.kafka.records import ClusterRecords
from tests.model.traffic import Delivery, Traffic
from tests.road.files import positions, unapplied
from tests.road.harness import Died, set_up, wait_until
from tests.road.kills import PHASES as ROAD_PHASES
from tests.road.run import numbers, settle

UNAPPLIED_MIN = 1000
TAKEOVER_S_MAX = 15.0
BACKLOG = 6000
POST = 2000
# Small, so that a worker dies in the middle of its share.
BATCH_RECORDS = 400
DEATH_S = 20.0
SHARED_S = 30.0
TOLD_AGAIN = 100
LEDGER_PHASES = ("republished", "transaction-open", "transaction-committed", "store-written")
VIEW_PHASES = ("summaries-transaction", "processed-transaction")
PHASES = {name: ROAD_PHASES[name] for name in (*LEDGER_PHASES, "recovery", *VIEW_PHASES)}
# Who is killed at random, and how often. A group that loses a worker waits for the end of its session: were
# one killed more often than that, there would hardly ever be an owner to kill.
SHARES = {"gateway": 0.3, "ledger": 0.15, "summaries": 0.3, "jobs": 0.25}
RANDOM_POST = 250


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill at a phase: how many records waited, and how long the dead one's partitions stood still."""

    phase: str
    count: int
    unapplied: int
    posted: int
    takeover_s: float


@dataclass(frozen=True, slots=True)
class RandomKill:
    """One kill at a random moment; a ledger worker's partitions then."""

    role: str
    at_ms: int
    partitions: frozenset[int]
    unapplied: int


class Kills:
    """An installation whose processes die again and again."""

    def __init__(
        self,
        installation: Installation,
        bootstrap: str,
        traffic: Traffic,
        deliveries: Sequence[Delivery],
        seed: int,
        *,
        partitions: int = 4,
    ) -> None:
        self.done: list[Kill] = []
        self.random_kills: list[RandomKill] = []
        self.ended: list[str] = []  # who ended by itself, with the last that it said
        self.log = ClusterRecords(bootstrap, installation.prefix, partitions)
        self._installation = installation
        self._traffic = traffic
        self._partitions = range(partitions)
        self._left = list(reversed(deliveries))
        self._random = random.Random(seed)
        self._doubtful: Sequence[Delivery] = ()
        self._told: Counter[int] = Counter()
        self.posted = 0
        self._roles: list[Role] = []

    def __enter__(self) -> Self:
        self._roles = [self._started(name) for name in ("gateway", "ledger", "summaries")]
        for role in self._roles:
            role.wait_ready()
        self._roles.append(
            self._installation.role("ledger")
        )  # the first to be killed is started in its place
        set_up(self._gateway, self._traffic)
        return self

    def __exit__(self, *exception: object) -> None:
        for role in self._roles:
            if role.alive:
                role.kill()
        self.log.__exit__(*exception)

    def _started(self, name: str, kill_at: str = "") -> Role:
        role = self._installation.role(name, kill_at=kill_at, GENLEDGER_BATCH_RECORDS_MAX=str(BATCH_RECORDS))
        role.start(wait=False)
        return role

    def _replaced(self, old: Role, kill_at: str = "") -> Role:
        """Another process in the place of one that has ended."""
        assert not old.alive
        new = self._started(old.name, kill_at)
        self._roles[self._roles.index(old)] = new
        return new

    def _restart(self) -> None:
        """Everyone who is dead is started again."""
        for role in list(self._roles):
            if not role.alive:
                self._replaced(role)

    @property
    def _gateway(self) -> Role:
        return self._roles[0]

    @property
    def _ledgers(self) -> list[Role]:
        return [role for role in self._roles if role.name == "ledger"]

    @property
    def _summaries(self) -> Role:
        return next(role for role in self._roles if role.name == "summaries")

    # Traffic.

    def _backlog(self) -> None:
        """More lines for the log; some of the last ones again, as if their answer had been lost."""
        self._send(self._doubtful)
        target = self.posted + min(BACKLOG, len(self._left))
        while self.posted < target:
            self._send(self._next(POST))

    def _next(self, most: int) -> Sequence[Delivery]:
        batch = [self._left.pop() for _ in range(min(most, len(self._left)))]
        self._doubtful = batch[-TOLD_AGAIN:]
        return batch

    def _send(self, batch: Sequence[Delivery]) -> None:
        if batch:
            refused = self._gateway.send([delivery.line for delivery in batch])
            assert refused == [place for place, delivery in enumerate(batch) if delivery.bad]
            self.posted += len(batch)
            self._told.update(numbers(batch))

    # Kills at a point.

    def until(self, phase: str) -> Kill:
        """Kill a worker there, and wait until its partitions move again.

        A dead ledger worker comes back with the next kill, or when all is killed at random, or in the end.
        """
        count = self._random.randint(1, 3)
        if phase in LEDGER_PHASES:
            kill = self._kill_ledger(phase, count)
        elif phase == "recovery":
            kill = self._kill_recovery(phase, 1)
        else:
            kill = self._kill_view(phase, count)
        assert kill.unapplied >= UNAPPLIED_MIN, kill
        assert kill.takeover_s <= TAKEOVER_S_MAX, kill
        self.done.append(kill)
        return kill

    def _kill_ledger(self, phase: str, count: int) -> Kill:
        """Two workers share the partitions; one dies at a transaction of its own."""
        old = self._random.choice([role for role in self._ledgers if not role.alive] or self._ledgers)
        settle(self._gateway, self.log)  # or the new one would die of what still waits
        assert not old.alive or old.stop() == 0, old.tail()
        victim = self._replaced(old, f"{phase}:{count}")
        victim.wait_ready()
        self._wait_shared()
        mine = self.log.owners()[victim.metrics_port]
        for ledger in self._ledgers:
            ledger.pause()
        try:
            self._backlog()
        finally:
            for ledger in self._ledgers:
                ledger.resume()
        self._wait_death(victim, phase)
        return self._taken_over(phase, count, mine)

    def _kill_recovery(self, phase: str, count: int) -> Kill:
        """A worker without a table has all partitions and reads them back; it dies, and the other comes."""
        first, other = self._ledgers
        for ledger in (first, other):
            assert not ledger.alive or ledger.stop() == 0, ledger.tail()
        self._backlog()
        shutil.rmtree(self._installation.data / "tables")
        victim = self._replaced(first, f"{phase}:{count}")
        self._wait_death(victim, phase)
        self._replaced(other)
        return self._taken_over(phase, count, frozenset(self._partitions))

    def _kill_view(self, phase: str, count: int) -> Kill:
        """The one writer of the views dies in its transaction; the next one goes on."""
        view = phase.removesuffix("-transaction")
        old, data = self._summaries, self._installation.data
        assert old.stop() == 0, old.tail()
        self._backlog()
        victim = self._replaced(old, f"{phase}:{count}")
        self._wait_death(victim, phase)
        start_s = time.monotonic()
        left, taken = unapplied(data, view, self.log), positions(data)
        moving = {
            (name, n): at
            for (name, n), at in taken.items()
            if name == view and self.log.after("generations", n, at)
        }
        self._replaced(victim)

        def moved() -> bool:
            now = positions(data)
            return all(now[place] > at for place, at in moving.items())

        wait_until(moved, SHARED_S, "taken over")
        return Kill(phase, count, left, self.posted, time.monotonic() - start_s)

    def _wait_death(self, victim: Role, phase: str) -> None:
        assert victim.wait_killed(DEATH_S), f"it did not die at {phase}\n{victim.tail()}"
        assert f"killed at {phase}" in victim.tail(), victim.tail()

    def _taken_over(self, phase: str, count: int, mine: frozenset[int]) -> Kill:
        """How long until there are new facts in each of the dead one's partitions."""
        start_s = time.monotonic()
        self.log.refresh()
        waiting = self.log.undecided(mine)
        before = {n: self.log.after("usage", n, -1) for n in mine if self.log.undecided([n])}
        assert before, "nothing waits in the dead one's partitions"

        def moved() -> bool:
            self.log.refresh()
            return all(self.log.after("usage", n, -1) > facts for n, facts in before.items())

        wait_until(moved, SHARED_S, "taken over")
        return Kill(phase, count, waiting, self.posted, time.monotonic() - start_s)

    def _wait_shared(self) -> None:
        """Until both workers, and nobody else, have partitions."""
        ports = {ledger.metrics_port for ledger in self._ledgers}

        def shared() -> bool:
            found = self.log.owners()
            return set(found) == ports and frozenset().union(*found.values()) == frozenset(self._partitions)

        wait_until(shared, SHARED_S, "shared by two")

    # Kills at random.

    def at_random(self, kills: int, shortest_s: float = 0.8, longest_s: float = 2.2) -> None:
        """Kill any role at random moments and start it again at once, while traffic goes on."""
        self._restart()
        self._roles.append(self._started("jobs"))
        share = len(self._left) // kills
        for _ in range(kills):
            until_s = time.monotonic() + self._random.uniform(shortest_s, longest_s)
            goal = len(self._left) - share
            while time.monotonic() < until_s:
                if len(self._left) <= goal or not self._try_post():
                    time.sleep(0.02)
                self._supervise()
            self._kill_any()

    def _try_post(self) -> bool:
        """Post a batch, or the one whose answer was lost; False when the door is away."""
        batch = self._doubtful or self._next(RANDOM_POST)
        self._doubtful = batch
        try:
            self._send(batch)
        except Died:
            return False
        self._doubtful = ()
        return True

    def _supervise(self) -> None:
        """What has ended by itself is started again, and remembered."""
        for role in list(self._roles):
            if not role.alive:
                self.ended.append(f"{role.name}: {role.tail()[-300:]}")
                self._replaced(role)

    def _kill_any(self) -> None:
        [name] = self._random.choices(list(SHARES), list(SHARES.values()))
        role = self._random.choice([role for role in self._roles if role.name == name])
        mine: frozenset[int] = frozenset()
        if name == "ledger":
            found = self.log.owners()
            mine = found.get(role.metrics_port, frozenset())
        waiting = unapplied(self._installation.data, "summaries", self.log)
        self.random_kills.append(RandomKill(name, time.time_ns() // 10**6, mine, waiting))
        role.kill()
        self._replaced(role)

    def takeovers_s(self) -> list[float]:
        """Of each ledger worker killed at random that had partitions: when the last of these moved again.

        By the log's own times of its facts. One that the next ledger kill came before is not among them.
        """
        facts = {n: [row[1] for row in rows] for n, rows in self.log.rows("usage").items()}
        kills = [kill for kill in self.random_kills if kill.role == "ledger"]
        found = []
        for kill, following in zip(kills, [*kills[1:], None], strict=True):
            again = [next((ms for ms in facts[n] if ms > kill.at_ms), None) for n in kill.partitions]
            if again and None not in again:
                last_ms = max(ms for ms in again if ms is not None)
                if following is None or last_ms < following.at_ms:
                    found.append((last_ms - kill.at_ms) / 1000)
        return found

    # The end.

    def finish(self) -> Counter[int]:
        """Post the rest, wait until all is taken, and stop; how often each line was acknowledged."""
        self._restart()
        for role in self._roles:
            role.wait_ready()
        self._send(self._doubtful)
        while self._left:
            self._send(self._next(POST))
        settle(self._gateway, self.log)
        self._gateway.assert_books_balance()
        for role in self._roles:
            assert role.stop() == 0, role.tail()
        return self._told
