"""Sends what a queue holds, in order, until the gateway has spoken about each line.

    sender = Sender(queue, gateway.post, told, limits)
    threading.Thread(target=sender.run, daemon=True).start()
    sender.woken()                   # there is something new
    sender.flush(timeout_s=10)       # True: all that was there is settled

A row leaves the queue only when it was taken, or rejected and its owner told. "Later" keeps the batch and
waits, as long as it takes. A batch refused as a whole is halved until the line to blame stands alone. A line
that alone makes the gateway fail is passed over; once the gateway has taken others, it has one last try.
"""

import itertools
import logging
import threading
from collections.abc import Callable, Sequence

import msgspec

from streams.client import verdict
from streams.client.errors import ClientError
from streams.client.events import event_of
from streams.client.queue import Queue, Row
from streams.client.verdict import Answer, Halve, Later, Rejection, Settled, Unanswered
from streams.clock import monotonic_s

# A gateway that fails (500) so often on a batch may fail for one line of it.
BROKEN_TRIES = 4
SUSPECTS_MAX = 100
# Who waits in flush() or close() wants another try soon, unless the gateway itself named a time.
HURRIED_WAIT_S = 0.5

Post = Callable[[bytes], Answer | Unanswered]
OnRejected = Callable[[dict[str, object], Rejection], object]

_log = logging.getLogger("genledger.client")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a client."""

    batch_events_max: int
    batch_bytes_max: int
    linger_s: float
    backoff_s_max: float


class Sender:
    """One thread's work. `sent`, `rejected` and `trouble` tell how it goes; "" is no trouble."""

    def __init__(self, queue: Queue, post: Post, on_rejected: OnRejected | None, limits: Limits) -> None:
        self._queue = queue
        self._post = post
        self._on_rejected = on_rejected
        self._limits = limits
        self._changed = threading.Condition()
        self._hurried = 0
        self._ended = False
        self._suspects: dict[int, Row] = {}
        self.sent = 0
        self.rejected = 0
        self.trouble = ""

    def run(self) -> None:
        """Send until `end`."""
        failures = 0
        while not self._ended:
            try:
                self._settle(self._next())
                failures = 0
            except Exception as error:  # noqa: BLE001 -- without this thread nothing is ever sent
                # The spool, most likely: its disk is full, or gone. What is in it waits for it.
                failures += 1
                self._troubled(str(error) if isinstance(error, ClientError) else type(error).__name__)
                self._wait(Later(""), failures)

    def woken(self) -> None:
        """Something new is in the queue."""
        with self._changed:
            self._changed.notify_all()

    def flush(self, timeout_s: float | None) -> bool:
        """Wait until all that is in the queue now is settled."""
        mark = self._queue.last()

        def reached() -> bool:
            first = self._queue.first()
            return self._ended or first is None or first > mark

        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(reached, timeout_s) and not self._ended
            finally:
                self._hurried -= 1

    def end(self) -> None:
        """Send no more: a try that is under way is the last."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _next(self) -> list[Row]:
        """The next batch, once there is one that is full or has waited; [] at the end."""
        limits = self._limits
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._queue.size()[0])
            self._changed.wait_for(lambda: self._ended or self._hurried or self._full(), limits.linger_s)
            if self._ended:
                return []
        rows = self._queue.oldest(limits.batch_events_max, limits.batch_bytes_max, self._suspects)
        if rows:
            return rows
        self._suspects.clear()  # nothing else is left: from the beginning
        return self._queue.oldest(limits.batch_events_max, limits.batch_bytes_max, ())

    def _full(self) -> bool:
        count, size_bytes = self._queue.size()
        return count >= self._limits.batch_events_max or size_bytes >= self._limits.batch_bytes_max

    def _settle(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        found = self._verdict(rows)
        if isinstance(found, Settled):
            self._finish(rows, found)
            self._try_suspects()
        elif isinstance(found, Later):
            # The gateway fails on a line that is alone.
            if len(self._suspects) >= SUSPECTS_MAX:
                self._suspects.clear()
            self._suspects[rows[0].n] = rows[0]
        elif found is not None and len(rows) == 1:
            self._finish(rows, Settled({0: found.why}))
        elif found is not None:
            middle = len(rows) // 2
            self._settle(rows[:middle])
            self._settle(rows[middle:])

    def _verdict(self, rows: Sequence[Row]) -> Settled | Halve | Later | None:
        """The gateway's word. `Later`: it fails on a line that is alone. None: the end came first."""
        for attempt in itertools.count(1):
            if self._ended:
                return None
            found = self._once(rows)
            if not isinstance(found, Later):
                return found
            if found.broken and attempt >= BROKEN_TRIES:
                return found if len(rows) == 1 else Halve(_failing())
            self._wait(found, attempt)
        return None

    def _once(self, rows: Sequence[Row]) -> verdict.Verdict:
        found = verdict.judge(self._post(b"".join(row.line + b"\n" for row in rows)), len(rows))
        self._troubled(found.why if isinstance(found, Later) else "")
        return found

    def _try_suspects(self) -> None:
        """The gateway takes others: who makes it fail now will always do."""
        suspects, self._suspects = self._suspects, {}
        for row in suspects.values():
            found = self._once([row])
            if isinstance(found, Settled):
                self._finish([row], found)
            elif isinstance(found, Halve):
                self._finish([row], Settled({0: found.why}))
            elif found.broken:
                self._finish([row], Settled({0: _failing()}))

    def _finish(self, rows: Sequence[Row], settled: Settled) -> None:
        for place, why in settled.rejected.items():
            self._tell(rows[place].line, why)
        self._queue.remove([row.n for row in rows])
        with self._changed:
            self.rejected += len(settled.rejected)
            self.sent += len(rows) - len(settled.rejected)
            self._changed.notify_all()

    def _tell(self, line: bytes, why: Rejection) -> None:
        # No more than this: the service's text may quote what was sent.
        _log.error("an event was rejected: status %s, code %r, field %r", why.status, why.code, why.field)
        if self._on_rejected is None:
            return
        try:
            self._on_rejected(event_of(line), why)
        except Exception as error:  # noqa: BLE001 -- the caller's code must not end the sending
            _log.error("on_rejected failed: %s", type(error).__name__)

    def _troubled(self, why: str) -> None:
        """Said once when it begins and once when it is over."""
        if why and not self.trouble:
            _log.warning("events can't be sent now, they wait: %s", why)
        elif self.trouble and not why:
            _log.warning("events are sent again")
        self.trouble = why

    def _wait(self, why: Later, attempt: int) -> None:
        began_s = monotonic_s()
        backoff_s = verdict.backoff_s(attempt, self._limits.backoff_s_max)
        asked_s = None if why.asked_s is None else min(why.asked_s, verdict.RETRY_AFTER_S_MAX)
        with self._changed:
            while not self._ended:
                soon_s = min(backoff_s, HURRIED_WAIT_S) if self._hurried else backoff_s
                left_s = began_s + (soon_s if asked_s is None else asked_s) - monotonic_s()
                if left_s <= 0:
                    return
                self._changed.wait(left_s)


def _failing() -> Rejection:
    return Rejection(verdict.BROKEN, "", "", "the service fails on this event, and takes others")
