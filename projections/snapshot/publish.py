"""The steps of a snapshot that write the log, by whoever may: the service embedded, the command on a cluster.

    await go_on(log, folder)         # does what waits; each step may be done again

First the rows; when they were read back and proven (`check.py`) the manifest. From then on a rebuild begins
there, and only then the facts before it are deleted, and with them the rows of the snapshot before.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from projections.snapshot.load import check_rows
from projections.snapshot.package import CHECKED, PUBLISHED, READY, Package, waiting
from streams import faultpoints, snapshots, topics
from streams.errors import LogFull
from streams.log.interface import Log, Message
from streams.snapshots import Manifest

# About a megabyte: one transaction of the embedded log, between two of the ledger's.
CHUNKS_AT_ONCE = 8
ENDED_AT_ONCE = 500
READ_RECORDS = 64
FULL_RETRY_S = 1.0

_logger = logging.getLogger("genledger.snapshot")


async def go_on(log: Log, folder: Path) -> str:
    """Do the step that waits for a writer of the log; its name, '' when none does."""
    package = waiting(folder)
    step = "" if package is None else package.path.name
    if package is not None and step == READY:
        await publish(log, package)
    elif package is not None and step == CHECKED:
        await settle(log, package)
    else:
        return ""
    return step


async def publish(log: Log, package: Package) -> None:
    """Every chunk onto the log: all again if it was interrupted, under the same keys."""
    first = -1
    for messages in package.messages(CHUNKS_AT_ONCE):
        offsets = await _append(log, messages)
        first = offsets[0] if first < 0 else first
        faultpoints.reached("snapshot-published")
        await asyncio.sleep(0)
    package.note(msgspec.structs.replace(package.manifest, first=first))
    package.step(PUBLISHED)


async def settle(log: Log, package: Package) -> None:
    """The manifest; then what it stands for goes."""
    faultpoints.reached("snapshot-checked")
    manifest = package.manifest
    newest = await snapshots.newest(log)
    if newest is None or newest.name != manifest.name:
        await snapshots.check_stands(log, manifest)
        await check_rows(log, manifest)  # a log that was put back meanwhile may lack them
        await _append(log, [snapshots.manifest_message(manifest)])
    faultpoints.reached("snapshot-told")
    await trim(log)
    await _end_former(log, manifest)
    package.remove()


async def trim(log: Log) -> None:
    """Delete the facts before the newest snapshot, by what the log itself says of it."""
    manifest = await snapshots.newest(log)
    if manifest is None or not manifest.checked_ms:
        return
    await snapshots.check_stands(log, manifest)
    for one in manifest.vector:
        if one.topic == topics.USAGE:
            start = await log.trim(one.topic, one.partition, one.offset)
            _logger.info("%s/%d begins at %d now", one.topic, one.partition, start)


async def _end_former(log: Log, manifest: Manifest) -> None:
    """Nulls for whatever rows stand before this snapshot's, or were left by a broken attempt."""
    own = set(manifest.keys())
    offset = log.start_offset(topics.SNAPSHOTS, 0)
    ended: dict[bytes, None] = {}
    while offset < manifest.first:
        records = await log.read(topics.SNAPSHOTS, 0, offset, READ_RECORDS)
        if not records:
            break
        for record in records:
            if record.offset < manifest.first and record.key and record.key not in own:
                if record.value is None:
                    ended.pop(record.key, None)
                elif record.key != snapshots.MANIFEST:
                    ended[record.key] = None
        offset = records[-1].offset + 1
        await asyncio.sleep(0)
    keys = list(ended)
    for start in range(0, len(keys), ENDED_AT_ONCE):
        await _append(log, [snapshots.ended_message(key) for key in keys[start : start + ENDED_AT_ONCE]])


async def _append(log: Log, messages: Sequence[Message]) -> Sequence[int]:
    """Nobody waits for us: when the log has no room, it gets a rest."""
    while True:
        try:
            return await log.append(messages)
        except LogFull:
            await asyncio.sleep(FULL_RETRY_S)
