"""What knows each id, for the sync: the ledger of this process, or the ledger workers of a cluster.

    Here(log, ledger.winners, settings)
    Elsewhere(log, session, settings)

What is published is waited for until the ledger has decided it: the next look finds it known.
"""

import asyncio
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec

from streams import generation, topics
from streams.clock import monotonic_s
from streams.errors import LogUnavailable
from streams.gateway.winners import IDS_MAX, PATH, Told, Winners
from streams.generation import Generation
from streams.log.interface import Log, Message
from streams.log.kafka.log import KafkaLog
from streams.log.partition import partition_of
from streams.settings import Settings

LOOK_EVERY_S = 0.05


class _Publisher:
    """Onto the log, and until the ledger has decided."""

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log = log
        self._settings = settings

    async def publish(self, events: Sequence[Generation]) -> None:
        """Onto the log, and until the ledger has decided them."""
        count = self._log.partitions(topics.GENERATIONS)
        messages = [_message_of(event, count) for event in events]
        offsets = await self._log.append(messages)
        newest: dict[int, int] = {}
        for message, offset in zip(messages, offsets, strict=True):
            newest[message.partition] = max(offset, newest.get(message.partition, -1))
        await self._decided(newest)

    async def _decided(self, newest: Mapping[int, int]) -> None:
        deadline_s = monotonic_s() + self._settings.stall_timeout_s
        for partition, offset in newest.items():
            while (await self._next_offset(partition)) <= offset:
                if monotonic_s() > deadline_s:
                    raise LogUnavailable("the ledger has not decided yet what the sync has published")
                await asyncio.sleep(LOOK_EVERY_S)

    async def _next_offset(self, partition: int) -> int:
        return await self._log.committed(topics.LEDGER_GROUP, topics.GENERATIONS, partition) or 0


def _message_of(event: Generation, partitions: int) -> Message:
    key, value = event.id.encode(), generation.encode(event)
    place = partition_of(key, partitions)
    return Message(topics.GENERATIONS, place, key, value, generation.SCHEMA_HEADERS)


class Here(_Publisher):
    """The ledger of this process."""

    def __init__(self, log: Log, winners: Winners, settings: Settings) -> None:
        super().__init__(log, settings)
        self._winners = winners

    async def winners(self, ids: Sequence[str]) -> Mapping[str, Generation]:
        """The winning version of each id that was told of."""
        return await self._winners(ids)


class Elsewhere(_Publisher):
    """The ledger workers, asked over HTTP, each for the ids of its own partitions."""

    def __init__(self, log: KafkaLog, session: aiohttp.ClientSession, settings: Settings) -> None:
        super().__init__(log, settings)
        self._cluster = log
        self._session = session
        self._headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}

    async def winners(self, ids: Sequence[str]) -> Mapping[str, Generation]:
        """The winning version of each id that was told of."""
        owners = await self._cluster.owners(topics.LEDGER_GROUP, topics.GENERATIONS)
        by_owner: dict[str, list[str]] = {}
        for id in ids:
            partition = partition_of(id.encode(), self._cluster.partitions(topics.GENERATIONS))
            if partition not in owners:
                raise LogUnavailable(f"no ledger worker has partition {partition} now")
            by_owner.setdefault(owners[partition], []).append(id)
        found: dict[str, Generation] = {}
        for url, theirs in by_owner.items():
            for start in range(0, len(theirs), IDS_MAX):
                found |= await self._ask(url, theirs[start : start + IDS_MAX])
        return found

    async def _ask(self, url: str, ids: Sequence[str]) -> Mapping[str, Generation]:
        body, headers = (
            msgspec.json.encode({"ids": ids}),
            {**self._headers, "Content-Type": "application/json"},
        )
        try:
            async with self._session.post(url + PATH, data=body, headers=headers) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LogUnavailable(f"a ledger worker does not answer: {type(error).__name__}") from None
        if answer.status != 200:
            advice = (
                ": the sync needs an administrator's key in GENLEDGER_KEY"
                if answer.status in (401, 403)
                else ""
            )
            raise LogUnavailable(f"a ledger worker answers {answer.status}{advice}")
        told = msgspec.json.decode(text, type=Told)
        return {id: generation.decode(raw) for id, raw in told.winners.items()}
