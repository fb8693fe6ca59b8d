"""GET /api/v1/export/facts: an organisation's facts for a reader's key, and for nobody else."""

import asyncio
import hashlib
import json
from typing import Any

import pytest
from aiohttp import ClientError

from streams import fact, topics
from streams.fact import Fact
from streams.gateway import export as exports
from streams.log.interface import Message
from tests.exported import decided, entry, lines_of
from tests.gateway.conftest import House, Make

ROUTE = "/api/v1/export/facts"
NOVEMBER = f"{ROUTE}?month=2026-11"
RIVAL = decided("counted", "gen-2", entry("rival"))
TAKEN = decided("conflict", "gen-2", entry("acme"), entry("rival"), detail="taken over from rival")


async def tell(house: House, *facts: Fact, partition: int = 0) -> None:
    await house.log.append(
        [
            Message(topics.USAGE, partition, one.id.encode(), fact.encode(one), fact.SCHEMA_HEADERS)
            for one in facts
        ]
    )


async def fetched(house: House, path: str, key: str = "") -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with house.session.get(path, headers=headers) as response:
        return response.status, await response.read()


async def lines(house: House, path: str, key: str = "") -> list[dict[str, Any]]:
    status, text = await fetched(house, path, key)
    assert status == 200, text
    found = lines_of(text)
    before = b"".join(text.splitlines(keepends=True)[:-1])
    assert found[-1] == {
        "end": "genledger facts",
        "facts": len(found) - 2,
        "sha256": hashlib.sha256(before).hexdigest(),
    }
    return found


async def test_a_readers_key_gets_its_organisations_month(house: House) -> None:
    """Its own side of each fact and nothing of another's, with what was read and how many that were."""
    old = decided("counted", "gen-3", entry(day="2026-10-31"))
    await tell(house, decided("counted", "gen-1", entry()), RIVAL, TAKEN, old)
    await tell(house, decided("counted", "gen-4", entry()), partition=3)
    key = await house.key("acme", "reader")
    for path in (NOVEMBER, f"{NOVEMBER}&org=acme"):
        found = await lines(house, path, key)
        assert [row["id"] for row in found[1:-1]] == ["gen-1", "gen-2", "gen-4"]
        assert "rival" not in json.dumps(found)
        assert (found[0]["organization"], found[0]["month"]) == ("acme", "2026-11")
        assert [one["end"] for one in found[0]["partitions"]] == [4, 0, 0, 1]


async def test_an_administrator_gets_any_or_all(house: House) -> None:
    """Without an organisation of its own a key may have each, and all together."""
    await tell(house, decided("counted", "gen-1", entry()), RIVAL, TAKEN)
    key = await house.key("", "admin")
    assert len(await lines(house, NOVEMBER, key)) == 5
    assert [row["id"] for row in (await lines(house, f"{NOVEMBER}&org=rival", key))[1:-1]] == [
        "gen-2",
        "gen-2",
    ]
    assert len(await lines(house, f"{NOVEMBER}&org=nobody", key)) == 2


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("?month=2026-11&org=rival", 404, ""),
        ("?month=2026-11&org=", 400, "org"),
        ("?month=2026-11&org=../x", 400, "org"),
        ("?month=2026-11&org=a/../b", 400, "org"),
        ("?month=2026-11&org=..%5Cx", 400, "org"),
        ("?month=2026-11&org=%2e%2e%2fx", 400, "org"),
        ("?month=../2026-11", 400, "month"),
        ("?month=2026-13", 400, "month"),
        ("?month=2026-1", 400, "month"),
        ("?month=2026-11%0a", 400, "month"),
        ("?month=", 400, "month"),
        ("", 400, "month"),
        ("?month=2026-11&file=../x", 400, "file"),
        ("?month=2026-11&../x=1", 400, "../x"),
    ],
)
async def test_what_it_may_not_be_asked(house: House, query: str, status: int, field: str) -> None:
    """Row 48: a name that leads elsewhere is a 400; another organisation's export is a 404."""
    key = await house.key("acme", "reader")
    found, answer = await house.call("GET", f"{ROUTE}{query}", key)
    assert (found, answer["error"]["field"]) == (status, field)


async def test_a_producers_key_reads_nothing(house: House) -> None:
    """It may write, so it gets a 403, and nobody gets a 401."""
    assert (await fetched(house, NOVEMBER, await house.key("acme", "producer")))[0] == 403
    assert (await fetched(house, NOVEMBER))[0] == 401


class Held:
    """Reading of the facts that waits, and can be let go."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = 0
        self.go_on = asyncio.Event()
        real = house.log.read

        async def read(*place: Any) -> Any:
            if place[0] == topics.USAGE:
                self.started += 1
                await self.go_on.wait()
            return await real(*place)

        monkeypatch.setattr(house.log, "read", read)

    async def until(self, started: int) -> None:
        while self.started < started:
            await asyncio.sleep(0.001)


async def test_only_so_many_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two exports, and one of an organisation's: another is a 503 that says when; others are served."""
    await tell(house, decided("counted", "gen-1", entry()), RIVAL)
    acme, rival = await house.key("acme", "reader"), await house.key("rival", "reader")
    third = await house.key("third", "reader")
    held = Held(house, monkeypatch)
    first = asyncio.create_task(lines(house, NOVEMBER, acme))
    await held.until(1)
    status, answer = await house.call("GET", NOVEMBER, acme)
    assert (status, answer["error"]["code"]) == (503, "busy")
    second = asyncio.create_task(lines(house, NOVEMBER, rival))
    await held.until(2)
    async with house.session.get(NOVEMBER, headers={"Authorization": f"Bearer {third}"}) as refused:
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
    assert (await house.call("GET", "/livez"))[0] == 200
    held.go_on.set()
    assert [len(found) for found in await asyncio.gather(first, second)] == [3, 3]
    assert len(await lines(house, NOVEMBER, third)) == 2


async def test_an_export_of_a_revoked_key_breaks_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cut has no last line, and the place is free for the next."""
    await tell(house, decided("counted", "gen-1", entry()))
    key, other = await house.key("acme", "reader"), await house.key("acme", "reader")
    held = Held(house, monkeypatch)
    reader = asyncio.create_task(fetched(house, NOVEMBER, key))
    await held.until(1)
    await house.administration.revoke_key(house.key_id(key))
    held.go_on.set()
    with pytest.raises(ClientError):
        await asyncio.wait_for(reader, 10)
    assert len(await lines(house, NOVEMBER, other)) == 3


async def test_a_reader_who_takes_nothing_is_not_waited_for(
    make_house: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He keeps his place for as long as a request may take, and no longer."""
    house: House = await make_house(request_timeout_s=0.3)
    monkeypatch.setattr(exports, "READ_RECORDS", 200)
    many = [decided("counted", f"gen-{n}", entry(session="x" * 250)) for n in range(20_000)]
    await tell(house, *many)
    key = await house.key("acme", "reader")
    request = f"GET {NOVEMBER} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=1024)
    writer.write(request.encode())
    await asyncio.sleep(0.1)
    assert (await house.call("GET", NOVEMBER, key))[0] == 503
    await asyncio.sleep(1)
    assert len(await lines(house, NOVEMBER, key)) == len(many) + 2
    writer.close()
