"""`python -m benchmarks`: measures, prints a table, and writes docs/benchmarks.md after a full run."""

import argparse
import gc
import logging
import os
import secrets
import signal
import sys
import tempfile
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console

from benchmarks import BenchmarkFailed, kafka, preload, report
from benchmarks.bench import Bench, Figures
from benchmarks.cases import CASES, NAMES, ROUNDS, Case
from benchmarks.machine import load_average, machine
from benchmarks.peers.venv import NotInstalled
from benchmarks.report import Results
from benchmarks.traffic import Traffic, deliveries, make
from streams import clock, times
from streams.errors import GenledgerError

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
SECONDS = 10.0
SECONDS_MAX = 60.0
GENERATIONS = 200_000
GENERATIONS_MAX = 1_000_000
SEED = 20261121


class Plan(msgspec.Struct, frozen=True):
    """What is to be run."""

    only: tuple[str, ...]
    seconds: float
    generations: int
    rounds: int
    base: Path

    def cases(self) -> list[Case]:
        """The cases asked for by name, or by how their names begin."""
        return [case for case in CASES if any(_is(case.name, only) for only in self.only)]


def _is(name: str, only: str) -> bool:
    return name == only if only in NAMES else name.startswith(only)


class Run:
    """One run of all that is wanted: its Kafka is started when the first case asks for one."""

    def __init__(self, plan: Plan, stack: ExitStack) -> None:
        self._plan = plan
        self._stack = stack
        self._prefix = f"bench-{secrets.token_hex(4)}-"
        self._traffic: dict[str, Traffic] = {}
        self._generations: dict[str, str] = {}
        self._begun = 0
        self.cases: dict[str, list[Figures]] = {}
        self.skipped: dict[str, str] = {}

    @cached_property
    def _bootstrap(self) -> str:
        bootstrap = self._stack.enter_context(kafka.running(self._plan.base))
        self._stack.callback(kafka.remove, bootstrap, self._prefix)
        return bootstrap

    def measure(self) -> None:
        """Every case, so many times: each round all cases, so that a slow minute does not fall on one."""
        cases = self._plan.cases()
        for kind in sorted({case.kind for case in cases}):
            self._traffic[kind] = make(self._plan.generations, kind, SEED)
        gc.collect()
        gc.freeze()  # the events stay: the collector need not walk them
        for number in range(self._plan.rounds):
            for case in cases:
                if number < case.runs and case.name not in self.skipped:
                    self._take(case, number)

    def _take(self, case: Case, number: int) -> None:
        started_s = clock.monotonic_s()
        try:
            figures = self._figures(case, number)
        except NotInstalled as error:
            self.skipped[case.name] = str(error)
            print(f"{case.name}: not measured: {error}", file=sys.stderr, flush=True)
            return
        self.cases.setdefault(case.name, []).append(figures)
        shown = ", ".join(f"{report.label_of(key)} {report.text_of(key, figures[key])}" for key in figures)
        took_s = clock.monotonic_s() - started_s
        print(
            f"{number + 1}/{min(case.runs, self._plan.rounds)} {case.name}: {shown} ({took_s:.0f} s)",
            file=sys.stderr,
            flush=True,
        )

    def _figures(self, case: Case, number: int) -> Figures:
        self._begun += 1
        prefix = f"{self._prefix}{self._begun}-"
        with tempfile.TemporaryDirectory(dir=self._plan.base, ignore_cleanup_errors=True) as base:
            bench = Bench(
                Path(base),
                self._bootstrap if case.kafka else "",
                self._traffic[case.kind],
                prefix,
                self._filled(case.kind) if case.reads else "",
                self._plan.seconds,
                SEED + 10 * number,
            )
            try:
                return case.run(bench)
            finally:
                if case.kafka:
                    kafka.remove(self._bootstrap, prefix)

    def _filled(self, kind: str) -> str:
        """The topic of a kind's deliveries, which cases share by reading."""
        if kind not in self._generations:
            self._generations[kind] = f"{self._prefix}{kind}-generations"
            preload.fill(self._bootstrap, self._generations[kind], deliveries(self._traffic[kind]))
        return self._generations[kind]


def _arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="How fast genledger is here, with every write on the disk."
    )
    parser.add_argument(
        "--only",
        default="",
        metavar="NAME",
        help=f"this case, or those that begin so; several with commas: {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long each rate lasts (%(default)s)"
    )
    parser.add_argument("--generations", type=int, default=GENERATIONS, help="a throughput run (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="each case once")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout, no table")
    parser.add_argument(
        "--page", type=Path, help="where to write the page (docs/, after a run of everything)"
    )
    parser.add_argument(
        "--dir", type=Path, help="where the data goes: a disk, not memory (a temporary folder)"
    )
    given = parser.parse_args(arguments)
    for only in given.only.split(","):
        if not any(name.startswith(only) for name in NAMES):
            parser.error(f"no case begins with {only}: there are {', '.join(NAMES)}")
    if not 0 < given.seconds <= SECONDS_MAX or not 0 < given.generations <= GENERATIONS_MAX:
        parser.error(f"at most {SECONDS_MAX:g} seconds and {GENERATIONS_MAX:,} generations, more than 0")
    return given


def _terminated(number: int, frame: object) -> NoReturn:
    # As Ctrl-C: the services we started are ended on the way out.
    raise KeyboardInterrupt


def _run(given: argparse.Namespace) -> Results:
    with ExitStack() as stack:
        base = Path(
            # A service that was killed leaves a process that writes for a moment longer.
            stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="genledger-bench-", dir=given.dir, ignore_cleanup_errors=True
                )
            )
        )
        only = tuple(given.only.split(","))
        plan = Plan(only, given.seconds, given.generations, 1 if given.quick else ROUNDS, base)
        date = times.text_of(clock.now_ms() // 1000 * times.SECOND_NS)
        before, about = load_average(), machine(base)
        run = Run(plan, stack)
        run.measure()
        return Results(
            date,
            about,
            plan.seconds,
            plan.generations,
            [before, load_average()],
            run.cases,
            os.cpu_count() or 1,
            run.skipped,
        )


def main(arguments: list[str] | None = None) -> int:
    """Measure and tell; 1 when a figure was wrong or the service did not hold."""
    given = _arguments(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, _terminated)  # also where a shell in the background has us ignore it
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it can't do it tries again
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
    whole = not given.only and not given.quick and given.generations == GENERATIONS
    path = given.page or (PAGE if whole and given.seconds >= SECONDS else None)
    if path is not None:
        path.write_text(report.page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
