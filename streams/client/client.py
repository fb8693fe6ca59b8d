"""The client: events in, a thread that sends them.

    with Client(key="glk_...", spool="ledger.spool") as ledger:
        ledger.record(id=answer.id, model="m", prompt_tokens=12, completion_tokens=3, cost="0.0123")

`record` never waits for the gateway. Without a spool an event waits in memory; with one it is on disk when
`record` returns, and is sent by this process or the next that opens the spool.
"""

import atexit
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from streams import clock
from streams.client import events
from streams.client.errors import ClientClosed, Forked
from streams.client.http import Gateway
from streams.client.queue import MemoryQueue, Queue
from streams.client.sender import Limits, OnRejected, Sender
from streams.client.spool import Spool
from streams.errors import SettingError

DEFAULT_URL = "http://127.0.0.1:8787"
CLOSE_TIMEOUT_S = 10.0

_log = logging.getLogger("genledger.client")


class State(msgspec.Struct, frozen=True):
    """How a client does. `trouble` is why nothing can be sent now, or ""."""

    pending: int
    pending_bytes: int
    sent: int
    rejected: int
    trouble: str


class Client:
    """A producer for one process; any of its threads may use it. See docs/client.md for every parameter."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str = "",
        *,
        spool: str | os.PathLike[str] | None = None,
        organization: str = "",
        on_rejected: OnRejected | None = None,
        batch_events_max: int = 500,
        batch_bytes_max: int = 524_288,
        linger_s: float = 0.2,
        timeout_s: float = 30.0,
        backoff_s_max: float = 30.0,
        queue_bytes_max: int = 16_777_216,
        spool_bytes_max: int = 268_435_456,
    ) -> None:
        limits = Limits(
            batch_events_max=batch_events_max,
            batch_bytes_max=batch_bytes_max,
            linger_s=linger_s,
            backoff_s_max=backoff_s_max,
        )
        _check(limits, timeout_s, queue_bytes_max, spool_bytes_max)
        self._gateway = Gateway(url, key, timeout_s)
        self._keyed = bool(key)
        self._organization = organization
        self._process = os.getpid()
        self._closed = False
        self._starting = threading.Lock()
        self._queue: Queue = (
            MemoryQueue(queue_bytes_max) if spool is None else Spool(Path(spool), spool_bytes_max)
        )
        self._sender = Sender(self._queue, self._gateway.post, on_rejected, limits)
        self._thread: threading.Thread | None = None
        if self._queue.size()[0]:
            self._start()

    @property
    def durable(self) -> bool:
        """Whether `record` writes to disk, and so may take some milliseconds."""
        return self._queue.durable

    def record(self, event: Mapping[str, Any] | None = None, /, **fields: Any) -> str:
        """Take one event, as a mapping, as keywords or both; its id.

        `BadEvent` names a field that is wrong, `QueueFull` or `SpoolFull` say that there is no room: then
        nothing was taken.
        """
        given = {**(event or {}), **fields}
        return self._add(*events.line_of(given, self._organization, clock.now_ms(), keyed=self._keyed))

    def record_json(self, text: bytes | str) -> str:
        """The same of an event that is JSON already: its numbers stay as they are written."""
        body = text.encode() if isinstance(text, str) else text
        return self._add(*events.line_of_json(body, self._organization, clock.now_ms(), keyed=self._keyed))

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything recorded so far is taken or rejected; False when the time was not enough."""
        self._check_process()
        return self._sender.flush(timeout_s)

    def state(self) -> State:
        """How many wait, how many are done, and what is wrong."""
        sender = self._sender
        return State(*self._queue.size(), sender.sent, sender.rejected, sender.trouble)

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """Send what waits, within a time, and stop; how many were not sent: a spool keeps those."""
        if self._process != os.getpid():
            return 0  # and no lock is looked at: another thread may have held it at the fork
        with self._starting:
            if self._closed:
                return 0
            self._closed = True
        atexit.unregister(self.close)
        deadline_s = clock.monotonic_s() + timeout_s
        if self._thread is not None and self._thread.is_alive():
            self._sender.flush(timeout_s)
            self._sender.end()
            # A request that is under way may take longer; its lines stay in the spool, and count once.
            self._thread.join(max(0.5, deadline_s - clock.monotonic_s()))
        self._queue.close()
        left = self._queue.size()[0]
        if left:
            _log.log(
                logging.WARNING if self.durable else logging.ERROR,
                "closed with %s events unsent: %s",
                left,
                "they stay in the spool" if self.durable else "without a spool they are lost",
            )
        return left

    def _add(self, id: str, line: bytes) -> str:
        self._check_process()
        if self._closed:
            raise ClientClosed("the client is closed")
        if self._thread is None:
            self._start()
        self._queue.add(line)
        self._sender.woken()
        return id

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._sender.run, name="genledger-client", daemon=True)
                self._thread.start()
                # Who forgets to close loses nothing that can be sent within the time.
                atexit.register(self.close)

    def _check_process(self) -> None:
        if self._process == os.getpid():
            return
        if self._thread is not None or self.durable:
            raise Forked("the client was made by another process: make one in each, after the fork")
        self._process = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check(limits: Limits, timeout_s: float, *bytes_max: int) -> None:
    positive = (limits.batch_events_max, limits.batch_bytes_max, limits.backoff_s_max, timeout_s, *bytes_max)
    if min(positive) <= 0 or limits.linger_s < 0:
        raise SettingError("a client's limits must be above 0 (linger_s may be 0)")
