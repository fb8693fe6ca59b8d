"""A cluster's roles are replaced by the next version's, one by one: in the right order, and in the wrong one.

The next version (next_version.py) writes facts of schema 2 and a layout 5 of the table "seen", and reads
what this one wrote. So docs/operating.md promises it; also what becomes of offsets that the cluster forgets.
"""

import asyncio
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from streams import fact, known, topics
from streams.log.partition import partition_of
from tests.kafka import next_version
from tests.kafka.faults_load import Load, assert_exact, cost_nano, event, post_all, wait_counted, wait_settled
from tests.kafka.faults_topics import append, read_all
from tests.kafka.fixtures import Cluster
from tests.kafka.installation import Installation, Role
from tests.road.harness import wait_until
from tests.test_golden import EVENTS, FACTS, SEEN

PARTITIONS = 2
OTHERS = 20
ENDED_S = 30.0
BOTH = "facts,seen"


class Next(Role):
    """A role of the next version."""

    def command(self) -> list[str]:
        return [sys.executable, "-P", next_version.__file__, *super().command()[1:]]


class Site:
    """An installation and its running roles."""

    def __init__(self, kafka: Cluster, prefix: str, folder: Path) -> None:
        self.installation = Installation(kafka.url, prefix, folder, partitions=PARTITIONS)
        self.installation.apply()
        self.bootstrap, self.prefix = kafka.bootstrap, prefix
        self._roles: list[Role] = []

    def start(self, *names: str, ready: bool = True) -> Sequence[Role]:
        """Roles of this version, all at once."""
        return self._started([self.installation.role(name) for name in names], ready)

    def start_next(self, *names: str, parts: str = BOTH) -> Sequence[Role]:
        """Roles of the next version, which has changed facts, the table, or both."""
        return self._started([self._next(name, parts) for name in names], True)

    def _next(self, name: str, parts: str) -> Role:
        plain = self.installation.role(name)
        environ = {**self.installation.environ, next_version.NEXT: parts}
        role = Next(name, plain.data, plain.output, **environ)
        role.port = role.metrics_port = plain.port
        return role

    def _started(self, roles: Sequence[Role], ready: bool) -> Sequence[Role]:
        self._roles.extend(roles)
        for role in roles:
            role.start(wait=False)
        for role in roles if ready else ():
            role.wait_ready()
        return roles

    def end(self) -> None:
        """No process is left."""
        for role in self._roles:
            if role.alive:
                role.kill()

    def records(self, topic: str) -> Sequence[Any]:
        """Every record of a topic, partition by partition."""

        async def read() -> list[Any]:
            name = self.prefix + topic
            return [one for n in range(PARTITIONS) for one in await read_all(self.bootstrap, name, n)]

        return asyncio.run(read())

    def facts(self) -> Sequence[fact.Fact]:
        """Every fact, of either version."""
        return [next_version.decode_fact(one.value, one.headers) for one in self.records(topics.USAGE)]

    def positions(self) -> Mapping[tuple[str, int], int]:
        """Where each view stands, by its own database."""
        path = self.installation.data / "genledger.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as views:
            rows = views.execute('SELECT projection, "partition", usage_offset FROM positions').fetchall()
        return {(name, partition): offset for name, partition, offset in rows}

    def assert_refuses(self, role: Role, what: str) -> None:
        """It ends by itself, with exit code 1, and says what to do."""
        assert role._ended(ENDED_S) == 1
        assert what in role.tail() and "upgrade genledger" in role.tail(), role.tail()


@pytest.fixture
def site(kafka: Cluster, topic_prefix: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(kafka, topic_prefix, tmp_path)
    yield made
    made.end()


def schemas(records: Sequence[Any]) -> Counter[bytes]:
    return Counter(dict(one.headers)["schema"] for one in records)


def layouts(records: Sequence[Any]) -> Counter[int]:
    return Counter(msgspec.msgpack.decode(one.value)[0] for one in records if one.value)


def books(gateway: Role) -> tuple[int, int]:
    """Records with a fate, and those that have none yet; (0, 0) while nobody can say."""
    status, found, _ = gateway.request("GET", "/api/v1/books")
    rows = found["partitions"] if status == 200 else ()
    return sum(row["read"] for row in rows), sum(row["in_flight"] for row in rows)


def test_roles_are_replaced_one_by_one_under_traffic(site: Site) -> None:
    """Summaries first, then each ledger worker: every id counts once, and old ids stay known."""
    gateway, one, two, summaries = site.start("gateway", "ledger", "ledger", "summaries")
    with Load(gateway, per_s=200) as load:
        wait_counted(gateway, 100)
        for worker in (summaries, one, two):
            assert worker.stop() == 0, worker.tail()
            site.start_next(worker.name)
            wait_counted(gateway, load.acknowledged + 60)
    repeated = post_all(gateway, range(60))
    amended = {n: cost_nano(n) + 5 for n in range(60, 100)}
    gateway.send([event(n, nano, revision=1) for n, nano in amended.items()])
    wait_until(lambda: books(gateway)[0] >= load.posted + 100, ENDED_S, "decided")
    assert_exact(site.installation, gateway, load.costs | {f"gen-{n}": nano for n, nano in amended.items()})
    facts = site.records(topics.USAGE)
    written, kept = schemas(facts), layouts(site.records(topics.SEEN_CHANGELOG))
    assert min(written[b"1"], written[b"2"]) >= 60, written
    assert min(kept[1], kept[5]) >= 60, kept
    fates = Counter(found.fate for found in site.facts())
    assert fates["duplicate"] >= len(repeated) and fates["amended"] == len(amended), fates
    # What tells of an id is a ledger worker: so an old gateway shows facts that it could not read itself.
    story = gateway.get("/api/v1/generations/gen-60")
    assert [found["fate"] for found in story["history"]] == ["counted", "amended"], story


def test_summaries_of_the_old_version_stop_at_a_newer_fact(site: Site) -> None:
    """The wrong order: they end, saying why, where they stood; replaced, they go on to exact figures."""
    gateway, ledger, summaries = site.start("gateway", "ledger", "summaries")
    costs = post_all(gateway, range(40))
    wait_settled(site.installation, gateway, len(costs))
    before = site.positions()
    assert ledger.stop() == 0
    site.start_next("ledger")
    costs |= post_all(gateway, range(20, 80))
    site.assert_refuses(summaries, "a fact of schema b'2' is newer than this version")
    assert site.positions() == before
    site.start_next("summaries")
    assert_exact(site.installation, gateway, costs)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        pytest.param("facts", "a fact of schema b'2'", marks=pytest.mark.soak),
        ("seen", "has layout 5"),
    ],
)
def test_a_ledger_of_the_old_version_decides_nothing_on_newer_state(
    site: Site, parts: str, what: str
) -> None:
    """Taking over after a newer one, it ends, saying why, and writes nothing; the newer one goes on."""
    [gateway] = site.start("gateway")
    ledger, _ = site.start_next("ledger", "summaries", parts=parts)
    costs = post_all(gateway, range(40))
    wait_settled(site.installation, gateway, len(costs))
    assert ledger.stop() == 0
    written = len(site.records(topics.USAGE)), len(site.records(topics.SEEN_CHANGELOG))
    [old] = site.start("ledger", ready=False)
    post_all(gateway, range(40))
    site.assert_refuses(old, what)
    assert (len(site.records(topics.USAGE)), len(site.records(topics.SEEN_CHANGELOG))) == written
    site.start_next("ledger", parts=parts)
    costs |= post_all(gateway, range(40, 60))
    assert_exact(site.installation, gateway, costs)
    assert Counter(found.fate for found in site.facts()) == {"counted": 60, "duplicate": 40}


def test_golden_values_in_the_changelog_are_known_to_both_versions(site: Site) -> None:
    """Read back from Kafka, what the first version knew makes its events duplicates, upgraded or not."""
    winners = {
        value.winner.id: raw for raw in reversed(SEEN) if hasattr(value := known.decode(raw), "winner")
    }
    gateway, first, _ = site.start("gateway", "ledger", "summaries")
    gateway.send([event(9000 + n, 1) for n in range(OTHERS)])  # a ledger wants facts beside its changelog
    wait_until(lambda: books(gateway) == (OTHERS, 0), ENDED_S, "folded")
    assert first.stop() == 0
    asyncio.run(put_back(site, winners))
    [ledger] = site.start("ledger")
    fates = {"duplicate": len(winners), "counted": len(EVENTS) - len(winners) + OTHERS}
    assert post_golden(site, gateway) == fates
    assert ledger.stop() == 0
    site.start_next("ledger", parts="seen")
    assert post_golden(site, gateway) == fates | {"duplicate": len(winners) + len(EVENTS)}
    gateway.assert_books_balance()


def post_golden(site: Site, gateway: Role) -> Mapping[str, int]:
    """Post the golden events; the fates so far, without winners published again, when all is folded."""
    wanted = books(gateway)[0] + len(EVENTS)
    gateway.send(EVENTS)
    wait_until(lambda: books(gateway)[0] >= wanted and books(gateway)[1] == 0, ENDED_S, "folded")
    return Counter(found.fate for found in site.facts() if found.fate != "republished")


async def put_back(site: Site, values: Mapping[str, bytes]) -> None:
    """As records of the changelog, each in its partition."""
    for id, value in values.items():
        key = id.encode()
        record = Raw(key, value)
        name = site.prefix + topics.SEEN_CHANGELOG
        await append(site.bootstrap, name, partition_of(key, PARTITIONS), [record])


class Raw(msgspec.Struct):
    """A record to write."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def test_the_next_version_reads_all_that_this_one_wrote() -> None:
    """Golden facts and values of the table mean to the next version what they mean to this one."""
    for line in FACTS:
        assert next_version.decode_fact(line, fact.SCHEMA_HEADERS) == fact.decode(line)
        again = next_version.encode_fact(fact.decode(line))
        assert {"at_ms", "host"} <= json.loads(again).keys() and "time_ms" not in json.loads(again)
        assert next_version.decode_fact(again, next_version.SCHEMA_HEADERS) == fact.decode(line)
    for value in SEEN:
        assert next_version.decode_known(value) == known.decode(value)
        assert next_version.decode_known(next_version.encode_known(known.decode(value))) == known.decode(
            value
        )


def test_offsets_that_the_cluster_forgot_are_in_the_facts(site: Site) -> None:
    """Away for longer than the brokers keep a group's offsets, the ledger goes on after its last fact."""
    gateway, ledger, _ = site.start("gateway", "ledger", "summaries")
    costs = post_all(gateway, range(40))
    wait_settled(site.installation, gateway, len(costs))
    assert ledger.stop() == 0
    costs |= post_all(gateway, range(20, 60))
    assert forget_offsets(site) > 0
    site.start("ledger")
    assert_exact(site.installation, gateway, costs)
    assert Counter(found.fate for found in site.facts()) == {"counted": 60, "duplicate": 20}


def forget_offsets(site: Site) -> int:
    """Delete the ledger's group, as brokers do after offsets.retention.minutes; how many offsets it had."""
    group = f"{site.prefix}{topics.LEDGER_GROUP}"
    admin = AdminClient({"bootstrap.servers": site.bootstrap})

    def offsets() -> int:
        asked = [ConsumerGroupTopicPartitions(group)]
        found = admin.list_consumer_group_offsets(asked, request_timeout=10)[group].result()
        return sum(place.offset >= 0 for place in found.topic_partitions)

    had = offsets()
    admin.delete_consumer_groups([group], request_timeout=10)[group].result()
    assert offsets() == 0
    return had
