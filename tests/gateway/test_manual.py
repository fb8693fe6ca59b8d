"""What is put down by hand: one call, on the road of all others."""

import re

import pytest

from streams import money
from tests.gateway.conftest import Answer, House, Make

PATH = "/api/v1/admin/usage/manual-record"
SEED = {"model": "gpt-4", "tokens": 1000, "cost": 0.02}


async def send(house: House, body: object, key: str = "", query: str = "", **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await house.call("POST", f"{PATH}{query}", key, json=body, headers=given)


async def test_the_seeds_request_is_one_reported_call_of_default(house: House) -> None:
    """Model, tokens and cost are enough; it has an id of its own, which the answer names."""
    status, answer = await send(house, SEED)
    assert (status, answer["accepted"], answer["rejected"]) == (202, 1, [])
    (event,) = (await house.events()).values()
    assert event.id == answer["id"]
    assert re.fullmatch(r"manual-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", event.id)
    assert (event.organization, event.model, event.source) == ("default", "gpt-4", "manual")
    assert (event.total_tokens, event.prompt_tokens, event.authority) == (1000, 0, "reported")
    assert event.cost_nano == money.nano_of("0.02")


async def test_what_is_given_beyond_that_is_kept(house: House) -> None:
    """User and time are the event's; an administrator of all says whose it is; no cost is an unknown one."""
    more = {"organization": "acme", "user": "alice", "created_at": "2026-11-20T10:00:00Z", "cost": None}
    assert (await send(house, {**SEED, **more}))[0] == 202
    (event,) = (await house.events()).values()
    assert (event.organization, event.user, event.cost_nano) == ("acme", "alice", None)
    assert event.created_ns == 1_795_168_800 * 10**9


async def test_a_cost_is_its_text_to_the_nano_dollar(house: House) -> None:
    """A JSON number never goes through a float."""
    for cost in (b"345678.123456789", b'"345678.123456789"'):
        body = b'{"model":"m","tokens":1,"cost":%b}' % cost
        assert (await house.call("POST", PATH, data=body, headers={"Content-Type": "application/json"}))[
            0
        ] == 202
    assert {one.cost_nano for one in (await house.events()).values()} == {345_678_123_456_789}


async def test_sent_again_with_its_key_it_is_the_same_call(house: House) -> None:
    """The Idempotency-Key is the id, as it is."""
    for _ in range(2):
        status, answer = await send(house, SEED, Idempotency_Key="invoice 17/é")
        assert (status, answer["id"]) == (202, "invoice 17/é")
    assert {record.key for record in await house.records()} == {"invoice 17/é".encode()}


@pytest.mark.parametrize("key", ["", "x" * 257, "horizon-0", "balance-x", "a\tb"])
async def test_a_key_that_is_no_id_is_refused(house: House, key: str) -> None:
    """The rules of an id hold, and the header is named."""
    status, answer = await send(house, SEED, Idempotency_Key=key)
    assert (status, answer["error"]["field"]) == (422, "Idempotency-Key")
    assert await house.records() == []


async def test_a_key_that_is_no_text_or_stands_twice_is_refused(house: House) -> None:
    """What can't be an id at all is no error of ours."""
    body = b'{"model":"m","tokens":1}'
    for keys in (b"Idempotency-Key: a\xff\r\n", b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n"):
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" % PATH.encode()
        typed = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        answer = await house.raw(head + keys + typed + body)
        assert answer.startswith(b"HTTP/1.1 422 "), answer
        assert b'"field":"Idempotency-Key"' in answer
    assert await house.records() == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"tokens": None}, "tokens"),
        ({"tokens": -1}, "tokens"),
        ({"tokens": "1000"}, "tokens"),
        ({"tokens": 10**13}, "tokens"),
        ({"cost": -0.02}, "cost"),
        ({"cost": "much"}, "cost"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"created_at": "2026-12-20T10:00:00Z"}, "created_at"),
        ({"user": "a\nb"}, "user"),
        ({"organization": "o" * 129}, "organization"),
    ],
)
async def test_a_field_that_is_wrong_is_named(house: House, change: dict[str, object], field: str) -> None:
    """By the name that the record has for it."""
    status, answer = await send(house, {**SEED, **change})
    assert (status, answer["accepted"], answer["error"]["field"]) == (422, 0, field)
    assert answer["rejected"][0]["field"] == field
    assert await house.records() == []


async def test_nothing_of_an_event_can_be_claimed_by_it(house: House) -> None:
    """Authority, void and id are no fields of a record: dropped and named, or refused."""
    claims = {"authority": "corrected", "void": True, "id": "gen-1", "source": "webhook", "revision": 9}
    status, answer = await send(house, {**SEED, **claims})
    assert (status, sorted(answer["ignored_fields"])) == (202, sorted(claims))
    (event,) = (await house.events()).values()
    assert (event.authority, event.void, event.source, event.revision) == ("reported", False, "manual", None)
    status, answer = await send(house, {**SEED, **claims}, query="?strict=1")
    assert (status, answer["error"]["field"]) == (422, "authority")


async def test_a_key_writes_for_its_organisation_only(house: House) -> None:
    """It goes to the key's own; another's is forbidden, and so is writing with a reader's key."""
    producer, reader = await house.key("acme"), await house.key("acme", "reader")
    assert (await send(house, SEED, producer))[0] == 202
    status, answer = await send(house, {**SEED, "organization": "globex"}, producer)
    assert (status, answer["error"]["field"]) == (403, "organization")
    assert (await send(house, SEED, reader))[0] == 403
    assert (await send(house, SEED))[0] == 401
    assert [one.organization for one in (await house.events()).values()] == ["acme"]


async def test_an_unknown_default_is_refused_where_unknown_ones_are(make_house: Make) -> None:
    """`default` is an organisation as any other."""
    house: House = await make_house(unknown_organizations="reject")
    status, answer = await send(house, SEED)
    assert (status, answer["error"]["field"]) == (422, "organization")
