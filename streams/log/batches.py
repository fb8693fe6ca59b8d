"""Delivery by batches: the first of the two seams between a log and Faust.

Stock Faust hands an agent one event at a time and acknowledges it even when the agent raised. Here one
Faust event is one `Batch`, a slice of one partition, and nothing is acknowledged until the agent says so:

    async for event in stream.noack().events():
        await role.take(event.value)     # a Batch
        event.ack()

`BatchConsumer` is mixed into a transport's consumer, whose `_getmany` returns one batch a partition. Each
method that overrides Faust's has a contract test in tests/log/test_faust_seams.py.
"""

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from faust.serializers.schemas import Schema
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message

from streams.log.interface import Record


class Batch(msgspec.Struct, frozen=True, gc=False):
    """A slice of one partition. `start` is where it was read from: the reader's position before it."""

    topic: str
    partition: int
    start: int
    records: Sequence[Record]

    @property
    def next_offset(self) -> int:
        """The position after it."""
        return self.records[-1].offset + 1


class BatchSchema(Schema):
    """Hands the batch through as it is: decoding is ours, so that a bad record can't kill an agent."""

    def compile(self, app: Any, **kwargs: Any) -> Callable[..., Awaitable[Any]]:
        """The function by which a channel turns a message into an event."""
        create_event = app.create_event

        async def decode(message: Message, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, message.headers, message)

        return decode


class BatchConsumer:
    """What a consumer does differently when a message is a batch."""

    app: Any
    _acked_index: Any
    _acked: Any
    _delivered: defaultdict[TP, deque[int]]

    def _forget_delivered(self) -> None:
        self._delivered = defaultdict(deque)

    def _to_message(self, tp: TP, batch: Batch) -> ConsumerMessage:
        """One message for a batch; its offset is the last record's."""
        last = batch.records[-1]
        self._delivered[tp].append(last.offset)
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.time_ms / 1000,
            0,
            None,
            None,
            batch,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: the full queue itself holds the reader back.

        Faust would stop asking for the partition, and ask again only when its wait for the others ends.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing: see `on_buffer_full`."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """A batch's offsets are not gaps: Faust would keep an interval for each."""

    def _new_offset(self, tp: TP) -> int | None:
        """The commit point: behind the longest acknowledged prefix of what was delivered."""
        delivered, acked = self._delivered[tp], self._acked_index[tp]
        last = None
        while delivered and delivered[0] in acked:
            last = delivered.popleft()
            acked.discard(last)
        self._acked[tp] = sorted(acked)
        return None if last is None else last + 1
