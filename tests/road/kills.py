"""Kills with -9 in the middle of the traffic, each at a named point with a backlog behind it.

    kills = Kills(data, traffic, deliveries, seed)
    for phase in phases:
        kills.go_on(batches)            # posts a while
        kills.until(phase)              # posts until the process dies there
    told = kills.finish()               # posts the rest, waits, stops

A batch whose answer was lost with the process is posted again, as a producer would; and so that there is
always one, the end of the last batch is posted again as if its answer had been lost.
"""

import contextlib
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.model.traffic import Delivery, Traffic
from tests.road.files import positions, unapplied
from tests.road.harness import Died, Service, set_up
from tests.road.run import numbers, settle

UNAPPLIED_MIN = 1000
BATCH = 5000
TOLD_AGAIN = 500
TRIES = 8
DEATH_S = 20.0
# What is on disk at each point, in the words of the issue.
PHASES = {
    "republished": "winners published again, facts not written",
    "transaction-open": "facts and changelog written, not committed",
    "transaction-committed": "facts and changelog written and committed, the local store not",
    "store-written": "the local store written, the batch not acknowledged",
    "summaries-transaction": "inside the summaries' transaction",
    "processed-transaction": "inside the transaction of processed_generations",
    "recovery": "the ledger's table is being recovered",
}


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: where, the how-manieth time there, with how many records unapplied, after how many lines."""

    phase: str
    count: int
    unapplied: int
    posted: int


class Kills:
    """Feeds a service that dies again and again."""

    def __init__(self, data: Path, traffic: Traffic, deliveries: Sequence[Delivery], seed: int) -> None:
        self.data = data
        self.traffic = traffic
        self.done: list[Kill] = []
        self._left = list(reversed(_batches(deliveries)))
        self._random = random.Random(seed)
        self._posted = 0
        self._doubtful: Sequence[Delivery] = ()
        self._told: Counter[int] = Counter()
        with Service(data) as service:
            set_up(service, traffic)

    def go_on(self, batches: int) -> None:
        """Run and post for a while, unharmed."""
        with Service(self.data) as service:
            self._post_again(service)
            for _ in range(min(batches, len(self._left))):
                self._post(service)

    def until(self, phase: str) -> Kill:
        """Kill it at a point with enough unapplied; a kill that found less is made, but does not count."""
        for _ in range(TRIES):
            kill = self._once(phase)
            if kill.unapplied >= UNAPPLIED_MIN:
                self.done.append(kill)
                return kill
        raise AssertionError(f"{TRIES} kills at {phase}, none with {UNAPPLIED_MIN} records unapplied")

    def _once(self, phase: str) -> Kill:
        """Run and post until the process dies at a point."""
        # What is told again first is a batch of each partition, all at work at once: with these alone nothing
        # would be left behind the kill. A recovery has but a few steps.
        count = self._random.randint(1, 3) if phase == "recovery" else self._random.randint(6, 12)
        if phase == "recovery":
            self._make_recovery_due()
        service = Service(self.data, kill_at=f"{phase}:{count}")
        service.start(wait=False)
        try:
            with contextlib.suppress(Died):
                service.wait_ready()
                self._post_again(service)
                while self._left:
                    self._post(service)
            assert service.wait_killed(DEATH_S), f"it did not die at {phase}:{count}\n{service.tail()}"
        finally:
            if service.alive:
                service.kill()
        assert f"killed at {phase}" in service.tail(), service.tail()
        left = max(unapplied(self.data, "summaries"), unapplied(self.data, "processed"))
        return Kill(phase, count, left, self._posted)

    def _make_recovery_due(self) -> None:
        """A backlog, and a table that has to be read back from its changelog."""
        with Service(self.data, without=["summaries"]) as service:
            while self._left and unapplied(self.data) < UNAPPLIED_MIN + BATCH:
                self._post(service)
        shutil.rmtree(self.data / "tables", ignore_errors=True)

    def _post(self, service: Service) -> None:
        self._send(service, self._left[-1])
        self._doubtful = self._left.pop()[-TOLD_AGAIN:]

    def _post_again(self, service: Service) -> None:
        self._send(service, self._doubtful)
        self._doubtful = ()

    def _send(self, service: Service, batch: Sequence[Delivery]) -> None:
        if not batch:
            return
        refused = service.send([delivery.line for delivery in batch])
        assert refused == [place for place, delivery in enumerate(batch) if delivery.bad]
        self._posted += len(batch)
        self._told.update(numbers(batch))

    def finish(self) -> Counter[int]:
        """Post the rest, wait until all is taken, and stop; how often each line was acknowledged."""
        with Service(self.data) as service:
            self._post_again(service)
            while self._left:
                self._post(service)
            settle(service)
            service.assert_books_balance()
            assert service.stop() == 0, service.tail()
        assert positions(self.data)
        return self._told


def _batches(deliveries: Sequence[Delivery]) -> list[Sequence[Delivery]]:
    return [deliveries[start : start + BATCH] for start in range(0, len(deliveries), BATCH)]
