"""Where events wait to be sent: in memory, lost with the process; or in a spool (spool.py), which is not.

queue = MemoryQueue(bytes_max=16_777_216)
queue.add(line)
queue.oldest(500, 524_288, skip=())      # [Row(1, line)]
queue.remove([1])
"""

import threading
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple, Protocol

from streams.client.errors import ClientClosed, QueueFull


class Row(NamedTuple):
    """A line with its place in the order."""

    n: int
    line: bytes


class Queue(Protocol):
    """What the sender and the callers share. Each method may be called by any thread."""

    durable: bool

    def add(self, line: bytes) -> None:
        """Keep a line; when it returns a durable queue has it on disk. `QueueFull` when there is no room."""

    def oldest(self, count_max: int, bytes_max: int, skip: Container[int]) -> list[Row]:
        """The oldest rows, one at least if there is any, in order."""

    def remove(self, ns: Iterable[int]) -> None:
        """They are done."""

    def first(self) -> int | None:
        """The place of the oldest row; None when there is none."""

    def last(self) -> int:
        """The place of the newest row that there ever was."""

    def size(self) -> tuple[int, int]:
        """How many rows wait, and how many bytes."""

    def close(self) -> None:
        """Take nothing more: whoever adds from now on is refused."""


def within(rows: Iterable[Row], count_max: int, bytes_max: int, skip: Container[int]) -> list[Row]:
    """The first rows that fit, one at least."""
    return list(_within(rows, count_max, bytes_max, skip))


def _within(rows: Iterable[Row], count_max: int, bytes_max: int, skip: Container[int]) -> Iterator[Row]:
    count = size_bytes = 0
    for row in rows:
        if row.n in skip:
            continue
        count += 1
        size_bytes += len(row.line) + 1
        if count > 1 and size_bytes > bytes_max:
            return
        yield row
        if count >= count_max:
            return


class MemoryQueue:
    """A bounded queue that lives as long as the process."""

    durable = False

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._rows: dict[int, bytes] = {}
        self._bytes = 0
        self._last = 0
        self._closed = False

    def add(self, line: bytes) -> None:
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed")
            if self._bytes + len(line) > self._bytes_max:
                raise QueueFull(f"{self._bytes} bytes wait to be sent: the gateway is away, or too slow")
            self._last += 1
            self._rows[self._last] = line
            self._bytes += len(line)

    def oldest(self, count_max: int, bytes_max: int, skip: Container[int]) -> list[Row]:
        with self._lock:
            return within((Row(*item) for item in self._rows.items()), count_max, bytes_max, skip)

    def remove(self, ns: Iterable[int]) -> None:
        with self._lock:
            for n in ns:
                self._bytes -= len(self._rows.pop(n))

    def first(self) -> int | None:
        with self._lock:
            return next(iter(self._rows), None)

    def last(self) -> int:
        return self._last

    def size(self) -> tuple[int, int]:
        with self._lock:
            return len(self._rows), self._bytes

    def close(self) -> None:
        with self._lock:
            self._closed = True
