"""The one writer of a source partition: a producer with a transactional id of its own.

    writer = await open_writer(settings, cluster, "ledger", "generations", 3)     # fences the one before
    await writer.commit(messages, offset=17)

Starting the producer raises the epoch of its id, `<prefix>ledger-3`: whatever a former owner still sends is
refused, and a transaction that it left open is ended before this one may begin. A commit that does not
come back in time is of unknown outcome; only the next take-over can tell, so the writer is spent then.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError, OutOfOrderSequenceNumber, ProducerFenced
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from streams import faultpoints
from streams.errors import Fenced, LogError, LogUnavailable
from streams.log.interface import Message
from streams.log.kafka.appender import REFUSALS, end, watched
from streams.log.kafka.batches import BATCH_BYTES, batches_of
from streams.log.kafka.cluster import Cluster
from streams.log.kafka.connect import client_options
from streams.settings import Settings

Place = tuple[str, int]


def transactional_id(prefix: str, group: str, partition: int) -> str:
    """The id that all owners of a source partition share, so that the newest fences the rest."""
    return f"{prefix}{group}-{partition}"


class KafkaWriter:
    """A source partition's results and progress, in one transaction each time."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        group: str,
        source: Place,
        producer: AIOKafkaProducer,
        wrote: Callable[[Mapping[Place, int], int], None],
    ) -> None:
        self._wrote = wrote
        self._cluster = cluster
        self._producer = producer
        self._group = settings.topic_prefix + group
        self._source = TopicPartition(cluster.name(source[0]), source[1])
        self._deadline_s = settings.kafka_transaction_timeout_s
        self._spent: LogError | None = None

    async def commit(
        self, messages: Sequence[Message], offset: int, publish: Sequence[Message] = ()
    ) -> Mapping[Place, int]:
        """All messages and the offset, in one transaction; the last offset of each partition written."""
        if self._spent is not None:
            raise self._spent
        try:
            async with asyncio.timeout(self._deadline_s):
                ends = await self._commit(messages, offset, publish)
        except (ProducerFenced, IllegalOperation, OutOfOrderSequenceNumber) as error:
            self._spent = Fenced(f"{self._source.topic}/{self._source.partition} has another owner now")
            raise self._spent from error
        except REFUSALS as error:
            self._spent = LogError(f"the cluster refuses a message: {error!r}")
            raise self._spent from error
        except (TimeoutError, KafkaError, OSError) as error:
            told = str(error) or f"no answer within {self._deadline_s:g} s"
            self._spent = LogUnavailable(f"a transaction did not end: {told}")
            raise self._spent from error
        except asyncio.CancelledError:
            self._spent = LogUnavailable("a transaction was given up")
            raise
        except Exception as error:
            if self._spent is None:
                raise
            raise LogUnavailable(f"the writer was closed meanwhile: {self._spent}") from error
        self._wrote(ends, offset)
        return ends

    async def _commit(
        self, messages: Sequence[Message], offset: int, publish: Sequence[Message]
    ) -> Mapping[Place, int]:
        producer = self._producer
        batches = batches_of(producer, [*publish, *messages])
        await producer.begin_transaction()
        sent = [
            watched(
                await producer.send_batch(
                    batch.builder, self._cluster.name(batch.topic), partition=batch.partition
                )
            )
            for batch in batches
        ]
        if publish:
            faultpoints.reached("republished")
        await producer.send_offsets_to_transaction({self._source: OffsetAndMetadata(offset, "")}, self._group)
        ends: dict[Place, int] = {}
        # Each acknowledgement is looked at: one batch may be lost though a later one went out.
        for batch, future in zip(batches, sent, strict=True):
            base = (await future).offset
            last = base + len(batch.numbers) - 1
            ends[batch.topic, batch.partition] = max(last, ends.get((batch.topic, batch.partition), -1))
        faultpoints.reached("transaction-open")
        await producer.commit_transaction()
        return ends

    async def close(self) -> None:
        """Nothing of this writer is sent after this."""
        self._spent = self._spent or LogError("the writer is closed")
        await end(self._producer)


async def open_writer(
    settings: Settings,
    cluster: Cluster,
    group: str,
    topic: str,
    partition: int,
    wrote: Callable[[Mapping[Place, int], int], None],
) -> KafkaWriter:
    """Take a source partition over: when this returns, no former owner can commit any more.

    `wrote` hears of every commit: the last offset of each partition, and the source offset.
    """
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        transactional_id=transactional_id(settings.topic_prefix, group, partition),
        transaction_timeout_ms=int(settings.kafka_transaction_timeout_s * 1000),
        max_batch_size=BATCH_BYTES,
    )
    try:
        async with asyncio.timeout(settings.kafka_transaction_timeout_s):
            await producer.start()
    except (TimeoutError, KafkaError, OSError) as error:
        await end(producer)
        if isinstance(error, KafkaError) and not error.retriable:
            raise LogError(
                f"{topic}/{partition} can't be taken over: the cluster refuses: {error!r}"
            ) from error
        raise LogUnavailable(f"{topic}/{partition} can't be taken over now: {error!r}") from error
    except BaseException:
        await end(producer)
        raise
    return KafkaWriter(settings, cluster, group, (topic, partition), producer, wrote)
