"""Live views that were lost, or were not kept before, where the head of `usage` has gone.

    await begin(settings, database, log)     # before views are followed; nothing while all facts are there

A view without a position would begin with a fact whose predecessors are not there any more: it gets the rows
of the snapshot, and goes on from there. So does one that was switched off while facts went.
"""

import logging
from typing import Any

from projections.rebuild import build
from projections.rebuild.aside import Aside, remove
from projections.rebuild.plan import Part, Plan, parts_of, views_of
from projections.rebuild.swap import swap
from projections.snapshot.load import load
from projections.stores.sqlite import Database
from projections.view import View
from streams import snapshots, times, topics
from streams.log.interface import Log
from streams.settings import Settings
from streams.snapshots import Manifest

LOADING, LOADED = "snapshot-loading.db", "snapshot-loaded.db"

_logger = logging.getLogger("genledger.snapshot")


async def begin(settings: Settings, database: Database, log: Log) -> None:
    """Give the parts that stand nowhere a place to go on from."""
    manifest = await snapshots.beginning(log)
    if manifest is None:
        return
    kept = parts_of(settings)
    parts = tuple([part for part in kept if await _stands_nowhere(database, log, manifest, part)])
    if not parts:
        return
    plan = Plan(settings=settings, parts=parts)
    path, loaded = (database.path.with_name(name) for name in (LOADING, LOADED))
    aside = Aside.open(path, build.origin(plan, log.identity, manifest))
    try:
        if not aside.positions():
            await load(log, manifest, aside.connection, parts)
    except BaseException:
        aside.close()
        raise
    remove(loaded)
    aside.hand_over(loaded)
    await swap(database, loaded, log)
    remove(loaded)
    until = times.text_of(manifest.until_ms * times.MS_NS)
    for part in parts:
        what = "begins with the rows of" if part in manifest.parts else "knows nothing from before"
        _logger.warning("%s %s snapshot %d: facts before %s have gone", part, what, manifest.number, until)


async def _stands_nowhere(database: Database, log: Log, manifest: Manifest, part: Part) -> bool:
    """Whether no view of a part has taken any fact; or it was switched off while the next ones went."""
    views: list[View[Any, Any]] = [view for view in views_of([part]) if topics.USAGE in view.topics]
    stands = [await database.positions(view) for view in views]
    was_left = part not in manifest.parts and any(
        position.usage_offset < log.start_offset(topics.USAGE, n)
        for found in stands
        for n, position in found.items()
    )
    return was_left or not any(stands)
