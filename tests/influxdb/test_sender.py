"""A sender goes on from where the bucket says, with its own partitions and no other."""

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP

from projections import sender as senders
from projections.sender import Sender
from projections.stores.influxdb.positions import Kept
from projections.stores.influxdb.server import Unreachable
from projections.view import START, Position
from streams import topics
from streams.errors import LogBehindView
from streams.fact import digest

PARTITIONS = 4
END = 100


class Log:
    """A log of so many partitions, each with the same records."""

    def partitions(self, _topic):
        return PARTITIONS

    def start_offset(self, _topic, _partition):
        return 0

    def end_offset(self, _topic, _partition):
        return END

    async def read(self, _topic, _partition, offset, _limit):
        return [SimpleNamespace(offset=offset, value=b"%d" % offset)] if offset < END else []


class Marks:
    """Bookmarks in memory, away as long as it is said."""

    def __init__(self):
        self.away = False
        self.asked = 0
        self.written = {}

    async def read(self):
        self.asked += 1
        if self.away:
            raise Unreachable("it is away")
        return {n: Kept(position(40 + n), position(30 + n), "log") for n in range(PARTITIONS)}

    async def write(self, moved):
        self.written |= moved


def position(offset):
    return Position(offset, offset, digest(b"%d" % offset), offset + 1)


@pytest.fixture
def marks():
    return Marks()


@pytest.fixture
def sender(marks):
    return Sender(Log(), SimpleNamespace(dedup="time"), None, marks, None, lambda _told: None)


async def test_only_what_the_group_has_given_it_is_its_own(sender, marks):
    """The others' partitions don't stand still here, and their positions are not written from here."""
    await sender.open()
    assert sender.places() == {}
    await sender.prepare([1, 3])
    assert sender.places() == {(topics.USAGE, 1): (32, END), (topics.USAGE, 3): (34, END)}
    assert await sender.positions([TP(topics.USAGE, 1)]) == {TP(topics.USAGE, 1): 32}
    await sender.keep()
    assert set(marks.written) == {1, 3}
    await sender.release([1])
    assert set(sender.places()) == {(topics.USAGE, 3)}


async def test_partitions_that_come_while_influxdb_is_away_wait_for_it(sender, marks, monkeypatch):
    """It says why it waits; when InfluxDB is back it goes on from where the points stand."""
    monkeypatch.setattr(senders, "LOOK_AGAIN_S", 0.001)
    marks.away = True
    preparing = asyncio.create_task(sender.prepare([0]))
    while marks.asked < 3:
        await asyncio.sleep(0.001)
    assert sender.waits == "it is away" and sender.places() == {}
    marks.away = False
    await preparing
    assert sender.waits == "" and sender.next_offset(0) == 31


async def test_partitions_that_go_again_meanwhile_are_not_taken(sender, marks):
    """Whoever is cancelled while he waits has taken nothing over, and complains no more."""
    marks.away = True
    preparing = asyncio.create_task(sender.prepare([0]))
    while not sender.waits:
        await asyncio.sleep(0)
    preparing.cancel()
    await asyncio.gather(preparing, return_exceptions=True)
    assert (sender.waits, sender.places()) == ("", {})


async def test_another_log_is_refused(sender, marks, monkeypatch):
    """A log that lacks what the points have taken is not theirs."""
    monkeypatch.setattr(Log, "read", lambda *_args: asyncio.sleep(0, []))
    with pytest.raises(LogBehindView, match="another log"):
        await sender.open()
    assert sender.next_offset(0) == START.usage_offset + 1
