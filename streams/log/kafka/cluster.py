"""Requests to the cluster: each to the right broker, with a deadline, and again while that may help.

    cluster = Cluster(settings)
    await cluster.open(["generations", "usage"])
    slices = await cluster.fetch({("usage", 0): 17}, wait_ms=500, lane=1)

Topics are named as in the code; the prefix of the installation is put on here and nowhere else. A broker
answers the requests of one connection in turn: whoever waits for records does so in a lane, a connection of
its own, so that nobody else waits with him.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import (
    KafkaError,
    NoError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import DeleteRecordsRequest, DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from streams.clock import monotonic_s
from streams.errors import LogUnavailable, UnknownTopic
from streams.log.kafka.connect import client_options
from streams.log.kafka.slices import Slice
from streams.log.kafka.topic_ids import TopicIds, ids_of
from streams.settings import Settings

T = TypeVar("T")
Place = tuple[str, int]

RETRY_S = 0.1
# A topic that was just made: until every broker knows of it.
MADE_VISIBLE_S = 1.0
MADE_LOOK_S = 0.05
READ_COMMITTED = 1
FETCH_MIN_BYTES = 1
# On a slow line a fetch asks for less and less, down to this, until its answer arrives in time.
FETCH_BYTES_MIN = 16_384
# A marker is 78 bytes: some two hundred are looked through at once.
LOOK_BYTES = 16_384
LATEST, EARLIEST = -1, -2
READS = "reads"
# A connection is only given up for a new one by a request of its own that is not answered: so there must be
# time for that, and for asking again, before the deadline ends them all.
ATTEMPTS_A_DEADLINE = 2

_logger = logging.getLogger("genledger.log")


class GroupMember(NamedTuple):
    """A process in a consumer group: where it can be reached over HTTP, and what it has."""

    address: str
    places: tuple[Place, ...]


class Cluster:
    """The brokers, as a log needs them."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._deadline_s = settings.kafka_request_timeout_s
        self._fetch_bytes_max = settings.batch_bytes_max
        self._fetch_bytes = settings.batch_bytes_max
        options = client_options(settings)
        options["request_timeout_ms"] //= ATTEMPTS_A_DEADLINE
        self._client = AIOKafkaClient(**options)

    def name(self, topic: str) -> str:
        """What a topic is called on the cluster."""
        return self._prefix + topic

    async def open(self, topics: Iterable[str]) -> None:
        """Connect, and learn where the topics are; `LogUnavailable` when nobody answers."""
        await self._within(self._client.bootstrap, "connecting")
        names = [self.name(topic) for topic in topics]
        await self._within(lambda: self._client.set_topics(names), "reading the topics")
        deadline_s = monotonic_s() + MADE_VISIBLE_S
        while monotonic_s() < deadline_s and not all(map(self._client.cluster.partitions_for_topic, names)):
            await asyncio.sleep(MADE_LOOK_S)
            await self._within(self._client.force_metadata_update, "reading the topics")

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has on the cluster; 0 when it is not there."""
        return len(self._client.cluster.partitions_for_topic(self.name(topic)) or ())

    async def identity(self, topics: Sequence[str]) -> str:
        """Differs when any of the topics is another one than it was, though of the same name."""

        async def ask() -> str:
            node = self._client.get_random_node()
            ids = ids_of(await self._client.send(node, TopicIds([self.name(topic) for topic in topics])))
            missing = [topic for topic in topics if self.name(topic) not in ids]
            if missing:
                raise UnknownTopic(f"the cluster has no topic {self.name(missing[0])!r}")
            joined = " ".join(str(ids[self.name(topic)]) for topic in topics)
            return blake2b(joined.encode(), digest_size=16).hexdigest()

        return await self._within(lambda: self._again(ask), "reading the topics' ids")

    async def offsets(self, places: Sequence[Place], which: int) -> Mapping[Place, int]:
        """The `LATEST` committed offsets of partitions, or the `EARLIEST`."""

        async def ask() -> Mapping[Place, int]:
            nodes = self._by_leader(places)
            found: dict[Place, int] = {}
            for some in await asyncio.gather(*(self._offsets(node, at, which) for node, at in nodes.items())):
                found |= some
            return found

        return await self._within(lambda: self._again(ask), "reading the ends of the topics")

    async def _offsets(self, node: int, places: Sequence[Place], which: int) -> Mapping[Place, int]:
        wanted = [(self.name(topic), [(n, which)]) for topic, n in places]
        response = await self._client.send(node, OffsetRequest(-1, READ_COMMITTED, wanted), group=READS)
        found = {}
        for name, partitions in response.topics:
            for partition, code, *rest in partitions:
                _check(code, name, partition)
                found[name.removeprefix(self._prefix), partition] = rest[-1] if rest[-1] != [] else 0
        return found

    async def delete_before(self, place: Place, offset: int) -> int:
        """Have its leader delete what a partition has before an offset; where it begins then."""
        name, partition = self.name(place[0]), place[1]
        timeout_ms = int(self._deadline_s * 1000) // ATTEMPTS_A_DEADLINE

        async def ask() -> int:
            [(node, _)] = self._by_leader([place]).items()
            request = DeleteRecordsRequest([(name, [(partition, offset)])], timeout_ms)
            response = await self._client.send(node, request)
            [(_, [(_, start, code, *_)], *_)] = response.topics
            _check(code, name, partition)
            return int(start)

        return await self._within(lambda: self._again(ask), "deleting records")

    async def committed(self, group: str, place: Place) -> int | None:
        """The offset that a group has committed; None when it has none."""
        name, partition = self.name(place[0]), place[1]

        async def ask() -> int | None:
            full = self._prefix + group
            node = await self._client.coordinator_lookup(CoordinationType.GROUP, full)
            request = OffsetFetchRequest(full, [(name, [partition])])
            response = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
            [(_, [(_, offset, _, code)])] = response.topics
            _check(code, name, partition)
            return None if offset < 0 else int(offset)

        return await self._within(lambda: self._again(ask), "reading a committed offset")

    async def members(self, group: str) -> Sequence[GroupMember]:
        """Who is in a group, and which partitions each has."""

        async def ask() -> Sequence[GroupMember]:
            full = self._prefix + group
            node = await self._client.coordinator_lookup(CoordinationType.GROUP, full)
            request = DescribeGroupsRequest([full])
            response = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
            [(code, _, _, _, _, members, *_)] = response.groups
            if for_code(code) is not NoError:
                raise for_code(code)(full)
            return [self._member(one) for one in members]

        return await self._within(lambda: self._again(ask), "reading who is in the group")

    def _member(self, described: Any) -> GroupMember:
        address, assigned = described[-4], described[-1]
        places: list[Place] = []
        if assigned:
            decoded = ConsumerProtocol.ASSIGNMENT.decode(assigned)
            places = [(one.topic.removeprefix(self._prefix), one.partition) for one in decoded.partitions()]
        return GroupMember(address, tuple(places))

    def leaders(self, places: Iterable[Place]) -> Mapping[int, Sequence[Place]]:
        """The places by the broker that leads them; without those that have no leader now."""
        try:
            return self._by_leader(places)
        except NotLeaderForPartitionError:
            return {}

    async def fetch(
        self, node: int, offsets: Mapping[Place, int], *, wait_ms: int, lane: object, look: bool = False
    ) -> tuple[Sequence[Slice], Mapping[Place, int]]:
        """What one broker has at these offsets; and where each partition begins, if not at 0.

        A `look` brings little: enough to tell markers from records.

        A place whose offset is not in the log is not among the slices.
        """
        size = LOOK_BYTES if look else self._fetch_bytes
        wanted: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, n), offset in offsets.items():
            wanted.setdefault(self.name(topic), []).append((n, offset, size))
        request = FetchRequest(
            wait_ms,
            FETCH_MIN_BYTES,
            size * len(offsets) if look else size,
            READ_COMMITTED,
            list(wanted.items()),
            rack_id="",
        )
        try:
            response = await self._client.send(node, request, group=lane)
        except RequestTimedOutError:
            self._fetch_bytes = max(FETCH_BYTES_MIN, size // 2)
            raise
        if not look:
            self._fetch_bytes = min(self._fetch_bytes_max, self._fetch_bytes * 2)
        return self._sliced(response, offsets)

    def _sliced(
        self, response: Any, offsets: Mapping[Place, int]
    ) -> tuple[Sequence[Slice], Mapping[Place, int]]:
        slices: list[Slice] = []
        starts: dict[Place, int] = {}
        for name, partitions in response.topics:
            topic = name.removeprefix(self._prefix)
            for partition, code, _, stable, start, aborted, *_, raw in partitions:
                if for_code(code) is OffsetOutOfRangeError:
                    starts[topic, partition] = start
                    continue
                _check(code, name, partition)
                starts[topic, partition] = start
                at = offsets[topic, partition]
                slices.append(Slice(topic, partition, at, stable, raw, aborted))
        return slices, starts

    def _by_leader(self, places: Iterable[Place]) -> Mapping[int, list[Place]]:
        nodes: dict[int, list[Place]] = {}
        for topic, n in places:
            node = self._client.cluster.leader_for_partition(TopicPartition(self.name(topic), n))
            if node is None or node < 0:
                raise NotLeaderForPartitionError(f"{self.name(topic)}/{n} has no leader")
            nodes.setdefault(node, []).append((topic, n))
        return nodes

    async def refresh_leaders(self) -> None:
        """After an error: learn who leads now. Never fails, and never waits for longer than a retry."""
        update = self._client.force_metadata_update()
        try:
            async with asyncio.timeout(max(RETRY_S, self._deadline_s / 10)):
                await update
        except (TimeoutError, KafkaError):
            pass
        await asyncio.sleep(RETRY_S)

    async def _again(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer: the caller's deadline ends it."""
        while True:
            try:
                return await ask()
            except KafkaError as error:
                if not error.retriable:
                    raise LogUnavailable(f"the cluster refuses: {error!r}") from error
                _logger.debug("asking again after %r", error)
                await self.refresh_leaders()

    async def _within(self, ask: Callable[[], Awaitable[T]], doing: str) -> T:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await ask()
        except (TimeoutError, KafkaError, OSError) as error:
            told = str(error) or f"no answer within {self._deadline_s:g} s"
            raise LogUnavailable(f"{doing}: the Kafka cluster does not answer: {told}") from error

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()


def _check(code: int, name: str, partition: int) -> None:
    error = for_code(code)
    if error is NoError:
        return
    if error is UnknownTopicOrPartitionError:
        raise NotLeaderForPartitionError(f"{name}/{partition} is not where it was")
    raise error(f"{name}/{partition}")
