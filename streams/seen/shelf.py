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
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

# Keys are ids, which hold no control characters.
_OFFSET = b"\x00offset"
_IDENTITY = b"\x00identity"
_FIRST = b"\x01"
OWN_KEYS = 2

WRITE_BUFFER_BYTES = 32 * 1024 * 1024
# Of all shelves of a process together: of each, they would grow with the partitions.
BLOCK_CACHE_BYTES = 64 * 1024 * 1024
WRITE_BUFFERS_BYTES = 96 * 1024 * 1024
BLOOM_BITS = 10
# Of the write buffer, for a filter of its own: nearly every id asked for is new, and need not be looked for.
WRITE_BUFFER_BLOOM = 0.02
LOG_FILES_KEPT = 2
# Of a shelf in memory. With ten million keys a bin is some 2,500: sorted in a millisecond.
BINS = 4096
SAMPLED_KEYS = 1000


class Shelf(Protocol):
    """What every kind of shelf does."""

    next_offset: int

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of keys, None where there is none."""

    def write(self, changes: Mapping[bytes, bytes | None], next_offset: int) -> None:
        """Put values (None deletes), and the changelog offset they bring the shelf to."""

    def begin_flush(self) -> None:
        """Have what is in memory written to the disk; returns at once."""

    def is_flushing(self) -> bool:
        """Whether that is still under way."""

    def size(self) -> tuple[int, int]:
        """About how many keys there are, and how many bytes they take."""

    def scan(self, after: bytes | None, limit: int) -> Sequence[tuple[bytes, bytes]]:
        """The keys behind a key, in an order that does not change, with their values; none: that was all.

        Every key that is there from the first call of a walk to its last is met once.
        """

    def close(self) -> None: ...


class RocksShelf:
    """On local disk."""

    def __init__(self, path: Path, identity: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._unlogged = _unlogged()
        # A walk would else take the whole cache, and leave in it what nobody asks for.
        self._passing = ReadOptions()
        self._passing.fill_cache(False)
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

    def scan(self, after: bytes | None, limit: int) -> Sequence[tuple[bytes, bytes]]:
        # A chunk has an iterator of its own: one that is kept open would keep old files on the disk.
        first = max(after or b"", _FIRST)
        found = list(islice(self._db.items(from_key=first, read_opt=self._passing), limit + 1))
        return found[1:] if found and found[0][0] == after else found[:limit]

    def begin_flush(self) -> None:
        self._db.flush(wait=False)

    def is_flushing(self) -> bool:
        return self._property("num-immutable-mem-table") > 0

    def size(self) -> tuple[int, int]:
        size_bytes = self._property("live-sst-files-size") + self._property("cur-size-all-mem-tables")
        return max(0, self._property("estimate-num-keys") - OWN_KEYS), size_bytes

    def _property(self, name: str) -> int:
        return int(self._db.property_int_value(f"rocksdb.{name}") or 0)

    def close(self) -> None:
        self._db.flush()
        self._db.close()


class MemoryShelf:
    """In memory only: recovered from the whole changelog at each start.

    Its keys lie in bins, by Python's own hash of them: a walk goes bin by bin, each in order of its keys.
    """

    def __init__(self) -> None:
        # Bytes are not tracked by Python's cyclic collector, so a big table does not slow it down.
        self._bins: list[dict[bytes, bytes]] = [{} for _ in range(BINS)]
        self.next_offset = 0

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        bins = self._bins
        return [bins[hash(key) % BINS].get(key) for key in keys]

    def write(self, changes: Mapping[bytes, bytes | None], next_offset: int) -> None:
        for key, value in changes.items():
            if value is None:
                self._bins[hash(key) % BINS].pop(key, None)
            else:
                self._bins[hash(key) % BINS][key] = value
        self.next_offset = next_offset

    def scan(self, after: bytes | None, limit: int) -> Sequence[tuple[bytes, bytes]]:
        number = 0 if after is None else hash(after) % BINS
        found: list[tuple[bytes, bytes]] = []
        while number < BINS and len(found) < limit:
            entries = self._bins[number].items()
            found += sorted(entries if after is None else [one for one in entries if one[0] > after])
            after, number = None, number + 1  # of the bins to come nothing was met yet
        return found[:limit]

    def begin_flush(self) -> None:
        """Nothing of it outlives the process: it is read back whole."""

    def is_flushing(self) -> bool:
        return False

    def size(self) -> tuple[int, int]:
        keys = sum(map(len, self._bins))
        some = islice(chain.from_iterable(entries.items() for entries in self._bins), SAMPLED_KEYS)
        sampled = [len(key) + len(value) for key, value in some]
        return keys, keys * sum(sampled) // max(1, len(sampled))

    def close(self) -> None:
        self._bins = [{} for _ in range(BINS)]


def open_shelf(path: Path | None, identity: str, end_offset: int, nulls_from: int = 0) -> Shelf:
    """The shelf at a path, or in memory. The log is the truth: one ahead of its changelog is deleted, and
    one that was away when compaction took nulls, for it would hold forgotten ids for ever.
    """
    if path is None:
        return MemoryShelf()
    shelf = RocksShelf(path, identity)
    if shelf.next_offset == 0 or nulls_from <= shelf.next_offset <= end_offset:
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
