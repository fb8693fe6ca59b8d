"""What has been acknowledged, beside the file that should have it.

SQLite drops the frames of a WAL from the first bad checksum on, and says nothing: a flipped bit could take
acknowledged records away in silence. So after each commit, and before anyone is told of it, the file's
commit number and the next offset of each partition are written here. When the file is opened it must have
at least these.

Two slots take turns, so that a torn write leaves the older one. Nothing is synced: a kill leaves the
newest mark, a power failure an older one, which only guards less.
"""

import os
from pathlib import Path
from struct import Struct, error
from zlib import crc32

import msgspec

from streams.errors import LogDamaged, LogError

SLOT_BYTES = 1 << 16
_HEAD = Struct("<8s32sQI")
_MAGIC = b"genlmrk1"
_CRC = Struct("<I")
PARTITIONS_MAX = (SLOT_BYTES - _HEAD.size - _CRC.size) // 8


class Mark(msgspec.Struct, frozen=True):
    """The newest acknowledged state: `next_offsets` in the order of the partitions' ids."""

    identity: str
    commits: int
    next_offsets: tuple[int, ...]


def encode(mark: Mark) -> bytes:
    """A slot's bytes, closed by their checksum."""
    count = len(mark.next_offsets)
    if count > PARTITIONS_MAX:
        raise LogError(f"{count} partitions in one file; at most {PARTITIONS_MAX}: use another store")
    head = _HEAD.pack(_MAGIC, mark.identity.encode(), mark.commits, count)
    body = head + Struct(f"<{count}Q").pack(*mark.next_offsets)
    return body + _CRC.pack(crc32(body))


def decode(slot: bytes) -> Mark | None:
    """The mark in a slot, or None when it is empty or torn."""
    try:
        magic, identity, commits, count = _HEAD.unpack_from(slot)
        end = _HEAD.size + 8 * count
        if magic != _MAGIC or _CRC.unpack_from(slot, end) != (crc32(slot[:end]),):
            return None
        return Mark(identity.decode(), commits, Struct(f"<{count}Q").unpack_from(slot, _HEAD.size))
    except error:
        return None


def read(path: Path) -> Mark | None:
    """The newest mark; None when nothing was ever marked."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    found = [m for m in (decode(raw[:SLOT_BYTES]), decode(raw[SLOT_BYTES:])) if m is not None]
    if not found and any(raw):
        raise LogDamaged(
            f"{path}: both slots are damaged, so nobody can say which records were acknowledged. "
            f"Restore the log from a backup; or, if you accept that, remove this file and start again"
        )
    return max(found, key=lambda mark: mark.commits, default=None)


class Marks:
    """The open sidecar of a file that is being written."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        # Room for both slots now, so that a full disk can't refuse a mark later.
        os.posix_fallocate(self._fd, 0, 2 * SLOT_BYTES)

    def write(self, mark: Mark) -> None:
        os.pwrite(self._fd, encode(mark), SLOT_BYTES * (mark.commits % 2))

    def close(self) -> None:
        os.close(self._fd)
