"""The points' sender, as a part of a process: raw points to InfluxDB, and nothing else.

    genledger worker points --metrics-port 9105

Workers share the partitions as a group; embedded, one process beside the service has them all. While
InfluxDB is away they wait: the log is the buffer, and nobody else is kept from anything.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress

import msgspec

from genledger.roles.lookout import address_of, start_lookout
from genledger.roles.opening import open_cluster
from genledger.roles.points_routes import Places, points_routes, state_of
from genledger.roles.tasks import keep
from genledger.watch import Part, Watch
from projections.agents import Taken, measure
from projections.sender import LOOK_AGAIN_S, Quarantine, Sender, sender_app
from projections.stores.influxdb.bookmarks import Bookmarks
from projections.stores.influxdb.outbox import Outbox
from projections.stores.influxdb.server import Health, InfluxError, Server
from projections.stores.influxdb.target import Target, target_of
from projections.stores.influxdb.writer import Writer
from streams import clock, metrics
from streams.app import App
from streams.errors import LogBehindView, SettingError
from streams.log.interface import Log, Message
from streams.settings import Settings

ROLE = "points"
TELL_EVERY_S = 0.5
# Before InfluxDB was asked for the first time: nothing is wrong yet.
STARTING = "starting"
CIRCUITS = {"closed": 0, "half-open": 1, "open": 2}


class State(msgspec.Struct, frozen=True, tag=True):
    """What the sender says of itself. `trouble`: why points wait, or ''."""

    circuit: str = "closed"
    trouble: str = STARTING
    last_error: str = ""
    written: int = 0
    refused: int = 0
    errors: int = 0


async def run(settings: Settings, watch: Watch, stack: AsyncExitStack) -> None:
    """Start a worker."""
    target = target_of(settings)
    if target is None:
        raise SettingError(
            "raw points go to no InfluxDB: set INFLUXDB_URL and INFLUXDB_BUCKET, or leave this worker out."
            " In legacy mode the summaries worker keeps them in SQLite"
        )
    log, directory = await open_cluster(settings, watch, stack)

    async def quarantine(messages: Sequence[Message]) -> None:
        await log.append(messages)

    part = PointsPart(log, settings, target, quarantine, Measured())
    routes = points_routes(settings, lambda: state_of(part.told(), part.places()), part.health)
    await start_lookout(ROLE, log, directory, settings, watch, stack, routes=routes)
    await part.start(watch, stack, grouped=True)


def alarm_of(trouble: str) -> str:
    """What an operator should look at. Pure."""
    return "" if trouble == STARTING else trouble


class Measured:
    """What a sender tells, as metrics. Its counts begin anew when it does."""

    def __init__(self) -> None:
        self._last = State()

    def __call__(self, told: Taken | State) -> None:
        if isinstance(told, Taken):
            measure(told, clock.now_ms())
            return
        before = self._last if told.written >= self._last.written else State()
        metrics.POINTS_WRITTEN.inc(told.written - before.written)
        metrics.POINTS_REFUSED.inc(max(0, told.refused - before.refused))
        metrics.INFLUX_CIRCUIT_STATE.set(CIRCUITS[told.circuit])
        if told.errors > before.errors:
            metrics.SINK_ERRORS.labels(ROLE, "influxdb").inc(told.errors - before.errors)
        self._last = told


class PointsPart:
    """The sender of this process: opened when InfluxDB answers, and then following the log."""

    def __init__(
        self,
        log: Log,
        settings: Settings,
        target: Target,
        quarantine: Quarantine,
        tell: Callable[[Taken | State], None],
    ) -> None:
        self._log = log
        self._settings = settings
        self._target = target
        self._tell = tell
        self._app: App | None = None
        self._waits = STARTING
        self._server = Server(target)
        self._writer = Writer(self._server)
        self._outbox = Outbox(self._writer, settings.influxdb_batch_size, settings.points_linger_s)
        bookmarks = Bookmarks(self._server, self._writer, settings.topic_prefix, log.identity)
        self._sender = Sender(log, target, self._outbox, bookmarks, quarantine, tell)

    async def start(self, watch: Watch, stack: AsyncExitStack, *, grouped: bool) -> None:
        """Follow the log until the stack ends; returns at once, for InfluxDB may be away."""
        stack.push_async_callback(self._server.close)
        watch.parts[ROLE] = Part(self.places, self._failure, held=self.trouble)
        watch.alarms["InfluxDB"] = lambda: alarm_of(self.trouble())
        keep(self._tell_now_and_then(), "the points' state", watch, stack)
        keep(self._outbox.go_on(), "the points' outbox", watch, stack)
        keep(self._go_on(grouped=grouped), "the points", watch, stack)

    async def _go_on(self, *, grouped: bool) -> None:
        await self._open()
        app = self._app = sender_app(self._sender, self._log, self._settings)
        app.grouped = grouped
        app.address = address_of(ROLE, self._settings)
        try:
            await app.start()
            await self._sender.go_on()
        finally:
            await app.stop()
            # What is not kept now is sent once more after the next start.
            with suppress(TimeoutError, InfluxError):
                await asyncio.wait_for(self._sender.keep(), self._target.write_timeout_s)

    async def _open(self) -> None:
        """Wait for InfluxDB, and for the log that the points there were made from."""
        while True:
            try:
                await self._server.open()
                await self._sender.open()
            except (InfluxError, LogBehindView) as error:
                self._waits = str(error)
                await asyncio.sleep(LOOK_AGAIN_S)
            else:
                self._waits = ""
                return

    def _failure(self) -> BaseException | None:
        reason: BaseException | None = None if self._app is None else self._app.crash_reason
        return reason

    def places(self) -> Places:
        """Where the points of our partitions stand and where the log ends."""
        return self._sender.places()

    async def health(self) -> Health:
        """Whether InfluxDB would take points now."""
        return await self._server.health()

    def trouble(self) -> str:
        """Why points wait, or ''."""
        return self._waits or self._sender.waits or self._writer.trouble()

    def told(self) -> State:
        """What the sender says of itself now."""
        return State(
            circuit=self._writer.circuit,
            trouble=self.trouble(),
            last_error=self._writer.last_error,
            written=self._writer.written,
            refused=self._sender.refused,
            errors=self._writer.errors,
        )

    async def _tell_now_and_then(self) -> None:
        last: State | None = None
        while True:
            state = self.told()
            if state != last:
                self._tell(state)
                last = state
            await asyncio.sleep(TELL_EVERY_S)
