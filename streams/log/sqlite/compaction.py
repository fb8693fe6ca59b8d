"""What may leave a partition, piece by piece: superseded records, old ones, and free pages of the file.

    compactor = Compactor(store, committer, bounds, threads, check_open)
    await compactor.compact(partition, horizon)     # of a compacted topic; how many records went
    await compactor.expire(partition, before_ms)    # of a topic with a retention
    await compactor.shrink()                        # pages given back to the file system

A pass over a compacted partition:

1. What was appended since the last whole pass is read and verified; the newest offset of each of its keys
   goes into a file beside (`newest.py`): only a newer record can supersede one.
2. All records below the horizon are looked up there, some thousand at a time, in a thread.
3. What is superseded is verified, and removed in small transactions, which producers' appends go between:
   one is sized by the pages it writes, and those by how long the last one took (`Bounds.compaction_ms`).
4. At the end the pass is written down. Only then do the nulls that it has seen count as seen by all that is
   older: they go in the pass after it. Killed before, the next pass begins anew; what is gone was superseded.

The last record of a partition stays, so that the next offset can always be told from the records. Whatever
a record is judged by was verified, and so is the record itself: a flipped bit must not make it look
superseded.

The bound: a producer waits at most 20 ms for a transaction of compaction, where an fsync takes less than 5 ms
(measured: 17 at most, 16 to 19 at p99 beside 10 to 11 without; docs/adr/0015-compaction-in-pieces.md).
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from itertools import takewhile

from streams import faultpoints
from streams.clock import monotonic_s
from streams.errors import LogFull
from streams.log.sqlite import trimming
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.committer import Committer
from streams.log.sqlite.newest import Judging, Newest
from streams.log.sqlite.schema import PAGE_BYTES
from streams.log.sqlite.store import AMONG, Store
from streams.log.sqlite.transaction import Cleaned, Partition, Transaction
from streams.syncing import run_in_thread

# What a transaction writes, in pages.
PAGES_MIN = 4
PAGES_FIRST = 16
PAGES_MAX = 32
PAUSE_MAX_S = 1.0
# Offsets so near to one another stand on one page, or on the next one.
OFFSETS_A_PAGE = 8
# Free pages that stay for what comes tomorrow: giving them back only to take them again costs a copy each.
SPARE_SHARE = 20
INCREMENTAL = 2


class Compactor:
    """Of one file. One thing is done at a time, whoever asks."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        bounds: Bounds,
        threads: Executor,
        check_open: Callable[[], None],
    ) -> None:
        self._store = store
        self._committer = committer
        self._bounds = bounds
        self._threads = threads
        self._check_open = check_open
        self._turn = asyncio.Lock()
        self._closing = asyncio.Event()
        self._pages = PAGES_FIRST
        #: The longest transaction so far, from its begin to its commit.
        self.longest_ms = 0.0

    async def compact(self, partition: Partition, horizon: int, now_ms: int) -> int:
        """Remove what is superseded below `horizon`; how many records."""
        async with self._turn:
            before = self._store.cleaned.get((partition.topic, partition.number), Cleaned())
            judging = Judging(before.below, max(horizon, before.below), partition.next - 1)
            place = f"{partition.topic}/{partition.number}"
            with self._store.errors(place), closing(Newest(self._store.path)) as newest:
                await self._learn(newest, partition, judging)
                removed, kept = await self._clean(newest, partition, judging)
            cleaned = Cleaned(judging.horizon, kept, now_ms)
            await self._run(lambda tx: tx.clean(partition, cleaned))
            return removed

    async def expire(self, partition: Partition, before_ms: int) -> int:
        """Remove the records ahead of the first one that is young enough; how many.

        Only a head goes, whatever the clock did: offsets are in order, times need not be.
        """
        removed = 0
        async with self._turn:
            while old := await self._oldest(partition, before_ms):
                partition.head = old[-1] + 1
                removed += await self._remove(partition, old, partition.compacted_below)
        return removed

    async def trim(self, partition: Partition, offset: int) -> None:
        """Remove what is before an offset, whatever it is, but for the last record."""
        async with self._turn:
            partition.head = max(partition.head, min(offset, partition.next - 1))
            while partition.first < min(offset, partition.next - 1):
                async with self._paced():
                    work = partial(trimming.trim, partition=partition, offset=offset)
                    await self._run(work)
                faultpoints.reached("trimming")

    async def shrink(self) -> int:
        """Give free pages back, save some; how many bytes. A file made before this could, keeps and reuses
        them: see docs/adr/0015-compaction-in-pieces.md.
        """
        given = 0
        async with self._turn:
            while (pages := min(self._spare_pages(), self._pages)) > 0:
                async with self._paced():
                    await self._run(partial(_give_back, pages=pages))
                given += pages
                faultpoints.reached("compaction-shrinking")
        return given * PAGE_BYTES

    async def close(self) -> None:
        """Stop between two pieces; returns when nothing is done any more."""
        self._closing.set()
        async with self._turn:
            pass

    async def _learn(self, newest: Newest, partition: Partition, judging: Judging) -> None:
        """The keys of what is new, verified."""
        offset = max(judging.seen_below, partition.first)
        while offset < judging.horizon:
            async with self._paced():
                found = self._store.read_file(
                    partition, offset, self._bounds.compaction_records, self._bounds.compaction_bytes
                )
                newest.add(record for record in found if record.offset < judging.horizon)
                offset = found[-1].offset + 1
        newest.learnt()

    async def _clean(self, newest: Newest, partition: Partition, judging: Judging) -> tuple[int, int]:
        """How many records were removed, and how many stay below the horizon."""
        limit = self._bounds.compaction_looked_at
        removed = looked_at = 0
        offset = partition.first
        while offset < judging.horizon:
            async with self._paced():
                look = partial(newest.superseded, partition, offset, limit, judging)
                piece = await run_in_thread(self._threads, look)
            partition.has_gaps |= bool(piece.offsets)
            removed += await self._remove(partition, piece.offsets, judging.horizon)
            looked_at += piece.looked_at
            offset = piece.next_offset
        return removed, looked_at - removed

    async def _remove(self, partition: Partition, offsets: Sequence[int], horizon: int) -> int:
        """Verified, in transactions of bounded size."""
        at = 0
        while at < len(offsets):
            piece = piece_of(offsets, at, self._pages, self._bounds.compaction_records)
            async with self._paced():
                self._store.verify(partition, piece)
                work = partial(_delete, partition=partition, offsets=piece, horizon=horizon)
                await self._run(work)
            at += len(piece)
            faultpoints.reached("compaction-piece")
        return len(offsets)

    async def _oldest(self, partition: Partition, before_ms: int) -> Sequence[int]:
        """The next old records at the head, verified; none when the first is young, or the last."""
        bounds = self._bounds
        if partition.first >= partition.next - 1:
            return ()
        async with self._paced():
            found = self._store.read_file(
                partition, partition.first, bounds.compaction_records, bounds.compaction_bytes
            )
        old = takewhile(lambda record: record.time_ms < before_ms, found)
        return [record.offset for record in old if record.offset < partition.next - 1]

    def _spare_pages(self) -> int:
        """Free pages beyond those that are kept; none in a file that can't be cut."""
        read = self._store.reader.execute
        with self._store.errors():
            (mode,), (free,), (pages,) = (
                read(f"PRAGMA {name}").fetchone() for name in ("auto_vacuum", "freelist_count", "page_count")
            )
        spare: int = free - pages // SPARE_SHARE
        return spare if mode == INCREMENTAL else 0

    async def _run(self, work: Callable[[Transaction], object]) -> None:
        """A transaction of ours, timed: the next one is larger or smaller. While producers fill the queue it
        waits for them. Its pages, which lie all over the file, are copied there at once: those of many such
        transactions together would keep a producer waiting for a tenth of a second.
        """
        began_s = 0.0
        weight_bytes = min(self._bounds.checkpoint_bytes, self._bounds.waiting_bytes)

        async def timed(tx: Transaction) -> None:
            nonlocal began_s
            began_s = monotonic_s()
            work(tx)

        while True:
            try:
                await self._committer.run(timed, 0, weight_bytes)
            except LogFull as error:
                if error.disk:
                    raise
                await self._pause(PAUSE_MAX_S)
            else:
                break
        took_ms = (monotonic_s() - began_s) * 1000
        self.longest_ms = max(self.longest_ms, took_ms)
        self._pages = next_pages(self._pages, took_ms, self._bounds.compaction_ms)

    @asynccontextmanager
    async def _paced(self) -> AsyncIterator[None]:
        """Work for a moment, then leave the machine to the others for as long as our share says."""
        self._check_open()
        began_s = monotonic_s()
        yield
        await self._pause((monotonic_s() - began_s) * (1 / self._bounds.compaction_share - 1))

    async def _pause(self, seconds: float) -> None:
        """Ends at once when the log is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, PAUSE_MAX_S)):
                await self._closing.wait()


def piece_of(offsets: Sequence[int], at: int, pages: int, records: int) -> Sequence[int]:
    """The next offsets to remove together, which write about so many pages. Pure.

    Neighbours share a page; those that are far apart cost one each.

    >>> piece_of([1, 2, 3, 90, 200], 0, pages=2, records=500)
    [1, 2, 3, 90]
    """
    used, before, end = 0, -OFFSETS_A_PAGE, at
    while end < len(offsets) and end - at < records:
        jumps = offsets[end] - before >= OFFSETS_A_PAGE
        if used + jumps > pages:
            break
        used += jumps
        # A page of neighbours begins with its first one.
        before = offsets[end] if jumps else before
        end += 1
    return offsets[at:end]


def next_pages(pages: int, took_ms: float, most_ms: float) -> int:
    """How many pages the next transaction may write, by how long the last one took. Pure.

    >>> next_pages(16, took_ms=12, most_ms=10), next_pages(16, took_ms=2, most_ms=10)
    (8, 32)
    """
    if took_ms > most_ms:
        return max(PAGES_MIN, pages // 2)
    return min(PAGES_MAX, pages * 2) if took_ms < most_ms / 3 else pages


def _delete(tx: Transaction, partition: Partition, offsets: Sequence[int], horizon: int) -> None:
    changed = tx.change((partition.topic, partition.number))
    changed.compacted_below = max(changed.compacted_below, horizon)
    tx.connection.execute(f"DELETE FROM {partition.table} {AMONG}", (json.dumps(offsets),))
    faultpoints.reached("compaction-transaction")
    if offsets[0] <= changed.first:
        (first,) = tx.connection.execute(f'SELECT min("offset") FROM {partition.table}').fetchone()
        changed.first = changed.next if first is None else first
    tx.forget_tail(partition, offsets[-1] + 1)


def _give_back(tx: Transaction, pages: int) -> None:
    for _ in range(pages):
        # Each step of this statement moves one page, and Python's driver takes only the first.
        tx.connection.execute("PRAGMA incremental_vacuum(1)")
