"""POST /api/v1/admin/openings: what an earlier system counted, from `genledger migrate`.

Opening entries as an array or NDJSON, an installation administrator's only. All of a body is taken, or
nothing of it: 202 when the log has it, with the newest offset in each partition, so that the caller can wait
until the views have come that far.
"""

import asyncio
from collections.abc import Sequence

from aiohttp import web

from streams import generation, openings, times
from streams.clock import Clock
from streams.errors import BadEvent
from streams.gateway import body as bodies
from streams.gateway import items
from streams.gateway.answers import FIELD_LENGTH_MAX, MESSAGE_LENGTH_MAX, answer, invalid
from streams.gateway.events import SLICE_EVENTS, content_type_of
from streams.gateway.intake import Intake
from streams.gateway.items import Item
from streams.log.interface import Message
from streams.settings import Settings


class Openings:
    """The handler."""

    def __init__(
        self, intake: Intake, room: bodies.Room, settings: Settings, clock: Clock, partitions: int
    ) -> None:
        self._intake = intake
        self._room = room
        self._settings = settings
        self._clock = clock
        self._partitions = partitions

    async def post(self, request: web.Request) -> web.Response:
        """Take all of them, or say which one is wrong."""
        content_type = content_type_of(request, (items.JSON, items.NDJSON))
        with self._room.seat() as seat:
            body = await bodies.read(request, self._settings, seat)
            found = items.split(body, content_type, self._settings.items_max)
            messages = await self._judged(found)
            offsets = await self._intake.append(messages)
        newest: dict[str, int] = {}
        for message, offset in zip(messages, offsets, strict=True):
            place = str(message.partition)
            newest[place] = max(offset, newest.get(place, -1))
        return answer(202, {"accepted": len(messages), "newest": newest})

    async def _judged(self, found: Sequence[tuple[int, Item]]) -> list[Message]:
        latest_ns = self._clock() * times.MS_NS + generation.EARLY_NS_MAX
        messages: list[Message] = []
        for count, (place, item) in enumerate(found, 1):
            try:
                messages.append(openings.message_of(item, self._partitions, latest_ns))
            except BadEvent as error:
                field = error.field[:FIELD_LENGTH_MAX]
                raise invalid(field, f"entry {place}: {error.error[:MESSAGE_LENGTH_MAX]}") from None
            if count % SLICE_EVENTS == 0:
                await asyncio.sleep(0)
        return messages
