"""`genledger serve`, the process: the one module that builds both sides and joins them.

The door, the ledger and each view are parts of one process on local files. It starts them in order, looks
after them, and stops them in reverse. A part that fails, or that stands still while records wait for it,
ends the process with a message and exit code 1: a supervisor starts it again, and nothing is lost.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web

from genledger.watch import Part, Watch
from projections import api, schema
from projections.agents import Follower, follower_app
from projections.organizations import Organizations
from projections.processed import Processed
from projections.queries import Queries
from projections.stores.sqlite import Database
from projections.summaries import Summaries
from projections.view import View
from streams import clock, metrics, records, topics
from streams.app import App, ledger_app
from streams.directory import Directory
from streams.errors import LogError, SettingError
from streams.gateway.access import is_loopback
from streams.gateway.app import Door, build, first_key
from streams.gateway.server import Runner
from streams.known import Known
from streams.log.partition import partition_of
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.log import SqliteLog, open_log
from streams.settings import Settings

Lookup = Callable[[str], Awaitable[Known | None]]

ROLES = ("ledger", "organizations", "summaries", "processed")
WATCH_INTERVAL_S = 0.5
# The collector walks every object again and again: what is here at the start stays, and needs no walk.
QUIET_LOGGERS = (
    "alembic.runtime.plugins",
    "alembic.runtime.migration",
    "faust",
    "genledger.access",
    "mode",
    "streams.app",
    "streams.log",
    "streams.seen",
)
GC_THRESHOLDS = (50_000, 20, 50)

_logger = logging.getLogger("genledger")


def run(settings: Settings, without: tuple[str, ...] = ()) -> int:
    """Serve until stopped; the exit code."""
    unknown = set(without) - set(ROLES)
    if unknown:
        raise SettingError(f"--without {', '.join(sorted(unknown))}: the roles are {', '.join(ROLES)}")
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # What others say about themselves at INFO is for their developers; a line a request is for ours.
    quiet = logging.DEBUG if settings.log_level == "DEBUG" else logging.WARNING
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(quiet)
    # Faust reports an agent that is stopped as one that crashed; one that did crash ends the process.
    logging.getLogger("faust.agents.actor").setLevel(logging.CRITICAL)
    return asyncio.run(_serve(settings, without))


async def _serve(settings: Settings, without: tuple[str, ...]) -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        watch = Watch(settings.stall_timeout_s)
        await _start(settings, without, watch, stack)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        reason = await _look_after(watch, stopped)
        # A drain that hangs must not keep a stopped service alive: the log is safe at any moment.
        drained = loop.call_later(settings.drain_timeout_s, _give_up, reason)
        stack.callback(drained.cancel)
    if reason:
        print(f"genledger: {reason}", file=sys.stderr)
    return 1 if reason else 0


def _give_up(reason: str) -> None:
    print(f"genledger: {reason or 'stopped'}; what was begun did not finish in time", file=sys.stderr)
    os._exit(1)


async def _look_after(watch: Watch, stopped: asyncio.Event) -> str:
    """Until the service is stopped, or something is wrong: then the reason."""
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), WATCH_INTERVAL_S)
        reason = watch.look(clock.monotonic_s())
        if reason:
            return reason
    return ""


async def _start(settings: Settings, without: tuple[str, ...], watch: Watch, stack: AsyncExitStack) -> None:
    data = Path(settings.data)
    log = await open_log(settings.broker, topics.topic_table(), bounds=_bounds(settings))
    stack.push_async_callback(log.close)
    watch.futures["the log"] = log.failed
    schema.upgrade(data / "genledger.db")
    database = Database.open(data / "genledger.db")
    stack.push_async_callback(database.close)
    watch.alarms["the views' database"] = lambda: _wal_alarm(database, settings.wal_alarm_bytes)
    directory = Directory(log)
    await directory.refresh()
    starter = Starter(log, settings, without, watch, stack)
    lookup = await starter.ledger(directory)
    summaries = await starter.views(database)
    queries = await Queries.open(data / "genledger.db")
    stack.push_async_callback(queries.close)
    door = Door(
        log=log,
        directory=directory,
        settings=settings,
        clock=clock.now_ms,
        lookup=lookup,
        health=watch.health,
        extra_routes=[
            *api.routes(queries, clock.now_ms, summaries.wait_for_change, lambda: _ends(log)),
            web.get("/api/v1/status", watch.status),
        ],
    )
    await _start_door(door, settings, stack)


def _wal_alarm(database: Database, most_bytes: int) -> str:
    size_bytes = database.wal_bytes()
    metrics.VIEWS_WAL_BYTES.set(size_bytes)
    if size_bytes <= most_bytes:
        return ""
    return (
        f"its write-ahead log has grown to {size_bytes} bytes: some process holds a read transaction open."
        " Writing goes on; end that reader before the disk is full"
    )


def _ends(log: SqliteLog) -> Mapping[int, int]:
    topic = topics.GENERATIONS
    return {n: log.end_offset(topic, n) for n in range(log.partitions(topic))}


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        waiting_records=settings.append_records_max,
        waiting_bytes=settings.append_bytes_max,
        quick_check_bytes=settings.verify_bytes_max,
        check_records=settings.verify_records_max,
        read_bytes=settings.batch_bytes_max,
    )


class Starter:
    """Starts the roles that follow the log, and tells the watchdog of each."""

    def __init__(
        self,
        log: SqliteLog,
        settings: Settings,
        without: tuple[str, ...],
        watch: Watch,
        stack: AsyncExitStack,
    ) -> None:
        self._log = log
        self._settings = settings
        self._without = without
        self._watch = watch
        self._stack = stack

    async def ledger(self, directory: Directory) -> Lookup:
        """Start the ledger; how to ask it for an id."""
        app, ledger, table = ledger_app(self._log, self._settings, directory)
        partitions = self._log.partitions(topics.GENERATIONS)

        def places() -> Mapping[tuple[str, int], tuple[int, int]]:
            return {
                (topics.GENERATIONS, n): (
                    ledger.next_offset(n),
                    self._log.end_offset(topics.GENERATIONS, n),
                )
                for n in range(partitions)
            }

        async def lookup(id: str) -> Known | None:
            key = id.encode()
            try:
                [value] = table.get_many(partition_of(key, partitions), [key])
            except KeyError:
                raise LogError("the ledger is reading its table back: try again in a moment") from None
            found = records.anything_of(value)
            return found if isinstance(found, Known) else None

        await self._start("ledger", app, Part(places, lambda: app.crash_reason))
        return lookup

    async def views(self, database: Database) -> Follower:
        """Start the views; the follower of the summaries."""
        views: list[View[Any, Any]] = [Organizations(), Summaries()]
        if self._settings.processed_generations:
            views.append(Processed())
        followers = {view.name: Follower(view, database, self._log) for view in views}
        for name, follower in followers.items():
            await follower.open()
            app = follower_app(follower, self._log, self._settings)
            await self._start(name, app, _part_of(follower, app))
        return followers["summaries"]

    async def _start(self, name: str, app: App, part: Part) -> None:
        """Start a role, unless a test leaves it out; either way its lag is shown."""
        self._watch.parts[name] = part
        if name in self._without:
            part.failure = None
            return
        await app.start()
        self._stack.push_async_callback(app.stop)


def _part_of(follower: Follower, app: App) -> Part:
    return Part(follower.places, lambda: app.crash_reason, lambda: follower.full)


async def _start_door(door: Door, settings: Settings, stack: AsyncExitStack) -> None:
    if not is_loopback(settings.host):
        secret = await first_key(door)
        if secret:
            print(f"genledger: the first administrator's key, shown this once: {secret}", file=sys.stderr)
    runner = Runner(build(door))
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, settings.host, settings.port).start()
    print(f"genledger: listening on http://{settings.host}:{settings.port}", file=sys.stderr)
