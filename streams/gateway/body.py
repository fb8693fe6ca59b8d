"""A request's body, with every bound that it has: bytes as sent, bytes unpacked, time, and bodies at once.

    with room.seat() as seat:
        body = await read(request, settings, seat)

Memory is bounded by what has arrived, not by what was declared: a body is counted as it grows, unpacked in
slices, and refused at the first byte too many.
"""

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import msgspec
from aiohttp import HttpVersion11, web

from streams.gateway import access
from streams.gateway.answers import Refusal
from streams.settings import Settings

SLICE_BYTES = 1 << 18
# A gzip body may have several members; each costs a decompressor, so their number is bounded.
MEMBERS_MAX = 1024
_GZIP_WBITS = 31
_BUSY_RETRY_S = 1.0
# A change of settings, an order to a job: no body of that kind is larger.
SMALL_BYTES_MAX = 65_536


def small(settings: Settings) -> Settings:
    """The settings, for a route whose bodies are small."""
    return msgspec.structs.replace(
        settings, body_bytes_max=SMALL_BYTES_MAX, unpacked_bytes_max=SMALL_BYTES_MAX
    )


class Room:
    """How many bodies, and how many bytes of bodies, there may be at once; `within` a larger room's share."""

    def __init__(self, requests_max: int, bytes_max: int, within: "Room | None" = None) -> None:
        self._requests_left = requests_max
        self._bytes_left = bytes_max
        self._within = within

    @contextmanager
    def seat(self) -> Iterator["Seat"]:
        """A place for one body until its request is done; refused when there is none."""
        with self._within.seat() if self._within else nullcontext() as outer:
            if self._requests_left <= 0:
                raise _busy("too many requests are in work: try again")
            self._requests_left -= 1
            seat = Seat(self, outer)
            try:
                yield seat
            finally:
                self._requests_left += 1
                self._bytes_left += seat.taken_bytes

    def take(self, count_bytes: int) -> None:
        """Reserve bytes; refused when too many are in use."""
        if count_bytes > self._bytes_left:
            raise _busy("too many bytes of requests are in work: try again")
        self._bytes_left -= count_bytes


class Seat:
    """One body's place."""

    def __init__(self, room: Room, outer: "Seat | None") -> None:
        self._room = room
        self._outer = outer
        self.taken_bytes = 0

    def take(self, count_bytes: int) -> None:
        """Reserve what has arrived."""
        if self._outer is not None:
            self._outer.take(count_bytes)
        self._room.take(count_bytes)
        self.taken_bytes += count_bytes


def _busy(message: str) -> Refusal:
    return Refusal(503, "busy", message, retry_after_s=_BUSY_RETRY_S, close=True)


class _Plain:
    """A body that is what it is."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def finish(self) -> None:
        pass


class _Gzip:
    """A gzip body, unpacked in slices."""

    def __init__(self) -> None:
        self._unpack = zlib.decompressobj(_GZIP_WBITS)
        self._members = 1
        self._begun = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        # What a full slice holds back comes out with the next bytes: the trailer, at the latest.
        while chunk:
            if self._unpack.eof:
                self._next_member()
            self._begun = True
            try:
                piece = self._unpack.decompress(chunk, SLICE_BYTES)
            except zlib.error as error:
                raise _corrupt(str(error)) from None
            chunk = self._unpack.unused_data if self._unpack.eof else self._unpack.unconsumed_tail
            if piece:
                yield piece

    def _next_member(self) -> None:
        self._members += 1
        if self._members > MEMBERS_MAX:
            raise _corrupt(f"more than {MEMBERS_MAX} members")
        self._unpack = zlib.decompressobj(_GZIP_WBITS)

    def finish(self) -> None:
        if self._begun and not self._unpack.eof:
            raise _corrupt("it ends too early")


def _corrupt(why: str) -> Refusal:
    return Refusal(400, "bad_gzip", f"the body is not valid gzip: {why}", close=True)


def _unpacker_of(request: web.Request) -> _Plain | _Gzip:
    encoding = ",".join(request.headers.getall("Content-Encoding", [])).strip().lower()
    if encoding in ("", "identity"):
        return _Plain()
    if encoding in ("gzip", "x-gzip"):
        return _Gzip()
    raise Refusal(415, "unsupported_encoding", "Content-Encoding must be gzip, once, or identity", close=True)


async def read(request: web.Request, settings: Settings, seat: Seat) -> bytes:
    """The whole body, unpacked, of one who may still send it; or the refusal that fits."""
    unpacker = _unpacker_of(request)
    declared = request.content_length
    if declared is not None and declared > settings.body_bytes_max:
        raise _too_large("a body", settings.body_bytes_max)
    await _invite(request)
    try:
        async with asyncio.timeout(settings.request_timeout_s):
            body = await _collect(request, unpacker, settings, seat)
    except TimeoutError:
        message = f"the body did not arrive within {settings.request_timeout_s:g} s"
        raise Refusal(408, "timeout", message, retry_after_s=1, close=True) from None
    except web.RequestPayloadError as error:
        raise Refusal(400, "bad_body", f"the body is not valid HTTP: {error}", close=True) from None
    if not request.get("still_allowed", _yes)():
        raise access.unauthorized()  # the key was revoked while its body arrived
    return body


def _yes() -> bool:
    return True


async def not_yet(request: web.Request) -> None:
    """Aiohttp's place to answer `Expect: 100-continue`: `read` does, once the headers have been judged."""


async def _invite(request: web.Request) -> None:
    if request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


async def _collect(request: web.Request, unpacker: _Plain | _Gzip, settings: Settings, seat: Seat) -> bytes:
    sent_bytes = 0
    body = bytearray()
    async for chunk in request.content.iter_any():
        sent_bytes += len(chunk)
        if sent_bytes > settings.body_bytes_max:
            raise _too_large("a body", settings.body_bytes_max)
        for piece in unpacker.feed(chunk):
            if len(body) + len(piece) > settings.unpacked_bytes_max:
                raise _too_large("a body, unpacked,", settings.unpacked_bytes_max)
            seat.take(len(piece))
            body += piece
            if len(piece) == SLICE_BYTES:
                await asyncio.sleep(0)
    unpacker.finish()
    return bytes(body)


def _too_large(what: str, most_bytes: int) -> Refusal:
    return Refusal(413, "too_large", f"{what} may have at most {most_bytes} bytes", close=True)
