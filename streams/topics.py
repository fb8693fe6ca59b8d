"""The topics, in one table: what each is for, its key, its clean-up, its partitions, who may do what.

| topic                  | key                  | value                                              |
| ---------------------- | -------------------- | -------------------------------------------------- |
| generations            | generation id        | the event as published                             |
| usage                  | generation id        | a fact, in the partition of its event              |
| generations.rejected   | as it came           | the bytes as they came; reason and place in headers |
| seen-changelog         | generation id        | what the ledger knows of the id                    |
| organizations          | organisation id      | its settings, with their whole history             |
| users                  | organisation and user | the mapping to the application's user             |
| keys                   | API key id           | its hash, organisation and rights                  |
| snapshots              | number, table, chunk | the views' rows where the head of usage has gone   |

Embedded, topics share two files, one writer each: `intake` is what comes in, `ledger` is what the
ledger writes in its transactions. On a cluster each topic has settings, and each role its rights:

    for rule in rules_of(spec, replication=3):
        rule.setting, rule.value, rule.why
    for grant in GRANTS:
        grant.role, grant.resource, grant.name, grant.operations

Faust makes no topic of its own: no leader topic, and no changelog or repartition topic but those here.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from streams.log.interface import TopicSpec

GENERATIONS = "generations"
USAGE = "usage"
REJECTED = "generations.rejected"
SEEN_CHANGELOG = "seen-changelog"
ORGANIZATIONS = "organizations"
USERS = "users"
KEYS = "keys"
SNAPSHOTS = "snapshots"

LEDGER_GROUP = "ledger"
JOBS_GROUP = "jobs"
POINTS_GROUP = "points"

SETTINGS_TOPICS = (ORGANIZATIONS, USERS, KEYS)
FAUST_INTERNAL: tuple[str, ...] = ()

DAY_MS = 86_400_000
REJECTED_RETENTION_MS = 30 * DAY_MS
# An outage of the ledger may last so long before compaction could take what it has not read.
GENERATIONS_LAG_MS = 7 * DAY_MS
# A record that a newer one replaced, or a null ended, is off the disk so long after, or not much later.
COMPACTED_WITHIN_MS = 7 * DAY_MS
# A reader who was away for less than this finds every null that it has missed: who was away for longer
# must begin again at the start.
NULLS_STAND_MS = 7 * DAY_MS
SEGMENT_MS = DAY_MS
# An event is at most 64 KiB; a producer's batch of them at most 1 MB by any client's default.
INTAKE_BATCH_BYTES = 4_194_304
# The largest record of `generations`, with the reason why it was not taken, must fit into the others.
LEDGER_BATCH_BYTES = 2 * INTAKE_BATCH_BYTES

EMBEDDED_PARTITIONS = 4
KAFKA_PARTITIONS = 12
REPLICATION = 3


def topic_table(partitions: int = EMBEDDED_PARTITIONS) -> Sequence[TopicSpec]:
    """Every topic of an installation with so many partitions."""
    within = COMPACTED_WITHIN_MS
    return (
        TopicSpec(
            GENERATIONS,
            partitions,
            compacted=True,
            store="intake",
            taken_by=LEDGER_GROUP,
            compaction_lag_ms_min=GENERATIONS_LAG_MS,
            compaction_lag_ms_max=GENERATIONS_LAG_MS + within,
            batch_bytes_max=INTAKE_BATCH_BYTES,
        ),
        TopicSpec(ORGANIZATIONS, 1, compacted=True, store="intake", compaction_lag_ms_max=within),
        TopicSpec(USERS, 1, compacted=True, store="intake", compaction_lag_ms_max=within),
        TopicSpec(KEYS, 1, compacted=True, store="intake", compaction_lag_ms_max=within),
        TopicSpec(USAGE, partitions, store="ledger"),
        TopicSpec(REJECTED, partitions, retention_ms=REJECTED_RETENTION_MS, store="ledger"),
        TopicSpec(SEEN_CHANGELOG, partitions, compacted=True, store="ledger", compaction_lag_ms_max=within),
        # In the file of the facts that it stands for: no copy has the one without the other.
        TopicSpec(
            SNAPSHOTS, 1, compacted=True, store="ledger", compaction_lag_ms_max=within, identifies=False
        ),
    )


Compare = Literal["equal", "at_least", "at_most", "made"]


class Rule(msgspec.Struct, frozen=True):
    """One setting of a topic on a cluster, and why it has this value.

    `compare` says how a topic that is there already is judged; "made" is set with the topic and is its
    owner's afterwards. What does not hold is a difference; with `advice` it is only a warning.
    """

    setting: str
    value: str
    why: str
    compare: Compare = "equal"
    advice: bool = False


FOREVER = "-1"  # of a time or a size to keep: no limit


def holds(rule: Rule, found: str) -> bool:
    """Does the value that a topic has do what the rule wants?

    >>> rule = Rule("retention.ms", "2592000000", "", "at_least")
    >>> holds(rule, "-1"), holds(rule, "604800000")
    (True, False)
    """
    if rule.compare == "made" or found == rule.value:
        return True
    if rule.compare == "equal":
        return False
    try:
        have, want = int(found), int(rule.value)
    except ValueError:
        return False
    have, want = (2**63 if number == int(FOREVER) else number for number in (have, want))
    return have >= want if rule.compare == "at_least" else have <= want


def rules_of(spec: TopicSpec, replication: int) -> Sequence[Rule]:
    """Every setting of a topic with so many replicas."""
    kept = _compacted(spec) if spec.compacted else _cut(spec)
    return (*kept, *_common(spec, replication))


def _compacted(spec: TopicSpec) -> Iterator[Rule]:
    yield Rule("cleanup.policy", "compact", "the newest record of each key is kept, and never cut by time")
    if spec.compaction_lag_ms_min:
        why = "what the ledger has not read must not be compacted away: an outage may last so long"
        yield Rule("min.compaction.lag.ms", str(spec.compaction_lag_ms_min), why, "at_least")
    why = "what was replaced or ended leaves the disk within a stated time, on a quiet topic too"
    yield Rule("max.compaction.lag.ms", str(spec.compaction_lag_ms_max), why, "at_most", advice=True)
    why = "a reader who was away sees the null that ended a key, if it was away for less than this"
    yield Rule("delete.retention.ms", str(NULLS_STAND_MS), why, "at_least")
    why = "an open segment is not compacted: it is closed after a day"
    yield Rule("segment.ms", str(SEGMENT_MS), why, "at_most", advice=True)


def _cut(spec: TopicSpec) -> Iterator[Rule]:
    yield Rule(
        "cleanup.policy", "delete", "every record counts: compaction would take away all but a key's last"
    )
    if spec.retention_ms is None:
        yield Rule("retention.ms", FOREVER, "the ledger of record is never cut by time", "at_least")
    else:
        why = "so long rejected bytes wait for someone to look at them"
        yield Rule("retention.ms", str(spec.retention_ms), why, "at_least")
        why = "records go with their segment: a day's at a time"
        yield Rule("segment.ms", str(SEGMENT_MS), why, "at_most", advice=True)
    yield Rule(
        "retention.bytes", FOREVER, "nor is it cut by size, whatever the brokers do by default", "at_least"
    )


def _common(spec: TopicSpec, replication: int) -> Iterator[Rule]:
    why = "the broker's time: with a producer's, an old event could be deleted before it is read"
    yield Rule("message.timestamp.type", "LogAppendTime", why)
    why = "holds the largest record there may be, and what the ledger adds to it"
    yield Rule("max.message.bytes", str(spec.batch_bytes_max), why, "at_least")
    if spec.name == GENERATIONS:
        why = "the limit above is then of the record as it is, not of how small it packs"
        yield Rule("compression.type", "uncompressed", why, advice=True)
    else:
        yield Rule("compression.type", "producer", "as its writer packed it", "made")
    why = "one replica may be lost and an acknowledged record is still there; one fewer than there are"
    yield Rule("min.insync.replicas", str(max(1, replication - 1)), why, "at_least", advice=True)
    why = "a replica that lacks acknowledged records never becomes the leader"
    yield Rule("unclean.leader.election.enable", "false", why, advice=True)


Role = Literal["gateway", "ledger", "summaries", "points", "jobs", "producer", "administrator"]
Resource = Literal["Topic", "Group", "TransactionalId"]
SERVICE_ROLES: tuple[Role, ...] = ("gateway", "ledger", "summaries", "points", "jobs")


class Grant(msgspec.Struct, frozen=True):
    """What a role must be allowed on a resource; `prefixed`: on every one whose name begins so.

    A broker takes Read and Write for Describe too. No role needs a right on the cluster itself: since
    Kafka 3.0 who may write a topic may do so idempotently.
    """

    role: Role
    resource: Resource
    name: str
    operations: tuple[str, ...]
    why: str
    prefixed: bool = False


def _topics(role: Role, names: Sequence[str], operations: tuple[str, ...], why: str) -> Sequence[Grant]:
    return [Grant(role, "Topic", name, operations, why) for name in names]


_EVERY = tuple(spec.name for spec in topic_table())
_READ, _WRITE, _BOTH = ("Read",), ("Write",), ("Read", "Write")

GRANTS: Sequence[Grant] = (
    *_topics("gateway", (GENERATIONS,), _BOTH, "publishes events; knows where each partition ends"),
    *_topics(
        "gateway", SETTINGS_TOPICS, _BOTH, "follows organisations, users and keys; writes their changes"
    ),
    *_topics("gateway", (USAGE, REJECTED), _READ, "explains an id; shows what was rejected"),
    *_topics("gateway", (SEEN_CHANGELOG, SNAPSHOTS), ("Describe",), "knows that every topic is there"),
    Grant("gateway", "Group", LEDGER_GROUP, ("Describe",), "knows how far the ledger is, and who has what"),
    Grant("gateway", "Group", JOBS_GROUP, ("Describe",), "knows which jobs worker leads"),
    *_topics("ledger", (GENERATIONS,), _BOTH, "reads events; publishes winners again"),
    *_topics("ledger", (USAGE, SEEN_CHANGELOG), _BOTH, "writes facts and what it knows; reads them to go on"),
    *_topics("ledger", (REJECTED,), _WRITE, "keeps what was not taken"),
    *_topics("ledger", SETTINGS_TOPICS, _READ, "rates by the settings as they stood"),
    *_topics("ledger", (SNAPSHOTS,), ("Describe",), "knows that every topic is there"),
    Grant("ledger", "Group", LEDGER_GROUP, _READ, "shares the partitions; commits the offsets"),
    Grant("ledger", "TransactionalId", LEDGER_GROUP + "-", _WRITE, "one transaction a batch", prefixed=True),
    *_topics("summaries", (USAGE, ORGANIZATIONS, USERS), _READ, "folds facts and settings into rows"),
    *_topics("summaries", (KEYS,), _READ, "knows who may ask it"),
    *_topics(
        "summaries", (SNAPSHOTS,), _BOTH, "writes the views' rows, and reads them where older facts have gone"
    ),
    *_topics(
        "summaries", (USAGE,), ("Delete",), "deletes facts behind a snapshot, where that is switched on"
    ),
    *_topics("summaries", (REJECTED,), _READ, "names what InfluxDB refused, in `genledger reconcile`"),
    *_topics(
        "summaries",
        (GENERATIONS, SEEN_CHANGELOG),
        ("Describe",),
        "knows that every topic is there, and where it ends",
    ),
    Grant("summaries", "Group", LEDGER_GROUP, ("Describe",), "knows how far the ledger is"),
    *_topics("points", (USAGE, *SETTINGS_TOPICS), _READ, "turns facts into points; knows who may ask it"),
    *_topics("points", (REJECTED,), _WRITE, "keeps what InfluxDB refuses"),
    *_topics("points", (GENERATIONS, SEEN_CHANGELOG), ("Describe",), "knows that every topic is there"),
    *_topics("points", (SNAPSHOTS,), _READ, "knows where facts begin, for a bucket that has no points yet"),
    Grant("points", "Group", POINTS_GROUP, _READ, "shares the partitions"),
    *_topics("jobs", _EVERY, ("Read", "DescribeConfigs"), "checks the topics; how far each part is"),
    *_topics("jobs", (GENERATIONS,), _WRITE, "begins the retention job's runs"),
    Grant("jobs", "Group", LEDGER_GROUP, ("Describe",), "knows how far the ledger is"),
    Grant("jobs", "Group", JOBS_GROUP, _READ, "one of several leads"),
    *_topics("producer", (GENERATIONS,), _WRITE, "publishes events: whoever may, may claim any authority"),
    *_topics(
        "administrator",
        _EVERY,
        ("Create", "Describe", "DescribeConfigs", "AlterConfigs"),
        "`genledger topics apply`",
    ),
)
