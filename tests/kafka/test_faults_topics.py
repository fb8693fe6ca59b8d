"""A topic is deleted and made again, or cut back: fault row 32, on a real Kafka.

What stands on the old one, the views' rows and the ledger's position, must not go on with the new one: it
would skip whatever stands below its position, and nobody would notice.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from streams import topics
from tests.kafka.faults_load import post_all, processed, wait_counted
from tests.kafka.faults_topics import append, cut, delete, make, read_all
from tests.kafka.fixtures import Cluster
from tests.kafka.installation import Installation, Role
from tests.road.harness import wait_until

PARTITIONS = 2
# Those that run look every ten seconds whether the topics are still the same.
NOTICED_S = 20.0
PLAIN = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(16 << 20)}
LOST = "cut back, recreated or restored"


class Site:
    """An installation, and what is done to its topics."""

    def __init__(self, kafka: Cluster, prefix: str, folder: Path) -> None:
        self.prefix = prefix
        self.bootstrap = kafka.bootstrap
        self.installation = Installation(
            kafka.url, prefix, folder, partitions=PARTITIONS, GENLEDGER_KAFKA_SESSION_TIMEOUT_S="4"
        )
        self.installation.apply()

    def records(self, topic: str) -> Mapping[int, Sequence[Any]]:
        """What a topic holds, by partition."""
        name = self.prefix + topic
        return {n: asyncio.run(read_all(self.bootstrap, name, n)) for n in range(PARTITIONS)}

    def recreate(self, topic: str, records: Mapping[int, Sequence[Any]] | None = None) -> None:
        """Delete it and make it again, with these records."""
        name = self.prefix + topic
        asyncio.run(delete(self.bootstrap, name))
        asyncio.run(make(self.bootstrap, name, PARTITIONS, PLAIN))
        for n, some in (records or {}).items():
            asyncio.run(append(self.bootstrap, name, n, some))

    def wait_decided(self, count: int) -> None:
        """Until there are so many facts."""
        wait_until(lambda: sum(map(len, self.records(topics.USAGE).values())) == count, 10, "decided")

    def assert_refuses(self, role: str, message: str) -> None:
        """It is started, ends with 1, and says this."""
        found = self.installation.role(role)
        try:
            found.start(wait=False)
            assert found._ended(NOTICED_S) == 1
        finally:
            _gone(found)
        assert message in found.tail(), found.tail()


def _gone(role: Role) -> None:
    if role.alive:
        role.kill()


@pytest.fixture
def site(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> Site:
    """Two partitions."""
    return Site(kafka, topic_prefix, tmp_path)


@pytest.fixture
def other_site(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> Site:
    """Another installation on the same cluster."""
    return Site(kafka, f"other-{topic_prefix}", tmp_path / "other")


def test_roles_that_run_stop_when_a_topic_is_made_again(site: Site, other_site: Site) -> None:
    """Fault row 32: `usage` in one installation, `generations` in another: every role exits with 1."""
    names = ("gateway", "ledger", "summaries")
    with site.installation.running(*names) as roles, other_site.installation.running(*names) as others:
        for gateway in (roles[0], others[0]):
            post_all(gateway, range(100))
            wait_counted(gateway, 100)
        site.recreate(topics.USAGE)
        other_site.recreate(topics.GENERATIONS)
        for role in (*roles, *others):
            assert role._ended(NOTICED_S) == 1
            assert "deleted" in role.tail(), role.tail()


def test_roles_that_start_refuse_a_topic_that_is_not_their_own(site: Site) -> None:
    """Fault row 32: a topic that was cut, made anew, or is longer than before: nobody starts on it."""
    with site.installation.running("gateway", "ledger", "summaries") as (gateway, _, summaries):
        costs = post_all(gateway, range(200))
        wait_counted(gateway, 200)
        assert summaries.stop() == 0
        post_all(gateway, range(200, 400))
        site.wait_decided(400)
    facts, events = site.records(topics.USAGE), site.records(topics.GENERATIONS)

    asyncio.run(cut(site.bootstrap, site.prefix + topics.USAGE, PARTITIONS))
    site.assert_refuses("summaries", LOST)
    site.recreate(topics.USAGE)
    site.assert_refuses("summaries", LOST)
    site.assert_refuses("ledger", "facts are missing")
    site.recreate(topics.USAGE, _longer(facts))
    site.assert_refuses("summaries", LOST)
    assert processed(site.installation.data) == costs, "nothing was taken from a topic of another"

    site.recreate(topics.GENERATIONS)
    site.assert_refuses("ledger", LOST)
    site.recreate(topics.GENERATIONS, _longer(events))
    site.assert_refuses("ledger", LOST)


def _longer(records: Mapping[int, Sequence[Any]]) -> Mapping[int, Sequence[Any]]:
    """What was there, at other offsets, and reaching farther than before."""
    return {n: [*some[1:], *some] for n, some in records.items()}
