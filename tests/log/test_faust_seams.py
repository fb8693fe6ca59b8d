"""The seams at which genledger bends Faust: an upgrade that moves one must fail here, loudly."""

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faust.stores.base
import faust.tables.manager
import faust.tables.recovery
import faust.transport.base
import pytest
from faust import transport
from faust.serializers.schemas import Schema
from faust.types import TP

from streams import topics
from streams.app import add_agent, make_app
from streams.log import transport as ours
from streams.log.batches import Batch, BatchConsumer, BatchSchema
from streams.log.changelog import BatchRecovery, BatchTableManager
from streams.log.interface import Message, TopicSpec
from streams.log.sqlite.log import open_log
from streams.seen import SeenTable, Store
from streams.settings import load

SPECS = (TopicSpec("generations", 2),)


@pytest.mark.parametrize(("package", "pinned"), [("faust-streaming", "0.15.3"), ("aiokafka", "0.14.0")])
def test_the_packages_whose_seams_are_bent_are_pinned(package: str, pinned: str) -> None:
    """Another version is taken only together with a look at these tests."""
    assert version(package) == pinned


@pytest.mark.parametrize(
    ("mine", "theirs", "names"),
    [
        (
            BatchConsumer,
            faust.transport.base.Consumer,
            ["_to_message", "_add_gap", "_new_offset", "on_buffer_full", "on_buffer_drop"],
        ),
        (ours.Consumer, faust.transport.base.Consumer, ["_getmany", "_commit", "_seek", "seek_to_committed"]),
        (ours.Consumer, faust.transport.base.Consumer, ["subscribe", "assignment", "highwater", "position"]),
        (ours.Producer, faust.transport.base.Producer, ["send", "send_and_wait", "flush", "key_partition"]),
        (BatchTableManager, faust.tables.manager.TableManager, ["on_start", "_update_channels"]),
        (
            BatchRecovery,
            faust.tables.recovery.Recovery,
            ["on_rebalance", "on_partitions_revoked", "on_stop", "_restart_recovery", "_slurp_changelogs"],
        ),
        (BatchSchema, Schema, ["compile"]),
        (Store, faust.stores.base.Store, ["persisted_offset", "on_stop"]),
        (SeenTable, faust.Table, ["__setitem__", "__delitem__"]),
    ],
)
def test_what_is_overridden_is_still_there(mine: type, theirs: type, names: list[str]) -> None:
    """Each method we override exists in Faust: a renamed one would never be called."""
    for name in names:
        assert hasattr(theirs, name), f"{theirs.__name__}.{name} has gone"
        assert getattr(mine, name) is not getattr(theirs, name)


def test_the_transport_is_found_by_its_url() -> None:
    """`sqlite://` is a transport of Faust's, by its entry point."""
    assert transport.by_url("sqlite:///x") is ours.Transport


async def until(condition: Any, timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


async def start(tmp_path: Path, take: Any) -> tuple[Any, Any]:
    """A real log and an app with one agent on the topic generations."""
    settings = load({}, None, data=str(tmp_path))
    log = await open_log(settings.broker, [*SPECS, TopicSpec("other", 1, store="ledger")])
    app = make_app("seams", log, settings)

    async def positions(assigned: Any) -> dict[TP, int]:
        return dict.fromkeys(assigned, 0)

    add_agent(app, [topics.GENERATIONS], take, positions)
    await app.start()
    return log, app


async def test_a_batch_is_one_event_and_is_acknowledged_after_the_agent_is_done(tmp_path: Path) -> None:
    """All that waits in a partition comes as one batch, and Faust's commit point moves only afterwards."""
    taken: list[Batch] = []
    gate = asyncio.Event()

    async def take(batch: Batch) -> None:
        taken.append(batch)
        await gate.wait()

    log, app = await start(tmp_path, take)
    await log.append([Message("generations", 1, b"k", b"%d" % n) for n in range(100)])
    await until(lambda: taken)
    assert [record.value for record in taken[0].records] == [b"%d" % n for n in range(100)]
    tp = TP("generations", 1)
    assert app.consumer._new_offset(tp) is None
    gate.set()
    await until(lambda: app.consumer._acked_index[tp])
    assert app.consumer._new_offset(tp) == 100
    await app.stop()
    await log.close()


async def test_an_agent_that_raises_ends_the_app_and_acknowledges_nothing(tmp_path: Path) -> None:
    """Stock Faust would acknowledge the batch and go on to the next: ours stops at it."""
    taken: list[int] = []

    async def take(batch: Batch) -> None:
        taken.append(batch.start)
        raise ValueError("no")

    log, app = await start(tmp_path, take)
    await log.append([Message("generations", 1, b"k", b"v")])
    await until(lambda: app.crash_reason is not None)
    assert isinstance(app.crash_reason, ValueError)
    await log.append([Message("generations", 1, b"k", b"v")])
    await asyncio.sleep(0.2)
    assert taken == [0]
    assert app.consumer._new_offset(TP("generations", 1)) is None
    await app.stop()
    await log.close()


async def test_a_slow_agent_holds_the_reader_back(tmp_path: Path) -> None:
    """What is read ahead is bounded: one batch in work, one or two waiting."""
    gate = asyncio.Event()

    async def take(batch: Batch) -> None:
        await gate.wait()

    log, app = await start(tmp_path, take)
    for n in range(20):
        await log.append([Message("generations", 1, b"k", b"%d" % n)])
        await asyncio.sleep(0.01)
    delivered = sum(len(found) for found in app.consumer._delivered.values())
    assert delivered <= 4
    gate.set()
    await app.stop()
    await log.close()


async def test_a_plain_assignment_to_the_table_is_refused(tmp_path: Path) -> None:
    """Setting a key as with a stock Faust table would never be committed: it raises."""
    settings = load({}, None, data=str(tmp_path))
    log = await open_log(settings.broker, [*SPECS, TopicSpec("other", 1, store="ledger")])
    table = SeenTable(make_app("seams", log, settings), name="seen")
    with pytest.raises(TypeError, match="write"):
        table["a"] = b"b"
    with pytest.raises(TypeError, match="write"):
        del table["a"]
    await log.close()


def test_the_commit_point_is_behind_the_longest_acknowledged_prefix() -> None:
    """A later batch that is done first does not move the commit point past an earlier one."""
    from collections import defaultdict, deque

    consumer = BatchConsumer()
    tp = TP("generations", 0)
    consumer._delivered = defaultdict(deque, {tp: deque([9, 19, 29])})
    consumer._acked, consumer._acked_index = {tp: []}, {tp: {19}}
    assert consumer._new_offset(tp) is None
    consumer._acked_index[tp].add(9)
    assert consumer._new_offset(tp) == 20
    consumer._acked_index[tp].add(29)
    assert consumer._new_offset(tp) == 30
