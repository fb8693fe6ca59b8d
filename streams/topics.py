"""The topics, in one table: what each is for, its key, its clean-up, its partitions.

| topic                  | key                  | value                                              |
| ---------------------- | -------------------- | -------------------------------------------------- |
| generations            | generation id        | the event as published                             |
| usage                  | generation id        | a fact, in the partition of its event              |
| generations.rejected   | as it came           | the bytes as they came; reason and place in headers |
| seen-changelog         | generation id        | what the ledger knows of the id                    |
| organizations          | organisation id      | its settings, with their whole history             |
| users                  | organisation and user | the mapping to the application's user             |
| keys                   | API key id           | its hash, organisation and rights                  |

Embedded, topics share two files, one writer each: `intake` is what comes in, `ledger` is what the
ledger writes in its transactions.
"""

from collections.abc import Sequence

from streams.log.interface import TopicSpec

GENERATIONS = "generations"
USAGE = "usage"
REJECTED = "generations.rejected"
SEEN_CHANGELOG = "seen-changelog"
ORGANIZATIONS = "organizations"
USERS = "users"
KEYS = "keys"

LEDGER_GROUP = "ledger"

SETTINGS_TOPICS = (ORGANIZATIONS, USERS, KEYS)

DAY_MS = 86_400_000
REJECTED_RETENTION_MS = 30 * DAY_MS
EMBEDDED_PARTITIONS = 4


def topic_table(partitions: int = EMBEDDED_PARTITIONS) -> Sequence[TopicSpec]:
    """Every topic of an installation with so many partitions."""
    return (
        TopicSpec(GENERATIONS, partitions, compacted=True, store="intake", taken_by=LEDGER_GROUP),
        TopicSpec(ORGANIZATIONS, 1, compacted=True, store="intake"),
        TopicSpec(USERS, 1, compacted=True, store="intake"),
        TopicSpec(KEYS, 1, compacted=True, store="intake"),
        TopicSpec(USAGE, partitions, store="ledger"),
        TopicSpec(REJECTED, partitions, retention_ms=REJECTED_RETENTION_MS, store="ledger"),
        TopicSpec(SEEN_CHANGELOG, partitions, compacted=True, store="ledger"),
    )
