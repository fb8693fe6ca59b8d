"""The points' process and the service: what one asks, the other does, and no answer reaches another asker."""

import asyncio

import msgspec
import pytest

from genledger import points
from genledger.child import LINE_BYTES_MAX
from genledger.points import Answered, Asked, Asking, PointsProcess
from streams import topics
from streams.errors import LogError, LogFull
from streams.log.interface import Message
from streams.settings import POINTS_MAX, Settings


class Heard:
    """What was told, as lines; each is answered at once."""

    def __init__(self, asking, error=""):
        self._asking = asking
        self._error = error
        self.asked = []

    def __call__(self, line):
        assert len(msgspec.json.encode(line)) < LINE_BYTES_MAX
        self.asked.append(line)
        answer = msgspec.json.encode(Answered(line.number, self._error))
        asyncio.get_running_loop().call_soon(self._asking.heard, answer)


def refused(count, size=100):
    headers = (("reason", b"influxdb"), ("error", b"e" * 500))
    return [Message(topics.REJECTED, 0, b"gen-%d" % n, b"x" * size, headers) for n in range(count)]


@pytest.mark.parametrize("size", [10, 600, 16_000])
async def test_a_batch_that_is_refused_as_a_whole_is_asked_in_lines_that_can_be_read(size, monkeypatch):
    """However long the names in its points are, and nothing of it is left out."""
    asking = Asking()
    heard = Heard(asking)
    monkeypatch.setattr(points, "tell", heard)
    messages = refused(POINTS_MAX, size)
    await asking.quarantine(messages)
    assert [message for asked in heard.asked for message in asked.messages] == messages


async def test_what_the_log_did_not_take_is_an_error(monkeypatch):
    """So the position does not move on."""
    asking = Asking()
    monkeypatch.setattr(points, "tell", Heard(asking, "the disk is full"))
    with pytest.raises(LogError, match="the disk is full"):
        await asking.quarantine(refused(1))


class Slow:
    """A log that waits for a word."""

    def __init__(self):
        self.go = asyncio.Event()
        self.taken = []

    async def append(self, messages):
        await self.go.wait()
        if not messages:
            raise LogFull("full")
        self.taken += messages


class Process:
    """A child, as far as it is answered."""

    def __init__(self):
        self.answers = []

    def answer(self, line):
        self.answers.append(line)


async def test_an_answer_goes_to_who_asked():
    """A process that was started meanwhile counts from the same number: its own point is not there yet."""
    log = Slow()
    process = PointsProcess(Settings(), log)
    one, other = Process(), Process()
    process._child = one
    process._hear(msgspec.json.encode(Asked(1, refused(1))))
    process._child = other
    log.go.set()
    while not one.answers:
        await asyncio.sleep(0)
    assert one.answers == [Answered(1)] and other.answers == [] and len(log.taken) == 1
