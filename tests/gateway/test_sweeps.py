"""How the jobs leader asks the ledger workers about a run of the retention job, over real HTTP."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from genledger.roles.ledger import LedgerPart
from genledger.roles.sweeps import SweepsElsewhere, SweepsHere
from genledger.watch import Watch
from streams.errors import LogUnavailable
from streams.gateway.sweeps import COUNT, STANDS, sweeps_routes
from streams.retention import Stand
from streams.settings import Settings
from streams.sweeper import Count
from tests.gateway.conftest import House, Make


class Worker:
    """A ledger worker: the partitions it says are its own."""

    def __init__(self, *partitions: int, run: str = "run-1") -> None:
        self.has = partitions
        self.run = run
        self.url = ""

    def stands(self) -> Sequence[Stand]:
        return [Stand(n, self.run, "started", 5, 7, 90, 1, n * 100, n) for n in self.has]

    async def count(self, cutoff_ns: int, partitions: Sequence[int]) -> Mapping[str, Count]:
        if not set(partitions) <= set(self.has):
            raise LogUnavailable("partition 3 is not read back here: try again")
        return {"acme": Count(len(partitions), cutoff_ns, 2**62)} if partitions else {}


class Cluster:
    """Who has which partition, by what the group says."""

    def __init__(self, owners: Mapping[int, str], partitions: int = 4) -> None:
        self._owners, self._partitions = owners, partitions

    def partitions(self, topic: str) -> int:
        return self._partitions

    async def owners(self, group: str, topic: str) -> Mapping[int, str]:
        return self._owners


@pytest.fixture
async def start() -> AsyncIterator[Callable[[Worker], Any]]:
    """Starts workers, each on a port of its own."""
    servers: list[TestServer] = []

    async def begun(worker: Worker) -> str:
        app = web.Application()
        app.add_routes(sweeps_routes(worker))
        servers.append(TestServer(app))
        await servers[-1].start_server()
        worker.url = str(servers[-1].make_url("")).rstrip("/")
        return worker.url

    yield begun
    for server in servers:
        await server.close()


@asynccontextmanager
async def asking(cluster: Cluster, **settings: Any) -> AsyncIterator[SweepsElsewhere]:
    log: Any = cluster
    async with ClientSession() as session:
        yield SweepsElsewhere(log, session, msgspec.structs.replace(Settings(), **settings))


async def test_every_owner_is_asked_for_its_own(start: Callable[[Worker], Any]) -> None:
    """Stands come in the order of the partitions, counts are added up: large money stays exact."""
    one, other = Worker(0, 2), Worker(3, 1)
    await start(one), await start(other)
    async with asking(Cluster({0: one.url, 2: one.url, 1: other.url, 3: other.url})) as sweeps:
        stands = await sweeps.stands()
        assert [stand.partition for stand in stands] == [0, 1, 2, 3]
        assert stands[3] == Stand(3, "run-1", "started", 5, 7, 90, 1, 300, 3)
        assert await sweeps.count(11) == {"acme": Count(4, 22, 2**63)}


async def test_the_word_of_a_former_owner_is_not_taken(start: Callable[[Worker], Any]) -> None:
    """Two tell of a partition: who has it now is believed."""
    former, owner = Worker(0, 1, run="old"), Worker(0, run="new")
    await start(former), await start(owner)
    async with asking(Cluster({0: owner.url, 1: former.url}, 2)) as sweeps:
        assert [stand.run for stand in await sweeps.stands()] == ["new", "old"]


async def test_a_partition_without_an_owner_or_not_read_back_is_unavailable(
    start: Callable[[Worker], Any],
) -> None:
    """Half an answer is none: the leader asks again."""
    one = Worker(0, 1, 2)
    await start(one)
    async with asking(Cluster(dict.fromkeys((0, 1, 2), one.url))) as sweeps:
        for asked in (sweeps.stands(), sweeps.count(1)):
            with pytest.raises(LogUnavailable, match="no ledger worker has partition 3"):
                await asked
    async with asking(Cluster(dict.fromkeys(range(4), one.url))) as sweeps:
        with pytest.raises(LogUnavailable, match="reading partition 3"):
            await sweeps.stands()
        with pytest.raises(LogUnavailable, match="a ledger worker answers 50"):
            await sweeps.count(1)
    async with asking(Cluster(dict.fromkeys(range(4), "http://127.0.0.1:1"))) as sweeps:
        with pytest.raises(LogUnavailable, match="does not answer"):
            await sweeps.stands()


async def test_only_an_administrator_of_the_installation_may_ask(make_house: Make) -> None:
    """Figures of all organisations: neither a reader nor an organisation's own administrator sees them."""
    house: House = await make_house(extra_routes=sweeps_routes(Worker(*range(12))))
    admin = await house.key("", "admin")
    url = f"http://127.0.0.1:{house.port}"
    cluster = Cluster(dict.fromkeys(range(12), url), 12)
    async with asking(cluster, api_key=admin) as sweeps:
        assert len(await sweeps.stands()) == 12
        assert await sweeps.count(2) == {"acme": Count(12, 2, 2**62)}
    for organization, rights in (("acme", "reader"), ("acme", "admin"), ("acme", "producer")):
        key = await house.key(organization, rights)  # type: ignore[arg-type]
        body = {"json": {"cutoff_ns": 1, "partitions": [0]}}
        assert (await house.call("GET", STANDS, key))[0] == 403
        assert (await house.call("POST", COUNT, key, **body))[0] == 403
        async with asking(cluster, api_key=key) as sweeps:
            with pytest.raises(LogUnavailable, match="answers 403: the jobs worker needs an administrator"):
                await sweeps.stands()
    for wrong in ({}, {"cutoff_ns": -1, "partitions": []}, {"cutoff_ns": "x", "partitions": [0]}, []):
        assert (await house.call("POST", COUNT, admin, json=wrong))[0] == 422
    status, body = await house.call("POST", COUNT, admin, json={"cutoff_ns": 1, "partitions": [99]})
    assert (status, body["error"]["code"]) == (503, "not_here")


async def test_a_ledger_that_has_not_started_says_so() -> None:
    """Here as elsewhere: unavailable, for a moment."""
    log: Any = Cluster({}, 2)
    directory: Any = None
    sweeps = SweepsHere(LedgerPart(log, Settings(), directory, Watch(60.0)))
    with pytest.raises(LogUnavailable, match="reading partition 0"):
        await sweeps.stands()
    with pytest.raises(LogUnavailable, match="not started"):
        await sweeps.count(1)
