"""The points' process: what `genledger serve` sends to InfluxDB, in a process of its own.

    PointsProcess(settings, log).start(watch, stack)     # in the service
    python -m genledger.points                           # what it starts

A server that is slow or away keeps nobody waiting but this process, and one that ends is started again: the
service goes on meanwhile. What InfluxDB refuses is kept on the log, which only the service writes: the
process asks it to, and goes on when that is done. See `child.py` for how the two talk.
"""

import asyncio
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack

import msgspec

from genledger.child import Child, Order, run_child, tell
from genledger.roles.opening import open_watched
from genledger.roles.points import ROLE, Measured, PointsPart, State, alarm_of
from genledger.roles.tasks import keep
from genledger.watch import Part, Watch
from projections.agents import Taken
from projections.stores.influxdb.target import target_of
from streams import clock, metrics
from streams.errors import LogError
from streams.log.interface import Log, Message
from streams.settings import Settings

# Of one line to the service, in base64 a third more: far below what it reads of one.
ASKED_BYTES_MAX = 4_194_304
MESSAGE_BYTES = 2048  # beside the value: a key, the reason, names
RESTART_S = 1.0
RESTART_S_MAX = 60.0

_logger = logging.getLogger("genledger.points")


class Asked(msgspec.Struct, frozen=True, tag=True):
    """Records that the service is to put on the log."""

    number: int
    messages: list[Message]


class Answered(msgspec.Struct, frozen=True):
    """They are there; or why they are not."""

    number: int
    error: str = ""


Line = Taken | State | Asked

_line = msgspec.json.Decoder(Line)
_answer = msgspec.json.Decoder(Answered)


def _parts(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Messages in lines that the service can hear: a batch refused as a whole may be longer. Pure."""
    part: list[Message] = []
    size = 0
    for message in messages:
        bytes_ = len(message.value or b"")
        if part and size + bytes_ > ASKED_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(message)
        size += bytes_ + MESSAGE_BYTES
    if part:
        yield part


class Asking:
    """What the process has asked the service for, and waits for."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._number = 0

    async def quarantine(self, messages: Sequence[Message]) -> None:
        """Returns when the service has them on the log."""
        for some in _parts(messages):
            await self._ask(some)

    async def _ask(self, messages: list[Message]) -> None:
        self._number += 1
        number = self._number
        done = self._waiting[number] = asyncio.get_running_loop().create_future()
        tell(Asked(number, messages))
        try:
            await done
        finally:
            del self._waiting[number]

    def heard(self, raw: bytes) -> None:
        """An answer."""
        answer = _answer.decode(raw)
        done = self._waiting.get(answer.number)
        if done is None or done.done():
            return
        if answer.error:
            done.set_exception(LogError(answer.error))
        else:
            done.set_result(None)


_asking = Asking()


async def _start(order: Order, watch: Watch, stack: AsyncExitStack) -> None:
    settings = order.settings
    target = target_of(settings)
    assert target is not None
    log = await open_watched(settings, watch, stack, read_only=True)
    part = PointsPart(log, settings, target, _asking.quarantine, tell)
    await part.start(watch, stack, grouped=False)


class PointsProcess:
    """The points' process as the service sees it: started again whenever it ends."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._next: dict[tuple[str, int], int] = {}
        self._measured = Measured()
        self._child: Child | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._ended = ""
        #: What it last said of itself.
        self.state = State()

    async def start(self, watch: Watch, stack: AsyncExitStack) -> None:
        """Start it; it ends with the stack."""
        watch.parts[ROLE] = Part(self.places, lambda: None, held=self.trouble, aside=True)
        watch.alarms["InfluxDB"] = lambda: alarm_of(self.trouble())
        stack.push_async_callback(self._stop)
        keep(self._go_on(), "the points' process", watch, stack)

    def trouble(self) -> str:
        """Why points wait, or ''."""
        return self._ended or self.state.trouble

    def places(self) -> Mapping[tuple[str, int], tuple[int, int]]:
        """Where the points stand and where the log ends, as far as the process has told."""
        return {(topic, n): (at, self._log.end_offset(topic, n)) for (topic, n), at in self._next.items()}

    async def _go_on(self) -> None:
        wait_s = RESTART_S
        while True:
            self._child = Child("genledger.points", Order(self._settings), self._hear)
            started_s = clock.monotonic_s()
            ending = await self._child.start()
            code = await asyncio.shield(ending)
            if clock.monotonic_s() - started_s > RESTART_S_MAX:
                wait_s = RESTART_S
            self._ended = f"the points' process ended with code {code}, and is started again in {wait_s:g} s"
            metrics.SINK_ERRORS.labels(ROLE, "process").inc()
            _logger.error("%s: its message is above this one", self._ended)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, RESTART_S_MAX)

    def _hear(self, raw: bytes) -> None:
        line = _line.decode(raw)
        if isinstance(line, Asked):
            assert self._child is not None
            task = asyncio.create_task(self._write(self._child, line))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)
            return
        self._measured(line)
        if isinstance(line, State):
            self.state, self._ended = line, ""
        else:
            self._next[line.topic, line.partition] = line.next_offset

    async def _write(self, child: Child, asked: Asked) -> None:
        error = ""
        try:
            await self._log.append(asked.messages)
        except LogError as reason:
            error = str(reason)
        # Who asked may have ended: the next process counts its questions from the same number.
        child.answer(Answered(asked.number, error))

    async def _stop(self) -> None:
        if self._child is not None:
            await self._child.stop()


if __name__ == "__main__":
    sys.exit(run_child(_start, _asking.heard))
