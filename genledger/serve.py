"""`genledger serve`: everything. The door and the ledger are in this process, the views in one beside it.

It starts them in order, looks after them, and stops them in reverse. A part that fails, or that stands
still while records wait for it, ends the service with a message and exit code 1: a supervisor starts it
again, and nothing is lost. On a cluster it is the same, with the topics made first where they are missing.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from aiohttp import web

from genledger.points import PointsProcess
from genledger.roles import views
from genledger.roles.cleanup import Cleanup
from genledger.roles.cleanup_routes import cleanup_routes
from genledger.roles.compacting import Compacting
from genledger.roles.door import start_door
from genledger.roles.knower import Here
from genledger.roles.ledger import LedgerPart
from genledger.roles.looks import start_looks
from genledger.roles.opening import open_watched
from genledger.roles.points_routes import points_routes, state_of
from genledger.roles.proofs import start_proofs
from genledger.roles.sizing import Sizing, file_sizes, table_sizes
from genledger.roles.sweeps import SweepsHere
from genledger.roles.sync import start_syncs
from genledger.roles.sync_routes import sync_routes
from genledger.roles.trimming import start_snapshots, start_trims
from genledger.roles.undecided import start_outage
from genledger.roles.upkeep import start_upkeep
from genledger.views import ViewsProcess
from genledger.watch import Part, Watch
from projections import api, schema
from projections.queries import Queries
from projections.stores.influxdb.server import Server
from projections.stores.influxdb.target import target_of
from streams import clock, topics
from streams.directory import Directory
from streams.errors import SettingError
from streams.gateway.app import Door
from streams.log.backends import is_embedded
from streams.log.ends import ends_after
from streams.log.interface import Log
from streams.log.kafka.administration import ensure
from streams.log.sizes import topic_sizes
from streams.log.sqlite.log import SqliteLog
from streams.settings import Settings, points_kept

ROLES = ("ledger", *views.NAMES)


def check_without(without: tuple[str, ...]) -> None:
    """Roles that a test leaves out must be roles."""
    unknown = set(without) - set(ROLES)
    if unknown:
        raise SettingError(f"--without {', '.join(sorted(unknown))}: the roles are {', '.join(ROLES)}")


async def start(settings: Settings, without: tuple[str, ...], watch: Watch, stack: AsyncExitStack) -> None:
    """Start everything."""
    if not is_embedded(settings):
        await ensure(settings, partitions=settings.partitions)
    log = await open_watched(settings, watch, stack)
    database = views.path_of(settings)
    database.parent.mkdir(parents=True, exist_ok=True)
    schema.upgrade(database)
    watch.alarms["the views' database"] = lambda: views.wal_alarm(database, settings.wal_alarm_bytes)
    directory = Directory(log)
    await directory.refresh()
    await start_upkeep(log, directory, watch, stack)
    ledger = LedgerPart(log, settings, directory, watch)
    if "ledger" in without:
        ledger.left_out()
    else:
        await ledger.start(stack)
    process = await _start_views(log, settings, without, watch, stack)
    points = await _start_points(log, settings, without, watch, stack)
    queries = await Queries.open(database)
    stack.push_async_callback(queries.close)
    ends = partial(ends_after, log, topics.GENERATIONS)
    await start_looks(queries, ends, settings, watch, stack)
    start_proofs(settings, watch, stack)
    start_snapshots(settings, log, watch, stack)
    start_trims(settings, watch, stack)
    jobs = await _start_jobs(log, settings, directory, ledger, watch, stack)
    door = Door(
        log=log,
        directory=directory,
        settings=settings,
        clock=clock.now_ms,
        lookup=ledger.lookup,
        health=watch.health,
        extra_routes=[
            *api.routes(queries, clock.now_ms, process.wait_for_change, ends, points_kept(settings)),
            *jobs,
            *points,
            web.get("/api/v1/status", watch.status),
        ],
    )
    await start_door(door, settings, stack)


async def _start_jobs(
    log: Log,
    settings: Settings,
    directory: Directory,
    ledger: LedgerPart,
    watch: Watch,
    stack: AsyncExitStack,
) -> Sequence[web.RouteDef]:
    """Start what the leader of a cluster does there: the sync and the retention job; their routes."""
    syncs = await start_syncs(settings, log, directory, Here(log, ledger.winners, settings), watch, stack)
    cleanup = Cleanup(settings, log, SweepsHere(ledger))
    await cleanup.start(watch, stack)
    await _start_upkeep_of_files(log, settings, ledger, watch, stack)
    if not is_embedded(settings):
        start_outage(log, watch, stack)
    return [*sync_routes(lambda: syncs, settings), *cleanup_routes(lambda: cleanup, settings)]


async def _start_upkeep_of_files(
    log: Log, settings: Settings, ledger: LedgerPart, watch: Watch, stack: AsyncExitStack
) -> None:
    """Compact the embedded log, and tell how large everything is."""
    specs = topics.topic_table(log.partitions(topics.GENERATIONS))
    sizing = Sizing()
    sizing.topics = partial(topic_sizes, log, specs)
    sizing.state = ledger.sizes
    sizing.tables = partial(table_sizes, views.path_of(settings))
    if isinstance(log, SqliteLog):
        sizing.files = partial(file_sizes, log.directory)
        await Compacting(log, specs, ledger.stands, ledger.flush).start(watch, stack)
    sizing.start(watch, stack)


async def _start_points(
    log: Log, settings: Settings, without: tuple[str, ...], watch: Watch, stack: AsyncExitStack
) -> Sequence[web.RouteDef]:
    """Start the points' process, where they go to InfluxDB; the routes that tell of it."""
    target = target_of(settings)
    if target is None or "points" in without:
        return points_routes(settings)
    process = PointsProcess(settings, log)
    await process.start(watch, stack)
    server = Server(target)
    stack.push_async_callback(server.close)
    return points_routes(
        settings, lambda: state_of(process.state, process.places(), process.trouble()), server.health
    )


async def _start_views(
    log: Log, settings: Settings, without: tuple[str, ...], watch: Watch, stack: AsyncExitStack
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
