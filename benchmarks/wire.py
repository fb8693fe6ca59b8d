"""A client that costs little: requests are bytes made beforehand, of an answer only what is needed is read.

    pool = await Pool.open(port, 64)
    pool.send(request_of(port, body), lambda status, body: ...)

A connection has one request at a time. When all are busy a request waits here, and its time runs: that is the
open loop. A connection that is lost answers 0 and is not opened again: whoever counts errors sees it.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping

from benchmarks.service import HOST

Answered = Callable[[int, bytes], None]

JSON = "application/json"
NDJSON = "application/x-ndjson"
EVENTS = "/api/v1/generations"
NONE: Mapping[str, str] = {}
LOST = 0
NO_CONTENT = b"204"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


def request_of(
    port: int, body: bytes, content_type: str = JSON, path: str = EVENTS, headers: Mapping[str, str] = NONE
) -> bytes:
    """A whole POST of events."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    ).encode() + body


class Pool:
    """Connections that are kept open."""

    def __init__(self) -> None:
        self._all: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._waiting: deque[tuple[bytes, Answered]] = deque()

    @classmethod
    async def open(cls, port: int, size: int) -> "Pool":
        """Connect so many times."""
        pool = cls()
        loop = asyncio.get_running_loop()
        for _ in range(size):
            _, connection = await loop.create_connection(lambda: _Connection(pool), HOST, port)
            pool._all.add(connection)
            pool._idle.append(connection)
        return pool

    def send(self, request: bytes, answered: Answered) -> None:
        """Send it now, or as soon as a connection is free."""
        if self._idle:
            self._idle.pop().send(request, answered)
        elif self._all:
            self._waiting.append((request, answered))
        else:
            answered(LOST, b"")

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

        def answered(status: int, body: bytes) -> None:
            if not future.cancelled():
                future.set_result((status, body))

        self.send(request, answered)
        return await future

    def free(self, connection: "_Connection") -> None:
        """A connection has its answer."""
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lose(self, connection: "_Connection") -> None:
        """A connection is gone; with the last one goes what waits."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        while self._waiting and not self._all:
            self._waiting.popleft()[1](LOST, b"")

    def close(self) -> None:
        """Close them all."""
        for connection in list(self._all):
            connection.close()


class _Connection(asyncio.Protocol):
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._answered: Answered | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, answered: Answered) -> None:
        assert self._transport is not None
        self._answered = answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = _LENGTH.search(head)
        if head[9:12] != NO_CONTENT and (length is None or len(body) < int(length[1])):
            return
        self._received = b""
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(int(head[9:12]), body)
            self._pool.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        answered, self._answered = self._answered, None
        self._pool.lose(self)
        if answered is not None:
            answered(LOST, b"")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
