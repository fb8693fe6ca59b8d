"""A busy log is waited for: it is no reason for the ledger, and the service with it, to end."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from streams import topics
from streams.agents import Ledger
from streams.directory import Directory
from streams.errors import LogFull, SettingError
from streams.log.batches import Batch
from streams.log.interface import Message
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.log import open_log
from streams.log.sqlite.transaction import Transaction
from streams.rules import Rules
from streams.settings import load
from tests.ledger.sim import event


class Shelf:
    """A table in memory."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}

    def get_many(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self.values.get(key) for key in keys]

    def write(self, partition: int, changes: Mapping[bytes, bytes | None], next_offset: int) -> None:
        self.values.update(changes)


async def test_the_door_has_filled_the_queue_when_the_ledger_publishes(tmp_path: Path) -> None:
    """With the queue of the log full, the ledger waits its turn: only the door's callers get a 503."""
    log = await open_log(
        f"sqlite:///{tmp_path}/log", topics.topic_table(1), bounds=Bounds(waiting_records=100)
    )
    try:
        values = [event(id="gen-1", cost=cost) for cost in ("2", "1")]
        await log.append([Message(topics.GENERATIONS, 0, b"gen-1", value) for value in values])
        directory = Directory(log)
        ledger = Ledger(log, Shelf(), Rules(directory, "1", "UTC"), directory)
        start = await ledger.take_over(0)
        found = await log.read(topics.GENERATIONS, 0, start, 100)

        held = asyncio.Event()

        async def hold(tx: Transaction) -> None:
            await held.wait()

        # What 100 events in front of a slow commit look like to whoever comes next.
        busy = asyncio.create_task(log._committers["intake"].run(hold, records=100))
        await asyncio.sleep(0.01)
        with pytest.raises(LogFull):
            await log.append([Message(topics.GENERATIONS, 0, b"gen-2", event(id="gen-2"))])
        taking = asyncio.create_task(ledger.take(Batch(topics.GENERATIONS, 0, start, found)))
        await asyncio.sleep(0.05)
        held.set()
        await busy
        await asyncio.wait_for(taking, 5)
        assert ledger.next_offset(0) == 2
    finally:
        await log.close()


def test_bounds_that_no_batch_could_pass() -> None:
    """A queue smaller than what one batch writes is refused at start, not by a ledger that stops."""
    with pytest.raises(SettingError):
        load({}, None, append_records_max=1000, batch_records_max=4000)
