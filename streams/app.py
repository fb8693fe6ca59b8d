"""The Faust apps: one for each role, so that each has its own consumer and a slow one delays only itself.

    app = make_app("ledger", log, settings)
    agent(app, topics.GENERATIONS, ledger.take, positions)
    await app.start()

`faust -A streams.app worker` comes with the Kafka backend; embedded, `genledger serve` starts the apps.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from streams import topics
from streams.agents import Ledger
from streams.directory import Directory
from streams.log.batches import Batch, BatchSchema
from streams.log.changelog import BatchTableManager
from streams.log.interface import Log
from streams.rules import Rules
from streams.seen import SeenTable
from streams.settings import Settings

Positions = Callable[[Iterable[TP]], Awaitable[Mapping[TP, int]]]

# A batch is thousands of records: one being worked on and one waiting are enough to keep a role busy.
BATCHES_WAITING_MAX = 1


class App(faust.App):
    """A Faust app that knows the process's log and where its role stands."""

    backend: Log
    positions: Positions
    batch_records_max: int


def make_app(role: str, log: Log, settings: Settings) -> App:
    """An app with our transport, our table manager, and nothing that listens."""
    app = App(
        f"{settings.topic_prefix}{role}",
        broker=settings.broker,
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
    app.batch_records_max = settings.batch_records_max
    return app


def add_agent(
    app: App, names: list[str], take: Callable[[Batch], Awaitable[None]], positions: Positions
) -> None:
    """The agent of a role: a batch is acknowledged when `take` returns; if it raises, the app ends."""
    app.positions = positions
    channel = app.topic(*names, schema=BatchSchema(), maxsize=BATCHES_WAITING_MAX)

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await take(event.value)
            except Exception as error:
                # Going on would skip the batch: whatever failed, the process ends and says so.
                await app.crash(error)
                raise
            event.ack()

    app.agent(channel, name=f"{app.conf.id}.agent")(agent)


def ledger_app(log: Log, settings: Settings, directory: Directory) -> tuple[App, Ledger, SeenTable]:
    """The ledger's app: its table, its agent, and the step they share."""
    app = make_app("ledger", log, settings)
    on_disk = settings.table_store == "rocksdb"
    path = (Path(settings.data) / "tables" / "seen").absolute()
    table = SeenTable(
        app,
        name="seen",
        partitions=log.partitions(topics.SEEN_CHANGELOG),
        store=f"seen://{path}" if on_disk else "seen://memory",
        changelog_topic=app.topic(topics.SEEN_CHANGELOG),
    )
    app.tables.add(table)
    rules = Rules(
        directory, settings.default_markup, settings.default_timezone, settings.unknown_organizations
    )
    ledger = Ledger(log, table, rules, directory)
    table.take_over = ledger.take_over

    async def positions(assigned: Iterable[TP]) -> Mapping[TP, int]:
        return {tp: ledger.next_offset(tp.partition) for tp in assigned}

    add_agent(app, [topics.GENERATIONS], ledger.take, positions)
    return app, ledger, table
