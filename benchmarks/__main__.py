"""`python -m benchmarks`: measures, prints a table, and writes docs/benchmarks.md after a full run."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console

from benchmarks import BenchmarkFailed, report
from benchmarks.latency import latency
from benchmarks.limits import by_hand, decode_only
from benchmarks.machine import load_average, machine
from benchmarks.report import Figures, Results
from benchmarks.throughput import BATCH, throughput
from benchmarks.traffic import IDS, Traffic, make
from streams import clock, times
from streams.errors import GenledgerError

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
RUNS = 3
SECONDS = 10.0
SECONDS_MAX = 60.0
GENERATIONS = 100_000
GENERATIONS_MAX = 1_000_000
WARM_UP = 10
SEED = 20261121
# requests a second, and how many times the given seconds it lasts
RATES = {"latency-1": (1, 2), "latency-100": (100, 1), "latency-1000": (1000, 1)}
THROUGHPUTS = {f"throughput-{kind}": kind for kind in IDS}
LIMITS = {f"by-hand-{kind}": kind for kind in IDS}
DECODE = "decode"
NAMES = (*RATES, *THROUGHPUTS, *LIMITS, DECODE)


class Plan(msgspec.Struct, frozen=True):
    """What is to be run."""

    only: str
    seconds: float
    generations: int
    runs: int
    base: Path

    def wants(self, name: str) -> bool:
        """Is this case the one asked for, or one of those that begin so?"""
        return name == self.only if self.only in NAMES else name.startswith(self.only)

    def directory(self) -> "tempfile.TemporaryDirectory[str]":
        """A fresh place for one run's files."""
        return tempfile.TemporaryDirectory(dir=self.base)


def measure(plan: Plan) -> dict[str, list[Figures]]:
    """Every case, so many times: each round all cases, so that a slow minute does not fall on one case."""
    traffic = {kind: make(plan.generations, kind, SEED) for kind in IDS}
    warm_up = {kind: make(max(BATCH, plan.generations // WARM_UP), kind, SEED + 1) for kind in IDS}
    cases: dict[str, list[Figures]] = {name: [] for name in NAMES if plan.wants(name)}
    for number in range(plan.runs):
        for name, figures in _round(plan, traffic, warm_up, SEED + 10 * number):
            cases[name].append(figures)
            shown = ", ".join(
                f"{report.METRICS[key][0]} {report.text_of(key, figures[key])}" for key in figures
            )
            print(f"{number + 1}/{plan.runs} {name}: {shown}", file=sys.stderr, flush=True)
    return cases


def _round(
    plan: Plan, traffic: dict[str, Traffic], warm_up: dict[str, Traffic], seed: int
) -> Iterator[tuple[str, Figures]]:
    rates = {
        name: (rate, max(1, round(rate * plan.seconds * times_longer)))
        for name, (rate, times_longer) in RATES.items()
        if plan.wants(name)
    }
    if rates:
        with plan.directory() as base:
            yield from latency(Path(base), rates, seed).items()
    for name, kind in THROUGHPUTS.items():
        if plan.wants(name):
            with plan.directory() as base:
                yield name, throughput(Path(base), warm_up[kind], traffic[kind])
    for name, kind in LIMITS.items():
        if plan.wants(name):
            with plan.directory() as base:
                yield name, by_hand(Path(base), traffic[kind])
    if plan.wants(DECODE):
        yield DECODE, decode_only(traffic["openrouter"])


def _arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="How fast genledger is here, with every write on the disk."
    )
    parser.add_argument(
        "--only", default="", metavar="NAME", help=f"this case, or those that begin so: {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long each rate lasts (%(default)s)"
    )
    parser.add_argument("--generations", type=int, default=GENERATIONS, help="a throughput run (%(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"each case once, not {RUNS} times")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout, no table")
    parser.add_argument(
        "--page", type=Path, help="where to write the page (docs/, after a run of everything)"
    )
    parser.add_argument(
        "--dir", type=Path, help="where the data goes: a disk, not memory (a temporary folder)"
    )
    given = parser.parse_args(arguments)
    if not any(name.startswith(given.only) for name in NAMES):
        parser.error(f"no case begins with {given.only}: there are {', '.join(NAMES)}")
    if not 0 < given.seconds <= SECONDS_MAX or not 0 < given.generations <= GENERATIONS_MAX:
        parser.error(f"at most {SECONDS_MAX:g} seconds and {GENERATIONS_MAX:,} generations, more than 0")
    return given


def _terminated(number: int, frame: object) -> NoReturn:
    # As Ctrl-C: the services we started are ended on the way out.
    raise KeyboardInterrupt


def _run(given: argparse.Namespace) -> Results:
    with tempfile.TemporaryDirectory(prefix="genledger-bench-", dir=given.dir) as base:
        plan = Plan(given.only, given.seconds, given.generations, 1 if given.quick else RUNS, Path(base))
        date = times.text_of(clock.now_ms() // 1000 * times.SECOND_NS)
        before, about = load_average(), machine(plan.base)
        cases = measure(plan)
    return Results(date, about, plan.seconds, plan.generations, [before, load_average()], cases)


def main(arguments: list[str] | None = None) -> int:
    """Measure and tell; 1 when a figure was wrong or the service did not hold."""
    given = _arguments(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        results = _run(given)
    except (BenchmarkFailed, GenledgerError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; what was started has been ended", file=sys.stderr)
        return 130
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        Console().print(*report.tables(results))
    whole = not given.quick and set(results.cases) == set(NAMES) and given.generations == GENERATIONS
    path = given.page or (PAGE if whole and given.seconds >= SECONDS else None)
    if path is not None:
        path.write_text(report.page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
