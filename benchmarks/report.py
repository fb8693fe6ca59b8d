"""Medians, ratios and targets; the table on the screen and the page in docs/.

    results.cases["latency-100"] = [run.figures, ...]
    Console().print(*tables(results)); page(results)

A target is met when the median of the runs meets it.
"""

import math
from collections.abc import Callable, Sequence
from statistics import median

import msgspec
from rich.table import Table

Figures = dict[str, float]

# name: what it is, and how many digits after the point
METRICS = {
    "requests": ("requests", 0),
    "errors": ("errors", 0),
    "reached_per_s": ("reached 1/s", 1),
    "client_late_p99_ms": ("client late p99 ms", 2),
    "ack_p50_ms": ("ack p50 ms", 2),
    "ack_p90_ms": ("ack p90 ms", 2),
    "ack_p99_ms": ("ack p99 ms", 2),
    "ack_max_ms": ("ack max ms", 1),
    "summary_p50_ms": ("summary p50 ms", 1),
    "summary_p99_ms": ("summary p99 ms", 1),
    "summary_max_ms": ("summary max ms", 1),
    "generations": ("generations", 0),
    "accepted_per_s": ("accepted 1/s", 0),
    "road_per_s": ("whole road 1/s", 0),
    "busy_answers": ("429 and 503", 0),
    "cpu_s_per_1000": ("server CPU s per 1,000", 4),
    "memory_mib": ("server MiB at most", 0),
    "per_s": ("events 1/s", 0),
}
# case, figure, most or least, the target
TARGETS = (
    ("latency-100", "ack_p50_ms", "<=", 5.0, "acknowledged within 5 ms at p50, 100 requests/s"),
    ("latency-100", "ack_p99_ms", "<=", 20.0, "acknowledged within 20 ms at p99, 100 requests/s"),
    ("latency-100", "summary_p99_ms", "<=", 250.0, "in the summaries within 250 ms at p99, 100 requests/s"),
    ("throughput-openrouter", "road_per_s", ">=", 20_000.0, "20,000 generations/s, whole road"),
)
RATIOS = (
    ("throughput-openrouter", "road_per_s", "by-hand-openrouter", "per_s"),
    ("throughput-uuid", "road_per_s", "by-hand-uuid", "per_s"),
    ("throughput-openrouter", "accepted_per_s", "decode", "per_s"),
    ("by-hand-openrouter", "per_s", "decode", "per_s"),
    ("throughput-uuid", "road_per_s", "throughput-openrouter", "road_per_s"),
)
_ABOUT = """\
Written by `python -m benchmarks` (`make bench`); the figures are one machine's, on one day.

- A real `genledger serve` on fresh files with default settings: every acknowledgement and every change of a
  view comes after an fsync. It is driven over loopback HTTP by another process on the same cores.
- Latency: one event a request over at most 64 connections, open loop. Each request has a fixed time,
  whether or not earlier ones are answered, and is measured from that time. How late the client itself was
  is part of each figure, and shown. At 1 a second a run has so few requests that its p99 is its maximum.
- To summary: another process reads the summaries' positions about every millisecond, read-only; a position
  is written in the transaction of its rows. Each event's own place on the log says when it was visible.
- Throughput: NDJSON of 1,000 events a request, 4 in flight, after a warm-up of the same service. 20
  organisations, 300 users (each of one organisation), 40 models, each event at random on one of 3 days. The
  road ends when summaries and processed_generations have all. `openrouter` ids rise with time, `uuid` ids
  are random; in `scattered` every user is in every organisation, so that nearly each event has its own row.
- Totals are read back from four tables and are exactly those sent, or the run fails.
- By hand: one process, no HTTP, no facts, no changelog, no recovery. It decodes, looks ids up in a
  dictionary, and writes a log, three summaries and processed_generations to SQLite in fsynced batches of
  4,000. `decode` is decoding alone.
"""


class Results(msgspec.Struct):
    """Everything that was measured."""

    date: str
    machine: dict[str, str]
    seconds: float
    generations: int
    load_average: list[str]
    cases: dict[str, list[Figures]]


class Target(msgspec.Struct, frozen=True):
    """A target of the issue, and what came of it."""

    text: str
    measured: float
    met: bool


def percentile(ascending: Sequence[float], share: float) -> float:
    """The nearest rank: a value that was really measured."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def middle(results: Results, case: str, name: str) -> float | None:
    """The median of a figure's runs; None when it was not measured."""
    values = [run[name] for run in results.cases.get(case, []) if name in run]
    return median(values) if values else None


def targets(results: Results) -> list[Target]:
    """The targets that this run can judge."""
    found = []
    for case, name, sign, value, text in TARGETS:
        measured = middle(results, case, name)
        if measured is not None:
            met = measured <= value if sign == "<=" else measured >= value
            found.append(Target(text, measured, met))
    return found


def ratios(results: Results) -> dict[str, float]:
    """What is how many times what."""
    found = {}
    for case, name, other, other_name in RATIOS:
        above, below = middle(results, case, name), middle(results, other, other_name)
        if above is not None and below:
            found[f"{_title(case, name)} / {_title(other, other_name)}"] = above / below
    return found


def _title(case: str, name: str) -> str:
    return f"{case} {METRICS[name][0].removesuffix(' 1/s')}"


def text_of(name: str, value: float) -> str:
    """A figure as it is shown."""
    return f"{value:,.{METRICS[name][1]}f}"


def tables(results: Results) -> list[Table]:
    """For the screen: each figure's median, least and greatest; then what to make of them."""
    shown, judged = Table("case", "figure"), Table("target or ratio")
    for title in ("median", "min", "max"):
        shown.add_column(title, justify="right")
    for title in ("measured", "met"):
        judged.add_column(title, justify="right")
    for case, runs in results.cases.items():
        for number, name in enumerate(runs[0]):
            values = [run[name] for run in runs]
            cells = [text_of(name, of(values)) for of in (median, min, max)]
            shown.add_row(
                "" if number else case, METRICS[name][0], *cells, end_section=name == [*runs[0]][-1]
            )
    for target in targets(results):
        judged.add_row(target.text, f"{target.measured:,.1f}", "yes" if target.met else "no")
    for text, ratio in ratios(results).items():
        judged.add_row(text, f"{ratio:.2f}", "")
    return [shown, judged] if judged.rows else [shown]


def page(results: Results) -> str:
    """For docs/: the method, the machine, the targets, and every run."""
    met = [f"| {t.text} | {t.measured:,.1f} | {'yes' if t.met else 'no'} |" for t in targets(results)]
    before, after = results.load_average
    facts = [f"- {name}: {value}" for name, value in results.machine.items()]
    lines = [
        "# Benchmarks\n",
        _ABOUT,
        f"## {results.date}\n",
        *facts,
        f"- load average of one minute: {before} before, {after} after, when some 2 are the benchmark's own",
        f"- {results.seconds:g} s a rate, twice that at 1/s; {results.generations:,} generations a run",
        "\n## Targets, by the median of the runs\n\n| target | measured | met |\n| --- | ---: | --- |",
        *met,
    ]
    lines += _section(results, "Latency", lambda case: case.startswith("latency"))
    lines += _section(results, "Throughput", lambda case: case.startswith("throughput"))
    lines += _section(results, "Beside it", lambda case: not case.startswith(("latency", "throughput")))
    lines += ["\n## Ratios of the medians\n\n| what | times |\n| --- | ---: |"]
    lines += [f"| {text} | {ratio:.2f} |" for text, ratio in ratios(results).items()]
    return "\n".join(lines) + "\n"


def _section(results: Results, title: str, belongs: Callable[[str], bool]) -> list[str]:
    cases = {case: runs for case, runs in results.cases.items() if belongs(case)}
    if not cases:
        return []
    names = list(next(iter(cases.values()))[0])
    heads = " | ".join(METRICS[name][0] for name in names)
    lines = [f"\n## {title}\n", f"| case | run | {heads} |", "| --- | --- |" + " ---: |" * len(names)]
    for case, runs in cases.items():
        middles = {name: median(run[name] for run in runs) for name in names}
        for number, run in [("median", middles), *((str(n), run) for n, run in enumerate(runs, 1))]:
            cells = " | ".join(text_of(name, run[name]) for name in names)
            lines.append(f"| {case} | {number} | {cells} |")
    return lines
