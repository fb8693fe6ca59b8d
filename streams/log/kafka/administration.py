"""The topics on a cluster: what is missing, what differs, and making it so.

    names = await ensure(settings)              # what is missing is made; their names
    found = await differences(settings)         # what is not as the table of streams/topics.py has it
    found = await plan(settings)                # both, before anything is done
    done = await apply(settings)                # and both done

Nothing is ever deleted, no partition count is changed, and a setting that the table does not name stays as
whoever runs the cluster made it: changes are incremental, each sent as one key and its value.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from streams import topics
from streams.errors import LogError, LogMismatch, LogUnavailable
from streams.log.interface import TopicSpec
from streams.log.kafka.connect import client_options, require_reachable
from streams.log.kafka.topic_settings import AlterTopics
from streams.settings import Settings

PARTITIONS, REPLICAS = "partitions", "replication"
READY_POLL_S = 0.05


class Topic(msgspec.Struct, frozen=True):
    """A topic as the cluster has it: every setting by its value in force."""

    partitions: int
    replication: int
    settings: Mapping[str, str] = {}


class Cluster(msgspec.Struct, frozen=True):
    """How many brokers there are, and the topics of this installation by their full names."""

    brokers: int
    topics: Mapping[str, Topic]


class Difference(msgspec.Struct, frozen=True):
    """A topic that is not as it must be (`must`), or as it had better be. `mendable`: apply does it."""

    topic: str
    setting: str
    found: str
    wanted: str
    must: bool
    mendable: bool
    why: str


class Plan(msgspec.Struct, frozen=True):
    """What would be made, what differs, and what to be warned of. `replication` is of what is made."""

    missing: Sequence[TopicSpec]
    differences: Sequence[Difference]
    replication: int
    warnings: Sequence[str] = ()

    @property
    def obstacles(self) -> Sequence[Difference]:
        """What must be otherwise, and apply can't make so."""
        return [each for each in self.differences if each.must and not each.mendable]


def plan_of(
    settings: Settings, cluster: Cluster, partitions: int | None = None, replication: int | None = None
) -> Plan:
    """What lies between a cluster and the table. Pure."""
    prefix = settings.topic_prefix
    counts = _counts(prefix, cluster)
    # A new installation has the default; what is there already is joined.
    wanted = partitions or settings.partitions or next(iter(counts), topics.KAFKA_PARTITIONS)
    least = min(topics.REPLICATION, cluster.brokers)
    raised = cluster.topics.get(prefix + topics.GENERATIONS)
    missing: list[TopicSpec] = []
    found: list[Difference] = []
    for spec in topics.topic_table(wanted):
        if spec.store == "ledger" and spec.name != topics.SNAPSHOTS and raised is not None:
            spec = _roomier(spec, raised)
        name = prefix + spec.name
        if name in cluster.topics:
            found += _partitions_of(name, spec, cluster.topics[name], len(set(counts)) == 1)
            found += _differences_of(name, spec, cluster.topics[name], replication or least)
        else:
            missing.append(spec)
    replicas = replication or least
    return Plan(missing, found, replicas, _warnings(missing, replicas, replication))


def _counts(prefix: str, cluster: Cluster) -> Sequence[int]:
    """The partitions of those topics there that must all have the same number."""
    names = [prefix + spec.name for spec in topics.topic_table(0) if spec.partitions == 0]
    return [cluster.topics[name].partitions for name in names if name in cluster.topics]


def _roomier(spec: TopicSpec, generations: Topic) -> TopicSpec:
    """Whoever lets larger records onto `generations` needs the room for them on what the ledger writes."""
    largest = int(generations.settings.get("max.message.bytes", 0))
    return msgspec.structs.replace(spec, batch_bytes_max=max(spec.batch_bytes_max, 2 * largest))


def _later(spec: TopicSpec, topic: Topic) -> TopicSpec:
    """Whoever lets the ledger be away for longer has compaction end later, too: Kafka wants it after."""
    least_ms = int(topic.settings.get("min.compaction.lag.ms") or 0)
    if least_ms <= spec.compaction_lag_ms_min:
        return spec
    return msgspec.structs.replace(spec, compaction_lag_ms_max=least_ms + topics.COMPACTED_WITHIN_MS)


def _partitions_of(name: str, spec: TopicSpec, topic: Topic, agreed: bool) -> Iterator[Difference]:
    there, wanted = topic.partitions, spec.partitions
    if there == wanted:
        return
    if wanted == 1:
        why = "with more than one the order of changes is lost: its owner makes it anew, with 1"
    else:
        mend = f"set GENLEDGER_PARTITIONS={there}, or " if agreed else ""
        same = "" if agreed else "events, facts and changelog must have the same number; "
        why = (
            f"{same}keys would move, so a count is never changed: {mend}begin anew under another"
            " GENLEDGER_TOPIC_PREFIX"
        )
    yield Difference(name, PARTITIONS, str(there), str(wanted), True, False, why)


def _differences_of(name: str, spec: TopicSpec, topic: Topic, replicas: int) -> Iterator[Difference]:
    if topic.replication < replicas:
        why = "whoever runs the cluster adds replicas, with kafka-reassign-partitions.sh"
        yield Difference(name, REPLICAS, str(topic.replication), str(replicas), False, False, why)
    for rule in topics.rules_of(_later(spec, topic), topic.replication):
        value = topic.settings.get(rule.setting, "")
        if not topics.holds(rule, value):
            yield Difference(name, rule.setting, value, rule.value, not rule.advice, True, rule.why)


def _warnings(missing: Sequence[TopicSpec], replicas: int, asked: int | None) -> Sequence[str]:
    if not missing or replicas >= topics.REPLICATION:
        return ()
    brokers = "" if asked else f", for the cluster has {replicas} broker{'s' * (replicas > 1)}"
    lost = (
        "with that broker's disk every record is lost, and its loss of power may take the newest"
        if replicas == 1
        else "while one broker is away, records are acknowledged that one disk alone has"
    )
    return (f"new topics get replication {replicas}{brokers}: {lost}. Production needs 3",)


async def ensure(
    settings: Settings, *, partitions: int | None = None, replication: int | None = None
) -> list[str]:
    """Make the topics that are missing; their full names. What is there is left as it is.

    When nothing is missing, whoever may describe the topics may call this.
    """
    async with _client(settings) as client:
        there = await _cluster(client, settings, with_settings=False)
        found = plan_of(settings, there, partitions, replication)
        _refuse(found)
        await _make(client, settings, found)
    return [settings.topic_prefix + spec.name for spec in found.missing]


async def differences(
    settings: Settings, *, partitions: int | None = None, replication: int | None = None
) -> list[Difference]:
    """What is not as the table has it, a missing topic included."""
    found = await plan(settings, partitions=partitions, replication=replication)
    why = "`genledger topics apply` makes it"
    return [
        Difference(settings.topic_prefix + spec.name, "", "missing", "there", True, True, why)
        for spec in found.missing
    ] + list(found.differences)


async def plan(settings: Settings, *, partitions: int | None = None, replication: int | None = None) -> Plan:
    """What there is to do, with what stands in the way."""
    async with _client(settings) as client:
        return plan_of(settings, await _cluster(client, settings), partitions, replication)


async def apply(
    settings: Settings,
    *,
    partitions: int | None = None,
    replication: int | None = None,
    dry_run: bool = False,
) -> Plan:
    """Make what is missing and alter what differs; what there was to do.

    Raises `LogMismatch`, with nothing done, when something must be otherwise that it can't change.
    """
    async with _client(settings) as client:
        found = plan_of(settings, await _cluster(client, settings), partitions, replication)
        _refuse(found)
        if not dry_run:
            await _make(client, settings, found)
            await _alter(client, found.differences, settings.kafka_request_timeout_s)
    return found


def _refuse(plan: Plan) -> None:
    if plan.obstacles:
        lines = [
            f"{each.topic} has {each.found} {each.setting}, not {each.wanted}: {each.why}"
            for each in plan.obstacles
        ]
        raise LogMismatch("\n".join(lines))


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that has reached the cluster. What a cluster refuses or does not answer is a `LogError`."""
    options = client_options(settings)
    await require_reachable(options)
    client = AIOKafkaAdminClient(**options)
    try:
        await client.start()
        yield client
    except TimeoutError:
        raise LogUnavailable(
            f"the cluster did not answer within {settings.kafka_request_timeout_s:g} s"
        ) from None
    except KafkaError as error:
        raise LogUnavailable(f"the cluster failed to answer: {error}") from None
    finally:
        await client.close()


async def _cluster(client: AIOKafkaAdminClient, settings: Settings, *, with_settings: bool = True) -> Cluster:
    # Asking for all topics makes none; asking by name may, where brokers make topics by themselves.
    brokers, listed = await _listed(client)
    names = [settings.topic_prefix + spec.name for spec in topics.topic_table()]
    there = {name: listed[name] for name in names if name in listed}
    values = await _settings_of(client, list(there)) if there and with_settings else {}
    return Cluster(
        brokers,
        {
            name: Topic(len(places), min(len(each["replicas"]) for each in places), values.get(name, {}))
            for name, places in there.items()
        },
    )


async def _listed(client: AIOKafkaAdminClient) -> tuple[int, Mapping[str, Any]]:
    cluster = await client.describe_cluster()
    found = await client.describe_topics()
    return len(cluster["brokers"]), {
        each["topic"]: each["partitions"] for each in found if each["partitions"]
    }


async def _settings_of(client: AIOKafkaAdminClient, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, Mapping[str, str]] = {}
    for response in await client.describe_configs(asked):
        for code, message, _, name, entries in response.resources:
            _check(code, message, f"the settings of {name} can't be read")
            found[name] = {entry[0]: entry[1] or "" for entry in entries}
    return found


async def _make(client: AIOKafkaAdminClient, settings: Settings, plan: Plan) -> None:
    """Make the topics that are missing, and return when every partition has a leader."""
    if not plan.missing:
        return
    new = [
        NewTopic(
            settings.topic_prefix + spec.name,
            spec.partitions,
            plan.replication,
            topic_configs={rule.setting: rule.value for rule in topics.rules_of(spec, plan.replication)},
        )
        for spec in plan.missing
    ]
    response = await client.create_topics(new)
    for name, code, message in response.topic_errors:
        # Another process may have made it since; whether it is right, check says.
        if for_code(code) is not TopicAlreadyExistsError:
            _check(code, message, f"{name} can't be made")
    await _wait_led(client, [topic.name for topic in new], settings.kafka_request_timeout_s)


async def _wait_led(client: AIOKafkaAdminClient, names: Sequence[str], within_s: float) -> None:
    for _ in range(int(within_s / READY_POLL_S) + 1):
        if await _led(client, names):
            return
        await asyncio.sleep(READY_POLL_S)
    raise LogUnavailable(
        f"the topics are made, but show no leader within {within_s:g} s: may we describe them?"
    )


async def _led(client: AIOKafkaAdminClient, names: Sequence[str]) -> bool:
    _, listed = await _listed(client)
    return all(name in listed and all(each["leader"] >= 0 for each in listed[name]) for name in names)


async def _alter(client: AIOKafkaAdminClient, found: Sequence[Difference], within_s: float) -> None:
    """Change the settings that differ, and return when the brokers go by them."""
    changes: dict[str, dict[str, str]] = {}
    for each in found:
        if each.mendable:
            changes.setdefault(each.topic, {})[each.setting] = each.wanted
    if not changes:
        return
    response = await client._send_request(AlterTopics(changes))  # noqa: SLF001  aiokafka has no such call
    for code, message, _, name in response.resources:
        _check(code, message, f"the settings of {name} can't be changed")
    for _ in range(int(within_s / READY_POLL_S) + 1):
        there = await _settings_of(client, list(changes))
        if all(wanted.items() <= there[name].items() for name, wanted in changes.items()):
            return
        await asyncio.sleep(READY_POLL_S)
    raise LogUnavailable(f"the settings are changed, but brokers show the old ones after {within_s:g} s")


def _check(code: int, message: str | None, what: str) -> None:
    error = for_code(code)
    if error is not NoError:
        raise LogError(f"{what}: {message or error.description} ({error.__name__})")
