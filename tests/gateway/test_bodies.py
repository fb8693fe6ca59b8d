"""Bodies that are not what they should be: rows 12 to 20, 24 and 26 of the bad inputs, at every endpoint."""

import asyncio
import gzip
import json
import resource
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.conftest import House, Make, event
from tests.gateway.entries import OURS, TAKING, TRACES, WEBHOOKS

HEAD = OURS.head
GOOD = json.dumps(event()).encode()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 5x\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
    ],
)
async def test_a_length_that_can_be_read_in_two_ways_is_400_and_closes(house: House, lengths: bytes) -> None:
    """Content-Length together with Transfer-Encoding, or two of them, never smuggle a second request."""
    for entry in TAKING:
        smuggled = b"\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = await house.raw(entry.head + lengths + smuggled)
        assert status_of(answer) == 400, entry.name
        assert answer.count(b"HTTP/1.") == 1
        assert b'"bad_request"' in answer
    assert await house.records() == []


async def test_a_declared_length_over_the_limit_is_413_before_the_body(make_house: Make) -> None:
    """The answer comes although not one byte of the body was sent."""
    house = await make_house(body_bytes_max=1000)
    sent = [house.raw(entry.head + b"Content-Length: 1001\r\n\r\n") for entry in TAKING]
    assert {status_of(answer) for answer in await asyncio.gather(*sent)} == {413}
    assert await house.records() == []


async def test_an_expectation_of_a_body_too_large_is_413_without_100(make_house: Make) -> None:
    """A client that asks before it sends is told no, and does not send."""
    house = await make_house(body_bytes_max=1000)
    expect = b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n"
    sent = [house.raw(entry.head + expect) for entry in TAKING]
    assert {status_of(answer) for answer in await asyncio.gather(*sent)} == {413}


async def test_an_expectation_of_a_good_body_is_continued(house: House) -> None:
    """Curl asks before it sends a large body: it gets its 100, then its answer."""
    for entry in TAKING:
        lengths = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(entry.body())
        answer = await house.raw(entry.head + b"Connection: close\r\n" + lengths, entry.body(), pause_s=0.05)
        assert answer.startswith(b"HTTP/1.1 100 "), entry.name
        assert b"HTTP/1.1 %d " % entry.ok in answer


async def test_a_chunked_body_over_the_limit_is_413_at_the_limit(make_house: Make) -> None:
    """Without a length the body is refused when it has grown too large."""
    house = await make_house(body_bytes_max=1000)
    chunk = b"%x\r\n%b\r\n" % (500, b" " * 500)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    sent = [house.raw(entry.head + chunked, chunk, chunk, chunk) for entry in TAKING]
    assert {status_of(answer) for answer in await asyncio.gather(*sent)} == {413}
    assert await house.records() == []


async def test_a_body_of_exactly_the_limit_is_taken(make_house: Make) -> None:
    """The limit itself is allowed."""
    house = await make_house(body_bytes_max=1000)
    for entry in TAKING:
        assert (await house.send(entry, entry.body().ljust(1000)))[0] == entry.ok
        assert (await house.send(entry, entry.body().ljust(1001)))[0] == 413


async def test_a_gzip_bomb_is_413_and_takes_no_memory(house: House) -> None:
    """A gigabyte in a megabyte of gzip is refused at the unpacked limit, within its memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b" ") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = head + block * 1024
    assert len(bomb) < 2_000_000
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for entry in TAKING:
        status, body = await house.send(entry, bomb, Content_Encoding="gzip")
        assert (status, body["error"]["code"]) == (413, "too_large"), entry.name
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown_kb < 150_000
    assert await house.records() == []


def bombs() -> dict[str, tuple[bytes, int]]:
    """Bodies of 33 MB that would be much more as objects, packed, and what each gets."""
    deep = b'{"a":' * 200 + b"1" + b"}" * 200 + b","
    found = {
        "commas": (b'{"data":[' + b"1," * 16_500_000 + b"1]}", 413),
        "objects": (b'{"resourceSpans":[' + b"{}," * 11_000_000 + b"{}]}", 413),
        "braces": (b'{"resourceSpans":[' + deep * (33_000_000 // len(deep)) + b"{}]}", 422),
        "names": (b"{" + b",".join(b'"k%d":1' % n for n in range(990_000)) + b"}", 422),
    }
    return {name: (gzip.compress(body, 1), status) for name, (body, status) in found.items()}


async def test_a_body_of_many_small_things_takes_no_memory(house: House) -> None:
    """Commas and braces by the million: refused, or looked at without being built, on every endpoint."""
    packed = bombs()
    # What was used most is counted anew from here.
    Path("/proc/self/clear_refs").write_text("5")
    before_kb = memory_kb("VmRSS")
    for entry in WEBHOOKS:
        for name, (body, wanted) in packed.items():
            status, _ = await house.send(entry, body, Content_Encoding="gzip")
            assert status == wanted, (entry.name, name)
    assert memory_kb("VmHWM") - before_kb < 220_000
    assert await house.records() == []


def memory_kb(name: str) -> int:
    """A figure of the process's memory."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(name)]
    return int(line.split()[1])


async def test_many_gzip_members_are_refused(house: House) -> None:
    """A body of a million empty gzip members does not keep the service busy."""
    for entry in TAKING:
        assert (await house.send(entry, gzip.compress(b"") * 100_000, Content_Encoding="gzip"))[0] == 400


@pytest.mark.parametrize(
    ("encoding", "packed", "status"),
    [
        ("gzip, gzip", lambda good: gzip.compress(gzip.compress(good)), 415),
        ("deflate", zlib.compress, 415),
        ("br", lambda good: good, 415),
        ("gzip", lambda good: gzip.compress(good)[:-6], 400),
        ("gzip", lambda good: gzip.compress(good)[:20], 400),
        ("gzip", lambda good: good, 400),
        ("gzip", lambda good: gzip.compress(good) + b"more", 400),
        ("gzip", lambda good: gzip.compress(good)[:-8] + b"\0" * 8, 400),
        ("gzip", lambda good: b"", 422),
        ("gzip", gzip.compress, 202),
        ("x-gzip", gzip.compress, 202),
        ("identity", lambda good: good, 202),
        ("gzip", lambda good: gzip.compress(good[:30]) + gzip.compress(good[30:]), 202),
    ],
)
async def test_content_encodings(
    house: House, encoding: str, packed: Callable[[bytes], bytes], status: int
) -> None:
    """Gzip once, whole and sound; anything else is refused and leaves nothing behind."""
    for entry in TAKING:
        wanted = entry.ok if status == 202 else status
        body = packed(entry.body())
        assert (await house.send(entry, body, Content_Encoding=encoding))[0] == wanted, entry.name
    assert len(await house.records()) == (len(TAKING) if status == 202 else 0)


async def test_gzip_of_a_full_slice_is_not_cut(house: House) -> None:
    """A body that unpacks to much more than one slice arrives whole."""
    body = json.dumps([event(f"gen-{n}") for n in range(8000)]).encode()
    status, answer = await house.post(gzip.compress(body), Content_Encoding="gzip")
    assert (status, answer["accepted"]) == (202, 8000)


async def test_gzip_in_single_bytes_is_not_cut(house: House) -> None:
    """However the bytes arrive, all of them come out: also what ends with a full slice."""
    body = GOOD.ljust((1 << 18) * 2)
    packed = gzip.compress(body)
    head = HEAD + b"Connection: close\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    pieces = [packed[n : n + 1] for n in range(len(packed))]
    answer = await house.raw(head, *pieces)
    assert status_of(answer) == 202


async def test_a_stalled_sender_is_408_while_others_are_served(make_house: Make) -> None:
    """One-byte chunks and silence end in bounded time, and nobody else waits for it."""
    house = await make_house(request_timeout_s=1.5)
    slow = []
    for entry in TAKING:
        head = entry.head + b"Transfer-Encoding: chunked\r\n\r\n"
        drip = house.raw(head, *[b"1\r\n \r\n"] * 40, pause_s=0.05)
        stall = house.raw(entry.head + b"Content-Length: 100\r\n\r\n{")
        slow += [asyncio.create_task(drip), asyncio.create_task(stall)]
    for entry in TAKING:
        assert (await house.send(entry, entry.body()))[0] == entry.ok
    assert not any(one.done() for one in slow)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*slow)
    assert {status_of(answer) for answer in answers} == {408}
    assert all(b"\r\nRetry-After: 1\r\n" in answer for answer in answers)
    assert len(await house.records()) == len(TAKING)


async def test_bodies_beyond_the_number_at_once_are_503(make_house: Make) -> None:
    """Slow senders hold a bounded number of places; the next is told when to come back."""
    house = await make_house(requests_max=2, request_timeout_s=1.0)
    stalled = b"Content-Length: 100\r\n\r\n{"
    slow = [asyncio.create_task(house.raw(entry.head + stalled)) for entry in (OURS, TRACES)]
    await asyncio.sleep(0.2)
    for entry in TAKING:
        headers = {"Content-Type": entry.type}
        async with house.session.post(entry.path, data=entry.body(), headers=headers) as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "1"
    await asyncio.gather(*slow)
    assert (await house.post(event()))[0] == 202


async def test_bodies_beyond_the_bytes_at_once_are_503(make_house: Make) -> None:
    """The bytes of all bodies together are bounded, and given back."""
    house = await make_house(bodies_bytes_max=1000)
    for entry in TAKING:
        assert (await house.send(entry, entry.body().ljust(1001)))[0] == 503
        assert (await house.send(entry, entry.body().ljust(1000)))[0] == entry.ok
        assert (await house.send(entry, entry.body().ljust(1000)))[0] == entry.ok


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/xml",
        "application/json; charset=utf-16",
        "application/jsonx",
        "x",
        "a/b;;=",
    ],
)
async def test_other_content_types_are_415(house: House, content_type: str) -> None:
    """Only the endpoint's own types, in UTF-8."""
    named = b"Content-Type: %b\r\n" % content_type.encode() if content_type else b""
    for entry in TAKING:
        start, body = entry.head.partition(b"Content-Type")[0] + b"Connection: close\r\n", entry.body()
        answer = await house.raw(start + named + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert status_of(answer) == 415, entry.name
    assert await house.records() == []


@pytest.mark.parametrize(
    "body",
    [b"", b" \n ", b"null", b"[]", b'"x"', b"1", b"true", b"{", b"}", b"[", b"[{]", b"[1]", b"{}", b"nul",
     b"]", b"[" * 100_000, b'{"id":' * 100_000, b'{"id":"a","x":' + b"[" * 100_000, b"[[]]", b"[null]",
     b'{"id":"a","organization":"o","model":"m"} x', b"{'id':1}", b'["x"]',
     b'[{"id":"a","organization":"o","model":"m"},]'],
)  # fmt: skip
async def test_what_is_not_an_event_is_422(house: House, body: bytes) -> None:
    """Empty, null, scalars, broken and bottomless JSON: nothing is taken, nothing breaks."""
    for entry in TAKING:
        for content_type in entry.types:
            status, answer = await house.send(entry, body, Content_Type=content_type)
            assert status == 422, entry.name
            assert answer["error"]["code"] in ("no_events", "invalid")
    assert await house.records() == []


@pytest.mark.parametrize(
    ("is_lines", "many"),
    [
        (False, lambda good: b"[" + b",".join([good] * 11) + b"]"),
        (True, lambda good: b"\n".join([good] * 11)),
        (False, lambda good: b"[" + b"1," * 5000 + b"1]"),
        (True, lambda good: b"\n" * 5000),
    ],
)
async def test_more_items_than_allowed_are_413(
    make_house: Make, is_lines: bool, many: Callable[[bytes], bytes]
) -> None:
    """A batch above the limit is refused as a whole, before it is built in memory."""
    house = await make_house(items_max=10)
    for entry in TAKING:
        if is_lines and "application/x-ndjson" not in entry.types:
            continue
        content_type = "application/x-ndjson" if is_lines else entry.type
        status, answer = await house.send(entry, many(entry.body()), Content_Type=content_type)
        assert (status, answer["error"]["code"]) == (413, "too_many"), entry.name
    assert await house.records() == []


async def test_more_spans_than_allowed_are_413(make_house: Make) -> None:
    """The events of one body are counted, wherever in it they stand; as many as are allowed are taken."""
    house = await make_house(items_max=10)
    groups = [TRACES.body(f"gen-{n}")[len(b'{"resourceSpans":[') : -2] for n in range(11)]
    groups = [one.replace(b"eee19b7ec3c1b1", b"%014x" % n) for n, one in enumerate(groups)]
    status, answer = await house.send(TRACES, b'{"resourceSpans":[' + b",".join(groups) + b"]}")
    assert (status, answer["error"]["code"]) == (413, "too_many")
    assert await house.records() == []
    assert (await house.send(TRACES, b'{"resourceSpans":[' + b",".join(groups[:10]) + b"]}"))[0] == 200
    assert len(await house.records()) == 10


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda good: good.decode().encode("utf-16"),
        lambda good: good.decode().encode("utf-16-le"),
        lambda good: good.decode().encode("utf-16-be"),
        lambda good: good.decode().encode("utf-32"),
        lambda good: b"\xef\xbb\xbf" + good,
        lambda good: good.replace(b"gen-1", b"ge\xffn-1"),
        lambda good: good.replace(b"gen-1", b"ge\xed\xa0\x80n-1"),
        lambda good: good.replace(b"gen-1", b"ge\xc0\xafn-1"),
    ],
)
async def test_what_is_not_utf8_is_400(house: House, spoilt: Callable[[bytes], bytes]) -> None:
    """UTF-16, a byte order mark and broken UTF-8 are refused as a whole."""
    for entry in TAKING:
        for content_type in entry.types:
            status, _ = await house.send(entry, spoilt(entry.body()), Content_Type=content_type)
            assert status == 400, entry.name
    assert await house.records() == []


async def test_ndjson_answers_by_line(house: House) -> None:
    """Blank lines and CRLF are fine; a bad line is named by its number and the others are taken."""
    lines = [GOOD, b"", b"{bad", json.dumps(event("gen-2")).encode() + b"\r", b"null", b""]
    status, answer = await house.post(b"\n".join(lines), Content_Type="application/x-ndjson; charset=UTF-8")
    assert (status, answer["accepted"]) == (202, 2)
    assert [refusal["index"] for refusal in answer["rejected"]] == [2, 4]
    assert set(await house.events()) == {"gen-1", "gen-2"}


async def test_a_client_that_leaves_midway_leaves_nothing(house: House) -> None:
    """A connection that breaks inside a body is no error of ours, and no event."""
    for entry in TAKING:
        _, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(entry.head + b"Content-Length: 100\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await asyncio.sleep(0.05)
    assert (await house.post(event()))[0] == 202
    assert len(await house.records()) == 1


async def test_a_broken_chunk_is_400(house: House) -> None:
    """Chunked encoding that is none ends the connection."""
    for entry in TAKING:
        chunked = b"Transfer-Encoding: chunked\r\n\r\n"
        assert status_of(await house.raw(entry.head + chunked, b"zz\r\n{}\r\n0\r\n\r\n")) == 400
    assert await house.records() == []


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer glk_\x01secret\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"FROBNICATE /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_400_in_json(
    house: House, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Headers too long or too many, or no HTTP at all: one answer, and no secret in the log."""
    answer = await house.raw(request_)
    assert status_of(answer) == 400
    assert b'{"error":{"code":"bad_request"' in answer
    assert "glk_" not in caplog.text
