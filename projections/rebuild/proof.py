"""Are the live views what the log says? Rebuilt aside, compared row by row at the same positions.

    proof = prove(settings, parts, Path("data/prove.db"), Path("data/genledger.db"))
    proof.holds, proof.findings

Traffic goes on meanwhile: the rebuild first comes to where the live views stood when it began, then one read
transaction fixes where they are now, the rebuild comes there too, and the two are compared inside it. That
transaction is open for the last bit and the comparison only: no live row waits for it.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from projections.digest import digest
from projections.rebuild import build
from projections.rebuild.aside import Aside, Stands, remove, stands
from projections.rebuild.blame import Blamed, blame
from projections.rebuild.build import Progress
from projections.rebuild.compare import Difference, Differences, differences
from projections.rebuild.courses import Contradiction
from projections.rebuild.plan import Part, Plan, Stops, tables_of
from projections.stores.sqlite import read_only
from streams import clock, topics
from streams.errors import ViewBusy, ViewError
from streams.log.backends import open_log
from streams.settings import Settings
from streams.snapshots import Manifest

CONTRADICTIONS_KEPT_MAX = 1000


class Finding(msgspec.Struct, frozen=True):
    """A row that is not what the log says, and the generations that explain it."""

    row: Difference
    blamed: Blamed


class Proof(msgspec.Struct, frozen=True):
    """What a comparison has found. It holds when nothing differs."""

    time_ms: int
    seconds: float
    records: int
    parts: Sequence[Part]
    live_digest: str
    rebuilt_digest: str
    counts: Mapping[str, int]
    findings: Sequence[Finding]
    contradictions: Sequence[Contradiction]
    contradicting: int
    strays: Sequence[str]
    #: What older facts came to, where they have gone: this was not proven from facts. None: all was.
    rests_on: Manifest | None = None

    @property
    def holds(self) -> bool:
        """Nothing differs."""
        return self.differences == 0

    @property
    def differences(self) -> int:
        """Rows that differ, facts that contradict themselves, positions that the log does not have."""
        return sum(self.counts.values()) + self.contradicting + len(self.strays)


class Looked(msgspec.Struct, frozen=True):
    """What the two files came to, side by side."""

    rows: Differences
    digests: tuple[str, str]
    stops: Stops
    strays: Sequence[str]


Told = Callable[[str, Progress], None]


class Seen:
    """What is seen while it is rebuilt."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self.records = 0
        self.contradictions: list[Contradiction] = []
        self.contradicting = 0

    def progress(self, progress: Progress) -> None:
        """So many records were read."""
        self.records = progress.done
        self._told("rebuilding", progress)

    def contradict(self, found: Sequence[Contradiction]) -> None:
        """Facts that contradict themselves: the first of them, and how many."""
        self.contradicting += len(found)
        self.contradictions += found[: CONTRADICTIONS_KEPT_MAX - len(self.contradictions)]


def prove(
    settings: Settings,
    parts: tuple[Part, ...],
    path: Path,
    live: Path,
    told: Told = lambda *_: None,
    snapshot: Manifest | None = None,
) -> Proof:
    """Rebuild aside and compare; nothing is left of what was rebuilt.

    It begins from a `snapshot` that is to be checked, else from the one that the log begins with, if any.
    """
    if not live.exists():
        raise ViewError(f"{live} does not exist: there are no views to prove. Name the folder with --data")
    started_s, started_ms = clock.monotonic_s(), clock.now_ms()
    seen = Seen(told)
    rests_on = build.begins(Plan(settings=settings, parts=parts, snapshot=snapshot))
    try:
        with closing(_reader(live)) as connection:
            stops = _stops(stands(connection))
            plan = Plan(
                settings=settings, parts=parts, stops=stops, checks=True, anew=True, snapshot=snapshot
            )
            aside = _built(plan, path, seen)
            try:
                looked = _look(connection, plan, aside, seen)
            finally:
                aside.remove()
    except (sqlite3.Error, OSError) as error:
        raise ViewError(f"{live} can't be proven: {error}") from error
    findings = asyncio.run(_explained(settings, looked, told))
    return Proof(
        time_ms=started_ms,
        seconds=round(clock.monotonic_s() - started_s, 3),
        records=seen.records,
        parts=parts,
        live_digest=looked.digests[0],
        rebuilt_digest=looked.digests[1],
        counts=looked.rows.counts,
        findings=findings,
        contradictions=seen.contradictions,
        contradicting=seen.contradicting,
        strays=looked.strays,
        rests_on=rests_on,
    )


def _built(plan: Plan, path: Path, seen: Seen) -> Aside:
    """Rebuilt as far as the live views stood; nothing is left of what is interrupted."""
    try:
        return build.build(plan, path, seen.progress, seen.contradict)
    except ViewBusy:
        raise
    except BaseException:
        remove(path)
        raise


def _look(connection: sqlite3.Connection, plan: Plan, aside: Aside, seen: Seen) -> Looked:
    connection.execute("ATTACH ? AS built", (read_only(aside.path),))
    connection.execute("BEGIN")
    live = stands(connection)  # the first look fixes what this transaction sees of the live views
    plan = msgspec.structs.replace(plan, stops=_stops(live))
    if build.is_behind(plan, aside):
        places = asyncio.run(build.look(plan))
        build.bring(plan, aside, places, heard=seen.contradict)
    names = [view.name for view in plan.views]
    tables = tables_of(plan.parts)
    found = Looked(
        rows=differences(connection, tables),
        digests=(_digest(connection, tables, "main"), _digest(connection, tables, "built")),
        stops=_stops(live),
        strays=[text for place, text in _strays(live, aside.positions()) if place[0] in names],
    )
    connection.execute("ROLLBACK")
    return found


def _digest(connection: sqlite3.Connection, tables: Sequence[str], schema: str) -> str:
    return digest(connection, tables=tables, schema=schema)["all"]


def _strays(live: Stands, rebuilt: Stands) -> list[tuple[tuple[str, str, int], str]]:
    """Positions of live views that the log does not lead to."""
    return [
        (place, f"{place[0]} stands at {place[1]}/{place[2]}@{position.usage_offset}, which this log lacks")
        for place, position in live.items()
        if rebuilt.get(place) != position
    ]


async def _explained(settings: Settings, looked: Looked, told: Told) -> Sequence[Finding]:
    rows = looked.rows.rows
    if not rows:
        return []
    total = sum(
        end + 1
        for (view, topic, _), end in looked.stops.items()
        if (view, topic) == ("summaries", topics.USAGE)
    )
    done = 0

    def read(facts: int) -> None:
        nonlocal done
        done += facts
        told("looking for who explains it", Progress(done, max(total, done)))

    log = await open_log(settings, read_only=True)
    try:
        blamed = await blame(log, rows, looked.stops, read)
    finally:
        await log.close()
    return [Finding(row, one) for row, one in zip(rows, blamed, strict=True)]


def _stops(live: Stands) -> dict[tuple[str, str, int], int]:
    return {place: position.usage_offset for place, position in live.items()}


def _reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(read_only(path), uri=True, isolation_level=None)
