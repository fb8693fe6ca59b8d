"""One partition of the table: keys and values, and how far into the changelog they reach.

    shelf = open_shelf(Path("data/tables/seen/0"), identity)
    shelf.write({b"gen-1": b"..."}, next_offset=1)
    shelf.get_many([b"gen-1", b"gen-2"])

Values and offset are written together, so what a kill leaves is a state that the changelog once had. There
is no write-ahead log of its own (half the time of a write): what was in memory is read again from the
changelog, at most WRITE_BUFFER_BYTES of it, in less than a second. The log's identity is kept too: a shelf
of another log is no copy of this one.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

# Keys are ids, which hold no control characters.
_OFFSET = b"\x00offset"
_IDENTITY = b"\x00identity"

WRITE_BUFFER_BYTES = 32 * 1024 * 1024
# Of all shelves of a process together: of each, they would grow with the partitions.
BLOCK_CACHE_BYTES = 64 * 1024 * 1024
WRITE_BUFFERS_BYTES = 96 * 1024 * 1024
BLOOM_BITS = 10
# Of the write buffer, for a filter of its own: nearly every id asked for is new, and need not be looked for.
WRITE_BUFFER_BLOOM = 0.02
LOG_FILES_KEPT = 2


class Shelf(Protocol):
    """What every kind of shelf does."""

    next_offset: int

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of keys, None where there is none."""

    def write(self, changes: Mapping[bytes, bytes | None], next_offset: int) -> None:
        """Put values (None deletes), and the changelog offset they bring the shelf to."""

    def close(self) -> None: ...


class RocksShelf:
    """On local disk."""

    def __init__(self, path: Path, identity: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._unlogged = _unlogged()
        self._db = Rdict(str(path), _options())
        if self._db.get(_IDENTITY) != identity.encode():
            self._db.close()
            shutil.rmtree(path)
            self._db = Rdict(str(path), _options())
            self._db.put(_IDENTITY, identity.encode(), write_opt=_unlogged())
        self.next_offset = int(self._db.get(_OFFSET) or 0)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        values: Sequence[bytes | None] = self._db[list(keys)]
        return values

    def write(self, changes: Mapping[bytes, bytes | None], next_offset: int) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_OFFSET, b"%d" % next_offset)
        self._db.write(batch, write_opt=self._unlogged)
        self.next_offset = next_offset

    def close(self) -> None:
        self._db.flush()
        self._db.close()


class MemoryShelf:
    """In memory only: recovered from the whole changelog at each start."""

    def __init__(self) -> None:
        # Bytes are not tracked by Python's cyclic collector, so a big table does not slow it down.
        self._values: dict[bytes, bytes] = {}
        self.next_offset = 0

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self._values.get(key) for key in keys]

    def write(self, changes: Mapping[bytes, bytes | None], next_offset: int) -> None:
        for key, value in changes.items():
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        self.next_offset = next_offset

    def close(self) -> None:
        self._values.clear()


def open_shelf(path: Path | None, identity: str, end_offset: int) -> Shelf:
    """The shelf at a path, or in memory. One ahead of its changelog is deleted: the log is the truth."""
    if path is None:
        return MemoryShelf()
    shelf = RocksShelf(path, identity)
    if shelf.next_offset <= end_offset:
        return shelf
    shelf.close()
    shutil.rmtree(path)
    return RocksShelf(path, identity)


def _unlogged() -> WriteOptions:
    options = WriteOptions()
    options.disable_wal = True
    return options


@cache
def _cache() -> Cache:
    return Cache(BLOCK_CACHE_BYTES)


@cache
def _buffers() -> WriteBufferManager:
    # Beyond the bound a buffer is written out sooner; nobody waits for it.
    return WriteBufferManager(WRITE_BUFFERS_BYTES, False)


def _options() -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(_cache())
    blocks.set_bloom_filter(BLOOM_BITS, False)
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_write_buffer_manager(_buffers())
    options.set_memtable_prefix_bloom_ratio(WRITE_BUFFER_BLOOM)
    options.set_memtable_whole_key_filtering(True)
    options.set_keep_log_file_num(LOG_FILES_KEPT)
    return options
