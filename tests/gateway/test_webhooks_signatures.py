"""Signed bodies: rows 1 to 11 of the bad inputs, on every endpoint, signed by somebody else's code."""

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
from standardwebhooks import Webhook

from tests.gateway.conftest import NOW_MS, House, Make
from tests.gateway.entries import ENTRIES, OPENROUTER, STANDARD, WEBHOOKS, Entry

NOW_S = NOW_MS // 1000
OLD = "whsec_" + base64.b64encode(b"an old key of 32 bytes, or so ..").decode()
NEW = "whsec_" + base64.b64encode(b"a new key of 32 bytes, or so ...").decode()
OTHER = "whsec_" + base64.b64encode(b"somebody else's key of 32 bytes.").decode()
SECRETS = "\n".join(f"{entry.source} acme {secret}" for entry in WEBHOOKS for secret in (OLD, NEW))

Headers = Mapping[str, str]


def standard(secret: str, body: bytes, at: int | str = NOW_S, id: str = "msg_1") -> dict[str, str]:
    """The headers of the Standard Webhooks library; of a time that it can't write, by its formula."""
    if isinstance(at, int) and 0 <= at < 10**11:
        time = dt.datetime.fromtimestamp(at, dt.UTC)
        signature = Webhook(secret).sign(id, time, body.decode())
    else:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        mac = hmac.digest(key, f"{id}.{at}.".encode() + body, "sha256")
        signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": id, "webhook-timestamp": str(at), "webhook-signature": signature}


def openrouter(secret: str, body: bytes, at: int | str = NOW_S) -> dict[str, str]:
    """OpenRouter's header, by its documentation."""
    mac = hmac.new(secret.encode(), f"{at},".encode() + body, hashlib.sha256).hexdigest()
    return {"X-OpenRouter-Signature": f"t={at},v1={mac}"}


@dataclass(frozen=True)
class Signed:
    """An endpoint, and one way to sign for it."""

    entry: Entry
    sign: Callable[..., dict[str, str]]
    header: str
    joint: str  # between two signatures

    def both(self, one: Headers, other: Headers) -> dict[str, str]:
        """The signatures of two headers in one."""
        more = other[self.header].partition(",")[2] if self.sign is openrouter else other[self.header]
        return {**one, self.header: one[self.header] + self.joint + more}

    def with_signature(self, headers: Headers, text: str) -> dict[str, str]:
        """The same with another text for what was signed."""
        time = f"t={NOW_S}," if self.sign is openrouter else ""
        return {**headers, self.header: time + text}


SIGNED = [
    *[Signed(entry, standard, "webhook-signature", " ") for entry in WEBHOOKS],
    Signed(OPENROUTER, openrouter, "X-OpenRouter-Signature", ","),
]


@pytest.fixture
async def house(make_house: Make) -> House:
    """An open house whose webhooks have secrets, an old one and a new one each."""
    return await make_house(webhook_secrets=SECRETS)  # type: ignore[no-any-return]


async def unsigned(house: House, entry: Entry) -> object:
    """What a request without a signature gets."""
    status, answer = await house.send(entry, entry.body())
    assert status == 401, entry.name
    return answer


async def refused(house: House, signed: Signed, headers: Headers, body: bytes | None = None) -> None:
    """A request that gets 401, with the body that every 401 has."""
    body = signed.entry.body() if body is None else body
    status, answer = await house.send(signed.entry, body, **headers)
    assert (status, answer) == (401, await unsigned(house, signed.entry)), (signed.entry.name, headers)


async def taken(house: House, signed: Signed, headers: Headers, body: bytes | None = None) -> None:
    body = signed.entry.body() if body is None else body
    status, answer = await house.send(signed.entry, body, **headers)
    assert status == signed.entry.ok, (signed.entry.name, headers, answer)


async def test_without_a_signature_is_401(house: House) -> None:
    """Row 1: where a source has a secret, an open service takes nothing that is not signed."""
    answers = [await unsigned(house, entry) for entry in WEBHOOKS]
    assert all(answer == answers[0] for answer in answers)
    assert await house.records() == []
    assert (await house.send(ENTRIES[0], ENTRIES[0].body()))[0] == 202


async def test_a_wrong_mac_is_401_with_the_same_body(house: House) -> None:
    """Row 2: somebody else's key, and a MAC that is nobody's."""
    for signed in SIGNED:
        good = signed.sign(NEW, signed.entry.body())
        await refused(house, signed, signed.sign(OTHER, signed.entry.body()))
        nobody = (
            "v1=" + "0" * 64 if signed.sign is openrouter else "v1," + base64.b64encode(bytes(32)).decode()
        )
        await refused(house, signed, signed.with_signature(good, nobody))
    assert await house.records() == []


@pytest.mark.parametrize(
    "text",
    ["v1,%%%", "v1,", "v1", "", "v1,\u00e9\u00e9", "v1,\u0661", "v1=zz", "v1=\u0661" + "0" * 63, ",", " ",
     "=", "v1," + base64.b64encode(bytes(31)).decode(), "v1=" + "0" * 63, "v1= " + "0" * 63, "v1,AAAA AAAA"],
)  # fmt: skip
async def test_a_signature_that_is_none_is_401(house: House, text: str) -> None:
    """Row 3: neither base64 nor hex, not ASCII, or of another length."""
    for signed in SIGNED:
        await refused(house, signed, signed.with_signature(signed.sign(NEW, signed.entry.body()), text))
    assert await house.records() == []


async def test_a_good_mac_with_something_in_it_is_401(house: House) -> None:
    """What base64 and hex don't have is not looked over."""
    for signed in SIGNED:
        good = signed.sign(NEW, signed.entry.body())
        text = good[signed.header].rpartition("v1")[2]
        for spoilt in (f"v1{text[:9]}%{text[9:]}", f"v1{text}%", f"v1{text}==", f"v1{text[:-1]}"):
            await refused(house, signed, signed.with_signature(good, spoilt))
    assert await house.records() == []


async def test_only_unknown_versions_are_401(house: House) -> None:
    """Row 4: a good MAC under a version that we don't know is none; beside a known one it does not matter."""
    for signed in SIGNED:
        good = signed.sign(NEW, signed.entry.body())
        for version in ("v2", "v1a", "V1", "v11"):
            other = good[signed.header].replace("v1", version)
            await refused(house, signed, {**good, signed.header: other})
        last = good[signed.header].rpartition("v1")[2]
        await taken(house, signed, signed.with_signature(good, f"v2{last}{signed.joint}v1{last}"))


@pytest.mark.parametrize("number", [17, 1000])
async def test_too_many_signatures_are_400(house: House, number: int) -> None:
    """Row 5: nobody has so many keys, though one of them be right."""
    for signed in SIGNED:
        good = signed.sign(NEW, signed.entry.body())
        one = "v1" + good[signed.header].rpartition("v1")[2]
        headers = signed.with_signature(good, signed.joint.join([one] * number))
        assert (await house.send(signed.entry, signed.entry.body(), **headers))[0] == 400, signed.entry.name
        assert await house.records() == []
    for signed in SIGNED:
        good = signed.sign(NEW, signed.entry.body())
        one = "v1" + good[signed.header].rpartition("v1")[2]
        await taken(house, signed, signed.with_signature(good, signed.joint.join([one] * 16)))


async def test_both_secrets_of_a_rotation_are_good(house: House) -> None:
    """Row 6: the old one's signature, the new one's, and both in one header, in any order."""
    for signed in SIGNED:
        body = signed.entry.body()
        old, new, other = (signed.sign(secret, body) for secret in (OLD, NEW, OTHER))
        for headers in (old, new, signed.both(old, new), signed.both(new, old), signed.both(other, new)):
            await taken(house, signed, headers)
    assert len(await house.records()) == 5 * len(SIGNED)


@pytest.mark.parametrize(("seconds", "good"), [(-301, False), (301, False), (-300, True), (300, True)])
async def test_a_time_outside_the_window_is_401(house: House, seconds: int, good: bool) -> None:
    """Row 7: five minutes to either side, and not a second more."""
    for signed in SIGNED:
        headers = signed.sign(NEW, signed.entry.body(), NOW_S + seconds)
        await (taken if good else refused)(house, signed, headers)


async def test_the_window_is_a_setting(make_house: Make) -> None:
    """GENLEDGER_WEBHOOK_TOLERANCE_S says how old a signature's time may be."""
    house = await make_house(webhook_secrets=SECRETS, webhook_tolerance_s=10.0)
    for signed in SIGNED:
        await taken(house, signed, signed.sign(NEW, signed.entry.body(), NOW_S - 10))
        await refused(house, signed, signed.sign(NEW, signed.entry.body(), NOW_S - 11))


@pytest.mark.parametrize(
    "time",
    ["1e9", " 17 ", "\u0661", str(NOW_S).replace("1", "\u0661"), "-1", f"-{NOW_S}", f"+{NOW_S}",
     "1" + "0" * 30,
     "", f"{NOW_S}.0", f"0x{NOW_S:x}", f"{NOW_S // 1000}_{NOW_S % 1000:03}", f"{NOW_S:013}", "nan"],
)  # fmt: skip
async def test_a_time_that_is_no_plain_number_is_401(house: House, time: str) -> None:
    """Row 8: digits of ASCII, up to twelve, and nothing else, however well it is signed."""
    for signed in SIGNED:
        await refused(house, signed, signed.sign(NEW, signed.entry.body(), time))
    assert await house.records() == []


async def test_an_exact_replay_is_taken_again(house: House) -> None:
    """Row 9: inside the window the same bytes are 202 twice, and one id for the ledger to count once."""
    for signed in SIGNED:
        body = signed.entry.body(f"gen-{signed.entry.name}-{signed.header}")
        headers = signed.sign(NEW, body)
        await taken(house, signed, headers, body)
        await taken(house, signed, headers, body)
    records = await house.records()
    assert len(records) == 2 * len(SIGNED)
    assert len({(record.key, record.value) for record in records}) == len(SIGNED)


async def test_a_body_written_anew_is_401(house: House) -> None:
    """Row 10: one more space, another order, one byte less: the signature is of the bytes."""
    for signed in SIGNED:
        body = signed.entry.body()
        headers = signed.sign(NEW, body)
        for other in (body + b" ", b" " + body, json.dumps(json.loads(body)).encode(), body[:-1], b""):
            await refused(house, signed, headers, other)
    assert await house.records() == []


async def test_a_header_given_twice_is_400(house: House) -> None:
    """Row 11: the same one twice, or two different ones, of each header that is signed or signs."""
    for signed in SIGNED:
        body = signed.entry.body()
        headers = {**signed.sign(NEW, body), "X-Webhook-Secret": NEW}
        for name, again in headers.items():
            lines = [*headers.items(), (name, again)]
            sent = b"".join(f"{one}: {value}\r\n".encode() for one, value in lines)
            end = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            answer = await house.raw(signed.entry.head + sent + end + body)
            assert answer.split(b" ", 2)[1] == b"400", (signed.entry.name, name)
    assert await house.records() == []


async def test_a_header_that_is_missing_is_401(house: House) -> None:
    """Two of Standard Webhooks' three headers are none."""
    for signed in SIGNED:
        headers = signed.sign(NEW, signed.entry.body())
        for name in headers:
            await refused(house, signed, {one: headers[one] for one in headers if one != name})
            await refused(house, signed, {**headers, name: ""})
        if signed.sign is standard:
            nameless = standard(NEW, signed.entry.body(), id="")
            await refused(house, signed, nameless)
            del nameless["webhook-id"]
            await refused(house, signed, nameless)


async def test_a_signature_is_of_one_source(make_house: Make) -> None:
    """A secret of one source opens no other, and OpenRouter's own header counts with OpenRouter only."""
    house: House = await make_house(webhook_secrets=f"standard acme {OLD}\nopenrouter acme {NEW}\n")
    for signed in SIGNED:
        if signed.entry.source in ("standard", "openrouter"):
            mine, other = (OLD, NEW) if signed.entry.source == "standard" else (NEW, OLD)
            await taken(house, signed, signed.sign(mine, signed.entry.body()))
            await refused(house, signed, signed.sign(other, signed.entry.body()))
            if signed.entry.source == "standard":
                await refused(house, signed, openrouter(mine, signed.entry.body()))


async def test_a_refusal_comes_before_the_body(house: House) -> None:
    """What the headers tell is told although not one byte of the body was sent."""
    asked, length = [], b"Content-Length: 1000\r\nConnection: close\r\n"
    for signed in SIGNED:
        for headers in ({}, signed.sign(NEW, b"", NOW_S - 301)):
            sent = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
            asked.append(house.raw(signed.entry.head + length + sent + b"\r\n"))
    answers = await asyncio.gather(*asked)
    assert {answer.split(b" ", 2)[1] for answer in answers} == {b"401"}


async def test_unproved_bodies_leave_room_for_others(make_house: Make) -> None:
    """Who has proved nothing yet holds at most half of the places, and half of the bytes, for all bodies."""
    house = await make_house(
        webhook_secrets=SECRETS, requests_max=2, bodies_bytes_max=100_000, request_timeout_s=1.0
    )
    key = await house.key("acme")
    sent = "".join(f"{name}: {value}\r\n" for name, value in standard(OTHER, b"").items()).encode()
    stalled = STANDARD.head + sent + b"Content-Length: 60000\r\n\r\n{" + b" " * 40_000
    slow = asyncio.create_task(house.raw(stalled))
    await asyncio.sleep(0.2)
    for signed in SIGNED:
        headers = signed.sign(NEW, signed.entry.body())
        assert (await house.send(signed.entry, signed.entry.body(), **headers))[0] == 503
        assert (await house.send(signed.entry, signed.entry.body(), key))[0] == signed.entry.ok
    assert b" 408 " in (await slow)[:20]
    for signed in SIGNED:
        await taken(house, signed, signed.sign(NEW, signed.entry.body()))
        body = signed.entry.body().ljust(50_001)
        assert (await house.send(signed.entry, body, **signed.sign(NEW, body)))[0] == 503
        assert (await house.send(signed.entry, body, key))[0] == signed.entry.ok
        await taken(house, signed, signed.sign(NEW, signed.entry.body()))


async def test_a_large_body_is_checked_as_well(house: House) -> None:
    """A body that is hashed beside the others is taken when it is signed, and refused when it is not."""
    for signed in SIGNED:
        body = signed.entry.body().ljust(2_000_000)
        await taken(house, signed, signed.sign(NEW, body), body)
        await refused(house, signed, signed.sign(OTHER, body), body)
