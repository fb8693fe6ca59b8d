"""A process that applies facts and is killed at a given point: `python -m tests.projections.killed`.

Arguments: the database, how many facts, the batch's size, and where to die: `inside` the transaction of
the second batch (with pages of it in the write-ahead log already), `commit`: with its commit under way, or
`after` it.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from projections.stores import sqlite
from projections.stores.sqlite import Database
from projections.summaries import Summaries
from projections.view import START
from tests.projections.samples import apply, entry, fact


def die(phase):
    """Say where, then be killed."""
    print(phase, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def dying_writer(write, database):
    """The real writer, killed when its rows are all written and not committed."""

    def dying(connection, partition, changes):
        connection.execute("PRAGMA cache_size = 10")
        before = database.wal_bytes()
        yield from write(connection, partition, changes)
        assert database.wal_bytes() > before
        changed = connection.execute("SELECT sum(total_requests) FROM client_daily_usage").fetchone()[0]
        die(f"inside {connection.in_transaction} {changed}")

    return dying


class DyingSyncer:
    """The real commit, in a thread, and death at the same time."""

    async def commit(self, function):
        asyncio.get_running_loop().run_in_executor(None, function)
        die("commit")


async def run(path, count, size, where):
    """Apply batches; the second one is the last."""
    database, after = Database.open(path), START
    items = [
        fact(i, plus=entry(f"org-{i % 7}", user=f"u-{i % 50}", model=f"m-{i % 9}")) for i in range(count)
    ]
    for batch, first in enumerate(range(0, count, size)):
        if batch == 1 and where == "inside":
            sqlite.WRITERS = {"summaries": dying_writer(sqlite.WRITERS["summaries"], database)}
        if batch == 1 and where == "commit":
            database._syncer = DyingSyncer()
        after = await apply(database, Summaries(), items[first : first + size], after)
        if batch == 1 and where == "after":
            die("after")
    await database.close()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
