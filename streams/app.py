"""The Faust apps: one for each role, so that each has its own consumer and a slow one delays only itself.

app = make_app("ledger", log, settings)
add_agent(app, [topics.GENERATIONS], ledger.take, positions)
await app.start()
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from streams import topics
from streams.agents import Ledger
from streams.directory import Directory
from streams.lanes import Lanes
from streams.log.batches import Batch, BatchSchema
from streams.log.changelog import BatchTableManager
from streams.log.interface import Log
from streams.rules import Rules
from streams.seen import SeenTable
from streams.settings import Settings

Positions = Callable[[Iterable[TP]], Awaitable[Mapping[TP, int]]]

# A batch is thousands of records: one being worked on and one waiting are enough to keep a role busy.
BATCHES_WAITING_MAX = 1


# What is begun when a partition is taken away may end for so long, of the session's time; then it is ended.
SETTLE_SHARE = 0.5


async def _nothing(_partitions: Iterable[int]) -> None:
    """Nothing is held of a partition."""


class App(faust.App):
    """A Faust app that knows the process's log and where its role stands."""

    backend: Log
    role: str
    settings: Settings
    positions: Positions
    batch_records_max: int
    lanes: Lanes
    #: Whether the partitions are shared with other processes of the role, or all are ours.
    grouped = False
    #: Where other processes reach this one over HTTP.
    address = ""
    release: Callable[[Iterable[int]], Awaitable[None]] = staticmethod(_nothing)
    #: What a role has to find out of its partitions before it goes on with them. It may wait for as long as
    #: it must: it is cancelled when they are given back.
    prepare: Callable[[Iterable[int]], Awaitable[None]] = staticmethod(_nothing)
    #: What an app that is started by Faust's own command has to do before it starts, and after it has ended.
    begin: Callable[[], Awaitable[None]] | None = None
    end: Callable[[], Awaitable[None]] | None = None

    async def on_start(self) -> None:
        """Before the consumer starts."""
        if self.begin is not None:
            await self.begin()
        await super().on_start()

    async def on_shutdown(self) -> None:
        """When everything has stopped."""
        await super().on_shutdown()
        if self.end is not None:
            await self.end()

    async def let_go(self, tps: Iterable[TP]) -> None:
        """When this returns, nothing of these partitions is at work, and nothing of them can be sent."""
        await self.lanes.settle(tps, self.settings.kafka_session_timeout_s * SETTLE_SHARE)
        await self.release({tp.partition for tp in tps})


def make_app(role: str, log: Log, settings: Settings) -> App:
    """An app with our transport, our table manager, and nothing that listens."""
    app = App(
        f"{settings.topic_prefix}{role}",
        broker=_broker_of(settings),
        datadir=Path(settings.data) / "faust",
        store="memory://",
        TableManager=BatchTableManager,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_recovery_delay=0.0,
        stream_wait_empty=False,
        stream_buffer_maxsize=BATCHES_WAITING_MAX,
        autodiscover=False,
    )
    app.backend = log
    app.role = role
    app.settings = settings
    app.batch_records_max = settings.batch_records_max
    return app


def add_agent(
    app: App, names: list[str], take: Callable[[Batch], Awaitable[None]], positions: Positions
) -> None:
    """The agent of a role: a batch is acknowledged when `take` returns; if it raises, the app ends."""
    app.positions = positions
    # Whatever failed, going on would skip the batch: the process ends and says why.
    app.lanes = Lanes(take, app.crash)
    channel = app.topic(*names, schema=BatchSchema(), maxsize=BATCHES_WAITING_MAX)

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            await app.lanes.put(event.message.tp, event.value, event.ack, partial(_is_current, app, event))

    app.agent(channel, name=f"{app.conf.id}.agent")(agent)


def _is_current(app: App, event: Any) -> bool:
    """Whether the event was read since the partitions were last shared out."""
    current: bool = event.message.generation_id == app.consumer_generation_id
    return current


def _broker_of(settings: Settings) -> str:
    # Faust parses it as an URL, and takes only the scheme from it: the log has its own connections.
    return settings.broker.partition(",")[0]


def ledger_app(
    log: Log, settings: Settings, directory: Directory, *, shelf: str = "seen"
) -> tuple[App, Ledger, SeenTable]:
    """The ledger's app: its table, its agent, and the step they share. `shelf` is the table's folder."""
    app = make_app("ledger", log, settings)
    on_disk = settings.table_store == "rocksdb"
    path = (Path(settings.data) / "tables" / shelf).absolute()
    table = SeenTable(
        app,
        name="seen",
        partitions=log.partitions(topics.SEEN_CHANGELOG),
        store=f"seen://{path}" if on_disk else "seen://memory",
        changelog_topic=app.topic(topics.SEEN_CHANGELOG),
    )
    app.tables.add(table)
    rules = Rules.of(directory, settings)
    ledger = Ledger(log, table, rules, directory)
    table.take_over = ledger.take_over

    def lost(partition: int) -> None:
        app.consumer.drop(TP(topics.GENERATIONS, partition))
        app.consumer.rejoin()

    async def release(partitions: Iterable[int]) -> None:
        await ledger.release(partitions)
        table.release(partitions)

    ledger.lost = lost
    app.release = release

    async def positions(assigned: Iterable[TP]) -> Mapping[TP, int]:
        return {tp: ledger.next_offset(tp.partition) for tp in assigned}

    add_agent(app, [topics.GENERATIONS], ledger.take, positions)
    return app, ledger, table


def __getattr__(name: str) -> App:
    """`app`, for Faust's command alone: made when it is asked for, for it reads the settings."""
    if name == "app":
        from streams.worker import ledger_worker

        return ledger_worker()
    raise AttributeError(name)
