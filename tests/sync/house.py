"""A state and a ledger as the sync asks for them, in dictionaries, and what a run needs beside them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import ClientSession

from streams import generation, times, version
from streams.generation import Generation
from streams.settings import Settings
from streams.sync.interface import Awaited, Day, Report
from streams.sync.provider import Provider
from streams.sync.run import run
from tests.providers.account import Account, Call
from tests.providers.served import Served

NOW_MS = 1_795_176_000_000  # 2026-11-20T12:00:00Z


def settings(provider: Served | None = None, **given: Any) -> Settings:
    """Settings that are quick, pointed at a fake."""
    url = provider.url if provider else "http://127.0.0.1:1"
    quick = {"provider_url": url, "provider_rate_per_s": 10_000.0, "provider_timeout_s": 10.0}
    return Settings(**(quick | given))


def event_of(call: Call, organization: str, **fields: Any) -> Generation:
    """What a producer reports of a call."""
    return generation.decode(msgspec.json.encode(call.event(organization, **fields)))


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def seams(self) -> dict[str, Any]:
        return {"sleep": self.sleep, "clock_s": lambda: self.now_s}


class House:
    """The ledger's winners by id, what was published, and the sync's memory of one organisation."""

    def __init__(self) -> None:
        self.known: dict[str, Generation] = {}
        self.published: list[Generation] = []
        self.kept = b""
        self.tries: dict[str, int] = {}
        self.due_ms: dict[str, int] = {}
        self.full: Exception | None = None

    def take(self, events: Sequence[Generation]) -> None:
        """As the ledger decides."""
        for event in events:
            winner = self.known.get(event.id)
            if winner is None or (
                version.compare(event, winner) > 0
                if winner.organization == event.organization
                else event.authority == "reconciled" and winner.authority in ("estimate", "reported")
            ):
                self.known[event.id] = event

    async def winners(self, ids: Sequence[str]) -> Mapping[str, Generation]:
        return {id: self.known[id] for id in ids if id in self.known}

    async def publish(self, events: Sequence[Generation]) -> None:
        if self.full:
            raise self.full
        self.published.extend(events)
        self.take(events)

    def _awaited(self, organization: str) -> list[str]:
        low = ("estimate", "reported")
        return [e.id for e in self.known.values() if e.organization == organization and e.authority in low]

    async def due(self, organization: str, now_ms: int, limit: int) -> Sequence[Awaited]:
        ids = [id for id in self._awaited(organization) if self.due_ms.get(id, 0) <= now_ms]
        return [Awaited(id, self.tries.get(id, 0), 0) for id in ids[:limit]]

    async def put_off(self, organization: str, id: str, due_ms: int) -> None:
        self.tries[id] = self.tries.get(id, 0) + 1
        self.due_ms[id] = due_ms

    async def awaited(self, organization: str) -> int:
        return len(self._awaited(organization))

    async def days(self, organization: str, first: str, last: str) -> Sequence[Day]:
        found: dict[tuple[str, str, str], list[int]] = {}
        for e in self.known.values():
            day = times.day_of(e.created_ns or 0, "UTC")
            if e.organization != organization or not first <= day <= last:
                continue
            sums = found.setdefault((day, e.model, e.provider), [0] * 8)
            awaited = e.authority in ("estimate", "reported")
            parts = (1, e.prompt_tokens, e.completion_tokens, e.reasoning_tokens or 0, e.cost_nano or 0)
            more = (e.upstream_cost_nano or 0, e.cost_nano is None, awaited)
            for place, amount in enumerate((*parts, *more)):
                sums[place] += amount
        return [Day(*key, *sums) for key, sums in found.items()]

    async def cursor(self, organization: str) -> bytes:
        return self.kept

    async def keep_cursor(self, organization: str, cursor: bytes) -> None:
        self.kept = cursor

    def holds(self, account: Account) -> None:
        """Every call of the account counts once, with the provider's figures."""
        truth = account.truth()
        assert self.known.keys() == truth.keys()
        for id, call in truth.items():
            e = self.known[id]
            said = (e.model, e.provider, e.user, e.prompt_tokens, e.completion_tokens, e.cost_nano)
            wanted = (call.model, call.provider, call.user, call.prompt_tokens, call.completion_tokens)
            assert said == (*wanted, call.cost_nano)
            assert (e.authority, e.source, e.organization) == ("reconciled", "sync", account.organization)


@asynccontextmanager
async def reader(account: Account, settings: Settings, **seams: Any) -> AsyncIterator[Provider]:
    """A client with the account's keys."""
    async with ClientSession() as session:
        yield Provider(session, settings, account.key, account.management_key, **seams)


async def synced(house: House, account: Account, settings: Settings, now_ms: int = NOW_MS) -> Report:
    """One run, whose counts add up, and which waits for nothing."""
    async with reader(account, settings, **Time().seams()) as provider:
        report = await run(account.organization, provider, house, house, settings, now_ms)
    parts = report.synced_generations + report.amended + report.duplicates_skipped + report.failed
    assert report.total_fetched == parts
    return report
