"""A door over real HTTP, on a real log in a temporary directory. Only the ledger's answers are a stub."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse, ClientSession, web

from streams import generation, topics
from streams.admin import Administration
from streams.directory import Directory
from streams.gateway import Door, Health, Runner, access, build
from streams.gateway.explain import Lookup
from streams.generation import Generation
from streams.known import Known
from streams.log.interface import Log, Record
from streams.log.sqlite.log import open_log
from streams.organizations import Rights
from streams.settings import Settings
from tests.gateway.entries import Entry

NOW_MS = 1_795_176_000_000  # 2026-11-20T12:00:00Z

Answer = tuple[int, Any]


def event(id: str = "gen-1", **fields: Any) -> dict[str, Any]:
    """A plain event with the fields that are asked for."""
    return {"id": id, "organization": "acme", "model": "m", "cost": "0.01", **fields}


class Errors(logging.Handler):
    """What was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


class House:
    """A running door and what is behind it."""

    def __init__(self, log: Log, directory: Directory, settings: Settings) -> None:
        self.log = log
        self.directory = directory
        self.settings = settings
        self.known: dict[str, Known] = {}
        self.ask: Lookup | None = None
        self.health = Health(True)
        self.now_ms = NOW_MS
        self.administration = Administration(log.append, directory, self.clock)
        self.port = 0
        self.real = log
        self.session: ClientSession
        self.errors: list[str] = []

    def clock(self) -> int:
        return self.now_ms

    async def lookup(self, id: str) -> Known | None:
        return await self.ask(id) if self.ask else self.known.get(id)

    def door(self, extra_routes: Any = (), extra_docs: Any = ()) -> Door:
        return Door(
            self.log,
            self.directory,
            self.settings,
            self.clock,
            self.lookup,
            lambda: self.health,
            extra_routes,
            extra_docs,
        )

    async def key(self, organization: str, rights: Rights = "producer") -> str:
        """A new key's secret."""
        return (await self.administration.make_key(organization, rights))[0][1]

    def key_id(self, secret: str) -> str:
        """The id of a key that is not revoked."""
        key = self.directory.key_of_secret(secret)
        assert key is not None
        return key.id

    async def call(self, method: str, path: str, key: str = "", **options: Any) -> Answer:
        """Status and JSON of one request."""
        headers = {**options.pop("headers", {})}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        async with self.session.request(method, path, headers=headers, **options) as response:
            return response.status, await _json(response)

    async def post(self, body: Any, key: str = "", query: str = "", **headers: str) -> Answer:
        """POST /api/v1/generations with JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", f"/api/v1/generations{query}", key, data=data, headers=given)

    async def send(self, entry: Entry, body: bytes, key: str = "", **headers: str) -> Answer:
        """POST a body to an endpoint."""
        given = {"Content-Type": entry.type}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", entry.path, key, data=body, headers=given)

    async def raw(self, *pieces: bytes, pause_s: float = 0) -> bytes:
        """Bytes as no client would send them; the answer until the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def records(self, topic: str = topics.GENERATIONS) -> list[Record]:
        """Everything on a topic."""
        found: list[Record] = []
        for partition in range(self.log.partitions(topic)):
            found += await self.log.read(topic, partition, 0, 100_000)
        return found

    async def events(self) -> Mapping[str, Generation]:
        """Everything on `generations`, decoded, by id."""
        decoded = [generation.decode(record.value or b"") for record in await self.records()]
        return {one.id: one for one in decoded}


async def _json(response: ClientResponse) -> Any:
    text = await response.read()
    return msgspec.json.decode(text) if response.content_type == "application/json" and text else text


Make = Callable[..., Any]


@pytest.fixture
async def make_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Makes a house with settings of the test's own; afterwards it must still answer, without an error."""
    # Hundreds of tests show a wrong key: none of them waits for the next look at the log.
    monkeypatch.setattr(access, "UNKNOWN_KEY_LOOK_S", 0.0)
    made: list[tuple[House, Runner]] = []
    errors = Errors()
    logging.getLogger("genledger").addHandler(errors)

    async def make(
        *, log: Log | None = None, extra_routes: Any = (), extra_docs: Any = (), **changes: Any
    ) -> House:
        settings = msgspec.structs.replace(Settings(), **changes)
        clock: list[House] = []
        real = await open_log(
            f"sqlite:///{tmp_path}/log",
            topics.topic_table(),
            clock=lambda: clock[0].now_ms if clock else NOW_MS,
        )
        house = House(log or real, Directory(real), settings)
        house.errors = errors.texts
        clock.append(house)
        runner = Runner(build(house.door(extra_routes, extra_docs)))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        house.port = runner.addresses[0][1]
        house.session = ClientSession(f"http://127.0.0.1:{house.port}")
        house.real = real
        made.append((house, runner))
        return house

    yield make
    for house, runner in made:
        assert (await house.call("GET", "/livez"))[0] == 200
        await house.session.close()
        await runner.cleanup()
        await house.real.close()
    logging.getLogger("genledger").removeHandler(errors)
    assert errors.texts == []


@pytest.fixture
async def house(make_house: Make) -> House:
    """An open house on loopback."""
    return await make_house()  # type: ignore[no-any-return]
