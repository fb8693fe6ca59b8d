"""Ledger workers that can't work: each says why, and none of them works wrongly."""

import time
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams import topics
from tests.kafka.installation import Installation
from tests.kafka.test_roles import event, requests_of
from tests.road.harness import wait_until


@pytest.fixture
def installation(kafka, topic_prefix: str, tmp_path: Path) -> Installation:
    made = Installation(
        kafka.url, topic_prefix, tmp_path, partitions=1, GENLEDGER_KAFKA_SESSION_TIMEOUT_S="2"
    )
    made.apply()
    return made


def test_a_standby_stops_at_once(installation: Installation) -> None:
    """A worker that waits for a partition is not ready, says so, and ends on SIGTERM like any other."""
    with installation.running("ledger"):
        standby = installation.role("ledger", "--standby")
        standby.start(wait=False)
        wait_until(lambda: standby.get_status("/readyz") == 503, 15, "answering", standby)
        assert "waiting for a partition" in str(standby.request("GET", "/readyz")[1])
        begun_s = time.monotonic()
        assert standby.stop() == 0
        assert time.monotonic() - begun_s < 5


def test_a_take_over_that_the_cluster_refuses_ends_the_worker(installation: Installation) -> None:
    """What will never work is not tried for ever: exit 1, and the cluster's reason."""
    role = installation.role("ledger", GENLEDGER_KAFKA_TRANSACTION_TIMEOUT_S="2000")
    role.start(wait=False)
    assert role._ended(30) == 1
    assert "can't be taken over" in role.tail(), role.tail()


def forget_offsets(bootstrap: str, group: str) -> None:
    """As a cluster does with a group that was away for long, once its members have gone."""
    client = AdminClient({"bootstrap.servers": bootstrap})
    deadline_s = time.monotonic() + 15
    while True:
        try:
            client.delete_consumer_groups([group])[group].result()
            return
        except KafkaException:
            assert time.monotonic() < deadline_s
            time.sleep(0.2)


@pytest.mark.parametrize("lost", [topics.SEEN_CHANGELOG, pytest.param(topics.USAGE, marks=pytest.mark.soak)])
async def test_half_of_what_was_decided_is_not_enough(installation: Installation, kafka, lost: str) -> None:
    """With the changelog or the facts lost a ledger ends saying so, rather than count twice, or never."""
    with installation.running("gateway", "ledger", "summaries") as (gateway, *_):
        gateway.send([event(f"gen-{n}") for n in range(20)])
        wait_until(lambda: requests_of(gateway, "acme") == 20, 15, "in the views", gateway)
    name = installation.prefix + lost
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    try:
        await client.delete_topics([name])
        wait_until_gone_s = time.monotonic() + 10
        while name in await client.list_topics():
            assert time.monotonic() < wait_until_gone_s
            time.sleep(0.1)
        if lost == topics.USAGE:
            forget_offsets(kafka.bootstrap, f"{installation.prefix}ledger")
    finally:
        await client.close()
    installation.apply()
    role = installation.role("ledger")
    role.start(wait=False)
    assert role._ended(40) == 1
    assert "missing" in role.tail() and "operating.md" in role.tail(), role.tail()


def test_a_table_in_memory_is_read_back_from_the_changelog(installation: Installation) -> None:
    """With GENLEDGER_TABLE_STORE=memory a restarted worker knows every id, and has written no table."""
    for round_ in range(2):
        with installation.running("gateway", "summaries") as (gateway, _):
            ledger = installation.role("ledger", GENLEDGER_TABLE_STORE="memory").start()
            try:
                gateway.send([event(f"gen-{n}") for n in range(20 + round_)])
                wait_until(lambda: requests_of(gateway, "acme") == 20 + round_, 15, "in the views", gateway)  # noqa: B023
                gateway.assert_books_balance()
                assert ledger.stop() == 0
            finally:
                if ledger.alive:
                    ledger.kill()
    assert not list(installation.data.glob("tables/*/seen/*"))
