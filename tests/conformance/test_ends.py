"""Where a topic ends for one who has read it: the same on every backend, whatever ends a transaction."""

from streams.log.ends import ends_after
from streams.log.interface import Log, Message
from tests.conformance.conftest import Backend


async def test_what_was_read_leaves_nothing_in_flight(backend: Backend) -> None:
    """Behind a transaction's last record nothing waits, though its marker takes an offset on Kafka."""
    log = await backend.open()
    writer = await log.writer("ledger", "source", 0)
    await writer.commit([Message("facts", 0, b"k", b"1"), Message("facts", 1, b"k", b"2")], 1)
    await writer.commit([Message("facts", 0, b"k", b"3")], 2)
    nexts = {n: await _next(log, n) for n in range(2)}
    assert await ends_after(log, "facts", nexts) == nexts
    await log.close()
    # One that has read nothing itself is told where it ends, and not what there is.
    log = await backend.open()
    assert await ends_after(log, "facts", nexts) == nexts
    (offset,) = await log.append([Message("facts", 1, b"k", b"4")])
    for taken in (nexts, nexts | {1: offset + 1}):
        assert await ends_after(log, "facts", taken) == nexts | {1: offset + 1}


async def test_a_partition_nobody_has_read_is_in_flight_to_its_end(log: Log) -> None:
    """No offset said is the first one: all that is there is to be read."""
    await log.append([Message("facts", 1, b"k", b"1"), Message("facts", 1, b"k", b"2")])
    assert await ends_after(log, "facts", {}) == {0: 0, 1: 2}


async def _next(log: Log, partition: int) -> int:
    """Behind the last record of a partition, reading it record by record."""
    offset = 0
    while records := await log.read("facts", partition, offset, 1):
        offset = records[-1].offset + 1
    return offset
