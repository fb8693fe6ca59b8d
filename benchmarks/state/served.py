"""`genledger serve` that knows a million ids, or ten: its memory, and how long it takes to read them back.

    served(1_000_000, "uuid", base)     # {"memory_mib": ..., "recovery_s": ..., ...}

A service is started on new files, takes some events, and ends. Up to a million ids are then written to its
changelog, its table is deleted, and it is started again: `recovery_s` is how much longer that takes than a
start with the table in place. Of ten million the changelog alone would take minutes to write, so they are put
into the table itself, which stands at the end of the changelog: no recovery then, the same memory. At last it
takes 100,000 new events, each looked up among the ids that it knows, and its memory is read: that of the
process with the door and the ledger, not of the views' process beside it.
"""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import sleep

from benchmarks import BenchmarkFailed, views
from benchmarks.bench import Figures
from benchmarks.service import HOST, Service
from benchmarks.state import child
from benchmarks.state.entries import Entry, maker
from benchmarks.traffic import Traffic, make
from genledger.client import Client
from streams import clock, settings, topics
from streams.log.backends import open_log
from streams.log.interface import Log, Message
from streams.log.partition import partition_of
from streams.seen.shelf import RocksShelf

RECOVERED_MAX = 1_000_000
BEFORE = 2_000
AFTER = 100_000
AFTER_SHARE = 10
BATCH = 1_000
WRITE_KEYS = 16_000
APPLIED_S = 60.0
RETRY_S = 0.05
BUSY = (429, 503)
NDJSON = "application/x-ndjson"
SEED = 5


class Watched(Service):
    """One whose ledger's memory can be asked for, and whose start is timed."""

    started_s = 0.0

    def __enter__(self) -> "Watched":
        begun_s = clock.monotonic_s()
        super().__enter__()
        self.started_s = clock.monotonic_s() - begun_s
        return self

    def ledger_bytes(self, name: str) -> int:
        """What the kernel says of the process with the ledger."""
        assert self._process is not None
        return child.memory_bytes(name, self._process.pid)


def served(count: int, kind: str, base: Path) -> Figures:
    """So many ids, known to the service before the events that are timed."""
    data = base / "data"
    before, after = (
        make(BEFORE, kind, SEED),
        make(min(AFTER, max(BATCH, count // AFTER_SHARE)), kind, SEED + 1),
    )
    with Watched(data) as service:
        _post(service, before, BEFORE)
    with Watched(data) as service:
        plain_s = service.started_s
    recovered = count <= RECOVERED_MAX
    asyncio.run(_remember(data, count, kind, recovered=recovered))
    with Watched(data) as service:
        recovery_s = service.started_s - plain_s
        ready_bytes = service.ledger_bytes("VmRSS")
        started_s = clock.monotonic_s()
        _post(service, after, BEFORE + len(after.lines))
        took_s = clock.monotonic_s() - started_s
        figures: Figures = {
            "known_ids": float(count),
            "ready_mib": ready_bytes / 2**20,
            "memory_mib": service.ledger_bytes("VmRSS") / 2**20,
            "memory_max_mib": service.ledger_bytes("VmHWM") / 2**20,
            "posted_per_s": len(after.lines) / took_s,
        }
    views.check(data / "genledger.db", before.totals() + after.totals())
    return {**figures, "recovery_s": recovery_s} if recovered else figures


def _post(service: Service, traffic: Traffic, records: int) -> None:
    """Post it all, and wait until the views have it."""
    client = Client(f"http://{HOST}:{service.port}")
    try:
        for body in traffic.bodies(BATCH):
            answer = client.send("POST", "/api/v1/generations", body=body, content_type=NDJSON)
            while answer.status in BUSY:
                sleep(RETRY_S)
                answer = client.send("POST", "/api/v1/generations", body=body, content_type=NDJSON)
            client.taken(answer)
    finally:
        client.close()
    asyncio.run(views.wait_applied(service, records, APPLIED_S))


async def _remember(data: Path, count: int, kind: str, *, recovered: bool) -> None:
    """Put the ids where a service that had counted them would have them."""
    log = await open_log(settings.load({}, data=str(data)))
    try:
        partitions = log.partitions(topics.SEEN_CHANGELOG)
        if recovered:
            await _append(log, count, kind, partitions)
            shutil.rmtree(data / "tables")
        else:
            _put(log, data / "tables" / "seen", count, kind, partitions)
    finally:
        await log.close()


def _parts(count: int, kind: str, partitions: int) -> Iterator[tuple[int, list[Entry]]]:
    """The entries by partition, a bounded number at a time."""
    entry_of = maker(kind)
    for start in range(0, count, WRITE_KEYS):
        parts: list[list[Entry]] = [[] for _ in range(partitions)]
        for entry in map(entry_of, range(start, min(start + WRITE_KEYS, count))):
            parts[partition_of(entry[0], partitions)].append(entry)
        yield from enumerate(parts)


async def _append(log: Log, count: int, kind: str, partitions: int) -> None:
    for partition, part in _parts(count, kind, partitions):
        if part:
            await log.append([Message(topics.SEEN_CHANGELOG, partition, *entry) for entry in part])


def _put(log: Log, folder: Path, count: int, kind: str, partitions: int) -> None:
    shelves = [RocksShelf(folder / str(n), log.identity) for n in range(partitions)]
    for n, shelf in enumerate(shelves):
        if shelf.next_offset != log.end_offset(topics.SEEN_CHANGELOG, n):
            raise BenchmarkFailed("the service's table does not stand at the end of its changelog")
    for n, part in _parts(count, kind, partitions):
        shelves[n].write(dict(part), shelves[n].next_offset)
    for shelf in shelves:
        shelf.close()
