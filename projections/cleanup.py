"""What has each run of the retention job done? A piece for each run and partition, and one row for the run.

>>> from streams.fact import Sweep
>>> sweep = Sweep("started", days=90, partitions=1, started_ms=1000)
>>> began = Fact("horizon", "horizon-0", 0, 1, 0, 1000, run="r", cutoff_ns=5, horizon_ns=7, sweep=sweep)
>>> changes = fold([Fact("counted", "gen-1", 0, 0, -1, 900), began])
>>> changes.known, changes.steps[0].known
(1, 1)

How many ids are known is counted here as well, fact by fact, for a run says how many there were when it
began. It is what processed_generations holds of the partition. The audit's row is made of a run's pieces
alone (`audit_of`): in whatever order the partitions are read, and in batches of whatever size, it is one.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from projections.view import decode_fact
from streams import times, topics
from streams.fact import Entry, Fact
from streams.log.interface import Record

Outcome = Literal["running", "ended", "failed", "overtaken"]

# What an id takes on disk until it is forgotten. Measured by SQLite's dbstat and the sizes of files, in an
# embedded installation with 20,000 generations of 20 organisations: its newest record in `generations` 386
# bytes, its entry in the changelog 247, in the table "seen" 97 (compressed), its row in
# processed_generations, with the indexes, 212.
BYTES_PER_ID = 942
ERRORS_LENGTH_MAX = 2000


class Began(msgspec.Struct, frozen=True, gc=False):
    """A run begins in the partition. `known`: how many more ids were known by then than before the batch."""

    run: str
    cutoff_ns: int
    horizon_ns: int
    days: int
    partitions: int
    started_ms: int
    known: int


class Ended(msgspec.Struct, frozen=True, gc=False):
    """It ends there, or fails."""

    run: str
    outcome: Outcome
    ended_ms: int
    error: str


class Gone(msgspec.Struct, frozen=True, gc=False):
    """What a run has forgotten of one organisation: ids, and what they were worth. An unknown cost is 0."""

    records: int
    tokens: int
    cost_nano: int
    oldest_day: str
    newest_day: str


class Forgotten(msgspec.Struct, frozen=True, gc=False):
    """Ids that went, by run and organisation."""

    runs: dict[str, dict[str, Gone]] = {}


Step = Began | Ended | Forgotten


class Changes:
    """By how many ids the known ones change, and the steps of runs, in order."""

    __slots__ = ("known", "steps")

    def __init__(self) -> None:
        self.known = 0
        self.steps: list[Step] = []


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A run in one partition, as it is kept."""

    partition: int
    started_ms: int
    ended_ms: int | None
    cutoff_ns: int
    days: int
    partitions: int
    records_before: int
    records_deleted: int
    tokens_removed: int
    cost_removed_nano: int
    outcome: Outcome
    error: str


class Audit(msgspec.Struct, frozen=True):
    """A run's row of processed_generation_cleanup_log."""

    id: str
    cleanup_date: str
    cutoff_date: str
    days_retained: int
    records_before: int
    records_deleted: int
    records_remaining: int
    old_tokens_removed: int
    storage_saved_kb: float
    cleanup_duration_seconds: float
    success: int
    error_message: str | None
    created_at: int
    old_cost_removed_nano: int


def fold(facts: Sequence[Fact]) -> Changes:
    """Facts in, differences out."""
    changes = Changes()
    steps = changes.steps
    known = 0
    for fact in facts:
        fate = fact.fate
        if fate == "counted":
            known += 1  # nearly all of them, and nothing else
        elif fate == "voided":
            known += fact.minus is None  # a void of an unknown id is remembered
        elif fate == "opening":
            known += _opened(fact)
        elif fate == "forgotten":
            if fact.minus is not None:
                known -= 1
                _forget(steps, fact.run, fact.minus)
        elif fate == "horizon" and fact.sweep is not None:
            steps.append(_step(fact, known))
    changes.known = known
    return changes


def _opened(fact: Fact) -> int:
    """A known id of an earlier system is one more; one that a migration took back is one less."""
    if fact.plus is not None:
        return int(not fact.plus.margin)
    return -int(fact.minus is not None)


def _forget(steps: list[Step], run: str, minus: Entry) -> None:
    last = steps[-1] if steps else None
    if not isinstance(last, Forgotten):
        last = Forgotten()
        steps.append(last)
    organizations = last.runs.setdefault(run, {})
    before = organizations.get(minus.organization)
    gone = Gone(1, minus.total_tokens, minus.cost_nano or 0, minus.day, minus.day)
    organizations[minus.organization] = gone if before is None else _added(before, gone)


def _added(one: Gone, other: Gone) -> Gone:
    return Gone(
        one.records + other.records,
        one.tokens + other.tokens,
        one.cost_nano + other.cost_nano,
        min(one.oldest_day, other.oldest_day),
        max(one.newest_day, other.newest_day),
    )


def _step(fact: Fact, known: int) -> Step:
    sweep = fact.sweep
    assert sweep is not None
    if sweep.phase == "started":
        cutoff_ns, horizon_ns = fact.cutoff_ns or 0, fact.horizon_ns or 0
        return Began(fact.run, cutoff_ns, horizon_ns, sweep.days, sweep.partitions, sweep.started_ms, known)
    return Ended(fact.run, "failed" if sweep.phase == "failed" else "ended", fact.time_ms, sweep.error)


def settled(pieces: Sequence[Piece]) -> bool:
    """Whether nothing more is to come of a run: it runs nowhere, and has been everywhere or was overtaken."""
    if not pieces or any(piece.outcome == "running" for piece in pieces):
        return False
    everywhere = len(pieces) >= max(piece.partitions for piece in pieces)
    return everywhere or any(piece.outcome == "overtaken" for piece in pieces)


def audit_of(run: str, pieces: Sequence[Piece]) -> Audit:
    """What a run has done, from its pieces and nothing else: its row, once it is settled. Pure."""
    started_ms = min(piece.started_ms for piece in pieces)
    ended_ms = max(started_ms, *(piece.ended_ms or 0 for piece in pieces))
    before = sum(piece.records_before for piece in pieces)
    deleted = sum(piece.records_deleted for piece in pieces)
    success = all(piece.outcome == "ended" for piece in pieces)
    return Audit(
        id=run,
        cleanup_date=times.text_of(started_ms // 1000 * times.SECOND_NS),
        cutoff_date=times.day_of(max(piece.cutoff_ns for piece in pieces), "UTC"),
        days_retained=max(piece.days for piece in pieces),
        records_before=before,
        records_deleted=deleted,
        records_remaining=before - deleted,
        old_tokens_removed=sum(piece.tokens_removed for piece in pieces),
        storage_saved_kb=saved_kb(deleted),
        cleanup_duration_seconds=(ended_ms - started_ms) / 1000,
        success=int(success),
        error_message=None if success else _errors(pieces),
        created_at=ended_ms // 1000,
        old_cost_removed_nano=sum(piece.cost_removed_nano for piece in pieces),
    )


def saved_kb(records: int) -> float:
    """About how much of the disk so many ids took.

    >>> saved_kb(8)
    7.36
    """
    return round(records * BYTES_PER_ID / 1024, 2)


def _errors(pieces: Sequence[Piece]) -> str:
    """Why a run has failed: once, where all partitions say the same."""
    failed = [piece for piece in pieces if piece.outcome != "ended"]
    texts = {piece.error or piece.outcome for piece in failed}
    if len(texts) == 1:
        return texts.pop()[:ERRORS_LENGTH_MAX]
    lines = [
        f"partition {piece.partition}: {piece.error or piece.outcome}"
        for piece in sorted(failed, key=lambda piece: piece.partition)
    ]
    return "; ".join(lines)[:ERRORS_LENGTH_MAX]


class Cleanup:
    """The view."""

    name = "cleanup"
    version = 1
    topics = (topics.USAGE,)

    def decode(self, record: Record) -> Fact:
        """A record of `usage` as its fact."""
        return decode_fact(record)

    def fold(self, items: Sequence[Fact]) -> Changes:
        """Facts in, differences out."""
        return fold(items)
