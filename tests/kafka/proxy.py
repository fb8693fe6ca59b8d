"""A TCP proxy between clients and a broker, where the network fails on demand.

    with Proxy("127.0.0.1", broker_port) as proxy:      # in a thread of its own
        ... clients connect to proxy.address ...
        proxy.delay_ms = 500; proxy.bytes_per_s = 50_000   # a bad line, shared by all connections
        proxy.drop_to_client = True                        # half-open: that direction goes silent
        proxy.cut()                                        # every connection is reset, now
        proxy.lose_next_answer(PRODUCE)                    # the broker has done it; the client never hears
        assert proxy.counts.lost_answers == 1              # it really happened

A connection that has lost bytes stays silent in that direction until it ends: TCP loses no bytes in the
middle. Requests and answers are told apart on plaintext connections only (SASL without TLS is fine).
"""

import asyncio
import socket
import struct
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

PRODUCE, FETCH, METADATA, OFFSET_COMMIT, JOIN_GROUP, HEARTBEAT = 0, 1, 3, 8, 11, 12
INIT_PRODUCER_ID, TXN_OFFSET_COMMIT, END_TXN = 22, 28, 26

CLIENT, BROKER = "client", "broker"  # where a direction leads
CHUNK_BYTES = 16 * 1024
CHUNKS_MAX = 64  # on the way, for each direction of a connection: 1 MiB
PIECE_BYTES = 2 * 1024  # of a limited line, so that a change of its rate is felt soon
ANSWERS_MAX = 10_000  # outstanding requests of one connection
FRAME_BYTES_MAX = 100 * 1024 * 1024  # longer is no frame of Kafka's: TLS, passed on as it is
STOP_S = 10.0

Result = TypeVar("Result")


@dataclass
class Counts:
    """How often each fault really happened."""

    connections: int = 0
    delayed_chunks: int = 0
    limited_bytes: int = 0
    dropped_bytes: Counter[str] = field(default_factory=Counter)  # by where they should have gone
    cut: int = 0
    refused: int = 0
    unreachable: int = 0
    lost_answers: int = 0


class Frames:
    """Finds the frames of Kafka's protocol in a stream: four bytes of length, then that many bytes.

    `head_bytes` of each frame are shown to `seen` before any of it is passed on. What `feed` gives is to be
    passed on; `seen` may say no, and then neither that frame nor anything after it is given.
    """

    def __init__(self, head_bytes: int, seen: Callable[[bytes], bool]) -> None:
        self._head_bytes = head_bytes
        self._seen = seen
        self._held = b""
        self._left_bytes = 0
        self.refused = False

    def feed(self, data: bytes) -> bytes:
        """What may be passed on, now that these bytes have come."""
        given = []
        data = self._held + data
        self._held = b""
        while data and not self.refused:
            if self._left_bytes == 0:
                if len(data) < 4 + self._head_bytes:
                    self._held = data
                    break
                self._left_bytes = self._begin(data)
            given.append(data[: self._left_bytes])
            data = data[self._left_bytes :]
            self._left_bytes -= len(given[-1])
        return b"".join(given)

    def _begin(self, data: bytes) -> int:
        """How many bytes the frame has that begins here; none when `seen` says no."""
        length_bytes = int.from_bytes(data[:4])
        if length_bytes > FRAME_BYTES_MAX:
            return sys.maxsize
        self.refused = not self._seen(data[4 : 4 + self._head_bytes])
        return 0 if self.refused else 4 + length_bytes


class Line:
    """A rate shared by all connections of one direction: each piece waits for those before it."""

    def __init__(self) -> None:
        self._free_s = 0.0

    def wait_s(self, size_bytes: int, bytes_per_s: int, now_s: float) -> float:
        """How long a piece of this size must wait before it may go."""
        start_s = max(self._free_s, now_s)
        self._free_s = start_s + size_bytes / bytes_per_s
        return self._free_s - now_s


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Direction:
    """One way of a connection: what is read waits for the delay, and is written at the line's rate."""

    def __init__(
        self,
        proxy: "Proxy",
        to: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        frames: Frames,
    ) -> None:
        self._proxy = proxy
        self._to = to
        self._reader = reader
        self._writer = writer
        self._frames = frames
        self._queue: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(CHUNKS_MAX)
        self.back: Direction | None = None
        self.is_silent = False

    async def run(self) -> None:
        """Until the source ends or an answer is lost. Who goes silent reads on, to nowhere."""
        reading = asyncio.create_task(self._read())
        try:
            await self._write()
        except OSError:
            # The target is gone; a source that is not to hear of it goes on as if nothing were.
            if self.back is not None and self.back.is_silent:
                reading.cancel()
                await asyncio.wait([reading])
                await self._swallow(b"")
        finally:
            reading.cancel()

    async def _read(self) -> None:
        while not self._frames.refused:
            data = await self._received()
            if self._proxy.is_dropping(self._to):
                await self._swallow(data)
                break
            if not data:
                break
            delay_ms = self._proxy.delay_ms
            self._proxy.counts.delayed_chunks += bool(delay_ms)
            await self._queue.put((_now_s() + delay_ms / 1000, self._frames.feed(data)))
        await self._queue.put((0.0, None))

    async def _write(self) -> None:
        while True:
            due_s, data = await self._queue.get()
            await asyncio.sleep(max(0.0, due_s - _now_s()))
            if data is None:
                return
            while data:
                size_bytes = PIECE_BYTES if self._proxy.bytes_per_s else len(data)
                await self._take_turn(min(size_bytes, len(data)))
                self._writer.write(data[:size_bytes])
                await self._writer.drain()
                data = data[size_bytes:]

    async def _take_turn(self, size_bytes: int) -> None:
        bytes_per_s = self._proxy.bytes_per_s
        if bytes_per_s:
            self._proxy.counts.limited_bytes += size_bytes
            await asyncio.sleep(self._proxy.lines[self._to].wait_s(size_bytes, bytes_per_s, _now_s()))

    async def _swallow(self, data: bytes) -> None:
        """From now on nothing passes, not even the end."""
        self.is_silent = True
        self._proxy.counts.dropped_bytes[self._to] += len(data)
        while data := await self._received():
            self._proxy.counts.dropped_bytes[self._to] += len(data)

    async def _received(self) -> bytes:
        try:
            return await self._reader.read(CHUNK_BYTES)
        except OSError:
            return b""


class Connection:
    """A client's connection and the one to the broker that stands for it."""

    def __init__(self, proxy: "Proxy", client: Ends, broker: Ends) -> None:
        self._proxy = proxy
        self._writers = (client[1], broker[1])
        self._asked: dict[int, int] = {}
        self._answers = Frames(4, self._answer)
        up = Direction(proxy, BROKER, client[0], broker[1], Frames(8, self._request))
        down = Direction(proxy, CLIENT, broker[0], client[1], self._answers)
        up.back, down.back = down, up
        self._directions = (up, down)
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until one direction has ended; a silent one's end ends nothing."""
        self._task = asyncio.current_task()
        running = {asyncio.create_task(direction.run()): direction for direction in self._directions}
        pending = set(running)
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if not all(running[task].is_silent for task in done):
                    break
        finally:
            for task in pending:
                task.cancel()
            for writer in self._writers:
                _reset(writer) if self._answers.refused else writer.close()

    def reset(self) -> None:
        """End it now, both sides, without a farewell."""
        for writer in self._writers:
            _reset(writer)
        if self._task is not None:
            self._task.cancel()

    def _request(self, head: bytes) -> bool:
        api_key, _, correlation = struct.unpack(">hhi", head)
        self._asked[correlation] = api_key
        if len(self._asked) > ANSWERS_MAX:  # one that wants no answer never gets one
            del self._asked[next(iter(self._asked))]
        return True

    def _answer(self, head: bytes) -> bool:
        api_key = self._asked.pop(int.from_bytes(head, signed=True), None)
        return api_key is None or not self._proxy.is_lost(api_key)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, what is on the way thrown away."""
    connection = writer.get_extra_info("socket")
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # closed already
    writer.transport.abort()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


class Proxy:
    """Listens on loopback and passes everything on to the target, with the faults that are set."""

    def __init__(self, target_host: str, target_port: int, *, port: int = 0) -> None:
        self.target = (target_host, target_port)
        self.port = port
        self.delay_ms = 0
        self.bytes_per_s = 0
        self.drop_to_client = False
        self.drop_to_broker = False
        self.refuse = False
        self.counts = Counts()
        self.lines = {CLIENT: Line(), BROKER: Line()}
        self._to_lose: deque[int] = deque()
        self._open: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def start(self) -> Self:
        """Listen, in a thread of its own."""
        self._thread.start()
        self._call(self._listen())
        return self

    def stop(self) -> None:
        """End every connection and the thread."""
        if not self._thread.is_alive():
            return
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cut(self) -> int:
        """Reset every connection now; how many there were."""
        return self._call(self._cut())

    def heal(self) -> None:
        """No faults from now on. Connections that went silent stay so: `cut` ends them."""
        self.delay_ms = self.bytes_per_s = 0
        self.drop_to_client = self.drop_to_broker = self.refuse = False
        self._to_lose.clear()

    def lose_next_answer(self, api_key: int = PRODUCE) -> None:
        """The next answer to a request of this kind is swallowed, and its connection reset."""
        self._to_lose.append(api_key)

    def is_dropping(self, to: str) -> bool:
        """Is what goes there swallowed?"""
        return self.drop_to_client if to == CLIENT else self.drop_to_broker

    def is_lost(self, api_key: int) -> bool:
        """Is an answer of this kind to be lost? Asking uses it up."""
        if api_key not in self._to_lose:
            return False
        self._to_lose.remove(api_key)
        self.counts.lost_answers += 1
        return True

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(STOP_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts.connections += 1
        if self.refuse:
            self.counts.refused += 1
            _reset(writer)
            return
        try:
            broker = await asyncio.open_connection(*self.target, limit=CHUNK_BYTES)
        except OSError:
            self.counts.unreachable += 1
            _reset(writer)
            return
        connection = Connection(self, (reader, writer), broker)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    async def _cut(self) -> int:
        cut = list(self._open)
        for connection in cut:
            connection.reset()
        self.counts.cut += len(cut)
        return len(cut)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.reset()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
