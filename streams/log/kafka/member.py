"""Our place in a consumer group: which partitions are ours now. It reads nothing.

    member = Member(settings, "ledger", ["generations"], address, revoked, assigned)
    await member.start()
    await member.beat()          # called as long as work goes on

It is an aiokafka consumer whose partitions are all paused: joining, heartbeats and the sharing out are
aiokafka's, reading is the log's. Whoever stops beating for GENLEDGER_KAFKA_MAX_POLL_INTERVAL_S loses its
partitions, as a worker that hangs should.
"""

from collections.abc import Awaitable, Callable, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from streams.errors import LogUnavailable
from streams.log.kafka.connect import client_options
from streams.settings import Settings

Partitions = set[tuple[str, int]]
Told = Callable[[Partitions], Awaitable[None]]

HEARTBEATS_A_SESSION = 4
JOIN_SESSIONS = 2


class Member:
    """One member of a group. `revoked` and `assigned` hear of each change, in turn."""

    def __init__(
        self,
        settings: Settings,
        group: str,
        topics: Sequence[str],
        address: str,
        revoked: Told,
        assigned: Told,
    ) -> None:
        self._prefix = settings.topic_prefix
        self._topics = [self._prefix + topic for topic in topics]
        self._revoked = revoked
        self._assigned = assigned
        session_ms = int(settings.kafka_session_timeout_s * 1000)
        options = client_options(settings) | {"client_id": address}
        # Joining is answered only when all members have joined, or their sessions have ended.
        options["request_timeout_ms"] = max(options["request_timeout_ms"], JOIN_SESSIONS * session_ms)
        self._consumer = AIOKafkaConsumer(
            **options,
            group_id=self._prefix + group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // HEARTBEATS_A_SESSION,
            rebalance_timeout_ms=session_ms,
            max_poll_interval_ms=int(settings.kafka_max_poll_interval_s * 1000),
            # A partition stays where its table is on disk, as far as the shares allow.
            partition_assignment_strategy=(StickyPartitionAssignor,),
            max_partition_fetch_bytes=1,
        )

    async def start(self) -> None:
        """Join; `assigned` is called when the group has shared the partitions out."""
        try:
            await self._consumer.start()
        except (KafkaError, OSError) as error:
            await self._consumer.stop()
            raise LogUnavailable(f"the Kafka cluster does not answer: {error}") from error
        self._consumer.subscribe(self._topics, listener=_Listener(self))

    async def beat(self) -> None:
        """Say that work goes on; `KafkaError` when membership has ended for good."""
        await self._consumer.getmany(timeout_ms=0)

    def rejoin(self) -> None:
        """Give every partition back and ask for a share anew."""
        self._consumer._coordinator.request_rejoin()  # noqa: SLF001 -- aiokafka has no other way

    async def stop(self) -> None:
        """Leave the group: the others need not wait for our session to end."""
        await self._consumer.stop()

    async def on_revoked(self, partitions: set[TopicPartition]) -> None:
        """Pass on what aiokafka tells."""
        await self._revoked({(one.topic.removeprefix(self._prefix), one.partition) for one in partitions})

    async def on_assigned(self, partitions: set[TopicPartition]) -> None:
        """Pass on what aiokafka tells; nothing is to be fetched."""
        self._consumer.pause(*partitions)
        await self._assigned({(one.topic.removeprefix(self._prefix), one.partition) for one in partitions})


class _Listener(ConsumerRebalanceListener):
    """What aiokafka calls."""

    def __init__(self, member: Member) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._member.on_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        await self._member.on_assigned(assigned)
