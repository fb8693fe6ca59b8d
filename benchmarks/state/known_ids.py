"""Known ids: what they cost in memory, and how long it takes to look them up.

    store("rocksdb", 10_000_000, "uuid", base)       # RocksShelf as it is, 4 of them, in a process of its own
    served(1_000_000, "uuid", base)           # `genledger serve` that knows as many

`store` writes the entries in batches of 4,000 to four shelves (a worker with four partitions), lets the
compactions end, and looks up batches of 2,000: known ids at random, none twice and far more than the caches
hold; the same when the kernel has dropped the files from its memory (cold); and ids never seen. Writing is
timed without the making of the entries. Memory is the kernel's word for the process (VmRSS at the end, VmHWM
at its most), which has imported the ledger's role, as a worker has. What the kernel keeps of the files is
not in it: that memory is lent, and given back.
"""

import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from time import process_time, sleep

import msgspec

from benchmarks import BenchmarkFailed
from benchmarks.bench import Figures
from benchmarks.state import child
from benchmarks.state.entries import IDS, maker
from benchmarks.state.served import served
from streams import clock
from streams.seen.shelf import MemoryShelf, RocksShelf, Shelf

__all__ = ["served", "store"]

SHELVES = 4
WRITE_KEYS = 4_000
LOOKUP_KEYS = 2_000
LOOKUPS_MAX = 200
SETTLE_S_MAX = 120.0
LOOK_S = 0.25
IDLE_SHARE = 0.04
SEED = 7


class Plan(msgspec.Struct, frozen=True):
    """What the process is to do."""

    store: str
    count: int
    kind: str
    base: str
    shelves: int = SHELVES


def store(name: str, count: int, kind: str, base: Path, shelves: int = SHELVES) -> Figures:
    """So many ids in shelves in memory or on disk, in a fresh process."""
    return child.run("benchmarks.state.known_ids", Plan(name, count, kind, str(base), shelves))


def measure(plan: Plan) -> Figures:
    """In the process itself."""
    import genledger.roles.ledger as _ledger  # the code that a worker has in memory

    assert _ledger
    before_bytes = child.memory_bytes("VmRSS")
    shelves = [_open(plan, number) for number in range(plan.shelves)]
    entry_bytes, write_s = _fill(plan, shelves)
    settled_s = _settle()
    id_of = IDS[plan.kind]
    batches = list(_batches(plan))
    warm, cold = batches[0::2], batches[1::2]
    known_ms = _look_up(shelves, warm, id_of, known=True)
    _drop(Path(plan.base))
    cold_ms = _look_up(shelves, cold, id_of, known=True)
    beyond = [[number + plan.count for number in numbers] for numbers in batches]
    unknown_ms = _look_up(shelves, beyond, id_of, known=False)
    figures = {
        "known_ids": float(plan.count),
        "entry_bytes": entry_bytes,
        "written_per_s": plan.count / write_s,
        "settled_s": settled_s,
        "known_ms_per_key": known_ms,
        "known_cold_ms_per_key": cold_ms,
        "unknown_ms_per_key": unknown_ms,
        "before_mib": before_bytes / 2**20,
        "memory_mib": child.memory_bytes("VmRSS") / 2**20,
        "memory_max_mib": child.memory_bytes("VmHWM") / 2**20,
    }
    for shelf in shelves:
        shelf.close()
    size = sum(path.stat().st_size for path in Path(plan.base).rglob("*") if path.is_file())
    return {**figures, "disk_mib": size / 2**20}


def _open(plan: Plan, number: int) -> Shelf:
    if plan.store == "memory":
        return MemoryShelf()
    return RocksShelf(Path(plan.base) / "seen" / str(number), "benchmark")


def _fill(plan: Plan, shelves: list[Shelf]) -> tuple[float, float]:
    """Every entry; the mean size of a key with its value, and the time that the writes took."""
    entry_of = maker(plan.kind)
    took_s, size = 0.0, 0
    step = WRITE_KEYS * len(shelves)
    for start in range(0, plan.count, step):
        end = min(start + step, plan.count)
        for number, shelf in enumerate(shelves):
            changes = dict(map(entry_of, range(start + number, end, len(shelves))))
            size += sum(map(len, changes)) + sum(map(len, changes.values()))
            started_s = clock.monotonic_s()
            shelf.write(changes, end)
            took_s += clock.monotonic_s() - started_s
    return size / plan.count, took_s


def _settle() -> float:
    """Until the compactions have ended: the process rests."""
    started_s = clock.monotonic_s()
    used_s = process_time()
    while clock.monotonic_s() - started_s < SETTLE_S_MAX:
        sleep(LOOK_S)
        now_s = process_time()
        if now_s - used_s < LOOK_S * IDLE_SHARE:
            break
        used_s = now_s
    return clock.monotonic_s() - started_s


def _batches(plan: Plan) -> Iterator[list[int]]:
    """Random numbers of known ids, none twice; a batch is of one shelf, as in the ledger."""
    room = plan.count // plan.shelves
    size = min(LOOKUP_KEYS, room // 2)
    count = min(LOOKUPS_MAX, room // size)
    drawn = random.Random(SEED).sample(range(room), size * count)
    for number in range(count):
        part = drawn[number * size : (number + 1) * size]
        yield [one * plan.shelves + number // 2 % plan.shelves for one in part]


def _drop(base: Path) -> None:
    """Ask the kernel to forget what it keeps of the files; what is not written yet, it keeps."""
    os.sync()
    for path in base.rglob("*.sst"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _look_up(
    shelves: list[Shelf], batches: Iterable[list[int]], id_of: Callable[[int], bytes], *, known: bool
) -> float:
    """Milliseconds a key: the median of the batches'."""
    took_ms = []
    for numbers in batches:
        keys = [id_of(number) for number in numbers]
        started_s = clock.monotonic_s()
        values = shelves[numbers[0] % len(shelves)].get_many(keys)
        took_ms.append((clock.monotonic_s() - started_s) * 1000 / len(keys))
        if sum(value is not None for value in values) != (len(keys) if known else 0):
            raise BenchmarkFailed("a look-up did not find what was written")
        if known and any(key not in value for key, value in zip(keys, values, strict=True) if value):
            raise BenchmarkFailed("a look-up found another id's entry")
    return median(took_ms)


if __name__ == "__main__":
    child.main(sys.argv[1], Plan, measure)
