"""Requests that are almost HTTP, to every endpoint that takes events: one answer, and nothing breaks."""

import asyncio
import contextlib
import random

from tests.fuzz.openapi import check_answer
from tests.gateway.conftest import House, Make
from tests.gateway.entries import TAKING, Entry

REQUESTS = 40  # to each endpoint
TIMEOUT_S = 10.0
QUIET_S = 1.0
AT_ONCE = 60
# What parsers disagree about, in the places where they look.
ODD = (
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\xff",
    b"%",
    b"%00",
    b"?",
    b"#",
    b"//",
    b"..",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: a\r\n",
    b"HTTP/1.0",
    b"-1",
    b"9" * 30,
    b"Content-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
    b"Authorization: Bearer x\r\n",
    b"webhook-signature: v1,x\r\n",
    b"ce-specversion: 1.0\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
)


def mutated(entry: Entry, made: random.Random) -> bytes:
    """A good request with some of its bytes replaced, doubled, or gone."""
    body = entry.body()
    found = entry.head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
    for _ in range(made.randint(1, 4)):
        start = made.randrange(len(found))
        end = min(len(found), start + made.choice((0, 0, 1, 1, 4, 30)))
        found = found[:start] + made.choice((b"", found[start:end] * 2, made.choice(ODD))) + found[end:]
    return found


async def answer_to(house: House, request: bytes) -> bytes:
    """All that comes back. What waits for more is given its time, and then told that there is none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    found = bytearray()
    try:
        writer.write(request)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_S):
                while piece := await reader.read(65_536):
                    found += piece
                return bytes(found)
        writer.write_eof()
        return bytes(found + await asyncio.wait_for(reader.read(), TIMEOUT_S))
    except ConnectionError:
        return bytes(found)
    finally:
        writer.close()


def check(request: bytes, text: bytes) -> None:
    """The first final answer is one of ours; none is a 500, and none comes without its headers."""
    while text.startswith(b"HTTP/1.1 100 "):
        text = text.partition(b"\r\n\r\n")[2]
    if not text:
        return  # it was cut short, and nobody was owed an answer
    head, _, body = text.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = body[: int(headers.get("content-length", "0"))]
    check_answer(int(first.split(" ")[1]), headers, body)


async def test_a_mutated_request_is_answered_or_closed(make_house: Make) -> None:
    """Whatever its line, headers and body have become: no 500, no hang, no answer without our headers."""
    house: House = await make_house(request_timeout_s=0.5)
    made = random.Random(6)
    requests = [mutated(entry, made) for entry in TAKING for _ in range(REQUESTS)]
    answers = []
    for start in range(0, len(requests), AT_ONCE):
        some = requests[start : start + AT_ONCE]
        answers += await asyncio.gather(*(answer_to(house, request) for request in some))
    for request, text in zip(requests, answers, strict=True):
        try:
            check(request, text)
        except Exception as error:
            raise AssertionError(f"{request!r} was answered {text!r}") from error
    statuses = {text.split(b" ")[1] for text in answers if text}
    assert {b"202", b"200", b"204", b"400", b"404", b"415", b"422"} <= statuses
    assert sum(map(bool, answers)) > len(answers) / 2
    assert house.errors == []
