"""Bodies that are not what they should be: rows 12 to 20, 24 and 26 of the bad inputs."""

import asyncio
import gzip
import json
import resource
import zlib

import pytest

from tests.gateway.conftest import House, Make, event

HEAD = b"POST /api/v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
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
    answer = await house.raw(HEAD + lengths + b"\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.") == 1
    assert b'"bad_request"' in answer
    assert await house.records() == []


async def test_a_declared_length_over_the_limit_is_413_before_the_body(make_house: Make) -> None:
    """The answer comes although not one byte of the body was sent."""
    house = await make_house(body_bytes_max=1000)
    answer = await house.raw(HEAD + b"Content-Length: 1001\r\n\r\n")
    assert status_of(answer) == 413
    assert await house.records() == []


async def test_an_expectation_of_a_body_too_large_is_413_without_100(make_house: Make) -> None:
    """A client that asks before it sends is told no, and does not send."""
    house = await make_house(body_bytes_max=1000)
    answer = await house.raw(HEAD + b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n")
    assert status_of(answer) == 413


async def test_an_expectation_of_a_good_body_is_continued(house: House) -> None:
    """Curl asks before it sends a large body: it gets its 100, then its answer."""
    head = HEAD + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(GOOD)
    answer = await house.raw(head, GOOD, pause_s=0.05)
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 202 " in answer


async def test_a_chunked_body_over_the_limit_is_413_at_the_limit(make_house: Make) -> None:
    """Without a length the body is refused when it has grown too large."""
    house = await make_house(body_bytes_max=1000)
    chunk = b"%x\r\n%b\r\n" % (500, b" " * 500)
    answer = await house.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk, chunk)
    assert status_of(answer) == 413
    assert await house.records() == []


async def test_a_body_of_exactly_the_limit_is_taken(make_house: Make) -> None:
    """The limit itself is allowed."""
    house = await make_house(body_bytes_max=1000)
    assert (await house.post(GOOD.ljust(1000)))[0] == 202
    assert (await house.post(GOOD.ljust(1001)))[0] == 413


async def test_a_gzip_bomb_is_413_and_takes_no_memory(house: House) -> None:
    """A gigabyte in a megabyte of gzip is refused at the unpacked limit, within its memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b" ") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * (1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = head + block * 1024
    assert len(bomb) < 2_000_000
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, body = await house.post(bomb, Content_Encoding="gzip")
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert (status, body["error"]["code"]) == (413, "too_large")
    assert grown_kb < 150_000
    assert await house.records() == []


async def test_many_gzip_members_are_refused(house: House) -> None:
    """A body of a million empty gzip members does not keep the service busy."""
    assert (await house.post(gzip.compress(b"") * 100_000, Content_Encoding="gzip"))[0] == 400


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip, gzip", gzip.compress(gzip.compress(GOOD)), 415),
        ("deflate", zlib.compress(GOOD), 415),
        ("br", GOOD, 415),
        ("gzip", gzip.compress(GOOD)[:-6], 400),
        ("gzip", gzip.compress(GOOD)[:20], 400),
        ("gzip", GOOD, 400),
        ("gzip", gzip.compress(GOOD) + b"more", 400),
        ("gzip", gzip.compress(GOOD)[:-8] + b"\0" * 8, 400),
        ("gzip", b"", 422),
        ("gzip", gzip.compress(GOOD), 202),
        ("x-gzip", gzip.compress(GOOD), 202),
        ("identity", GOOD, 202),
        ("gzip", gzip.compress(GOOD[:30]) + gzip.compress(GOOD[30:]), 202),
    ],
)
async def test_content_encodings(house: House, encoding: str, body: bytes, status: int) -> None:
    """Gzip once, whole and sound; anything else is refused and leaves nothing behind."""
    assert (await house.post(body, Content_Encoding=encoding))[0] == status
    assert len(await house.records()) == (1 if status == 202 else 0)


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
    house = await make_house(request_timeout_s=0.6)
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    drip = asyncio.create_task(house.raw(head, *[b"1\r\n \r\n"] * 20, pause_s=0.05))
    stall = asyncio.create_task(house.raw(HEAD + b"Content-Length: 100\r\n\r\n{"))
    assert (await house.post(event()))[0] == 202
    assert not drip.done() and not stall.done()
    async with asyncio.timeout(6):
        assert status_of(await drip) == 408
        assert status_of(await stall) == 408
    assert len(await house.records()) == 1


async def test_bodies_beyond_the_number_at_once_are_503(make_house: Make) -> None:
    """Slow senders hold a bounded number of places; the next is told when to come back."""
    house = await make_house(requests_max=2, request_timeout_s=1.0)
    stalled = HEAD + b"Content-Length: 100\r\n\r\n{"
    slow = [asyncio.create_task(house.raw(stalled)) for _ in range(2)]
    await asyncio.sleep(0.2)
    async with house.session.post("/api/v1/generations", json=event()) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
    await asyncio.gather(*slow)
    assert (await house.post(event()))[0] == 202


async def test_bodies_beyond_the_bytes_at_once_are_503(make_house: Make) -> None:
    """The bytes of all bodies together are bounded, and given back."""
    house = await make_house(bodies_bytes_max=1000)
    assert (await house.post(GOOD.ljust(1001)))[0] == 503
    assert (await house.post(GOOD.ljust(1000)))[0] == 202
    assert (await house.post(GOOD.ljust(1000)))[0] == 202


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
    """Only JSON and NDJSON, in UTF-8."""
    named = b"Content-Type: %b\r\n" % content_type.encode() if content_type else b""
    head = b"POST /api/v1/generations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    answer = await house.raw(head + named + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD)
    assert status_of(answer) == 415
    assert await house.records() == []


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize(
    "body",
    [b"", b" \n ", b"null", b"[]", b'"x"', b"1", b"true", b"{", b"}", b"[", b"[{]", b"[1]", b"{}", b"nul",
     b"]", b"[" * 100_000, b'{"id":' * 100_000, b'{"id":"a","x":' + b"[" * 100_000, b"[[]]", b"[null]",
     b'{"id":"a","organization":"o","model":"m"} x', b"{'id':1}", b'["x"]',
     b'[{"id":"a","organization":"o","model":"m"},]'],
)  # fmt: skip
async def test_what_is_not_an_event_is_422(house: House, body: bytes, content_type: str) -> None:
    """Empty, null, scalars, broken and bottomless JSON: nothing is taken, nothing breaks."""
    status, answer = await house.post(body, Content_Type=content_type)
    assert status == 422
    assert answer["error"]["code"] in ("no_events", "invalid")
    assert await house.records() == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"[" + b",".join([GOOD] * 11) + b"]"),
        ("application/x-ndjson", b"\n".join([GOOD] * 11)),
        ("application/json", b"[" + b"1," * 5000 + b"1]"),
        ("application/x-ndjson", b"\n" * 5000),
    ],
)
async def test_more_items_than_allowed_are_413(make_house: Make, content_type: str, body: bytes) -> None:
    """A batch above the limit is refused as a whole, before it is built in memory."""
    house = await make_house(items_max=10)
    status, answer = await house.post(body, Content_Type=content_type)
    assert (status, answer["error"]["code"]) == (413, "too_many")
    assert await house.records() == []


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
@pytest.mark.parametrize(
    "body",
    [
        GOOD.decode().encode("utf-16"),
        GOOD.decode().encode("utf-16-le"),
        GOOD.decode().encode("utf-16-be"),
        GOOD.decode().encode("utf-32"),
        b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b"acme", b"ac\xffme"),
        GOOD.replace(b"acme", b"ac\xed\xa0\x80me"),
        GOOD.replace(b"acme", b"ac\xc0\xafme"),
    ],
)
async def test_what_is_not_utf8_is_400(house: House, body: bytes, content_type: str) -> None:
    """UTF-16, a byte order mark and broken UTF-8 are refused as a whole."""
    assert (await house.post(body, Content_Type=content_type))[0] == 400
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
    _, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await asyncio.sleep(0.05)
    assert (await house.post(event()))[0] == 202
    assert len(await house.records()) == 1


async def test_a_broken_chunk_is_400(house: House) -> None:
    """Chunked encoding that is none ends the connection."""
    answer = await house.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n{}\r\n0\r\n\r\n")
    assert status_of(answer) == 400
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
