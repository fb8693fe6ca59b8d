"""What waits goes together; who waits hears when all of his is there, and of nobody else's."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from projections.stores.influxdb.outbox import Outbox
from projections.stores.influxdb.writer import Refusal
from streams.settings import POINTS_MAX

LONG_S = 60.0


class Words:
    """A writer that keeps what it is given, and waits for a word before it says that it is there."""

    def __init__(self):
        self.written = []
        self.asked = asyncio.Semaphore(0)
        self.go = asyncio.Semaphore(0)
        self.refuses = set()
        self.fails = None

    async def write(self, lines):
        self.written.append(list(lines))
        self.asked.release()
        await self.go.acquire()
        if self.fails:
            raise self.fails
        return [Refusal(line, "no") for line in lines if line.name in self.refuses]


class Word:
    """A line, as far as an outbox looks at one."""

    def __init__(self, name):
        self.name = name


def words(*names):
    return [Word(name) for name in names]


def names(lines):
    return [line.name for line in lines]


@asynccontextmanager
async def outbox_of(writer, least=1, linger_s=LONG_S):
    outbox = Outbox(writer, least, linger_s)
    task = asyncio.create_task(outbox.go_on())
    try:
        yield outbox, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_comes_while_a_write_is_on_its_way_goes_together_in_the_next():
    """Three who put while the first write waits are one write."""
    writer = Words()
    async with outbox_of(writer) as (outbox, _):
        first = asyncio.create_task(outbox.put(words("a")))
        await writer.asked.acquire()
        rest = [asyncio.create_task(outbox.put(words(name, name * 2))) for name in "bcd"]
        await asyncio.sleep(0)
        assert not first.done()
        writer.go.release()
        assert await first == []
        await writer.asked.acquire()
        assert [names(lines) for lines in writer.written] == [["a"], ["b", "bb", "c", "cc", "d", "dd"]]
        assert not any(task.done() for task in rest)
        writer.go.release()
        assert await asyncio.gather(*rest) == [[], [], []]


async def test_a_trickle_waits_for_company_and_a_full_batch_does_not():
    """Fewer lines than are worth a write wait, until there are enough."""
    writer = Words()
    async with outbox_of(writer, least=3) as (outbox, _):
        tasks = [asyncio.create_task(outbox.put(words(name))) for name in "ab"]
        for _ in range(20):
            await asyncio.sleep(0)
        assert writer.written == []
        tasks.append(asyncio.create_task(outbox.put(words("c"))))
        await writer.asked.acquire()
        assert names(writer.written[0]) == ["a", "b", "c"]
        writer.go.release()
        await asyncio.gather(*tasks)


async def test_a_trickle_goes_when_the_wait_is_over():
    """One line alone goes after the linger."""
    writer = Words()
    async with outbox_of(writer, least=100, linger_s=0.01) as (outbox, _):
        task = asyncio.create_task(outbox.put(words("a")))
        await writer.asked.acquire()
        writer.go.release()
        assert await task == []


async def test_more_than_a_write_holds_is_split_and_done_when_the_last_part_is_there():
    """A parcel of more lines than a write may have hears only when all of them are there, in order."""
    writer = Words()
    async with outbox_of(writer) as (outbox, _):
        big = asyncio.create_task(outbox.put(words(*range(POINTS_MAX + 1))))
        small = asyncio.create_task(outbox.put(words("after")))
        await writer.asked.acquire()
        writer.go.release()
        await writer.asked.acquire()
        assert not big.done()
        assert names(writer.written[1]) == [POINTS_MAX, "after"]
        writer.go.release()
        await asyncio.gather(big, small)
        assert len(writer.written[0]) == POINTS_MAX


async def test_a_refusal_is_told_to_whose_line_it_was():
    """Of two parcels in one write only the one with the refused line hears of it."""
    writer = Words()
    writer.refuses = {"bad"}
    async with outbox_of(writer, least=3) as (outbox, _):
        good, bad = (asyncio.create_task(outbox.put(words(*found))) for found in (["a"], ["b", "bad"]))
        writer.go.release()
        assert await good == []
        assert names(one.line for one in await bad) == ["bad"]


async def test_who_was_cancelled_is_not_sent_and_keeps_nobody_waiting():
    """A parcel whose owner has gone is left out of the next write."""
    writer = Words()
    async with outbox_of(writer) as (outbox, _):
        first = asyncio.create_task(outbox.put(words("a")))
        await writer.asked.acquire()
        gone, stays = (asyncio.create_task(outbox.put(words(name))) for name in ("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        writer.go.release()
        await first
        await writer.asked.acquire()
        assert names(writer.written[1]) == ["stays"]
        writer.go.release()
        await stays


async def test_who_is_cancelled_in_the_midst_of_a_write_is_not_tried_again_and_the_others_are():
    """Whoever goes on with his partition may have written newer lines by the time of the next try."""
    writer = Words()
    async with outbox_of(writer) as (outbox, _):
        first = asyncio.create_task(outbox.put(words("a")))
        await writer.asked.acquire()
        stays, gone = (asyncio.create_task(outbox.put(words(*name))) for name in ("bc", "xy"))
        big = asyncio.create_task(outbox.put(words(*range(POINTS_MAX))))
        await asyncio.sleep(0)
        writer.go.release()
        await first
        await writer.asked.acquire()
        assert names(writer.written[1])[:4] == ["b", "c", "x", "y"]
        gone.cancel()
        await writer.asked.acquire()
        assert names(writer.written[2]) == ["b", "c", *range(POINTS_MAX - 2)]
        writer.go.release()
        assert await stays == []
        await writer.asked.acquire()
        assert names(writer.written[3]) == [POINTS_MAX - 2, POINTS_MAX - 1]
        writer.go.release()
        assert await big == []
        assert len(writer.written) == 4


async def test_an_error_is_everybodys():
    """What no retry can mend ends the outbox, and reaches whoever waits."""
    writer = Words()
    writer.fails = RuntimeError("broken")
    async with outbox_of(writer) as (outbox, running):
        first = asyncio.create_task(outbox.put(words("a")))
        await writer.asked.acquire()
        second = asyncio.create_task(outbox.put(words("b")))
        await asyncio.sleep(0)
        writer.go.release()
        for task in (first, second, running):
            with pytest.raises(RuntimeError, match="broken"):
                await task
