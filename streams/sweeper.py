"""The ledger's side of retention: walks what is known of each id, and publishes a tombstone for each old one.

    sweeper = Sweeper(ledger, table, log, share=0.25)
    await sweeper.go_on()                   # until cancelled: sweeps whatever a run has begun here
    sweeper.stands()                        # how far the newest run has come in each of our partitions
    await sweeper.count(cutoff_ns)          # a dry run: what a run with this cutoff would forget

It remembers nothing of its own. That a run is under way stands in the table, as its horizon; so whoever has
the partition after a kill walks it again from its start, and finds what is left. A tombstone that comes twice
has nothing to end.

What each batch comes to is waited for, so that a sweep is never further ahead of the ledger than one batch.

Measured on two cores, RocksDB, every second id old: of a quarter of its time 140,000 ids are looked at in a
second, and 1,600 tombstones are decided. Four times as many to a batch would be a fifth more of them, and a
request beside it was acknowledged at p99 in 12 ms instead of 5.5 (4 at rest). One step takes longer: where
ids sort by their age, those that went last night and are not compacted away yet are passed over at once, at
0.1 ms a thousand.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from streams import clock, faultpoints, known, records, retention
from streams.errors import LogError, LogFull, LogMismatch, LogUnavailable
from streams.fact import Phase
from streams.known import Anything, Horizon, Known
from streams.log.interface import Log, Message
from streams.retention import Stand

POLL_S = 0.2
LOOK_S = 0.005
# Ids that are looked at in one go, and tombstones of one append: each keeps the event loop for a few
# milliseconds, here and where they are decided.
CHUNK_IDS = 250
BATCH_TOMBSTONES = 50
RETRY_S = 0.1
RETRY_S_MAX = 10.0
# What waits for a ledger that is behind is not the sweep's own time: it makes no pause longer than for this.
BUSY_S_MAX = 1.0

_logger = logging.getLogger("genledger.ledger")


class Ledger(Protocol):
    """What the sweeper needs of the ledger."""

    def partitions(self) -> Sequence[int]: ...

    def next_offset(self, partition: int) -> int: ...


class Table(Protocol):
    """What the sweeper needs of its table."""

    @property
    def recovering(self) -> Mapping[int, tuple[int, int]]: ...

    def get_many(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes | None]: ...

    def scan(self, partition: int, after: bytes | None, limit: int) -> Sequence[tuple[bytes, bytes]]: ...

    def tidy(self, partition: int) -> None: ...


class Count(msgspec.Struct, frozen=True):
    """What a run would forget of an organisation: ids that count, and what they are worth."""

    ids: int = 0
    tokens: int = 0
    cost_nano: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.ids + other.ids, self.tokens + other.tokens, self.cost_nano + other.cost_nano)


class _Stopped(Exception):
    """The partition is not ours any more, or another run has begun there."""


class _Progress:
    """How far a sweep has come."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.scanned = 0
        self.published = 0


class Sweeper:
    """Sweeps the partitions of this process, one at a time."""

    def __init__(self, ledger: Ledger, table: Table, log: Log, share: float) -> None:
        self._ledger = ledger
        self._table = table
        self._log = log
        self._rest = 1 / share - 1
        self._turn = asyncio.Lock()
        self._progress: dict[int, _Progress] = {}

    async def go_on(self) -> None:
        """Sweep what is to be swept, until cancelled."""
        while True:
            for partition in self._ledger.partitions():
                try:
                    await self.sweep(partition)
                except LogError as error:  # not even its failure could be told: the road needs the log, too
                    _logger.warning("partition %d can't be swept now: %s", partition, error)
                    await asyncio.sleep(RETRY_S_MAX)
            await asyncio.sleep(POLL_S)

    async def sweep(self, partition: int) -> None:
        """Sweep a partition if a run has begun there; returns when it has ended, failed or was overtaken."""
        run = self._horizon(partition)
        if run is None or run.phase != "started":
            return
        self._progress[partition] = _Progress(run.run)
        faultpoints.reached("sweep-begun")
        phase: Phase = "ended"
        error = ""
        try:
            await self._forget(partition, run)
        except _Stopped:
            return
        except Exception as failure:  # noqa: BLE001 -- whatever it is, the audit says so, and the road goes on
            text = f"{type(failure).__name__}: {failure}"
            phase, error = "failed", text.encode(errors="backslashreplace").decode()
            _logger.warning("run %s has failed in partition %d: %s", run.run, partition, error)
        faultpoints.reached("sweep-ending")
        message = records.horizon_message(replace(run, phase=phase), partition, error)
        with contextlib.suppress(_Stopped):
            await self._publish(partition, run, [message], "sweep-ended")

    def stands(self) -> Sequence[Stand]:
        """How the newest run stands in each partition that is ours, and read back."""
        found = []
        for partition in self._ledger.partitions():
            if self._is_here(partition):
                horizon, progress = self._horizon(partition), self._progress.get(partition)
                if progress is None or horizon is None or progress.run != horizon.run:
                    progress = _Progress("")
                found.append(retention.stand_of(partition, horizon, progress.scanned, progress.published))
        return found

    async def count(self, cutoff_ns: int, partitions: Sequence[int] | None = None) -> Mapping[str, Count]:
        """What a run with this cutoff would forget, by organisation; nothing is changed.

        Of the given partitions, else of all that are ours; `LogUnavailable` when one is not.
        """
        found: dict[str, Count] = {}
        for partition in self._ledger.partitions() if partitions is None else partitions:
            after: bytes | None = None
            while True:
                async with self._step():
                    if not self._is_here(partition):
                        raise LogUnavailable(f"partition {partition} is not read back here: try again")
                    chunk = self._table.scan(partition, after, CHUNK_IDS)
                    for _, thing in _old(chunk, cutoff_ns):
                        if isinstance(thing, Known):
                            organization = thing.winner.organization
                            found[organization] = found.get(organization, Count()) + _worth(thing)
                if not chunk:
                    break
                after = chunk[-1][0]
        return found

    async def _forget(self, partition: int, run: Horizon) -> None:
        """A tombstone for each id whose latest date is before the run's cutoff, until all are decided."""
        progress = self._progress[partition]
        waiting: list[Message] = []
        after: bytes | None = None
        while True:
            async with self._step():
                self._check(partition, run)
                chunk = self._table.scan(partition, after, CHUNK_IDS)
                waiting += [
                    records.forget_message(key, run, partition) for key, _ in _old(chunk, run.cutoff_ns)
                ]
                progress.scanned += len(chunk)
                faultpoints.reached("sweep-walked")
            while len(waiting) >= (BATCH_TOMBSTONES if chunk else 1):
                async with self._step():
                    batch, waiting = waiting[:BATCH_TOMBSTONES], waiting[BATCH_TOMBSTONES:]
                    await self._publish(partition, run, batch, "sweep-appended")
                    progress.published += len(batch)
                    faultpoints.reached("sweep-decided")
            if not chunk:
                break
            after = chunk[-1][0]
        if progress.published and self._is_here(partition):
            self._table.tidy(partition)

    async def _publish(self, partition: int, run: Horizon, messages: Sequence[Message], point: str) -> None:
        """Onto the log, however long that takes, and until the ledger has decided them."""
        pause_s = RETRY_S
        while True:
            # Between this look and the append the partition may be taken away. What a former owner appends
            # is harmless: a tombstone says its run's cutoff, the run's horizon stands before it on the log,
            # and whoever decides it does so by what is known of the id then, never by what we knew.
            self._check(partition, run)
            try:
                offsets = await self._log.append(messages)
                if min(offsets) >= 0:  # else the cluster can't say where they are
                    break
            except (LogFull, LogUnavailable) as error:
                _logger.debug("a sweep waits for the log: %s", error)
            # What was not told may be on the log all the same: a second tombstone has nothing to end.
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)
        faultpoints.reached(point)
        while self._ledger.next_offset(partition) <= max(offsets):
            self._check(partition, run)
            await asyncio.sleep(LOOK_S)

    def _check(self, partition: int, run: Horizon) -> None:
        horizon = self._horizon(partition)
        if horizon is None or (horizon.run, horizon.phase) != (run.run, "started"):
            raise _Stopped

    def _is_here(self, partition: int) -> bool:
        """Whether a partition is ours, and its table is whole."""
        if partition not in self._ledger.partitions() or partition in self._table.recovering:
            return False
        try:
            self._table.get_many(partition, [])
        except KeyError:  # taken over, and its shelf is not open yet
            return False
        return True

    def _horizon(self, partition: int) -> Horizon | None:
        """A partition's horizon; None when there is none, or the partition is not here."""
        if not self._is_here(partition):
            return None
        [value] = self._table.get_many(partition, [records.horizon_key(partition)])
        found = records.anything_of(value)
        return found if isinstance(found, Horizon) else None

    @contextlib.asynccontextmanager
    async def _step(self) -> AsyncIterator[None]:
        """A step of work, and the rest that it asks for. One at a time: a count has no share of its own."""
        async with self._turn:
            began_s = clock.monotonic_s()
            yield
            busy_s = min(clock.monotonic_s() - began_s, BUSY_S_MAX)
            await asyncio.sleep(busy_s * self._rest)


def _old(chunk: Sequence[tuple[bytes, bytes]], cutoff_ns: int) -> Iterator[tuple[bytes, Anything]]:
    """The ids of which nothing is as late as the cutoff. Only they are decoded whole."""
    for key, value in chunk:
        try:
            latest_ns = known.latest_ns_of(value)
            if latest_ns is not None and latest_ns < cutoff_ns:
                # Whole, because the ledger will have to: what it can't read must not be on its way to it.
                yield key, known.decode(value)
        except (msgspec.MsgspecError, LogMismatch) as error:
            id = key.decode(errors="backslashreplace")
            raise LogMismatch(f"what is known of {id} can't be read: {error}") from None


def _worth(thing: Known) -> Count:
    winner = thing.winner
    if winner.void:
        return Count(1)
    return Count(1, winner.total_tokens, winner.cost_nano or 0)
