"""Who may do what: rows 32, 33, 35, 50 and 53 of the bad inputs, and every right of every key."""

import asyncio
import json

import pytest
from aiohttp import web

from streams import gateway
from streams.gateway.openapi import Operation
from streams.generation import Generation
from streams.known import Known, Terms
from streams.organizations import Rights
from tests.gateway.conftest import NOW_MS, House, Make, event

NOW_NS = NOW_MS * 1_000_000
SETTINGS_CALLS = [
    ("GET", "/api/v1/organizations"),
    ("GET", "/api/v1/organizations/acme"),
    ("POST", "/api/v1/organizations"),
    ("GET", "/api/v1/users?org=acme"),
    ("POST", "/api/v1/users"),
    ("GET", "/api/v1/keys"),
    ("POST", "/api/v1/keys"),
    ("POST", "/api/v1/keys/x/revoke"),
    ("GET", "/api/v1/rejected"),
    ("GET", "/api/v1/rejected/0/0"),
    ("POST", "/api/v1/rejected/0/0/redrive"),
]


def known(id: str, organization: str) -> Known:
    """What the ledger would say of a counted generation."""
    winner = Generation(id=id, organization=organization, model="m", cost_nano=10_000_000)
    return Known(winner, Terms("1", "UTC", "2026-11-20", ""), None, NOW_NS)


async def test_another_organisation_in_the_body_is_403(house: House) -> None:
    """A key's organisation decides; in a mixed batch only the foreign events are refused."""
    key = await house.key("acme")
    status, answer = await house.post(event(organization="other"), key)
    assert (status, answer["error"]["code"], answer["error"]["field"]) == (403, "forbidden", "organization")
    assert await house.records() == []
    status, answer = await house.post(
        [event("a", organization="other"), event("b"), event("c", organization="")], key
    )
    assert (status, answer["accepted"]) == (202, 2)
    assert [(r["index"], r["code"]) for r in answer["rejected"]] == [(0, "forbidden")]
    assert {one.organization for one in (await house.events()).values()} == {"acme"}


async def test_the_keys_organisation_is_filled_in(house: House) -> None:
    """An event may leave its organisation to the key."""
    key = await house.key("acme")
    assert (await house.post({"id": "a", "model": "m"}, key))[0] == 202
    assert (await house.events())["a"].organization == "acme"


async def test_another_organisations_generation_looks_absent(house: House) -> None:
    """404 with the same body, whether it is another's or nobody's; a duplicate of it is not known."""
    house.known["gen-o"] = known("gen-o", "other")
    key = await house.key("acme", "reader")
    foreign = await house.call("GET", "/api/v1/generations/gen-o", key)
    absent = await house.call("GET", "/api/v1/generations/gen-x", key)
    assert foreign == absent
    assert foreign[0] == 404
    status, answer = await house.call("GET", "/api/v1/generations/gen-o/duplicate?model=m&cost=0.01", key)
    assert (status, answer["known"], answer["duplicate"]) == (200, False, False)
    mine = await house.key("other", "reader")
    assert (await house.call("GET", "/api/v1/generations/gen-o", mine))[0] == 200


async def test_keys_that_are_not_right_are_401_with_one_body(house: House) -> None:
    """Unknown, revoked, cut, lower-cased, doubled or malformed: the same answer for all."""
    admin = await house.key("", "admin")
    key = await house.key("acme")
    revoked = await house.key("acme")
    id = house.key_id(revoked)
    assert (await house.call("POST", f"/api/v1/keys/{id}/revoke", admin))[0] == 200
    shown = [None, f"Bearer {revoked}", "Bearer glk_", f"Bearer {key[:20]}", f"Bearer {key.lower()}",
             f"Basic {key}", key, f"Bearer {key} {key}", "Bearer", "Bearer ", f"Bearer {key}x",
             "Bearer \u00e9"]  # fmt: skip
    answers = []
    for authorization in shown:
        headers = {} if authorization is None else {"Authorization": authorization}
        answers.append(await house.post(event(), **headers))
    assert {status for status, _ in answers} == {401}
    assert all(body == answers[0][1] for _, body in answers)
    assert await house.records() == []
    assert (await house.post(event(), key))[0] == 202
    assert (await house.post(event(), Authorization=f"bearer {key}"))[0] == 202


async def test_two_authorization_headers_are_401(house: House) -> None:
    """Nobody can say which of two keys is meant."""
    key = (await house.key("acme", "reader")).encode()
    line = b"Authorization: Bearer " + key + b"\r\n"
    answer = await house.raw(
        b"GET /api/v1/organizations HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + line * 2 + b"\r\n"
    )
    assert answer.split(b" ")[1] in (b"400", b"401")


async def test_revocation_counts_at_once(house: House) -> None:
    """The request after the revocation is refused."""
    admin = await house.key("", "admin")
    status, made = await house.call("POST", "/api/v1/keys", admin, json={"organization": "acme"})
    assert status == 201
    assert (await house.post(event(), made["secret"]))[0] == 202
    status, revoked = await house.call("POST", f"/api/v1/keys/{made['id']}/revoke", admin)
    assert (status, revoked["revoked_at"]) == (200, "2026-11-20T12:00:00.000Z")
    assert (await house.post(event(), made["secret"]))[0] == 401
    assert (await house.call("POST", f"/api/v1/keys/{made['id']}/revoke", admin))[1] == revoked
    assert (await house.call("POST", "/api/v1/keys/key_x/revoke", admin))[0] == 404


@pytest.mark.parametrize("path", ["/api/v1/generations", "/webhooks/standard", "/api/v1/keys"])
async def test_a_key_revoked_while_its_body_arrives_does_nothing_more(house: House, path: str) -> None:
    """Who sends slowly gains nothing: no event after the revocation, and no new key."""
    await house.key("", "admin")
    secret = await house.key("", "admin")
    body = json.dumps({"organization": "acme"} if path.endswith("keys") else event()).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        writer.write(head.encode() + body[:-1])
        await writer.drain()
        await house.call("GET", "/api/v1/keys", secret)  # the door is at the body by now
        await asyncio.sleep(0.1)
        await house.administration.revoke_key(house.key_id(secret))
        writer.write(body[-1:])
        answered = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    assert answered.startswith(b"HTTP/1.1 401 ")
    assert not await house.events()
    assert len(house.directory.keys()) == 2


async def test_a_head_needs_what_its_get_needs(make_house: Make) -> None:
    """Headers alone tell something, too."""

    async def accounts(request: web.Request) -> web.Response:
        """Everybody's"""
        return web.json_response({})

    documented = [Operation("accounts", "GET", "/accounts", "settings", "Everybody's")]
    house = await make_house(extra_routes=[web.get("/accounts", accounts)], extra_docs=documented)
    reader, admin = await house.key("acme", "reader"), await house.key("", "admin")
    for method in ("GET", "HEAD"):
        assert (await house.call(method, "/accounts", reader))[0] == 403
        assert (await house.call(method, "/accounts", admin))[0] == 200


@pytest.mark.parametrize(
    ("organization", "rights", "write", "read", "settings"),
    [
        ("acme", "producer", True, False, False),
        ("acme", "reader", False, True, False),
        ("acme", "admin", True, True, False),
        ("", "admin", True, True, True),
    ],
)
async def test_each_key_has_its_rights(
    make_house: Make, organization: str, rights: Rights, write: bool, read: bool, settings: bool
) -> None:
    """The matrix of access.py: what a key may not do is 403 and changes nothing."""

    async def usage(request: web.Request) -> web.Response:
        """Usage."""
        return web.json_response({"organization": request["organization"], "rights": request["rights"]})

    routes = [web.get("/api/v1/usage/daily", usage), web.post("/api/v1/unheard-of", usage)]
    house: House = await make_house(extra_routes=routes)
    house.known["gen-1"] = known("gen-1", "acme")
    key = await house.key(organization, rights)
    assert (await house.post(event(), key))[0] == (202 if write else 403)
    for path in ("/api/v1/generations/gen-1", "/api/v1/generations/gen-1/duplicate"):
        assert (await house.call("GET", path, key))[0] == (200 if read else 403)
    status, answer = await house.call("GET", "/api/v1/usage/daily", key)
    assert status == (200 if read else 403)
    assert not read or answer == {"organization": organization, "rights": rights}
    assert (await house.call("POST", "/api/v1/unheard-of", key))[0] == (200 if settings else 403)
    for method, path in SETTINGS_CALLS:
        status, answer = await house.call(method, path, key)
        assert (status != 403) == settings, (method, path, status, answer)
        assert (await house.call(method, path))[0] == 401
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        assert (await house.call("GET", path))[0] == 200


@pytest.mark.parametrize(
    ("rights", "authority", "void", "status"),
    [
        ("producer", "estimate", False, 202),
        ("producer", "reported", False, 202),
        ("producer", "reconciled", False, 403),
        ("producer", "corrected", False, 403),
        ("producer", None, True, 403),
        ("producer", "estimate", True, 403),
        ("producer", None, False, 202),
        ("admin", "reconciled", False, 403),
        ("admin", "corrected", False, 202),
        ("admin", None, True, 202),
        ("reader", None, False, 403),
    ],
)
async def test_authority_is_bounded_by_the_key(
    house: House, rights: Rights, authority: str | None, void: bool, status: int
) -> None:
    """A producer reports; an administrator corrects and voids, for the key's organisation."""
    key = await house.key("acme", rights)
    assert (await house.post(event(authority=authority, void=void), key))[0] == status
    assert len(await house.records()) == (1 if status == 202 else 0)


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 202), ("localhost:9999", 202), ("127.0.0.1", 202), ("[::1]:1", 202), ("LOCALHOST", 202),
     ("evil.example", 403), ("localhost.evil.example", 403), ("127.0.0.1.nip.io", 403), ("0.0.0.0", 403),
     ("169.254.169.254", 403), ("localhost:80:80", 403), ("[::2]", 403)],
)  # fmt: skip
async def test_an_open_service_answers_to_its_own_name_only(house: House, host: str, status: int) -> None:
    """A name that rebinds to loopback gets nothing."""
    assert (await house.post(event(), Host=host))[0] == status
    assert len(await house.records()) == (1 if status == 202 else 0)


@pytest.mark.parametrize(
    ("origin", "status"), [("http://localhost:3000", 202), ("https://evil.example", 403), ("null", 403)]
)
async def test_an_open_service_does_not_serve_other_sites(house: House, origin: str, status: int) -> None:
    """A page from elsewhere in the user's browser can't write, and no answer allows it to read."""
    assert (await house.post(event(), Origin=origin))[0] == status
    async with house.session.options("/api/v1/generations", headers={"Origin": origin}) as response:
        assert response.status in (403, 405)
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_with_keys_any_host_is_served(house: House) -> None:
    """A service with keys may stand behind a proxy with a name of its own."""
    key = await house.key("acme")
    assert (await house.post(event(), key, Host="meter.example"))[0] == 202


async def test_a_bound_address_needs_keys_from_the_start(make_house: Make) -> None:
    """Elsewhere than on loopback nobody is an administrator without a key, and the first key is made."""
    house: House = await make_house(host="0.0.0.0")
    assert (await house.post(event()))[0] == 401
    secret = await gateway.first_key(house.door())
    assert secret.startswith("glk_")
    assert await gateway.first_key(house.door()) == ""
    assert (await house.call("GET", "/api/v1/keys", secret))[0] == 200


async def test_the_first_key_of_an_open_service_brings_an_administrators(house: House) -> None:
    """Making a producer's key closes the service: whoever did it gets the key that can change things."""
    status, made = await house.call("POST", "/api/v1/keys", json={"organization": "acme"})
    assert status == 201
    assert (await house.call("GET", "/api/v1/keys"))[0] == 401
    assert (await house.call("GET", "/api/v1/keys", made["secret"]))[0] == 403
    status, listed = await house.call("GET", "/api/v1/keys", made["administrator"]["secret"])
    assert (status, len(listed["keys"])) == (200, 2)
    assert not any("secret" in key or "hash" in key for key in listed["keys"])
    admin = made["administrator"]["secret"]
    assert (
        "administrator"
        not in (await house.call("POST", "/api/v1/keys", admin, json={"organization": "b"}))[1]
    )


async def test_no_secret_is_kept(house: House) -> None:
    """The log has the hash of a key, never the key."""
    secret = await house.key("acme")
    assert all(secret.encode() not in (record.value or b"") for record in await house.records("keys"))
