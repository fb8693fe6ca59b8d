"""Fault row 30, step by step: a ledger worker stands still in the middle of a batch and goes on too late.

A has decided a batch and begun its transaction when it stops (SIGSTOP). B takes over, decides the same
records, and amends their ids. A goes on (SIGCONT). Then the real cleaner compacts the changelog of "seen",
the local tables are deleted, and a third worker recovers "seen" from what is left and amends again.
The same steps with A's fencing switched off end with wrong facts and figures: so the test can fail.
"""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from streams import fact, topics
from tests.kafka.faults_load import (
    assert_exact,
    cost_nano,
    event,
    expected_sums,
    found_sums,
    post_all,
    wait_settled,
)
from tests.kafka.faults_seams import Zombie
from tests.kafka.faults_topics import compact_soon, read_all
from tests.kafka.fixtures import Cluster
from tests.kafka.installation import Installation, Role
from tests.kafka.worker_with_seams import BEGUN
from tests.road.harness import wait_until

PARTITIONS = 2
SESSION_S = 3.0
TAKE_OVER_S = 15.0
COMPACTED_S = 30.0
IDS = range(200)
ROUND = 100


class Story:
    """An installation, what was published, and so what the figures must be."""

    def __init__(self, installation: Installation, bootstrap: str, prefix: str) -> None:
        self.installation = installation
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._roles: list[Role] = []
        self._others = 1000
        self.costs: dict[str, int] = {}
        self.gateway = self.start("gateway")
        self.start("summaries")

    def start(self, name: str) -> Role:
        """A role, ready."""
        return self._started(self.installation.role(name))

    def start_zombie(self, stop_at: str, *, unfenced: bool = False, **environ: str) -> Zombie:
        """A ledger worker that will stand still."""
        zombie = Zombie(self.installation, stop_at, unfenced=unfenced, **environ)
        self._started(zombie)
        return zombie

    def _started(self, role: Role) -> Role:
        self._roles.append(role)
        role.start(wait=False)
        role.wait_ready()
        return role

    def end(self) -> None:
        """No process is left."""
        for role in self._roles:
            if role.alive:
                role.kill()

    def publish(self, revision: int) -> None:
        """A version of the ids of the batch: a higher revision, another cost."""
        costs = {n: cost_nano(n) + revision * 1_000_003 for n in IDS}
        self.gateway.send([event(n, nano, revision=revision) for n, nano in costs.items()])
        self.costs |= {f"gen-{n}": nano for n, nano in costs.items()}

    def publish_others(self) -> None:
        """Ids that nobody has seen, in every partition."""
        numbers = range(self._others, self._others + ROUND)
        self._others += ROUND
        self.costs |= post_all(self.gateway, numbers)

    def assert_exact(self) -> None:
        """All is counted once, by its newest version."""
        assert_exact(self.installation, self.gateway, self.costs)

    def compact(self) -> int:
        """Until the cleaner has left one record of each id of the batch; how many it has removed."""
        before = self._changelog()
        asyncio.run(compact_soon(self._bootstrap, self._prefix + topics.SEEN_CHANGELOG))
        wanted = {f"gen-{n}".encode() for n in IDS}
        deadline_s = time.monotonic() + COMPACTED_S
        while True:
            self.publish_others()  # closes the segment that holds what is to be compacted
            time.sleep(0.5)
            now = self._changelog()
            left = Counter(now.values())
            if all(left[key] == 1 for key in wanted):
                return len(before.keys() - now.keys())
            assert time.monotonic() < deadline_s, "the cleaner did not come"

    def _changelog(self) -> dict[tuple[int, int], bytes]:
        """The key of each record of the changelog, by partition and offset."""
        name = self._prefix + topics.SEEN_CHANGELOG
        return {(n, one.offset): one.key for n in range(PARTITIONS) for one in self._records(name, n)}

    def _records(self, name: str, partition: int) -> Sequence[Any]:
        return asyncio.run(read_all(self._bootstrap, name, partition))

    def recover(self) -> None:
        """The local tables are gone: a worker that starts has the compacted changelog, and nothing else."""
        shutil.rmtree(self.installation.data / "tables")
        self.start("ledger")

    def decided_twice(self) -> int:
        """How many records of `generations` have more than one fact."""
        found: Counter[tuple[int, int]] = Counter()
        for n in range(PARTITIONS):
            for record in self._records(self._prefix + topics.USAGE, n):
                decided = fact.decode(record.value, tuple(record.headers))
                found[decided.partition, decided.offset] += 1
        return sum(count > 1 for count in found.values())


@pytest.fixture
def story(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> Iterator[Story]:
    """An installation of two partitions; a worker that stands still is missed after three seconds."""
    installation = Installation(
        kafka.url, topic_prefix, tmp_path, partitions=PARTITIONS,
        GENLEDGER_KAFKA_SESSION_TIMEOUT_S=f"{SESSION_S:g}",
    )  # fmt: skip
    installation.apply()
    story = Story(installation, kafka.bootstrap, topic_prefix)
    yield story
    story.end()


def until_amended_by_another(story: Story, a: Zombie) -> Role:
    """A stops in the middle of its first batch; B takes over, decides the same records, and amends them."""
    story.publish(1)
    wait_until(lambda: a.stands_still, 10, "standing still", a)
    b = story.start("ledger")
    wait_settled(story.installation, story.gateway, len(IDS), TAKE_OVER_S)
    story.publish(2)
    story.assert_exact()
    assert a.stands_still
    return b


@pytest.mark.parametrize("stop_at", [pytest.param(BEGUN, marks=pytest.mark.soak), "transaction-open"])
def test_the_late_writes_of_a_zombie_are_refused(story: Story, stop_at: str) -> None:
    """Fault row 30: continued, A is told that B has its partition; compacted and recovered, all is exact."""
    a = story.start_zombie(stop_at)
    b = until_amended_by_another(story, a)
    a.resume()
    wait_until(lambda: "has another owner now" in a.tail(), 10, "refused", a)
    story.publish_others()
    story.assert_exact()
    removed = story.compact()
    assert removed >= len(IDS)
    assert a.stop() == 0 and b.stop() == 0
    story.recover()
    story.publish(3)
    story.assert_exact()
    assert story.decided_twice() == 0
    print(f"row 30 ({stop_at}): the cleaner removed {removed} records of the changelog")


def test_without_fencing_the_figures_are_wrong(story: Story) -> None:
    """The same steps, but A's late writes are taken: a batch is decided twice, and ids are counted wrong."""
    a = story.start_zombie(
        BEGUN,
        unfenced=True,
        KILL_AT_FOR_TESTS="transaction-committed",
        # It dies with another transaction open: readers wait until the broker ends that.
        GENLEDGER_KAFKA_TRANSACTION_TIMEOUT_S="5",
    )
    b = until_amended_by_another(story, a)
    a.resume()
    assert a.wait_killed(10), "its late transaction was not committed"
    story.publish_others()
    story.assert_exact()
    story.compact()
    assert b.stop() == 0
    story.recover()
    story.publish(3)
    wait_settled(story.installation, story.gateway, len(story.costs))
    assert story.decided_twice() > 0
    assert found_sums(story.gateway) != expected_sums(story.costs)
