"""`genledger topics`: the table of topics against a real cluster, and the rights that follow from it."""

import asyncio
import json
import re
import socket
import time
from pathlib import Path
from typing import get_args

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError

from genledger.main import run
from streams import settings, topics
from streams.errors import LogMismatch
from streams.log.kafka import administration
from streams.log.kafka.administration import Cluster, Topic, plan_of
from streams.topics import Rule

ONE_PARTITION = (*topics.SETTINGS_TOPICS, topics.SNAPSHOTS)
PAGE = Path(__file__).parents[2] / "docs" / "topics.md"
NAMES = [spec.name for spec in topics.topic_table()]
DONE, FAILED, WRONG_USE, DIFFERENT = 0, 1, 2, 3


def settings_of(**values):
    return settings.load({}, None, **values)


def cluster_of(brokers=3, **changes):
    """A cluster with every topic as the table has it, save for what is given by name."""
    found = {}
    for spec in topics.topic_table(12):
        rules = {rule.setting: rule.value for rule in topics.rules_of(spec, 3)}
        partitions, replication, more = changes.get(spec.name, (spec.partitions, 3, {}))
        found[spec.name] = Topic(partitions, replication, rules | more)
    return Cluster(brokers, found)


def told(plan):
    return [(each.topic, each.setting, each.found, each.wanted, each.must) for each in plan.differences]


@pytest.mark.parametrize(
    ("compare", "wanted", "found", "expected"),
    [
        ("equal", "compact", "compact", True),
        ("equal", "compact", "compact,delete", False),
        ("equal", "compact", "", False),
        ("at_least", "7", "7", True),
        ("at_least", "7", "8", True),
        ("at_least", "7", "6", False),
        ("at_least", "7", "-1", True),
        ("at_least", "-1", "9223372036854775806", False),
        ("at_least", "7", "", False),
        ("at_most", "7", "6", True),
        ("at_most", "7", "8", False),
        ("at_most", "7", "-1", False),
        ("made", "producer", "zstd", True),
    ],
)
def test_a_setting_is_judged_by_what_it_does(compare, wanted, found, expected):
    """More room or a longer time than needed is no difference; less is."""
    assert topics.holds(Rule("any", wanted, "", compare), found) is expected


@pytest.mark.parametrize("spec", topics.topic_table(), ids=NAMES)
def test_each_setting_of_a_topic_stands_once_with_its_reason(spec):
    """The table gives each topic every setting once, and says why."""
    rules = topics.rules_of(spec, 3)
    assert len({rule.setting for rule in rules}) == len(rules)
    assert all(rule.why for rule in rules)


def test_the_ledgers_topics_hold_the_largest_record_of_generations():
    """A record that fills its topic can be rejected with its bytes, its headers and the reason."""
    sizes = {spec.name: spec.batch_bytes_max for spec in topics.topic_table()}
    for name in (topics.REJECTED, topics.USAGE, topics.SEEN_CHANGELOG):
        assert sizes[name] >= 2 * sizes[topics.GENERATIONS]


def test_a_cluster_as_the_table_has_it_needs_nothing():
    """There is nothing to do and nothing to say."""
    plan = plan_of(settings_of(), cluster_of())
    assert (plan.missing, plan.differences, plan.warnings) == ([], [], ())


@pytest.mark.parametrize(
    ("brokers", "replication", "in_sync"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (9, 3, "2")]
)
def test_new_topics_get_three_replicas_or_what_there_is(brokers, replication, in_sync):
    """With fewer than three brokers there are fewer replicas, and a warning."""
    plan = plan_of(settings_of(), Cluster(brokers, {}))
    assert [spec.name for spec in plan.missing] == NAMES
    assert plan.replication == replication
    assert bool(plan.warnings) is (replication < 3)
    rules = {rule.setting: rule.value for rule in topics.rules_of(plan.missing[0], plan.replication)}
    assert rules["min.insync.replicas"] == in_sync


def test_too_few_replicas_are_only_advice():
    """A topic with one replica is told of, and doesn't get a minimum that would stop every write."""
    plan = plan_of(settings_of(), cluster_of(usage=(12, 1, {})))
    assert told(plan) == [("usage", "replication", "1", "3", False)]


def test_counts_of_partitions_that_agree_are_taken_over():
    """Topics with 6 partitions are fine, and what is missing gets as many; asking for 12 is not."""
    six = {name: (6, 3, {}) for name in NAMES if name not in ONE_PARTITION}
    cluster = cluster_of(**six)
    del cluster.topics["usage"]
    plan = plan_of(settings_of(), cluster)
    assert [(spec.name, spec.partitions) for spec in plan.missing] == [("usage", 6)]
    assert plan.differences == []
    assert "GENLEDGER_PARTITIONS=6" in plan_of(settings_of(partitions=12), cluster).obstacles[0].why


def test_counts_of_partitions_that_disagree_are_told():
    """A changelog with fewer partitions than its events can't be right, whatever is asked for."""
    plan = plan_of(settings_of(), cluster_of(**{"seen-changelog": (6, 3, {})}))
    assert told(plan) == [("seen-changelog", "partitions", "6", "12", True)]
    assert "same number" in plan.obstacles[0].why
    assert "GENLEDGER_PARTITIONS" not in plan.obstacles[0].why


def test_larger_events_need_larger_facts():
    """Who lets larger records onto `generations` is told what must hold them."""
    cluster = cluster_of(generations=(12, 3, {"max.message.bytes": "10000000"}))
    there = Cluster(3, {"b-" + name: topic for name, topic in cluster.topics.items()})
    plan = plan_of(settings_of(topic_prefix="b-"), there)
    assert [(each.topic, each.wanted) for each in plan.differences] == [
        ("b-" + name, "20000000") for name in (topics.USAGE, topics.REJECTED, topics.SEEN_CHANGELOG)
    ]


def test_a_longer_outage_may_be_prepared_for():
    """Who lets the ledger be away for a month is not told to compact after a fortnight."""
    month = {
        "min.compaction.lag.ms": str(30 * topics.DAY_MS),
        "max.compaction.lag.ms": str(37 * topics.DAY_MS),
    }
    assert told(plan_of(settings_of(), cluster_of(generations=(12, 3, month)))) == []


def test_only_the_ledger_may_write_what_the_ledger_writes():
    """Facts, changelog and transactions are its alone; a point that InfluxDB refuses is rejected, too."""
    own = {topics.USAGE, topics.REJECTED, topics.SEEN_CHANGELOG, topics.LEDGER_GROUP + "-"}
    writers = {(grant.role, grant.name) for grant in topics.GRANTS if "Write" in grant.operations}
    assert {pair for pair in writers if pair[1] in own} == {
        *(("ledger", name) for name in own),
        ("points", topics.REJECTED),
    }


def test_the_rights_are_of_topics_that_there_are():
    """Each topic is granted to someone, and no other; there is none of Faust's own."""
    named = {grant.name for grant in topics.GRANTS if grant.resource == "Topic"}
    assert named == set(NAMES)
    assert topics.FAUST_INTERNAL == ()


def test_the_page_has_every_setting_and_every_right():
    """docs/topics.md tells each topic's settings and each role's rights as the table has them."""
    page = PAGE.read_text()
    settings_there = re.findall(
        r"^\| `([a-z.]+)` \| `([^`]+)` \| ([^|]+) \|[^|]+\| ([^|]+) \|$", page, re.MULTILINE
    )
    assert {row for found in settings_there for row in spread(found, NAMES)} == {
        (rule.setting, rule.value, rule.why, spec.name)
        for spec in topics.topic_table(12)
        for rule in topics.rules_of(spec, 3)
    }
    rights = re.findall(r"^\| (\w+) \| (\w+)[^|]* \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert {
        (role, resource, operations, name)
        for role, resource, names, operations, _ in rights
        if role in get_args(topics.Role)
        for name in named(names, NAMES)
    } == {(each.role, each.resource, " ".join(each.operations), each.name) for each in topics.GRANTS}


def named(cell, every):
    """The names in a cell of the page's tables."""
    return every if cell in ("all", "every topic") else re.findall(r"`([^`]+)`", cell)


def spread(found, every):
    setting, value, names, why = found
    return [(setting, value, why, name) for name in named(names, every)]


@pytest.fixture
def genledger(monkeypatch, tmp_path, capsys):
    """Runs a command with these settings; its exit code, what it printed, and what it said."""
    monkeypatch.chdir(tmp_path)

    def command(*words, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = run(words)
        done = capsys.readouterr()
        return code, done.out, done.err

    return command


@pytest.fixture
def installed(genledger, kafka, topic_prefix, monkeypatch):
    """The same, on the shared cluster, under a prefix of the test's own, with few partitions."""
    monkeypatch.setenv("GENLEDGER_BROKER", kafka.url)
    monkeypatch.setenv("GENLEDGER_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("GENLEDGER_PARTITIONS", "2")
    return genledger


def on_cluster(kafka, work):
    """What an administrator does by hand."""

    async def run():
        client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await client.start()
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(run())


def make(kafka, name, partitions=2, **config):
    """Make a topic by hand, with settings whose dots are underscores."""
    config = {key.replace("_", "."): value for key, value in config.items()}

    async def work(client):
        response = await client.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
        assert [code for _, code, _ in response.topic_errors] == [0]
        await administration._wait_led(client, [name], 10)

    on_cluster(kafka, work)


def there(kafka, prefix):
    """Partitions and settings of the topics with this prefix."""
    found = settings_of(broker=kafka.url, topic_prefix=prefix)

    async def ask(client):
        listed = [name for name in await client.list_topics() if name.startswith(prefix)]
        return {name: await administration._settings_of(client, [name]) for name in sorted(listed)}

    return {
        name.removeprefix(found.topic_prefix): values[name] for name, values in on_cluster(kafka, ask).items()
    }


def test_plan_apply_and_check_agree(installed, kafka, topic_prefix):
    """What plan shows, apply makes, and check finds right; a second apply has nothing to do."""
    code, planned, _ = installed("topics", "plan", "--json")
    assert code == DONE
    assert installed("topics", "apply", "--dry-run")[0] == DONE
    assert there(kafka, topic_prefix) == {}
    assert installed("topics", "check")[0] == DIFFERENT
    code, applied, said = installed("topics", "apply", "--json")
    assert (code, applied) == (DONE, planned)
    assert "warning: new topics get replication 1" in said
    assert installed("topics", "check") == (DONE, "all well\n", "")
    assert installed("topics", "apply") == (DONE, "all well: nothing to do\n", "")
    made = there(kafka, topic_prefix)
    assert sorted(made) == sorted(NAMES)
    for row in json.loads(planned)["plan"]:
        if row["setting"] not in ("partitions", "replication"):
            assert made[row["topic"].removeprefix(topic_prefix)][row["setting"]] == row["wanted"]


def test_a_topic_made_wrongly_is_found_and_mended(installed, kafka, topic_prefix):
    """A ledger of record that would be cut after a day is a difference until apply has mended it."""
    make(kafka, topic_prefix + "usage", cleanup_policy="compact", retention_ms="86400000")
    installed("topics", "apply", "--partitions", "2")  # all else is made; usage is mended
    make(kafka, topic_prefix + "other", retention_ms="1000")
    assert installed("topics", "check")[:2] == (DONE, "all well\n")
    usage = there(kafka, topic_prefix)["usage"]
    assert (usage["cleanup.policy"], usage["retention.ms"]) == ("delete", "-1")
    assert usage["message.timestamp.type"] == "LogAppendTime"
    assert there(kafka, topic_prefix)["other"]["retention.ms"] == "1000"


def test_check_says_what_differs_and_why(installed, kafka, topic_prefix):
    """Each difference has the value found, the value wanted and the reason."""
    make(kafka, topic_prefix + "usage", cleanup_policy="delete", retention_ms="86400000")
    code, out, said = installed("topics", "check", "--json")
    assert code == DIFFERENT
    found = {(each["topic"], each["setting"]): each for each in json.loads(out)["differences"]}
    usage = found[topic_prefix + "usage", "retention.ms"]
    assert (usage["found"], usage["wanted"], usage["must"]) == ("86400000", "-1", True)
    assert "never cut by time" in said
    assert found[topic_prefix + "generations", ""]["found"] == "missing"


def test_apply_keeps_what_an_operator_set(installed, kafka, topic_prefix):
    """Settings that the table does not name, and those that do more than it asks, stay as they are."""
    kept = {
        "cleanup_policy": "delete",
        "retention_ms": "-1",
        "segment_bytes": "123456789",
        "flush_messages": "17",
        "compression_type": "zstd",
        "max_message_bytes": "16000000",
    }
    make(kafka, topic_prefix + "usage", **kept)
    code, out, _ = installed("topics", "apply")
    assert code == DONE
    assert "message.timestamp.type" in out  # something of it was changed
    usage = there(kafka, topic_prefix)["usage"]
    assert {name: usage[name.replace("_", ".")] for name in kept} == kept
    assert usage["message.timestamp.type"] == "LogAppendTime"


def test_another_number_of_partitions_stops_apply(installed, kafka, topic_prefix):
    """Apply changes nothing, and says what to do; check finds it."""
    make(kafka, topic_prefix + "generations", partitions=6)
    code, _, said = installed("topics", "apply")
    assert code == FAILED
    assert f"{topic_prefix}generations has 6 partitions, not 2" in said
    assert "GENLEDGER_PARTITIONS=6" in said
    with pytest.raises(LogMismatch, match="has 6 partitions"):
        asyncio.run(
            administration.ensure(settings_of(broker=kafka.url, topic_prefix=topic_prefix, partitions=2))
        )
    assert sorted(there(kafka, topic_prefix)) == ["generations"]
    code, out, _ = installed("topics", "check")
    assert code == DIFFERENT
    assert "partitions" in out


def test_two_installations_share_a_cluster(installed, kafka, topic_prefix):
    """The topics of one are nothing to the other."""
    assert installed("topics", "apply")[0] == DONE
    assert installed("topics", "check", GENLEDGER_TOPIC_PREFIX=topic_prefix + "b-")[0] == DIFFERENT
    assert installed("topics", "apply", "--partitions", "3")[0] == DONE
    assert installed("topics", "check", GENLEDGER_TOPIC_PREFIX=topic_prefix)[0] == DONE


async def test_ensure_makes_what_is_missing_once(kafka, topic_prefix):
    """Several roles that start together make each topic once, and none of them fails."""
    found = settings_of(broker=kafka.url, topic_prefix=topic_prefix, partitions=2)
    made = await asyncio.gather(*(administration.ensure(found) for _ in range(3)))
    assert {name for names in made for name in names} == {topic_prefix + name for name in NAMES}
    assert await administration.ensure(found) == []
    assert await administration.differences(found) == []


async def test_a_record_that_only_packs_small_is_refused(kafka, topic_prefix):
    """The limit of `generations` is of what the ledger would read: the producer hears of it."""
    found = settings_of(broker=kafka.url, topic_prefix=topic_prefix, partitions=1)
    await administration.ensure(found)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, compression_type="gzip", max_request_size=10_000_000
    )
    await producer.start()
    try:
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(topic_prefix + "generations", b"0" * 6_000_000, key=b"big")
        await producer.send_and_wait(topic_prefix + "generations", b"0" * 3_000_000, key=b"fits")
    finally:
        await producer.stop()


def test_a_cluster_that_does_not_answer_is_told_in_time(genledger):
    """A command waits for no longer than the request timeout, and says where it has asked."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began_s = time.monotonic()
        code, _, said = genledger(
            "topics",
            "check",
            GENLEDGER_BROKER=f"kafka://127.0.0.1:1,{address}",
            GENLEDGER_KAFKA_REQUEST_TIMEOUT_S="0.5",
        )
        took_s = time.monotonic() - began_s
    assert code == FAILED
    assert f"127.0.0.1:1: nobody listens there; {address}: no answer in time" in said
    assert took_s < 2


def test_an_embedded_log_has_no_topics_to_apply(genledger):
    """The command says that it is for a cluster."""
    code, _, said = genledger("topics", "apply", GENLEDGER_BROKER="")
    assert code == WRONG_USE
    assert "GENLEDGER_BROKER" in said


def test_rights_are_printed_without_a_cluster(genledger):
    """The cluster's owner can be told what to grant before anyone connects."""
    code, out, _ = genledger(
        "topics",
        "plan",
        "--acls",
        "--principal",
        "User:led ger",
        "--role",
        "ledger",
        GENLEDGER_BROKER="kafka://127.0.0.1:1",
        GENLEDGER_TOPIC_PREFIX="p-",
    )
    assert code == DONE
    commands = [line for line in out.splitlines() if line.startswith("kafka-acls.sh")]
    common = "kafka-acls.sh --bootstrap-server 127.0.0.1:1 --command-config admin.properties --add"
    whom = "--allow-principal 'User:led ger'"
    assert f"{common} {whom} --operation Read --operation Write --topic p-generations" in commands
    assert f"{common} {whom} --operation Read --group p-ledger" in commands
    prefixed = "--resource-pattern-type prefixed --transactional-id p-ledger-"
    assert f"{common} {whom} --operation Write {prefixed}" in commands


@pytest.mark.parametrize(
    "words",
    [("plan", "--role", "ledger"), ("plan", "--partitions", "0"), ("check", "--replication", "-1")],
)
def test_wrong_use_is_told_as_such(genledger, words):
    """A number below one, or an option out of place, is refused before a cluster is asked."""
    assert genledger("topics", *words, GENLEDGER_BROKER="kafka://127.0.0.1:1")[0] == WRONG_USE
