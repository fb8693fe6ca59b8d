"""The ledger, as a part of `genledger serve` and as a worker of its own.

    genledger worker ledger --metrics-port 9102

A worker shares the partitions with the others of its group. It answers for the ids of its own over HTTP,
and sweeps its own partitions when a run of the retention job has begun there.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from genledger.roles.lookout import address_of, start_lookout
from genledger.roles.opening import open_cluster
from genledger.roles.seats import wait_for_seat
from genledger.roles.sizing import Sizing
from genledger.roles.tasks import keep
from genledger.watch import Part, Watch
from streams import clock, records, topics
from streams.agents import Ledger
from streams.app import App, ledger_app
from streams.clock import monotonic_s
from streams.directory import Directory
from streams.errors import LogError, LogUnavailable
from streams.gateway.sweeps import sweeps_routes
from streams.gateway.winners import winners_route
from streams.generation import Generation
from streams.known import Anything, Held, Known, date_of
from streams.log.interface import Log
from streams.log.kafka.log import KafkaLog
from streams.log.partition import partition_of
from streams.placement import check_placement
from streams.retention import Stand
from streams.rules import Rules
from streams.seen import SeenTable
from streams.settings import Settings
from streams.slots import take_slot
from streams.sweeper import Count, Sweeper
from streams.truth import SYNC

ALL = -1

Places = Mapping[tuple[str, int], tuple[int, int]]


async def run(settings: Settings, watch: Watch, stack: AsyncExitStack, *, standby: bool) -> None:
    """Start a worker."""
    log, directory = await open_cluster(settings, watch, stack)
    ledger = LedgerPart(log, settings, directory, watch)
    await start_lookout(
        "ledger",
        log,
        directory,
        settings,
        watch,
        stack,
        lookup=ledger.lookup,
        only=frozenset(("explain", "duplicate")),
        routes=[winners_route(ledger.winners), *sweeps_routes(ledger)],
    )
    watch.parts["ledger"] = Part(dict, lambda: None, trouble=lambda: "waiting for a partition")
    await wait_for_seat(log, settings, standby=standby)
    await ledger.start(stack)
    sizing = Sizing()
    sizing.state = ledger.sizes
    sizing.start(watch, stack)


class LedgerPart:
    """The ledger of this process: its app, how it is watched, and how it is asked for an id."""

    def __init__(self, log: Log, settings: Settings, directory: Directory, watch: Watch) -> None:
        self._log = log
        self._settings = settings
        self._directory = directory
        self._watch = watch
        self._app: App | None = None
        self._ledger: Ledger | None = None
        self._table: SeenTable | None = None
        self._sweeper: Sweeper | None = None

    async def start(self, stack: AsyncExitStack) -> None:
        """Decide, from here on, until the stack ends."""
        await check_placement(self._log)
        on_cluster = isinstance(self._log, KafkaLog)
        folder = "seen"
        if on_cluster:
            slot = take_slot(Path(self._settings.data))
            stack.callback(slot.release)
            folder = slot.folder
        app, ledger, table = ledger_app(self._log, self._settings, self._directory, shelf=folder)
        app.grouped = on_cluster
        app.address = address_of("ledger", self._settings)
        self._app, self._ledger, self._table = app, ledger, table
        self._watch.parts["ledger"] = Part(
            self.places, self._failure(app), lambda: ledger.full, lambda: _trouble(app, table)
        )
        stack.push_async_callback(app.stop)  # also of a start that is cut short
        await app.start()
        self._sweeper = Sweeper(ledger, table, self._log, self._settings.cleanup_share)
        if self._settings.cleanup_enabled:  # else a run that is under way waits until it is
            keep(self._sweeper.go_on(), "the sweeper", self._watch, stack)

    def left_out(self) -> None:
        """A test has left the ledger out: its lag is shown all the same."""
        self._watch.parts["ledger"] = Part(self.places, None)

    def places(self) -> Places:
        """Where our partitions stand; while tables are read back, how far that has come."""
        if self._app is None or self._ledger is None or self._table is None:
            topic = topics.GENERATIONS
            return {
                (topic, n): (0, self._log.end_offset(topic, n)) for n in range(self._log.partitions(topic))
            }
        if self._app.tables.recovery.in_recovery and self._app.consumer.assignment():
            # Nothing is decided before all are back, so any step is movement. One that gets nowhere is stuck.
            return {(topics.SEEN_CHANGELOG, ALL): (self._table.steps, self._table.steps + 1)}
        topic = topics.GENERATIONS
        return {
            (topic, n): (self._ledger.next_offset(n), self._log.end_offset(topic, n))
            for n in self._ledger.partitions()
        }

    def _failure(self, app: App) -> Callable[[], BaseException | None]:
        stall_s = self._settings.stall_timeout_s

        def failure() -> BaseException | None:
            since_s = app.consumer.idle_since_s
            if app.crash_reason is None and since_s is not None and monotonic_s() - since_s > stall_s:
                return LogError(
                    f"the group has given this worker no partition for {stall_s:g} s: are there more workers"
                    " than partitions, or is the cluster away? Start it again"
                )
            reason: BaseException | None = app.crash_reason
            return reason

        return failure

    async def winners(self, ids: Sequence[str]) -> Mapping[str, Generation]:
        """The winner of each id, counted or held for good; `LogError` when a partition is not ours."""
        found: dict[str, Generation] = {}
        rules = Rules.of(self._directory, self._settings)
        for id in ids:
            match self._anything(id):
                case Known(winner=winner):
                    found[id] = winner
                case Held(known=known) if not _counts_by_sync(known, rules):
                    found[id] = known.winner
        return found

    @property
    def partitions(self) -> int:
        """How many partitions the log has, whoever has them."""
        return self._log.partitions(topics.GENERATIONS)

    def stands(self) -> Sequence[Stand]:
        """How the newest run of the retention job stands in our partitions."""
        return () if self._sweeper is None else self._sweeper.stands()

    async def count(self, cutoff_ns: int, partitions: Sequence[int]) -> Mapping[str, Count]:
        """What a run with this cutoff would forget there; `LogUnavailable` when one is not ours."""
        if self._sweeper is None:
            raise LogUnavailable("the ledger has not started yet: try again in a moment")
        return await self._sweeper.count(cutoff_ns, partitions)

    async def flush(self) -> Mapping[int, int] | None:
        """Bring the table to the disk: see `SeenTable.flush`. None: not now."""
        ready = self._table is not None and not self.is_recovering()
        return await self._table.flush() if self._table is not None and ready else None

    def sizes(self) -> tuple[int, int] | None:
        """About how many ids are known, and the bytes they take; None while there is no table."""
        return None if self._table is None else self._table.sizes()

    def is_recovering(self) -> bool:
        """Whether any of our partitions is being read back, or is about to be."""
        return self._app is None or self._app.tables.recovery.in_recovery

    async def lookup(self, id: str) -> Known | None:
        """What is known of an id, if its partition is ours."""
        found = self._anything(id)
        return found if isinstance(found, Known) else None

    def _anything(self, id: str) -> Anything | None:
        key = id.encode()
        partition = partition_of(key, self._log.partitions(topics.GENERATIONS))
        try:
            if self._table is None or partition in self._table.recovering:
                raise KeyError(partition)
            [value] = self._table.get_many(partition, [key])
        except KeyError:
            raise LogError("the ledger is reading its table back: try again in a moment") from None
        return records.anything_of(value)


def _counts_by_sync(known: Known, rules: Rules) -> bool:
    """Whether a call that is held would count by the sync's word: the organisation may believe it by now."""
    winner, now_ms = known.winner, clock.now_ms()
    sources = rules.believed(winner.organization, winner.model, date_of(known), now_ms)
    return not sources or SYNC in sources


def _trouble(app: App, table: SeenTable) -> str:
    """What keeps the ledger from deciding, and will pass."""
    if app.consumer.idle_since_s is not None:
        return "joining"
    return "reading its table back" if table.recovering else ""
