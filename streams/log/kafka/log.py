"""The log on a Kafka cluster: the interface of `streams/log/interface.py` over aiokafka.

    log = await open_log(settings, topic_table(12))
    writer = await log.writer("ledger", "generations", 0)
    await writer.commit([Message("usage", 0, b"gen-1", b"{...}")], offset=1)

| module         | is                                                                     |
| -------------- | ---------------------------------------------------------------------- |
| connect        | addresses, encryption, names: what every client has in common           |
| cluster        | requests, each to the right broker and with a deadline                 |
| slices         | what a fetch brought, decoded as it is asked for                       |
| places         | where partitions end, as far as we were told                           |
| appender       | what comes from outside: an idempotent producer                        |
| writer         | a source partition's one writer: a transactional producer              |
| batches        | messages as record batches                                             |
| topic_ids      | what tells a topic from another one of the same name                   |
| member         | our place in a consumer group                                          |
| transport      | Faust's transport                                                      |
| administration | making the topics, and checking them                                   |

Reading needs no group and keeps no state but what was fetched and not yet asked for.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from weakref import WeakSet

from aiokafka.errors import KafkaError

from streams.clock import monotonic_s, now_ms
from streams.errors import LogError, LogMismatch, LogUnavailable, UnknownTopic
from streams.log.ends import last_record
from streams.log.interface import Message, Record, TopicSize, TopicSpec
from streams.log.kafka.appender import Appender
from streams.log.kafka.cluster import EARLIEST, LATEST, Cluster, GroupMember
from streams.log.kafka.places import Ends
from streams.log.kafka.slices import Slice
from streams.log.kafka.writer import KafkaWriter, open_writer
from streams.settings import Settings
from streams.topics import NULLS_STAND_MS

Place = tuple[str, int]

# Fetched slices that were not read to their end.
KEPT_BYTES_MAX = 67_108_864
SCAN_RECORDS = 4000
POLL_MS_MAX = 500
OWN_RETRY_S = 0.002
OWN_VISIBLE_S = 1.0
# With several brokers the slowest answer is waited for: none may hold the others back for long.
SEVERAL_BROKERS_MS = 50
IDENTITY_CHECK_S = 4.0
CLOCKS_APART_MS = 3_600_000


async def open_log(settings: Settings, topics: Sequence[TopicSpec]) -> "KafkaLog":
    """Connect, and check that the topics are there; `UnknownTopic`, `LogMismatch` or `LogUnavailable`."""
    cluster = Cluster(settings)
    try:
        names = [spec.name for spec in topics]
        await cluster.open(names)
        for spec in topics:
            _check_partitions(cluster, spec)
        log = KafkaLog(settings, cluster, topics, await cluster.identity(_identifying(topics)))
        await log.refresh(names)
        await log.read_starts([(spec.name, n) for spec in topics for n in range(spec.partitions)])
    except BaseException:
        await cluster.close()
        raise
    return log


def _identifying(topics: Iterable[TopicSpec]) -> list[str]:
    return [spec.name for spec in topics if spec.identifies]


async def partitions_there(settings: Settings, topic: str) -> int:
    """How many partitions a topic has on the cluster; `UnknownTopic` when it is not there."""
    cluster = Cluster(settings)
    try:
        await cluster.open([topic])
        _check_there(cluster, topic)
        return cluster.partitions(topic)
    finally:
        await cluster.close()


def _check_there(cluster: Cluster, topic: str) -> None:
    if not cluster.partitions(topic):
        raise UnknownTopic(
            f"the cluster has no topic {cluster.name(topic)!r}: make the topics with `genledger topics apply`"
        )


def _check_partitions(cluster: Cluster, spec: TopicSpec) -> None:
    _check_there(cluster, spec.name)
    there = cluster.partitions(spec.name)
    if there != spec.partitions:
        raise LogMismatch(
            f"the topic {cluster.name(spec.name)} has {there} partitions, not {spec.partitions}: ids would"
            " move to other partitions and count twice. A number once chosen stays"
        )


class KafkaLog:
    """A log on a cluster. `failed` gets the reason when it must not be used any more."""

    def __init__(
        self, settings: Settings, cluster: Cluster, topics: Sequence[TopicSpec], identity: str
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._specs = {spec.name: spec for spec in topics}
        self._identity = identity
        self._ends = {(spec.name, n): Ends() for spec in topics for n in range(spec.partitions)}
        self._slices: dict[tuple[str, int, int], Slice] = {}
        self._lanes: list[int] = []
        self._lanes_made = 0
        self._fetching: set[asyncio.Task[None]] = set()
        self._appender = Appender(settings, cluster.name)
        self._writers: WeakSet[KafkaWriter] = WeakSet()
        # Own commits: a broker may not tell them for a moment.
        self._committed: dict[tuple[str, str, int], int] = {}
        self._closed = False
        self.failed: asyncio.Future[LogError] = asyncio.get_running_loop().create_future()
        self._checking = asyncio.create_task(self._check_identity())

    @property
    def identity(self) -> str:
        return self._identity

    def partitions(self, topic: str) -> int:
        return self._spec(topic).partitions

    async def append(self, messages: Sequence[Message]) -> Sequence[int]:
        """Write messages durably; their offsets."""
        if not messages:
            return []
        for message in messages:
            self._place(message.topic, message.partition)
        offsets = await self._appender.append(messages)
        for message, offset in zip(messages, offsets, strict=True):
            self._ends[message.topic, message.partition].appended(offset + 1)
        return offsets

    async def writer(self, group: str, topic: str, partition: int) -> KafkaWriter:
        """Take over a source partition: fences the writer before."""
        self._place(topic, partition)
        wrote = partial(self._wrote, (group, topic, partition))
        writer = await open_writer(self._settings, self._cluster, group, topic, partition, wrote)
        self._writers.add(writer)
        return writer

    def _wrote(self, source: tuple[str, str, int], ends: Mapping[Place, int], offset: int) -> None:
        self._committed[source] = offset
        for place, last in ends.items():
            self._ends[place].own = last + 1
            self._ends[place].saw(last + 1)

    async def committed(self, group: str, topic: str, partition: int) -> int | None:
        self._place(topic, partition)
        found = await self._cluster.committed(group, (topic, partition))
        own = self._committed.get((group, topic, partition))
        return found if own is None or (found is not None and found > own) else own

    async def members(self, group: str) -> Sequence[GroupMember]:
        """Who is in a group now."""
        return await self._cluster.members(group)

    async def owners(self, group: str, topic: str) -> Mapping[int, str]:
        """Where the process that has a partition is reached, for each that somebody has."""
        return {
            partition: member.address
            for member in await self._cluster.members(group)
            for name, partition in member.places
            if name == topic
        }

    def start_offset(self, topic: str, partition: int) -> int:
        return self._place(topic, partition).start

    def end_offset(self, topic: str, partition: int) -> int:
        return self._place(topic, partition).end

    async def refresh(self, topics: Iterable[str]) -> None:
        """Ask where these topics end now."""
        found = await self._cluster.offsets(self._places(topics), LATEST)
        for place, end in found.items():
            self._ends[place].saw(end)

    async def read_starts(self, places: Sequence[Place]) -> None:
        """Ask where these partitions begin."""
        for place, start in (await self._cluster.offsets(places, EARLIEST)).items():
            self._ends[place].start = start

    async def trim(self, topic: str, partition: int, offset: int) -> int:
        """Remove the records before an offset, never the last; where the partition begins then."""
        ends = self._place(topic, partition)
        await self.refresh([topic])
        await self.read_starts([(topic, partition)])
        newest = await last_record(self, topic, partition)
        below = ends.start if newest is None else min(offset, newest.offset)
        if below > ends.start:
            ends.start = await self._cluster.delete_before((topic, partition), below)
        return ends.start

    async def size(self, topic: str) -> TopicSize:
        """The offsets there are: what compaction has removed between them is counted too."""
        await self.refresh([topic])
        places = self._places([topic])
        await self.read_starts(places)
        return TopicSize(sum(self.end_offset(*place) - self.start_offset(*place) for place in places))

    async def nulls_from(self, topic: str, partition: int) -> int:
        """The brokers keep a null for so long after it was written; their clocks are not ours."""
        place = topic, partition
        self._place(topic, partition)
        since_ms = now_ms() - NULLS_STAND_MS + CLOCKS_APART_MS
        found = (await self._cluster.offsets([place], since_ms))[place]
        if found >= 0:
            return found
        await self.refresh([topic])  # everything is older
        return self.end_offset(topic, partition)

    def _places(self, topics: Iterable[str]) -> list[Place]:
        return [(topic, n) for topic in topics for n in range(self.partitions(topic))]

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]:
        """Committed records from `offset` on; none when there is none."""
        self._place(topic, partition)
        found = self._slices.pop((topic, partition, offset), None)
        if found is not None:
            records = self._taken(found, limit)
            if records:
                return records
            offset = found.next_offset
        deadline_s = monotonic_s() + self._settings.kafka_request_timeout_s
        while True:
            slices = await self._fetched({(topic, partition): offset}, 0, "reads", deadline_s)
            if not slices:
                await self.read_starts([(topic, partition)])
                start = self.start_offset(topic, partition)
                if offset >= start:
                    return []
                offset = start  # what stood there was removed: go on with the next there is
                continue
            records = self._taken(slices[0], limit)
            if records:
                return records
            if slices[0].next_offset > offset:
                offset = slices[0].next_offset  # markers only: perhaps there is more behind them
            elif offset >= self._ends[topic, partition].readable_end:
                return records
            elif monotonic_s() > deadline_s:
                raise LogUnavailable(f"{topic}/{partition}@{offset}: no broker shows what is committed there")
            else:
                # Committed, and not shown: by a leader that is behind, or before the markers are written. To
                # say "nothing" here would end a recovery before its end.
                await asyncio.sleep(OWN_RETRY_S)

    def _taken(self, slice: Slice, limit: int) -> Sequence[Record]:
        """Records of a slice; the rest of it is kept for who reads on from there."""
        before = slice.next_offset
        records = slice.take(limit)
        behind = records[-1].offset + 1 if records else before
        if slice.has_records():
            self._keep(slice, slice.next_offset)
        elif slice.next_offset >= slice.end:
            self._ends[slice.topic, slice.partition].read_to(behind, slice.end)
        return records

    def _keep(self, slice: Slice, offset: int) -> None:
        self._slices[slice.topic, slice.partition, offset] = slice
        while len(self._slices) > 1 and sum(one.size_bytes for one in self._slices.values()) > KEPT_BYTES_MAX:
            self._slices.pop(next(iter(self._slices)))

    async def _fetched(
        self,
        offsets: Mapping[Place, int],
        wait_ms: int,
        lane: object,
        deadline_s: float,
        *,
        look: bool = False,
    ) -> Sequence[Slice]:
        """Slices of the places that exist there, from every broker that leads some; retried till then."""
        while True:
            self._check_open()
            nodes = self._cluster.leaders(offsets)
            try:
                if len(nodes) > 1:
                    wait_ms = min(wait_ms, SEVERAL_BROKERS_MS)
                if nodes:
                    answers = await asyncio.gather(
                        *(self._fetch(node, {at: offsets[at] for at in places}, wait_ms, lane, look)
                          for node, places in nodes.items())
                    )  # fmt: skip
                    return [slice for slices in answers for slice in slices]
                error: Exception = LogUnavailable("a partition has no leader now")
            except (KafkaError, OSError) as failed:
                error = failed
            if monotonic_s() > deadline_s:
                raise LogUnavailable(f"the Kafka cluster does not answer: {error!r}") from error
            await self._cluster.refresh_leaders()

    async def _fetch(
        self, node: int, offsets: Mapping[Place, int], wait_ms: int, lane: object, look: bool
    ) -> Sequence[Slice]:
        slices, starts = await self._cluster.fetch(node, offsets, wait_ms=wait_ms, lane=lane, look=look)
        for place, start in starts.items():
            if start >= 0:
                self._ends[place].start = start
        for slice in slices:
            self._ends[slice.topic, slice.partition].saw(slice.end)
        return slices

    async def latest(self, topic: str, partition: int, key: bytes) -> Record | None:
        """The newest record of a key, by reading the partition through."""
        found = None
        offset = self.start_offset(topic, partition)
        while records := await self.read(topic, partition, offset, SCAN_RECORDS):
            for record in records:
                if record.key == key:
                    found = record
            offset = records[-1].offset + 1
        return found

    async def wait(self, positions: Mapping[Place, int], timeout_s: float) -> bool:
        """Sleep until a partition has a record at its position; what came is kept for the reader.

        With no time to sleep it is a look, and keeps nothing.
        """
        deadline_s = monotonic_s() + timeout_s
        at = dict(positions)
        if timeout_s > 0 and any((*place, offset) in self._slices for place, offset in at.items()):
            return True
        lane = self._lanes.pop() if self._lanes else self._new_lane()
        try:
            while True:
                left_ms = max(0, min(POLL_MS_MAX, int((deadline_s - monotonic_s()) * 1000)))
                slices = await self._fetched(at, left_ms, ("wait", lane), deadline_s, look=timeout_s <= 0)
                await self._go_to_starts(at, slices)
                if self._arrived(slices, at, positions, keep=timeout_s > 0):
                    return True
                if monotonic_s() >= deadline_s:
                    return False
        finally:
            self._lanes.append(lane)

    def _arrived(
        self, slices: Sequence[Slice], at: dict[Place, int], asked: Mapping[Place, int], *, keep: bool
    ) -> bool:
        """Whether the slices hold a record. Markers move `at` on, and stay behind no reader's back."""
        arrived = False
        for slice in slices:
            place = slice.topic, slice.partition
            if slice.has_records():
                arrived = True
                if keep:
                    # A reader asks from where it stands, which may be before markers that we have passed.
                    self._keep(slice, asked[place])
            elif slice.next_offset >= slice.end:
                self._ends[place].read_to(asked[place], slice.end)
            at[place] = slice.next_offset
        return arrived

    async def _go_to_starts(self, at: dict[Place, int], slices: Sequence[Slice]) -> None:
        """Positions that are not in the log: those before its beginning move there."""
        outside = at.keys() - {(slice.topic, slice.partition) for slice in slices}
        if outside:
            await self.read_starts(list(outside))
        for place in outside:
            start = self._ends[place].start
            if at[place] > start:
                raise LogMismatch(
                    f"{place[0]}/{place[1]} ends before {at[place]}, which was read from it: it was cut back,"
                    " or deleted and made again"
                )
            at[place] = start

    def _new_lane(self) -> int:
        self._lanes_made += 1
        return self._lanes_made

    async def _check_identity(self) -> None:
        try:
            await self._watch_identity()
        except LogError as error:
            self._fail(error)

    async def _watch_identity(self) -> None:
        """Look again and again whether the topics are still those we opened."""
        while not self._closed:
            await asyncio.sleep(IDENTITY_CHECK_S)
            try:
                now = await self._cluster.identity(_identifying(self._specs.values()))
            except LogUnavailable:
                continue
            except UnknownTopic as error:
                self._fail(LogMismatch(f"{error}: it was deleted while it was in use"))
                return
            if now != self._identity:
                self._fail(LogMismatch("a topic was deleted and made again: this is another log now"))
                return

    def _fail(self, reason: LogError) -> None:
        if not self.failed.done():
            self.failed.set_result(reason)

    async def close(self) -> None:
        """Finish what waits, close every connection. Closing twice does nothing more."""
        if self._closed:
            return
        self._closed = True
        self._checking.cancel()
        await asyncio.gather(self._checking, return_exceptions=True)
        await asyncio.gather(*(writer.close() for writer in self._writers))
        await self._see_own()
        await self._appender.close()
        await self._cluster.close()

    async def _see_own(self) -> None:
        """Until everybody can read what this process has committed, for a moment at most."""
        deadline_s = monotonic_s() + OWN_VISIBLE_S
        own = {place: ends.own for place, ends in self._ends.items() if ends.own}
        while own and monotonic_s() < deadline_s:
            try:
                found = await self._cluster.offsets(list(own), LATEST)
            except LogUnavailable:
                return
            own = {place: end for place, end in own.items() if found[place] < end}
            await asyncio.sleep(OWN_RETRY_S if own else 0)

    def _spec(self, topic: str) -> TopicSpec:
        self._check_open()
        try:
            return self._specs[topic]
        except KeyError:
            raise UnknownTopic(f"there is no topic {topic!r}; there are {', '.join(self._specs)}") from None

    def _place(self, topic: str, partition: int) -> Ends:
        spec = self._spec(topic)
        try:
            return self._ends[topic, partition]
        except KeyError:
            raise LogError(f"{topic} has partitions 0..{spec.partitions - 1}, not {partition}") from None

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("the log is closed")
