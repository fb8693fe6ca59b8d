"""What callers name does not reach labels or logs as it came: rows 40 to 42 of the bad inputs."""

import asyncio
import logging
import re

import pytest
from aiohttp import web

from tests.gateway.conftest import House, Make, event


async def series(house: House) -> set[str]:
    """The names and labels of all metrics of genledger."""
    text = (await house.call("GET", "/metrics"))[1].decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if line.startswith("genledger_")}


async def test_many_model_names_make_no_label(house: House) -> None:
    """100,000 distinct models are taken, and the metrics' label sets stay as they were."""
    await house.post([event("gen-0"), {"id": 1}])
    before = await series(house)
    before = await series(house)
    for batch in range(10):
        events = [
            event(f"gen-{batch}-{n}", model=f"model-{batch}-{n}", source=f"s{n}") for n in range(10_000)
        ]
        assert (await house.post(events))[1]["accepted"] == 10_000
    assert await series(house) == before
    assert len({one.model for one in (await house.events()).values()}) == 100_001


async def test_many_paths_and_methods_make_no_label(house: House) -> None:
    """Paths of no route, ids in paths, and odd methods share the template's label."""
    house.known.clear()

    async def ask(n: int) -> None:
        await house.call("GET", f"/nowhere/{n}")
        await house.call("GET", f"/api/v1/generations/gen-{n}")
        await house.call("PROPFIND" if n % 2 else "TRACE", f"/api/v1/generations/{n}")

    async def some(count: int) -> None:
        for start in range(0, count, 50):
            await asyncio.gather(*(ask(n) for n in range(start, min(start + 50, count))))

    await some(2)
    await series(house)  # asking has a label of its own
    before = await series(house)
    await some(3334)
    assert await series(house) == before
    assert not any("gen-" in name or "PROPFIND" in name for name in before)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
async def test_other_methods_are_405(house: House, method: str) -> None:
    """A route says which methods it knows."""
    async with house.session.request(method, "/api/v1/generations") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
        assert response.content_type == "application/json"


async def test_no_route_is_404_in_json(house: House) -> None:
    """A path of no route, whatever its characters."""
    for path in ("/nope", "/%00", "/%ff", "/%2e%2e/%2e%2e/etc/passwd", "/api/v1/generations/", "/nope//"):
        status, answer = await house.call("GET", path)
        assert (status, answer["error"]["code"]) == (404, "not_found"), path
    answer = await house.raw(
        b"GET /api/v1/generations/\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert int(answer.split(b" ")[1]) in (400, 404)


async def test_every_answer_has_the_security_headers(house: House) -> None:
    """Refusals too; and a request id to ask about."""
    for path in ("/livez", "/nope"):
        async with house.session.get(path) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["X-Frame-Options"] == "DENY"
            assert re.fullmatch(r"[0-9a-f]{16}", response.headers["X-Request-Id"])
            assert "aiohttp" not in response.headers["Server"]


async def test_logs_are_escaped_and_hold_no_secret(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Control characters, ANSI escapes and bidi marks from outside never reach the log as they are."""
    key = await house.key("acme")
    with caplog.at_level(logging.DEBUG, logger="genledger"):
        agent = 'x\u202eevil\u009b31m \u00e9 "quoted" \\'
        head = (
            b"GET /api/v1/generations/a%0d%0ab%1b?key=" + key.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
        )
        head += b"Authorization: Bearer " + key.encode() + b"\r\nUser-Agent: " + agent.encode() + b"\r\n"
        await house.raw(head + b"Connection: close\r\n\r\n")
        assert b" 400 " in await house.raw(head + b"X: \x1b[31m\r\n\r\n")
        await house.post(event("id\u202e", model="\x1b[31m"), key, User_Agent="plain")
    text = caplog.text
    assert "x\\u202eevil" in text
    assert key not in text and key[4:20] not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)
    assert len([r for r in caplog.records if r.name == "genledger.access"]) == 3


@pytest.mark.parametrize(
    ("method", "path", "field", "advice"),
    [("GET", "/api/v1/rejected?limt=3", "limt", "did you mean limit?"),
     ("GET", "/api/v1/users?organization=acme", "organization", "did you mean org?"),
     ("GET", "/api/v1/users?org=acme&x=1", "x", "it knows org"),
     ("POST", "/api/v1/generations?stric=1", "stric", "did you mean strict?"),
     ("POST", "/api/v1/keys?org=acme", "org", "it knows none"),
     ("GET", "/livez?%ff=1", "", "it knows none"), ("GET", "/metrics?=1", "", "it knows none"),
     ("GET", "/readyz?verbos", "verbos", "did you mean verbose?"),
     ("HEAD", "/api/v1/own?x=1", "x", ""), ("GET", "/api/v1/own?day=1", "day", "did you mean days?")],
)  # fmt: skip
async def test_a_parameter_that_a_route_does_not_know_is_refused(
    make_house: Make, method: str, path: str, field: str, advice: str
) -> None:
    """A slip in a parameter's name is 400 with what was meant, never an answer about everybody."""

    async def own(request: web.Request) -> web.Response:
        """Another module's route."""
        return web.json_response(dict(request.query))

    own.query = (("days", "how many"),)  # type: ignore[attr-defined]
    house: House = await make_house(extra_routes=[web.get("/api/v1/own", own)])
    status, answer = await house.call(method, path)
    assert status == 400
    if method != "HEAD":
        assert answer["error"]["code"] == "unknown_parameter"
        assert answer["error"]["field"].startswith(field)
        assert answer["error"]["message"].endswith(advice)
    assert await house.call("GET", "/api/v1/own?days=2") == (200, {"days": "2"})
    assert (await house.call("GET", "/readyz?verbose"))[0] == 200


async def test_a_parameter_is_looked_at_after_the_key(house: House) -> None:
    """Who has no key learns nothing of parameters."""
    await house.key("acme")
    assert (await house.call("GET", "/api/v1/users?x=1"))[0] == 401


async def test_the_address_alone_says_what_answers(house: House) -> None:
    """GET / needs no key: a name, a version, and where to read on."""
    await house.key("acme")
    status, answer = await house.call("GET", "/")
    assert (status, answer["name"], answer["openapi"]) == (200, "genledger", "/openapi.json")
    assert set(answer) == {"name", "version", "openapi", "docs"}
