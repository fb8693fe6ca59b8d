"""A cluster's records as any other program sees them: librdkafka's consumer, read-committed, no code of ours.

    with ClusterRecords(kafka.bootstrap, topic_prefix, partitions=4) as log:
        check(installation.data, traffic, told, log=log)
        log.owners()                               # which partitions each ledger worker has, by its port

It is what `tests.road.files.Records` asks for. Offsets have gaps here: the ends of transactions take some.
"""

import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.road.files import Place, Row

SETTINGS = ("organizations", "users")
CHUNK = 10_000
POLL_S = 0.1
READ_S = 60.0


class ClusterRecords:
    """All that is on `generations`, `usage` and the settings; of a fact, only where and when."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int = 4) -> None:
        self._prefix = prefix
        self._rows: dict[Place, list[Row]] = {(topic, 0): [] for topic in SETTINGS}
        for number in range(partitions):
            self._rows["generations", number] = []
            self._rows["usage", number] = []
        self._offsets: dict[Place, list[int]] = {place: [] for place in self._rows}
        self._next = dict.fromkeys(self._rows, 0)
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{prefix}nobody",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
                "auto.offset.reset": "earliest",
            }
        )
        self._consumer.assign([TopicPartition(prefix + topic, number, 0) for topic, number in self._rows])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._consumer.close()

    def refresh(self) -> None:
        """Read on, to where the partitions end now."""
        ends = {place: self._end(place) for place in self._rows}
        deadline_s = time.monotonic() + READ_S
        while any(self._next[place] < end for place, end in ends.items()):
            for message in self._consumer.consume(CHUNK, POLL_S):
                self._take(message)
            assert time.monotonic() < deadline_s, f"not read in {READ_S:g} s: {ends}, {self._next}"

    def _end(self, place: Place) -> int:
        there = TopicPartition(self._prefix + place[0], place[1])
        return int(self._consumer.get_watermark_offsets(there, timeout=10)[1])

    def _take(self, message: Message) -> None:
        place = (str(message.topic()).removeprefix(self._prefix), message.partition())
        error = message.error()
        if error is not None:
            assert error.code() == KafkaError._PARTITION_EOF, error
            self._next[place] = max(self._next[place], message.offset())
            return
        offset, (_, time_ms) = message.offset(), message.timestamp()
        value = None if place[0] == "usage" else message.value()
        headers = {} if place[0] == "usage" else dict(message.headers() or ())
        self._rows[place].append((offset, time_ms, message.key(), value, headers))
        self._offsets[place].append(offset)
        self._next[place] = offset + 1

    def places(self) -> Sequence[Place]:
        """Every partition that is read."""
        return list(self._rows)

    def after(self, topic: str, number: int, offset: int) -> int:
        """How many records stand behind an offset."""
        offsets = self._offsets[topic, number]
        return len(offsets) - bisect_right(offsets, offset)

    def rows(self, topic: str) -> Mapping[int, Sequence[Row]]:
        """All records of a topic, by partition."""
        return {number: rows for (name, number), rows in self._rows.items() if name == topic}

    def undecided(self, partitions: Iterable[int]) -> int:
        """Records of these partitions that have no fact yet."""
        return sum(self.after("generations", n, -1) - self.after("usage", n, -1) for n in partitions)

    def owners(self) -> dict[int, frozenset[int]]:
        """The partitions of each ledger worker that has any, by its metrics port."""
        group = f"{self._prefix}ledger"
        described = self._admin.describe_consumer_groups([group], request_timeout=10)[group].result()
        found = {
            int(member.client_id.rpartition(":")[2]): frozenset(
                place.partition for place in member.assignment.topic_partitions
            )
            for member in described.members
        }
        return {port: partitions for port, partitions in found.items() if partitions}
