"""B and C at their full sizes, and what came of it as docs/soak-road.md.

    python -m tests.road.soak                        # 200,000 generations, ten kills
    python -m tests.road.soak --seed 7 --generations 20000 --report other.md

Any figure that differs from the model ends it with an exception, and no report is written.
"""

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.model.ledger import Model
from tests.model.tables import tables
from tests.model.traffic import Delivery, Traffic, generate
from tests.road.comparison import digest
from tests.road.files import settings_records
from tests.road.harness import running, set_up
from tests.road.kills import BATCH, PHASES, UNAPPLIED_MIN, Kills
from tests.road.run import check, feed, settle, sizes

T = TypeVar("T")
GENERATIONS = 200_000
KILLS = 10
REPORT = Path(__file__).parents[2] / "docs" / "soak-road.md"


@dataclass
class Report:
    """Lines of the report, and the time of each step."""

    lines: list[str] = field(default_factory=list)

    def say(self, line: str = "") -> None:
        """One more line, on the screen too."""
        print(line, flush=True)
        self.lines.append(line)

    def timed(self, what: str, work: Callable[[], T]) -> T:
        """Do it, and say how long it took."""
        started_s = time.monotonic()
        found = work()
        self.say(f"- {what}: {time.monotonic() - started_s:.1f} s")
        return found


def soak(seed: int, generations: int, base: Path) -> Report:
    """B, B in another order, and C; the report."""
    report = Report()
    traffic = generate(seed, generations)
    _describe(report, traffic, generations)
    report.say("\n## B: every column of every table is the model's\n")
    first = _run(
        report, "in the order of their making", traffic, traffic.deliveries, base / "one", (500, 1000)
    )
    _run(
        report,
        "in another order and batching",
        traffic,
        traffic.shuffled(seed + 1),
        base / "other",
        (1, 4000),
    )
    digests = digest(base / "one"), digest(base / "other")
    assert digests[0] == digests[1], digests
    report.say(f"- digest of both: `{digests[0]}`")
    report.say("\n| table | rows compared |\n| --- | ---: |")
    for name, rows in tables(first, settings_records(base / "one")).items():
        report.say(f"| {name} | {len(rows):,} |")
    _kill(report, traffic, seed, base / "killed")
    assert digest(base / "killed") == digests[0], "killed, it came to another digest"
    report.say("- its digest is B's")
    return report


def _describe(report: Report, traffic: Traffic, generations: int) -> None:
    report.say("# The road at full size\n")
    report.say("Written by `make soak`: B and C of the issue Road, at full size.\n")
    report.say(f"- seed {traffic.seed}: {generations:,} generations, {len(traffic.deliveries):,} lines")
    report.say(f"- {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}")
    for group in ("amended: ", "bad: ", ""):
        told = [
            f"{kind.removeprefix(group)} {n:,}"
            for kind, n in sorted(traffic.kinds.items())
            if kind.startswith(group) and (group or ": " not in kind)
        ]
        report.say(f"- {group or 'ids: '}{', '.join(told)}")


def _run(
    report: Report,
    what: str,
    traffic: Traffic,
    deliveries: Sequence[Delivery],
    data: Path,
    batches: tuple[int, int] = (500, 1000),
) -> Model:
    def work() -> Counter[int]:
        told = feed(service, deliveries, sizes(traffic.seed, *batches))
        settle(service)
        return told

    with running(data) as service:
        set_up(service, traffic)
        what = f"{what}, batches of {batches[0]} to {batches[1]}, posted and in the tables"
        told = report.timed(what, work)
        service.assert_books_balance()
        assert service.stop() == 0, service.tail()
    model = check(data, traffic, told)
    _fates(report, model)
    return model


def _fates(report: Report, model: Model) -> None:
    fates: Counter[str] = sum(model.books.values(), Counter())
    report.say("- fates: " + ", ".join(f"{fate} {n:,}" for fate, n in fates.most_common()))


def _kill(report: Report, traffic: Traffic, seed: int, data: Path) -> None:
    report.say("\n## C: kills with -9\n")
    report.say(f"Each with at least {UNAPPLIED_MIN:,} records unapplied; seed {seed}.\n")
    report.say("| # | at | which is | time there | lines posted | unapplied |")
    report.say("| ---: | --- | --- | ---: | ---: | ---: |")
    source = random.Random(seed)
    phases = source.sample(list(PHASES), len(PHASES)) + source.sample(list(PHASES), KILLS - len(PHASES))
    kills = Kills(data, traffic, traffic.shuffled(seed + 2), seed)
    between = len(traffic.deliveries) // BATCH // (KILLS + 1) - 1  # the kills are spread over the traffic
    for number, phase in enumerate(phases, 1):
        kills.go_on(between)
        kill = kills.until(phase)
        report.say(
            f"| {number} | {phase} | {PHASES[phase]} | {kill.count} | {kill.posted:,} | {kill.unapplied:,} |"
        )
    report.say()
    told = report.timed("the rest posted and in the tables", kills.finish)
    model = check(data, traffic, told, at_least=True)
    report.say("- every acknowledged line is there, every column is the model's, the books balance")
    _fates(report, model)


def main() -> int:
    """Run it, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=20251026)
    parser.add_argument("--generations", type=int, default=GENERATIONS)
    parser.add_argument("--report", type=Path, default=REPORT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-road-") as base:
        report = soak(given.seed, given.generations, Path(base))
    given.report.write_text("\n".join(report.lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
