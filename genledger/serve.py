"""`genledger serve`: the door and the ledger in this process, the views in one beside it, on local files.

It starts them in order, looks after them, and stops them in reverse. A part that fails, or that stands
still while records wait for it, ends the service with a message and exit code 1: a supervisor starts it
again, and nothing is lost.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from genledger import views
from genledger.process import give_up, lived, set_up_logging
from genledger.views import ViewsProcess
from genledger.watch import Part, Watch
from projections import api, schema
from projections.queries import Queries
from projections.stores.sqlite import wal_bytes
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

ROLES = ("ledger", *views.NAMES)
# Requests under way when the service is stopped have so long; a listener to a stream never ends by itself.
REQUESTS_DRAIN_S = 2.0
Lookup = Callable[[str], Awaitable[Known | None]]
Places = Callable[[], Mapping[tuple[str, int], tuple[int, int]]]


def run(settings: Settings, without: tuple[str, ...] = ()) -> int:
    """Serve until stopped; the exit code. `without` leaves roles out, for tests."""
    unknown = set(without) - set(ROLES)
    if unknown:
        raise SettingError(f"--without {', '.join(sorted(unknown))}: the roles are {', '.join(ROLES)}")
    set_up_logging(settings)
    reason = asyncio.run(_serve(settings, without))
    if reason:
        print(f"genledger: {reason}", file=sys.stderr)
    return 1 if reason else 0


async def _serve(settings: Settings, without: tuple[str, ...]) -> str:
    stopped = asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            give_up("stopped twice")
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    watch = Watch(settings.stall_timeout_s)

    async def start(stack: AsyncExitStack) -> None:
        await _start(settings, without, watch, stack)

    return await lived(start, watch, stopped, settings.drain_timeout_s)


async def _start(settings: Settings, without: tuple[str, ...], watch: Watch, stack: AsyncExitStack) -> None:
    database = Path(settings.data) / "genledger.db"
    log = await open_log(settings.broker, topics.topic_table(), bounds=_bounds(settings))
    stack.push_async_callback(log.close)
    watch.futures["the log"] = log.failed
    watch.log_identity = log.identity
    schema.upgrade(database)
    watch.alarms["the views' database"] = lambda: _wal_alarm(database, settings.wal_alarm_bytes)
    directory = Directory(log)
    await directory.refresh()
    lookup = await _start_ledger(log, settings, directory, without, watch, stack)
    process = await _start_views(log, settings, without, watch, stack)
    queries = await Queries.open(database)
    stack.push_async_callback(queries.close)
    door = Door(
        log=log,
        directory=directory,
        settings=settings,
        clock=clock.now_ms,
        lookup=lookup,
        health=watch.health,
        extra_routes=[
            *api.routes(queries, clock.now_ms, process.wait_for_change, lambda: _ends(log)),
            web.get("/api/v1/status", watch.status),
        ],
    )
    await _start_door(door, settings, stack)


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        waiting_records=settings.append_records_max,
        waiting_bytes=settings.append_bytes_max,
        quick_check_bytes=settings.verify_bytes_max,
        check_records=settings.verify_records_max,
        read_bytes=settings.batch_bytes_max,
    )


def _ends(log: SqliteLog) -> Mapping[int, int]:
    topic = topics.GENERATIONS
    return {n: log.end_offset(topic, n) for n in range(log.partitions(topic))}


def _wal_alarm(database: Path, most_bytes: int) -> str:
    size_bytes = wal_bytes(database)
    metrics.VIEWS_WAL_BYTES.set(size_bytes)
    if size_bytes <= most_bytes:
        return ""
    return (
        f"its write-ahead log has grown to {size_bytes} bytes: some process holds a read transaction open."
        " Writing goes on; end that reader before the disk is full"
    )


async def _start_ledger(
    log: SqliteLog,
    settings: Settings,
    directory: Directory,
    without: tuple[str, ...],
    watch: Watch,
    stack: AsyncExitStack,
) -> Lookup:
    """Start the ledger, unless a test leaves it out; how to ask it for an id."""
    app, ledger, table = ledger_app(log, settings, directory)
    partitions = log.partitions(topics.GENERATIONS)

    def places() -> Mapping[tuple[str, int], tuple[int, int]]:
        return {(topics.GENERATIONS, n): (ledger.next_offset(n), end) for n, end in _ends(log).items()}

    async def lookup(id: str) -> Known | None:
        key = id.encode()
        try:
            [value] = table.get_many(partition_of(key, partitions), [key])
        except KeyError:
            raise LogError("the ledger is reading its table back: try again in a moment") from None
        found = records.anything_of(value)
        return found if isinstance(found, Known) else None

    failure = None if "ledger" in without else _failure_of(app)
    watch.parts["ledger"] = Part(places, failure, lambda: ledger.full)
    if "ledger" not in without:
        await app.start()
        stack.push_async_callback(app.stop)
    return lookup


def _failure_of(app: App) -> Callable[[], BaseException | None]:
    return lambda: app.crash_reason


async def _start_views(
    log: SqliteLog, settings: Settings, without: tuple[str, ...], watch: Watch, stack: AsyncExitStack
) -> ViewsProcess:
    """Start the views' process, and watch each of its views."""
    process = ViewsProcess(settings, without, log)
    await process.start(stack)
    watch.futures["the views"] = process.ended
    for view in views.views_of(settings):
        watch.parts[view.name] = _view_part(process, view.name, running=view.name not in without)
    return process


def _view_part(process: ViewsProcess, name: str, *, running: bool) -> Part:
    # Whether it fails or stands still is for its own process to see, and to end by.
    failure = (lambda: None) if running else None
    return Part(lambda: process.places(name), failure, lambda: process.full(name))


async def _start_door(door: Door, settings: Settings, stack: AsyncExitStack) -> None:
    if not is_loopback(settings.host):
        secret = await first_key(door)
        if secret:
            print(f"genledger: the first administrator's key, shown this once: {secret}", file=sys.stderr)
    runner = Runner(build(door), shutdown_timeout=min(REQUESTS_DRAIN_S, settings.drain_timeout_s / 2))
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        raise SettingError(
            f"{place} can't be listened on ({error.strerror}): is another service there? Give another port"
            " with --port or GENLEDGER_PORT"
        ) from None
    print(f"genledger: listening on http://{settings.host}:{settings.port}", file=sys.stderr)
