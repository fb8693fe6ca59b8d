"""Group commit: all that waits for a file goes into its next transaction, and shares one fsync.

A job is a coroutine that works on the transaction it is given. Jobs run one after another in the order
they came; when the commit is durable each caller gets its own result. A job that raises a `LogError`
before it changed anything (a fenced writer) takes nobody else with it.

Rows are written on the event loop's thread, a slice at a time: in another thread each row would let go of
the interpreter lock and wait to have it again. The commit, which sleeps in fsync, runs there too as long as
the disk is quick (`Bounds.blocking_commit_ms`): 0.2 ms of standing still cost less than a thread that has to
wait for the lock. On a slow disk, commits and checkpoints run in the file's own thread, as long single
statements always do.

What an error means:

- the disk is full: the transaction is undone, its callers get `LogFull`, and the log goes on;
- anything else, above all a failed fsync: nobody knows what is on disk, and a second fsync would say "done"
  for pages that the kernel has dropped. The log stops for good; only a restart reads what there is.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import msgspec

from streams.clock import Clock
from streams.errors import LogError, LogFull
from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.schema import log_error
from streams.log.sqlite.store import Store
from streams.log.sqlite.transaction import Transaction
from streams.syncing import Syncer, run_in_thread

T = TypeVar("T")
Work = Callable[[Transaction], Awaitable[T]]


class Job(msgspec.Struct, eq=False):
    """Something to be done in a transaction, and who waits for it."""

    work: Work[Any]
    records: int
    size_bytes: int
    future: asyncio.Future[Any]
    outcome: Any = None
    refusal: LogError | None = None

    def settle(self) -> None:
        """Tell the caller, unless it has gone."""
        if self.future.done():
            return
        if self.refusal is not None:
            self.future.set_exception(self.refusal)
        else:
            self.future.set_result(self.outcome)


class Committer:
    """The one who writes to a file. `moved` is called after each commit, `broken` when the log must stop."""

    def __init__(
        self,
        store: Store,
        bounds: Bounds,
        clock: Clock,
        moved: Callable[[], None],
        broken: Callable[[LogError], None],
    ) -> None:
        self._store = store
        self._bounds = bounds
        self._clock = clock
        self._moved = moved
        self._broken = broken
        self._jobs: deque[Job] = deque()
        self._records = 0
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._syncer = Syncer(f"commit-{store.path.stem}", bounds.blocking_commit_ms)
        self._stopped: LogError | None = None

    async def run(self, work: Work[T], records: int = 0, size_bytes: int = 0) -> T:
        """Do the work in the next transaction; its result, when that is durable."""
        if self._stopped is not None:
            raise LogError(str(self._stopped))
        self._admit(records, size_bytes)
        job = Job(work, records, size_bytes, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        return cast("T", await job.future)

    def _admit(self, records: int, size_bytes: int) -> None:
        bounds = self._bounds
        if records > bounds.waiting_records or size_bytes > bounds.waiting_bytes:
            raise LogError(
                f"{records} records of {size_bytes} bytes in one call; at most {bounds.waiting_records} of "
                f"{bounds.waiting_bytes} bytes may wait: send them in smaller batches"
            )
        full = self._records + records > bounds.waiting_records
        if full or self._bytes + size_bytes > bounds.waiting_bytes:
            raise LogFull(
                f"{self._store.path}: {self._records} records of {self._bytes} bytes wait already; try again"
            )
        self._records += records
        self._bytes += size_bytes

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run what blocks for long, in the file's thread."""
        return await run_in_thread(self._syncer.thread, function)

    async def _drain(self) -> None:
        """Commit until nothing waits."""
        jobs: Sequence[Job] = ()
        try:
            while self._jobs:
                jobs = self._group()
                await self._commit(jobs)
                await asyncio.sleep(0)
            self._task = None
        except BaseException as error:
            self._stop(jobs, error)
            if not isinstance(error, Exception):
                raise

    def _group(self) -> Sequence[Job]:
        """What goes together: bounded, at least one job."""
        group: list[Job] = []
        records = size_bytes = 0
        while self._jobs:
            job = self._jobs[0]
            records += job.records
            size_bytes += job.size_bytes
            if group and (records > self._bounds.group_records or size_bytes > self._bounds.group_bytes):
                break
            group.append(self._jobs.popleft())
        return group

    async def _commit(self, jobs: Sequence[Job]) -> None:
        """One transaction: work, fsync, mark, and only then the answers."""
        try:
            tx = self._store.begin(self._clock())
            for job in jobs:
                await self._work(tx, job)
            tx.seal(sum(job.size_bytes for job in jobs))
            await self._syncer.commit(self._store.commit)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._store.rollback()
            self._release(jobs)
            _refuse(jobs, log_error(self._store.path, error))
            return
        tx.publish()
        self._release(jobs)
        for job in jobs:
            job.settle()
        self._moved()
        if self._store.needs_checkpoint():
            await self._syncer.run(self._store.checkpoint)

    async def _work(self, tx: Transaction, job: Job) -> None:
        try:
            job.outcome = await job.work(tx)
        except LogError as refusal:
            job.refusal = refusal

    def _release(self, jobs: Sequence[Job]) -> None:
        self._records -= sum(job.records for job in jobs)
        self._bytes -= sum(job.size_bytes for job in jobs)

    def _stop(self, jobs: Sequence[Job], error: BaseException) -> None:
        """Refuse everything from now on: what is on disk is known only after a restart."""
        if isinstance(error, sqlite3.Error):
            reason = log_error(self._store.path, error)
        else:
            reason = LogError(f"{self._store.path}: {error!r}. Start again")
        reason.__cause__ = error
        self._stopped = reason
        _refuse((*jobs, *self._jobs), reason)
        self._jobs.clear()
        self._broken(reason)

    def refuse_all(self, reason: LogError) -> None:
        """Take no more work."""
        self._stopped = self._stopped or reason

    async def close(self) -> None:
        """Finish what waits, then close the file."""
        self.refuse_all(LogError("the log is closed"))
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.in_thread(self._store.close)
        finally:
            self._syncer.close()


def _refuse(jobs: Sequence[Job], reason: LogError) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(reason)
