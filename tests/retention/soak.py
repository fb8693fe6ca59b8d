"""Four hundred days with two million ids, measured day by day; and the page that it is told on.

    report = await soak(data, days=400, ids_per_day=5_020, told=print)
    report.check()                       # what must level off does, and look-ups stay flat
    (docs / "soak-retention.md").write_text(page(report))

It runs by hand at another size, which writes nothing but what it measured:

    python -m tests.retention.soak 400 500 /tmp/soak.json
"""

import asyncio
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

import msgspec

from streams import clock, topics
from streams.log.partition import partition_of
from tests.retention.deliveries import Traffic
from tests.retention.year import PARTITIONS, Night, Year, opened

SEED = 20261123
# From a day on, ids are to be kept for so many days; and by hand, once, for so many.
SETTING = {0: 90, 110: 60, 150: 90}
BY_HAND = {60: 200, 130: 30, 250: 60}
MARKS = (*(day for day in SETTING if day), *BY_HAND)
MEASURED_EVERY = 5
CHECKED = (100, 200, 300)
LOOKUPS = 300
LEVEL = 1.15
# Times of one machine with other work: they may differ by so much and be called flat.
FLAT = 2.0
RSS_BYTES_MAX = 2_000_000_000
# What SQLite does when it is asked whether it has an id.
DUPLICATE = "SELECT total_tokens, total_cost_nano FROM processed_generations WHERE id = ?"

_SIZES = "SELECT count(*), sum(length(key) + ifnull(length(value), 0) + length(headers)) FROM"


class Point(msgspec.Struct, frozen=True):
    """What there is at the end of a day, before compaction."""

    day: int
    ids: int
    generations_records: int
    generations_bytes: int
    changelog_records: int
    changelog_bytes: int
    usage_records: int
    usage_bytes: int
    shelf_bytes: int
    processed_rows: int
    intake_file_bytes: int
    ledger_file_bytes: int
    views_file_bytes: int
    rss_bytes: int
    table_p50_us: float
    table_p99_us: float
    sqlite_p50_us: float
    sqlite_p99_us: float


class Report(msgspec.Struct):
    """A whole soak."""

    days: int
    ids_per_day: int
    points: list[Point]
    fates: dict[str, int]
    own: dict[str, int]
    taken: int
    forgotten: int
    runs: int
    compacted: int
    twins: dict[str, int]
    seconds: float = 0.0

    def part(self, quarter: int) -> Sequence[Point]:
        """One of the four quarters."""
        first, last = self.days * (quarter - 1) // 4, self.days * quarter // 4
        return [point for point in self.points if first <= point.day < last]

    def check(self) -> None:
        """What must level off has, look-ups are flat, and memory is bounded."""
        third, fourth = self.part(3), self.part(4)
        for name in LEVELS:
            before, after = (max(getattr(one, name) for one in part) for part in (third, fourth))
            assert after <= LEVEL * before, f"{name}: {before} at most, then {after}"
        for name in ("table_p50_us", "sqlite_p50_us"):
            before, after = (median(getattr(one, name) for one in part) for part in (self.part(2), fourth))
            assert after <= FLAT * before, f"{name}: {before}, then {after}"
        assert max(one.rss_bytes for one in self.points) < RSS_BYTES_MAX


LEVELS = (
    *("ids", "generations_records", "generations_bytes", "changelog_records", "changelog_bytes"),
    *("shelf_bytes", "processed_rows", "intake_file_bytes"),
)


async def soak(
    data: Path, days: int, ids_per_day: int, told: Callable[[str], None], kept: Path | None = None
) -> Report:
    """So many days; every total, id and audit row is compared with the model's on the way and at the end."""
    started_s = clock.monotonic_s()
    traffic = Traffic(SEED, ids_per_day)
    report = Report(days, ids_per_day, [], {}, {}, 0, 0, 0, 0, {})
    setting = 0
    async with opened(data, traffic) as year:
        measure = Measure(year)
        for day in range(days):
            setting = SETTING.get(day, setting)
            night = Night(
                setting,
                BY_HAND.get(day),
                busy=day % 4 == 2,
                totals="digests" if day % 50 == 0 else "sums" if day % 10 == 0 else "",
            )
            await year.day(day, night)
            if day % MEASURED_EVERY == MEASURED_EVERY - 1:
                point = measure.point(day)
                report.points.append(point)
                took_s = clock.monotonic_s() - started_s
                told(f"day {day + 1:3} of {days}: {point.ids:,} ids known, {took_s:.0f} s")
                report.compacted += await year.compact()
            if day in CHECKED:
                await year.check()
                told(f"day {day + 1:3}: totals, ids, audit and books are the model's")
            _count(report, year, clock.monotonic_s() - started_s)
            if kept is not None and day % 20 == 19:
                kept.write_bytes(msgspec.json.encode(report))
        await year.check()
        await year.check_compacted()
        told("totals, ids, audit and books are the model's; nothing is left of what was forgotten")
        await year.prove()
        told("rebuilt from `usage` and from `generations`")
        _count(report, year, clock.monotonic_s() - started_s)
    return report


def _count(report: Report, year: Year, seconds: float) -> None:
    report.fates, report.own = dict(year.fates), dict(year.own)
    report.runs = len(year.model.runs)
    report.forgotten = sum(run.deleted for run in year.model.runs)
    report.taken = report.forgotten + len(year.model.ids)
    kinds = year.traffic.kinds
    report.twins = {kind: count for kind, count in kinds.items() if kind.startswith("twin")}
    report.seconds = seconds


class Measure:
    """Looks at what is kept, from outside where that is possible."""

    def __init__(self, year: Year) -> None:
        self._year = year
        self._data = Path(year.settings.data)
        self._random = random.Random(SEED)
        self._usage = [(0, 0)] * PARTITIONS

    def point(self, day: int) -> Point:
        """What there is now."""
        year, data = self._year, self._data
        log = year.log
        generations = self._topic(topics.GENERATIONS)
        changelog = self._topic(topics.SEEN_CHANGELOG)
        files = {path.stem: path.stat().st_size for path in (data / "log").glob("*.db")}
        with closing(sqlite3.connect(f"{year.views.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            (rows,) = connection.execute("SELECT count(*) FROM processed_generations").fetchone()
            asked = self._asked()
            sqlite_us = _times(asked, lambda one: connection.execute(DUPLICATE, (one,)).fetchall())
        table_us = _times(asked, self._get)
        return Point(
            day,
            len(year.model.ids),
            *generations,
            *changelog,
            sum(log.end_offset(topics.USAGE, n) for n in range(PARTITIONS)),
            self._usage_bytes(),
            sum(path.stat().st_size for path in (data / "tables").rglob("*") if path.is_file()),
            rows,
            files["intake"],
            files["ledger"],
            year.views.stat().st_size,
            _rss_bytes(),
            *table_us,
            *sqlite_us,
        )

    def _asked(self) -> Sequence[str]:
        """Known ids, and as many that nobody has heard of."""
        known = self._random.sample(list(self._year.model.ids), min(LOOKUPS, len(self._year.model.ids)))
        return [*known, *(f"gen-unknown-{self._random.getrandbits(60):x}" for _ in range(LOOKUPS))]

    def _get(self, id: str) -> object:
        key = id.encode()
        return self._year.table.get_many(partition_of(key, PARTITIONS), [key])

    def _topic(self, topic: str) -> tuple[int, int]:
        """How many records a topic has, and their bytes."""
        found = [self._of(topic, n, "") for n in range(PARTITIONS)]
        return sum(records for records, _ in found), sum(size_bytes for _, size_bytes in found)

    def _usage_bytes(self) -> int:
        """Of a topic that nothing leaves, only what is new is looked at."""
        for n, (end, size_bytes) in enumerate(self._usage):
            _, more = self._of(topics.USAGE, n, f'WHERE "offset" >= {end}')
            self._usage[n] = self._year.log.end_offset(topics.USAGE, n), size_bytes + more
        return sum(size_bytes for _, size_bytes in self._usage)

    def _of(self, topic: str, partition: int, where: str) -> tuple[int, int]:
        store = "intake" if topic == topics.GENERATIONS else "ledger"
        uri = f"{(self._data / 'log' / store).with_suffix('.db').resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            count, size_bytes = connection.execute(f'{_SIZES} "{topic}-{partition}" {where}').fetchone()
        return count, size_bytes or 0


def _times(asked: Iterable[str], look: Callable[[str], object]) -> tuple[float, float]:
    """p50 and p99 of single look-ups, in microseconds."""
    took_us = []
    for id in asked:
        began_s = clock.monotonic_s()
        look(id)
        took_us.append((clock.monotonic_s() - began_s) * 1e6)
    took_us.sort()
    return took_us[len(took_us) // 2], took_us[len(took_us) * 99 // 100]


def _rss_bytes() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024


def page(report: Report) -> str:
    """For docs/."""
    last = report.points[-1]
    rows = "\n".join(f"| {name} | {text} |" for name, text in _figures(report).items())
    quarters = "\n".join(
        f"| {_label(name)} | " + " | ".join(_size(name, _most(report, n, name)) for n in (1, 2, 3, 4)) + " |"
        for name in (
            *LEVELS,
            "usage_bytes",
            "ledger_file_bytes",
            "rss_bytes",
            "table_p50_us",
            "sqlite_p50_us",
        )
    )
    twins = ", ".join(
        f"{kind.removeprefix('twin at ')} {'' if kind.endswith('seconds') else 'days '}({count:,})"
        for kind, count in report.twins.items()
        if kind.startswith("twin at ")
    )
    setting = ", ".join(f"{days} days from day {day} on" for day, days in SETTING.items())
    by_hand = ", ".join(f"for {days} on day {day}" for day, days in BY_HAND.items())
    checked = f"{', '.join(str(day + 1) for day in CHECKED)} and {last.day + 1}"
    return f"""# Retention: the soak's report

Written by `make soak` (tests/retention/test_soak.py): {report.days} simulated days on a clock that the test
sets, 20 organisations of 20 users in 19 timezones. A real embedded log, ledger, table on RocksDB, views,
sweeper and compaction; beside them a model that shares nothing with them but the events' text.

![what is kept, by day; dotted: another setting, or a run by hand](retention-year.svg)

| | |
| --- | ---: |
{rows}

Ids are kept for {setting}; by hand {by_hand}: the dotted lines. Twins come at these distances: {twins}.

Each delivery had the fate that the model gave it, each run forgot the ids that the model named, and no fact
of a run had a part in any total. On days {checked} every row of the three summaries
was the model's, to the nano-dollar; so were the ids of the table and of processed_generations, the audit's
rows with each organisation's part, and the books. At the end, after compaction, the changelog has the known
ids and no other, and `generations` has nothing of one that was forgotten; `genledger prove` finds no
difference, and a rebuild from `generations` has the days after the horizon.

The greatest of each quarter, before compaction, which ran every {MEASURED_EVERY} days:

| | 1st | 2nd | 3rd | 4th |
| --- | ---: | ---: | ---: | ---: |
{quarters}

`usage` is the ledger of record: it grows by a fact for each record, and goes only behind a snapshot
(docs/retention.md). Everything else levels off; `ledger.db`
holds `usage` too.
"""


def _figures(report: Report) -> Mapping[str, str]:
    fates = ", ".join(f"{fate} {count:,}" for fate, count in sorted(report.fates.items()))
    own = ", ".join(f"{fate} {count:,}" for fate, count in sorted(report.own.items()))
    rss_bytes = max(point.rss_bytes for point in report.points)
    return {
        "ids that were taken": f"{report.taken:,}",
        "of them forgotten": f"{report.forgotten:,}",
        "runs of the job": f"{report.runs:,}",
        "fates of the deliveries": fates,
        "of what the service published itself": own,
        "records that compaction removed": f"{report.compacted:,}",
        "memory at most, the model's included": f"{rss_bytes / 1e6:,.0f} MB",
        "time it took": f"{report.seconds / 60:.0f} minutes",
    }


def _most(report: Report, quarter: int, name: str) -> float:
    values = [getattr(point, name) for point in report.part(quarter)]
    return float(median(values)) if name.endswith("_us") else max(values)


def _label(name: str) -> str:
    for end, unit in (("_bytes", ", MB"), ("_us", ", us (median)")):
        if name.endswith(end):
            return name.removesuffix(end).replace("_", " ") + unit
    return name.replace("_", " ")


def _size(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return f"{value / 1e6:,.1f}"
    return f"{value:.1f}" if name.endswith("_us") else f"{value:,}"


def main() -> None:
    """Days, ids a day, and where to keep what is measured."""
    days, ids_per_day, kept = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    with tempfile.TemporaryDirectory(prefix="soak-retention-") as folder:
        report = asyncio.run(
            soak(Path(folder), days, ids_per_day, lambda text: print(text, flush=True), kept)
        )
    kept.write_bytes(msgspec.json.encode(report))


if __name__ == "__main__":
    main()
