"""A log that can't take more: 503 and 507 with Retry-After, in time, and 202 only when it has the event."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streams import topics
from streams.errors import LogError, LogFull
from streams.log.interface import Message
from streams.log.sqlite import Bounds, open_log
from tests.gateway.conftest import House, Make, event


class Troubled:
    """A real log whose appends can be held back or made to fail; everything else is the log's."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.error: LogError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, messages: Sequence[Message]) -> Sequence[int]:
        self.entered.set()
        if self.error is not None:
            raise self.error
        await self.gate.wait()
        return await self._log.append(messages)  # type: ignore[no-any-return]


@pytest.fixture
async def troubled(tmp_path: Path) -> Any:
    log = await open_log(f"sqlite:///{tmp_path}/other", topics.topic_table())
    yield Troubled(log)
    await log.close()


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (LogFull("too much waits", retry_after_s=3), 503, "log_full", "3"),
        (LogFull("no room", disk=True, retry_after_s=30), 507, "disk_full", "30"),
        (LogError("stopped"), 503, "log_unavailable", "5"),
    ],
)
async def test_a_log_that_refuses(
    make_house: Make, troubled: Troubled, error: LogError, status: int, code: str, retry: str
) -> None:
    """The caller is told to come back, and when; once the log takes events again, so does the door."""
    house: House = await make_house(log=troubled)
    troubled.error = error
    for path, body in (
        ("generations", event()),
        ("keys", {"rights": "admin"}),
        ("organizations", {"id": "a"}),
    ):
        async with house.session.post(f"/api/v1/{path}", json=body) as response:
            assert (response.status, response.headers["Retry-After"]) == (status, retry)
            assert (await response.json())["error"]["code"] == code
    troubled.error = None
    assert (await house.post(event()))[0] == 202
    assert len(await house.records()) == 1


async def test_a_log_that_does_not_answer_is_503_in_time(make_house: Make, troubled: Troubled) -> None:
    """Within the stated time the caller has an answer; others are served meanwhile; the retry is taken."""
    house: House = await make_house(log=troubled, append_timeout_s=0.3)
    troubled.gate.clear()
    started_s = asyncio.get_running_loop().time()
    waiting = asyncio.create_task(house.post(event()))
    await troubled.entered.wait()
    assert (await house.call("GET", "/livez"))[0] == 200
    assert not waiting.done()
    status, answer = await waiting
    assert (status, answer["error"]["code"]) == (503, "log_slow")
    assert 0.25 < asyncio.get_running_loop().time() - started_s < 1.5
    troubled.gate.set()
    assert (await house.post(event()))[0] == 202


async def test_202_waits_for_the_log(make_house: Make, troubled: Troubled) -> None:
    """No answer before the append has returned; after the answer the event can be read."""
    house: House = await make_house(log=troubled)
    troubled.gate.clear()
    waiting = asyncio.create_task(house.post(event()))
    await troubled.entered.wait()
    await asyncio.sleep(0.1)
    assert not waiting.done()
    assert await house.records() == []
    troubled.gate.set()
    assert (await waiting)[0] == 202
    assert len(await house.records()) == 1


async def test_a_full_queue_of_the_real_log_is_503(make_house: Make, tmp_path: Path) -> None:
    """The real log's own bound on what waits comes out as 503, and what got 202 is on the log."""
    log = await open_log(
        f"sqlite:///{tmp_path}/small", topics.topic_table(), bounds=Bounds(waiting_records=30)
    )
    house: House = await make_house(log=log)
    batches = [[event(f"gen-{n}-{i}") for i in range(20)] for n in range(20)]
    answers = await asyncio.gather(*(house.post(batch) for batch in batches))
    assert {status for status, _ in answers} == {202, 503}
    taken = 20 * sum(status == 202 for status, _ in answers)
    assert len(await house.records()) == taken
    assert (await house.post(batches[0]))[0] == 202
    await log.close()


async def test_concurrent_settings_changes_are_all_kept(house: House) -> None:
    """Twenty changes at once to one organisation: each is built on the one before."""
    changes = [{"id": "acme", "name": f"name-{n}"} for n in range(20)]
    answers = await asyncio.gather(*(house.call("POST", "/api/v1/organizations", json=c) for c in changes))
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    acme = house.directory.organization("acme")
    assert acme is not None and {change.name for change in acme.history} == {c["name"] for c in changes}


async def test_a_full_disk_is_507_until_there_is_room(house: House) -> None:
    """SQLite finds no page: nothing is half written, and with room the same request is taken."""
    file = house.real._stores["intake"]._connection  # type: ignore[attr-defined]
    pages = file.execute("PRAGMA page_count").fetchone()[0]
    file.execute(f"PRAGMA max_page_count = {pages + 1}")
    batch = [event(f"gen-{n}", model="m" * 250) for n in range(2000)]
    async with house.session.post("/api/v1/generations", json=batch) as response:
        assert (response.status, response.headers["Retry-After"]) == (507, "10")
    assert await house.records() == []
    file.execute("PRAGMA max_page_count = 1000000")
    assert (await house.post(batch))[1]["accepted"] == 2000
    assert len(await house.records()) == 2000
