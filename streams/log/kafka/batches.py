"""Messages as record batches: a thousand cost little more than one.

for place, batch in batches_of(producer, messages, name_of):
    future = await producer.send_batch(batch.builder, place.topic, partition=place.partition)
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.errors import LogError
from streams.log.interface import Message

# Below the largest batch that a broker takes by default, so that a topic made by hand does too.
BATCH_BYTES = 1_000_000


class Batch:
    """A batch for one partition, and which of the messages are in it."""

    __slots__ = ("builder", "numbers", "partition", "topic")

    def __init__(self, topic: str, partition: int, builder: Any) -> None:
        self.topic = topic
        self.partition = partition
        self.builder = builder
        self.numbers: list[int] = []


def batches_of(producer: AIOKafkaProducer, messages: Sequence[Message]) -> list[Batch]:
    """The messages in batches, in their order within each partition."""
    done: list[Batch] = []
    open_: dict[tuple[str, int], Batch] = {}
    for number, message in enumerate(messages):
        place = message.topic, message.partition
        batch = open_.get(place)
        if batch is None or not _put(batch, message, number):
            batch = open_[place] = Batch(*place, producer.create_batch())
            done.append(batch)
            if not _put(batch, message, number):
                raise LogError(f"a message for {place[0]} is too large for a batch")
    return done


def _put(batch: Batch, message: Message, number: int) -> bool:
    try:
        taken = batch.builder.append(
            timestamp=None, key=message.key, value=message.value, headers=list(message.headers)
        )
    except (TypeError, ValueError) as error:
        raise LogError(f"a message must be bytes, its headers pairs of text and bytes: {error}") from error
    if taken is None:
        return False
    batch.numbers.append(number)
    return True


def size_of(messages: Iterable[Message]) -> int:
    """The bytes of messages, for bounds: headers count by their values."""
    size: Callable[[bytes | None], int] = lambda value: len(value) if value else 0  # noqa: E731
    return sum(
        size(message.key) + size(message.value) + sum(len(value) for _, value in message.headers)
        for message in messages
    )
