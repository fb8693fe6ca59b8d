"""The views, as a part of a process: those of the same topics share a follower and its app.

database = await open_database(settings)
followers = await open_followers(settings, database, log, tell)
await start_followers(followers, log, settings, watch, stack)
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from genledger.watch import Part, Watch
from projections.agents import Follower, Told, follower_app
from projections.cleanup import Cleanup
from projections.conflicts import Conflicts
from projections.organizations import Organizations
from projections.points import Points
from projections.processed import Processed
from projections.snapshot.begin import begin
from projections.stores.sqlite import Database, wal_bytes
from projections.summaries import Summaries
from projections.view import View
from streams import clock, metrics
from streams.app import App
from streams.errors import ViewBusy
from streams.log.interface import Log
from streams.settings import Settings, points_kept

NAMES = ("organizations", "summaries", "conflicts", "cleanup", "processed", "points")
# A service that was killed leaves its views' process behind for a moment: it ends at its stdin's end.
BUSY_WAIT_S = 15.0
BUSY_RETRY_S = 0.1
# Views of the same topics share a follower, which reads and decodes once for them, up to so far apart.
APART_RECORDS = 100_000


def views_of(settings: Settings) -> Sequence[View[Any, Any]]:
    """The views that are kept."""
    views: list[View[Any, Any]] = [Organizations(), Summaries(), Conflicts(), Cleanup()]
    if settings.processed_generations:
        views.append(Processed())
    if points_kept(settings) == "sqlite":
        views.append(Points())
    return views


def path_of(settings: Settings) -> Path:
    """The views' database."""
    return Path(settings.data) / "genledger.db"


async def open_database(settings: Settings) -> Database:
    """The one writing connection; `ViewBusy` when another process keeps it."""
    deadline_s = clock.monotonic_s() + BUSY_WAIT_S
    while True:
        try:
            return Database.open(path_of(settings))
        except ViewBusy:
            if clock.monotonic_s() > deadline_s:
                raise
            await asyncio.sleep(BUSY_RETRY_S)


async def open_followers(
    settings: Settings, database: Database, log: Log, told: Told, without: Sequence[str] = ()
) -> Sequence[Follower]:
    """Followers of all views, where they stand; `LogBehindView` when the log lacks what one has taken."""
    kept = [view for view in views_of(settings) if view.name not in without]
    await begin(settings, database, log)
    followers: list[Follower] = []
    for view in kept:
        one = Follower([view], database, log, told)
        await one.open()
        ahead = next((other for other in followers if _go_together(other, one)), None)
        if ahead is None:
            followers.append(one)
        else:
            ahead.join(one)
    return followers


def _go_together(one: Follower, other: Follower) -> bool:
    """Those of the same topics, unless one is far behind, as a new view is, or one that was off for long: the
    others would read it all again with that one, and what is new would wait.
    """
    if tuple(one.topics) != tuple(other.topics):
        return False
    stand, others = (follower.places(follower.views[0]) for follower in (one, other))
    return sum(abs(stand[place][0] - others[place][0]) for place in stand) <= APART_RECORDS


async def start_followers(
    followers: Sequence[Follower], log: Log, settings: Settings, watch: Watch, stack: AsyncExitStack
) -> None:
    """Follow the log until the stack ends."""
    for follower in followers:
        app = follower_app(follower, log, settings)
        for view in follower.views:
            watch.parts[view.name] = _part_of(follower, view, app)
        stack.push_async_callback(app.stop)  # also of a start that is cut short
        await app.start()


def _part_of(follower: Follower, view: View[Any, Any], app: App) -> Part:
    return Part(lambda: follower.places(view), lambda: app.crash_reason, lambda: follower.full)


def wal_alarm(database: Path, most_bytes: int) -> str:
    """What to tell an operator of the database's write-ahead log; '' while it is small."""
    size_bytes = wal_bytes(database)
    metrics.VIEWS_WAL_BYTES.set(size_bytes)
    if size_bytes <= most_bytes:
        return ""
    return (
        f"its write-ahead log has grown to {size_bytes} bytes: some process holds a read transaction open, or"
        " the views have just been replaced. Writing goes on; end that reader before the disk is full"
    )
