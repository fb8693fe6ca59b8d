"""What was not taken can be looked at and, by an administrator, sent again."""

import base64
from typing import Any

import pytest

from streams import topics
from streams.gateway import rejected
from streams.gateway.newest import Newest
from streams.log.interface import Message
from streams.log.partition import partition_of
from tests.gateway.conftest import House

REASONS = (
    ("reason", b"undecodable"),
    ("error", b"model: is required"),
    ("partition", b"1"),
    ("offset", b"17"),
)


async def reject(house: House, partition: int, key: bytes | None, value: bytes | None, *headers: Any) -> int:
    message = Message(topics.REJECTED, partition, key, value, (*REASONS, *headers))
    return (await house.log.append([message]))[0]


async def test_rejected_records_are_listed_in_pages(house: House) -> None:
    """By partition, then offset; every record once, however small the pages."""
    places = [(n % 4, await reject(house, n % 4, b"k%d" % n, b"{}")) for n in range(11)]
    found, after = [], ""
    for _ in range(20):
        status, page = await house.call("GET", f"/api/v1/rejected?limit=3&after={after}")
        assert status == 200 and len(page["rejected"]) <= 3
        found += [(one["partition"], one["offset"]) for one in page["rejected"]]
        after = page["next"]
        if after is None:
            break
    assert found == sorted(places)
    for query in ("limit=x", "limit=-1", "after=1", "after=x:1", "after=1:" + "9" * 30, "limit=\u0663"):
        assert (await house.call("GET", f"/api/v1/rejected?{query}"))[0] == 422


async def test_a_rejected_record_is_shown_with_its_bytes(house: House) -> None:
    """Text as text, other bytes as base64, with the reason and where it stood."""
    text = await reject(house, 0, b"gen-1", b'{"id":"gen-1"}')
    data = await reject(house, 0, None, b"\xff\x00")
    shown = (await house.call("GET", f"/api/v1/rejected/0/{text}"))[1]
    assert (shown["value"], shown["encoding"], shown["key"]) == ('{"id":"gen-1"}', "utf-8", "gen-1")
    assert (shown["reason"], shown["source_partition"], shown["source_offset"]) == ("undecodable", "1", "17")
    shown = (await house.call("GET", f"/api/v1/rejected/0/{data}"))[1]
    assert (base64.b64decode(shown["value"]), shown["encoding"], shown["key"]) == (
        b"\xff\x00",
        "base64",
        None,
    )


async def test_places_that_are_not_there(house: House) -> None:
    """404 for a place without a record, 422 for what is no place."""
    offset = await reject(house, 0, b"k", b"v")
    for place, status in (
        (f"0/{offset + 1}", 404),
        ("9/0", 404),
        ("1/0", 404),
        ("x/0", 422),
        ("0/-1", 422),
        ("0/" + "9" * 40, 422),
    ):
        assert (await house.call("GET", f"/api/v1/rejected/{place}"))[0] == status, place
        assert (await house.call("POST", f"/api/v1/rejected/{place}/redrive"))[0] == status, place


async def test_a_redriven_record_is_the_same_bytes_in_its_own_partition(house: House) -> None:
    """Under its key, with its schema's header, forced only when asked, and then with who asked."""
    wrong = (partition_of(b"gen-1", 4) + 1) % 4
    offset = await reject(house, wrong, b"gen-1", b'{"id":"gen-1","x":1}', ("schema", b"2"), ("force", b"1"))
    path = f"/api/v1/rejected/{wrong}/{offset}/redrive"
    assert (await house.call("POST", path))[0] == 202
    assert (await house.call("POST", path, json={"force": True}))[0] == 202
    assert (await house.call("POST", path, json={"force": 1}))[0] == 422
    plain, forced = await house.records()
    assert plain.partition == forced.partition == partition_of(b"gen-1", 4)
    assert (plain.key, plain.value, plain.headers) == (b"gen-1", b'{"id":"gen-1","x":1}', (("schema", b"2"),))
    assert forced.headers == (("schema", b"2"), ("force", b"an administrator without a key"))
    key = await house.key("", "admin")
    assert (await house.call("POST", path, key, json={"force": True}))[0] == 202
    header = dict((await house.records())[-1].headers)["force"]
    assert header.startswith(b"key_")
    assert header.decode() != key


async def test_what_has_no_key_or_no_bytes_can_not_be_redriven(house: House) -> None:
    """A null or a record without a key would mean something else on the log."""
    for key, value in ((None, b"{}"), (b"k", None)):
        offset = await reject(house, 2, key, value)
        assert (await house.call("POST", f"/api/v1/rejected/2/{offset}/redrive"))[0] == 409
    assert await house.records() == []


async def test_trying_again_does_not_lengthen_the_list(house: House) -> None:
    """One conflict, redriven five times and refused each time: one in the list, one published a run."""
    partition = partition_of(b"gen-1", 4)
    await reject(house, partition, b"gen-1", b"{}")
    await reject(house, partition, b"gen-1", b"{ }")
    await reject(house, partition, None, b"{}")
    for run in range(1, 6):
        listed = (await house.call("GET", "/api/v1/rejected"))[1]
        assert (len(listed["rejected"]), listed["next"], listed["truncated"]) == (3, None, False)
        place = max(one["offset"] for one in listed["rejected"] if one["size_bytes"] == 2 and one["key"])
        assert (await house.call("POST", f"/api/v1/rejected/{partition}/{place}/redrive"))[0] == 202
        await reject(house, partition, b"gen-1", b"{}")  # as the ledger does
        assert len(await house.records()) == run


async def test_what_is_hidden_does_not_end_a_list(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that only had older repeats to look at says where to go on; nothing is shown twice or lost."""
    monkeypatch.setattr(rejected, "LOOKED_AT_MAX", 4)
    for n in range(10):
        await reject(house, 0, b"same", b"{}")
        await reject(house, 1, b"k%d" % n, b"{}")
    pages, keys, after = 0, [], ""
    while after is not None:
        page = (await house.call("GET", f"/api/v1/rejected?limit=3&after={after}"))[1]
        keys += [one["key"] for one in page["rejected"]]
        after, pages = page["next"], pages + 1
    assert keys == ["same", *(f"k{n}" for n in range(10))] and 6 <= pages < 20


async def test_the_memory_of_repeats_is_bounded_and_says_so(house: House) -> None:
    """Beyond its bound older repeats are shown again; nothing is hidden that has no newer twin."""
    newest = Newest(house.log, topics.REJECTED, rejected.kept_headers, remembered_max=8)
    for key in (b"a", b"b"):
        await reject(house, 1, key, b"{}")
    await newest.catch_up(1)
    await reject(house, 1, b"a", b"{}")
    await newest.catch_up(1)
    assert [newest.has(one) for one in await house.log.read(topics.REJECTED, 1, 0, 10)] == [False, True, True]
    assert not newest.truncated
    for key in (b"b", b"c"):
        await reject(house, 1, key, b"{}")
    await newest.catch_up(1)  # two kinds are remembered: b and c
    found = [newest.has(one) for one in await house.log.read(topics.REJECTED, 1, 0, 10)]
    assert (found, newest.truncated) == ([True, False, True, True, True], True)
