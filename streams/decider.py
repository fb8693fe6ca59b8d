"""A batch decided: what is known of its keys is read at once, and each record decided in order.

    decider = Decider(table, rules, partitions=4)
    outcome = decider.decide(partition, records, prev=16, number=17)
    outcome.facts                        # the facts of records 18, 19 .. as messages for `usage`
    table.write(partition, outcome.changes, next_offset)

No effect but reading the table: who calls writes what it comes to, the ledger in one transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from streams import fact, generation, known, ledger, records, topics
from streams.known import Horizon
from streams.ledger import Here
from streams.log.interface import Headers, Message, Record
from streams.log.partition import partitions_of
from streams.rules import Rules

PLAIN_HEADERS: tuple[Headers, ...] = (generation.SCHEMA_HEADERS, ())


class Table(Protocol):
    """What is known of keys, by partition."""

    def get_many(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes | None]: ...


class Outcome:
    """What a batch comes to: filled record by record, written at once."""

    def __init__(self) -> None:
        self.facts: list[Message] = []
        self.rejected: list[Message] = []
        self.publish: list[Message] = []
        #: What the table holds from here on, None where a key goes. Encoded at once: as objects, those of
        #: a batch are more than the processor's caches hold, and each takes twice as long.
        self.changes: dict[bytes, bytes | None] = {}
        self.fates: dict[str, int] = {}

    def tell(self, told: fact.Fact, key: bytes | None) -> None:
        """Add a fact."""
        value = fact.encode(told)
        self.facts.append(Message(topics.USAGE, told.partition, key, value, fact.SCHEMA_HEADERS))
        self.fates[told.fate] = self.fates.get(told.fate, 0) + 1


class Decider:
    """Decides batches of records, each of one partition."""

    def __init__(self, table: Table, rules: Rules, partitions: int) -> None:
        self._table = table
        self._rules = rules
        self._partitions = partitions

    def decide(self, partition: int, batch: Sequence[Record], prev: int, number: int) -> Outcome:
        """Every record, in order; what an earlier one changed is known to a later one.

        `prev` is the offset of the record before, `number` how many the partition had up to it.
        """
        horizon_key = records.horizon_key(partition)
        keys = list(dict.fromkeys([record.key for record in batch if record.key is not None]))
        homes = dict(zip(keys, partitions_of(keys, self._partitions), strict=True))
        keys.append(horizon_key)
        values = dict(zip(keys, self._table.get_many(partition, keys), strict=True))
        outcome = Outcome()
        here = self._here(partition, values[horizon_key])
        for record in batch:
            number += 1
            key = record.key
            if (
                key is None
                or values[key] is not None
                or record.headers not in PLAIN_HEADERS
                or homes[key] != partition
                or (plain := ledger.counted(record, here, prev, number)) is None
            ):
                _decide(record, prev, number, here, values, homes, outcome)
                if key == horizon_key:
                    here = self._here(partition, values[horizon_key])
            else:
                values[key] = outcome.changes[key] = known.encode(plain[1])
                outcome.tell(plain[0], key)
            prev = record.offset
        return outcome

    def _here(self, partition: int, value: bytes | None) -> Here:
        horizon = records.anything_of(value)
        found = horizon if isinstance(horizon, Horizon) else None
        return Here(partition, self._partitions, found, self._rules)


def _decide(
    record: Record,
    prev: int,
    number: int,
    here: Here,
    values: dict[bytes, bytes | None],
    homes: Mapping[bytes, int],
    outcome: Outcome,
) -> None:
    """Any record."""
    key = record.key
    before = None if key is None else records.anything_of(values[key])
    decision = ledger.decide(before, record, here, None if key is None else homes[key])
    after = decision.known
    if key is not None and after is not before and after != before:
        values[key] = outcome.changes[key] = None if after is None else known.encode(after)
    outcome.tell(ledger.fact_of(decision, record, prev, number), key)
    outcome.publish.extend(decision.publish)
    if decision.keep_bytes:
        outcome.rejected.append(ledger.rejected_message(decision, record))
