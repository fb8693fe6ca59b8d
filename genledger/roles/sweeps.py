"""How the ledgers stand with a run of the retention job, for the one who leads: here, or on other machines.

    sweeps = SweepsHere(ledger_part)                    # genledger serve
    sweeps = SweepsElsewhere(log, session, settings)    # the jobs leader of a cluster
    await sweeps.stands()                               # a Stand for every partition, in their order
    await sweeps.count(cutoff_ns)                       # a dry run: {"acme": Count(ids, tokens, cost_nano)}

Both raise `LogUnavailable` while not every partition has an owner that has read its table back: ask again in
a moment. A count walks all that is known, at GENLEDGER_CLEANUP_SHARE of the ledgers' time: for many millions
of ids that is minutes.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import aiohttp
import msgspec

from genledger.roles.ledger import LedgerPart
from streams import topics
from streams.errors import LogUnavailable
from streams.gateway.sweeps import COUNT, STANDS, Counted, Counting, Stands
from streams.log.kafka.log import KafkaLog
from streams.retention import Stand
from streams.settings import Settings
from streams.sweeper import Count

COUNT_TIMEOUT_S = 1800.0

T = TypeVar("T")


class Sweeps(Protocol):
    """What the leader asks the ledgers."""

    async def stands(self) -> Sequence[Stand]:
        """How the newest run stands, in every partition of the log."""

    async def count(self, cutoff_ns: int) -> Mapping[str, Count]:
        """What a run with this cutoff would forget now, by organisation."""


class SweepsHere:
    """The ledger of this process: it has every partition."""

    def __init__(self, ledger: LedgerPart) -> None:
        self._ledger = ledger

    async def stands(self) -> Sequence[Stand]:
        """How the newest run stands, in every partition of the log."""
        return _whole(self._ledger.stands(), self._ledger.partitions)

    async def count(self, cutoff_ns: int) -> Mapping[str, Count]:
        """What a run with this cutoff would forget now, by organisation."""
        return await self._ledger.count(cutoff_ns, range(self._ledger.partitions))


class SweepsElsewhere:
    """The ledger workers of a cluster, asked over HTTP, each for its own partitions."""

    def __init__(self, log: KafkaLog, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._log = log
        self._session = session
        self._headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}

    async def stands(self) -> Sequence[Stand]:
        """How the newest run stands, in every partition of the log."""
        owners = await self._owners()
        told = await asyncio.gather(*(self._ask(url + STANDS, Stands) for url in owners))
        # A worker may have taken over since a partition that another one still tells of: the owner's counts.
        found = [
            stand
            for (_, partitions), theirs in zip(owners.items(), told, strict=True)
            for stand in theirs.partitions
            if stand.partition in partitions
        ]
        return _whole(found, self._log.partitions(topics.GENERATIONS))

    async def count(self, cutoff_ns: int) -> Mapping[str, Count]:
        """What a run with this cutoff would forget now, by organisation."""
        owners = await self._owners()
        told = await asyncio.gather(
            *(
                self._ask(url + COUNT, Counted, Counting(cutoff_ns, partitions))
                for url, partitions in owners.items()
            )
        )
        found: dict[str, Count] = {}
        for theirs in told:
            for organization, more in theirs.organizations.items():
                found[organization] = found.get(organization, Count()) + more
        return found

    async def _owners(self) -> Mapping[str, list[int]]:
        """Where each ledger worker is reached, and its partitions; every partition has one."""
        owners = await self._log.owners(topics.LEDGER_GROUP, topics.GENERATIONS)
        found: dict[str, list[int]] = {}
        for partition in range(self._log.partitions(topics.GENERATIONS)):
            if partition not in owners:
                raise LogUnavailable(f"no ledger worker has partition {partition} now")
            found.setdefault(owners[partition], []).append(partition)
        return found

    async def _ask(self, url: str, kind: type[T], asked: Counting | None = None) -> T:
        timeout = None if asked is None else aiohttp.ClientTimeout(total=COUNT_TIMEOUT_S)
        method, body = ("GET", None) if asked is None else ("POST", msgspec.json.encode(asked))
        headers = {**self._headers, "Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, timeout=timeout
            ) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LogUnavailable(f"a ledger worker does not answer: {type(error).__name__}") from None
        if answer.status != 200:
            refused = answer.status in (401, 403)
            advice = ": the jobs worker needs an administrator's key in GENLEDGER_KEY" if refused else ""
            raise LogUnavailable(f"a ledger worker answers {answer.status}{advice}")
        return msgspec.json.decode(text, type=kind)


def _whole(found: Sequence[Stand], partitions: int) -> Sequence[Stand]:
    """The stands in the order of their partitions, one of each."""
    by_partition = {stand.partition: stand for stand in found}
    for partition in range(partitions):
        if partition not in by_partition:
            raise LogUnavailable(f"the ledger is reading partition {partition} of its table back")
    return [by_partition[partition] for partition in range(partitions)]
