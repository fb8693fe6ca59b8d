"""Appends: acknowledged by all in-sync replicas, each within its deadline, or an error that says so.

    appender = Appender(settings, name_of)
    offsets = await appender.append(messages)

One idempotent producer is shared by all who append. aiokafka tries for ever what a broker does not answer;
here a deadline ends it, and the producer with it: the next append starts a new one. What the old one had sent
may still arrive: then the record is there twice, which counts once.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from streams.errors import LogError, LogFull, LogUnavailable
from streams.log.interface import Message
from streams.log.kafka.batches import BATCH_BYTES, Batch, batches_of, size_of
from streams.log.kafka.connect import client_options
from streams.settings import Settings

UNKNOWN_OFFSET = -1
# A sender that hangs is left behind: its connections are closed, so nothing of it goes out any more.
END_S = 1.0
# Sending the same again would be refused again.
REFUSALS = (
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

_logger = logging.getLogger("genledger.log")


class Appender:
    """Writes what comes from outside: the door's events, settings, redriven records."""

    def __init__(self, settings: Settings, name_of: Callable[[str], str]) -> None:
        self._options = client_options(settings)
        self._name_of = name_of
        self._deadline_s = settings.kafka_request_timeout_s
        self._records_max = settings.append_records_max
        self._bytes_max = settings.append_bytes_max
        self._waiting_records = 0
        self._waiting_bytes = 0
        self._starting = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._drained: asyncio.Event | None = None
        self._closed = False

    async def append(self, messages: Sequence[Message]) -> Sequence[int]:
        """The offsets of the messages, once they are durable. One that can't be told is UNKNOWN_OFFSET."""
        size_bytes = size_of(messages)
        if (
            self._waiting_records + len(messages) > self._records_max
            or self._waiting_bytes + size_bytes > self._bytes_max
        ) and self._waiting_records:
            raise LogFull("too much waits for the cluster", retry_after_s=1)
        self._waiting_records += len(messages)
        self._waiting_bytes += size_bytes
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._append(messages)
        except TimeoutError:
            if self._producer is not None:
                self._discard(self._producer)
            raise LogUnavailable(
                f"the Kafka cluster has not acknowledged within {self._deadline_s:g} s"
            ) from None
        finally:
            self._waiting_records -= len(messages)
            self._waiting_bytes -= size_bytes
            if not self._waiting_records and self._drained is not None:
                self._drained.set()

    async def _append(self, messages: Sequence[Message]) -> Sequence[int]:
        producer = await self._running()
        batches = batches_of(producer, messages)
        try:
            sent = [(batch, await self._send(producer, batch)) for batch in batches]
            offsets = [UNKNOWN_OFFSET] * len(messages)
            for batch, future in sent:
                base = (await future).offset
                if base >= 0:
                    for place, number in enumerate(batch.numbers):
                        offsets[number] = base + place
            return offsets
        except KafkaError as error:
            self._discard(producer)
            if isinstance(error, REFUSALS):
                raise LogError(f"the cluster refuses a message: {error!r}") from error
            raise LogUnavailable(f"the Kafka cluster did not take it: {error!r}") from error

    async def _send(self, producer: AIOKafkaProducer, batch: Batch) -> asyncio.Future[Any]:
        name = self._name_of(batch.topic)
        sent: asyncio.Future[Any] = await producer.send_batch(batch.builder, name, partition=batch.partition)
        return watched(sent)

    async def _running(self) -> AIOKafkaProducer:
        """The producer that is in use, or a new one."""
        async with self._starting:
            if self._closed:
                raise LogError("the log is closed")
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._options, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
                )
                try:
                    await producer.start()
                except BaseException as error:
                    self._end(producer)
                    if isinstance(error, KafkaError | OSError):
                        raise LogUnavailable(f"the Kafka cluster does not answer: {error}") from error
                    raise
                self._producer = producer
            return self._producer

    def _discard(self, producer: AIOKafkaProducer) -> None:
        """A producer that may hang is not asked again; whoever else waits for it is told."""
        if self._producer is producer:
            self._producer = None
            _logger.warning("the connection to the cluster is given up and made anew")
            self._end(producer)

    def _end(self, producer: AIOKafkaProducer) -> None:
        task = asyncio.create_task(end(producer))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Finish what waits, within the deadline."""
        if self._waiting_records:
            self._drained = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), self._deadline_s)
        self._closed = True
        if self._producer is not None:
            producer, self._producer = self._producer, None
            self._end(producer)
        if self._ending:
            await asyncio.wait(self._ending, timeout=self._deadline_s)


def watched(sent: asyncio.Future[Any]) -> asyncio.Future[Any]:
    """A future whose error nobody needs to ask for: who waits for several stops at the first."""
    sent.add_done_callback(lambda done: done.cancelled() or done.exception())
    return sent


async def end(producer: AIOKafkaProducer) -> None:
    """Stop a producer that may hang: nothing is sent any more, and who waits for it is told."""
    sending = producer._sender.sender_task  # noqa: SLF001 -- stop() would wait for what hangs
    if sending is not None:
        sending.cancel()
    producer._message_accumulator.fail_all(LogUnavailable("the producer was given up"))  # noqa: SLF001
    producer._closed = True  # noqa: SLF001 -- or it complains when it is collected
    await producer.client.close()
    if sending is not None:
        await asyncio.wait([sending], timeout=END_S)
