"""Medians, ratios and targets; the table on the screen and the page in docs/.

    results.cases["latency-100"] = [run.figures, ...]
    Console().print(*tables(results)); page(results)

Every figure is shown as least, median and greatest of the runs. A target is met when the median meets it; a
ratio is one of medians, of one run of everything.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

import msgspec
from rich.table import Table

from benchmarks.bench import Figures
from benchmarks.targets import LIMITS, REACHED, TARGETS, Figure, Target, prototype_ratio

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
    "cpu_s_per_1000": ("CPU s per 1,000", 4),
    "memory_mib": ("MiB", 0),
    "memory_max_mib": ("MiB at most", 0),
    "cpu_us": ("CPU us each", 1),
    "per_s": ("events 1/s", 0),
}
# What is not in METRICS, by how its name ends: what it ends in on the page, and its digits.
_ENDS = {
    "_per_s": (" 1/s", 0),
    "_ms_per_key": (" ms a key", 4),
    "_us_per_event": (" us an event", 1),
    "_ms": (" ms", 2),
    "_us": (" us", 1),
    "_s": (" s", 2),
    "_mib": (" MiB", 0),
    "_bytes": (" bytes", 0),
}
_RATE = "per_s"
_ABOUT = """\
Written by `python -m benchmarks` (`make bench`); the figures are one machine's, on one day. Everything is
measured in one run of rounds, three of all cases (once what knows ten million ids, two more of the door's
checks), so that a slow minute does not fall on one case.
Totals are read back from where they were written, for every case and contender, and are exactly those sent,
or the run fails.

The events: 20 organisations, 300 users (each of one organisation), 40 models, each event at random on one of
3 days. `openrouter` ids rise with time, `uuid` ids are random; in `scattered` every user is in every
organisation, so that nearly each event has its own row.

On Kafka (`hand-...`, `ours-...`, `rebuild-...` and the contenders): one broker on the same machine, 4
partitions, acks=all, 5 % of the records once more at a random later place. A rate is of records read.

- `hand-decode`: fetch with `getmany` and decode with orjson, nothing more.
- `hand-ledger`: decode, look the id up in a dictionary, exact cost, one fact for each record on `usage` and
  one entry for each new id on a compacted changelog, all acknowledged before the offsets are committed.
- `hand-summaries`: decode facts, fold three summaries and a row of processed_generations for each id, into
  SQLite with synchronous=FULL, in our own tables with all their indexes. `hand-summaries-bare`: the same
  with processed_generations as a table of its key alone, without its three indexes.
- `hand-both`: both in one process, the second reading `usage` back from Kafka.
- `ours-ledger`, `ours-summaries`: `genledger worker ledger` and `genledger worker summaries`, each alone.
  `ours-road-in-one`: both in one process. `ours-road`: as deployed, two processes. `ours-road-with-two`: two
  ledger workers. They are ready, and stopped (SIGSTOP) while the topic is filled; time begins with SIGCONT.
- `rebuild`: `genledger replay --into FILE` and `genledger prove` on a `usage` of our own, beside
  `hand-summaries` on it, all three from the start of the process to its end; `working`: without its start.
- `points`: `genledger worker points` on a `usage` of our own, into a real InfluxDB 1.8 on the same machine,
  beside a loop by hand that decodes the same facts and posts the same lines, 5,000 a body, the next body
  made while one is on its way. Both from their first records to their last; who comes first changes from
  round to round. `write 100`: a hundred points, from structs to the server's answer, by turns through our
  writer and by a bare POST.
- `faust-two-steps`: stock Faust, a table entry for each new id, facts, three summaries. Quix Streams and
  Bytewax: dedup and sums. Each reads the first 50,000 events.

A loop by hand counts as a limit only if it is quick: its ratio to `hand-decode` must come within 20 % of the
one that a prototype of the same loop has once reached, with ids that rise with time and a table of ids
without further indexes. The loops are as quick as they could be made, and can't be trusted with money: no
versions, no settings, no recovery, no transaction. They show what exactness and a framework cost.

Embedded: a real `genledger serve` on fresh files with default settings; every acknowledgement and every
change of a view comes after an fsync. It is driven over loopback HTTP by another process on the same cores.

- Latency: one event a request over at most 64 connections, open loop. Each request has a fixed time,
  whether or not earlier ones are answered, and is measured from that time. How late the client itself was
  is part of each figure, and shown. At 1 a second a run has so few requests that its p99 is its maximum.
- `latency-200-checked`, `latency-200-unchecked`: the same bodies on /webhooks/standard, by turns. Checked: a
  service with an API key and a secret for each of the 20 organisations, each request signed as Standard
  Webhooks has it and sent without its organisation's name, and a rate for each secret. Unchecked: open on
  loopback, no key, no secret, nothing signed, a rate that nobody reaches. Both decode and fsync the same.
- `summaries-200-influxdb`, `summaries-200-influxdb-away`: the same with InfluxDB-first on, by turns with a
  real InfluxDB 1.8 beside it and with nobody listening there.
- `cleanup-200-off`, `cleanup-200`, `cleanup-200-compacting`: 20 organisations of 20 users, on a service that
  knows 12,000 ids of four months ago for each second that is measured. By turns: it leaves them alone; a run
  of the retention job forgets them, from before the first request to beyond the last; the run has ended, and
  compaction goes on likewise. A run that shows less than this fails.
- To summary: another process reads the summaries' positions about every millisecond, read-only; a position
  is written in the transaction of its rows. Each event's own place on the log says when it was visible.
- `throughput`: NDJSON of 1,000 events a request, 4 in flight, after a warm-up of the same service. The road
  ends when summaries and processed_generations have all.
- `by-hand`: one process, no HTTP, no facts, no changelog, no recovery. It decodes, looks ids up in a
  dictionary, and writes a log, three summaries and processed_generations to SQLite in fsynced batches of
  4,000. `decode` is the project's own decoder alone, on lines in memory.
- `sources`: one event from a body in memory to what goes on the log, through the parser of its source and the
  door's judgement: a native event on /webhooks/standard, OpenRouter's generation object, LiteLLM's logging
  payload, and an OTLP body of an agent's four spans, of which two are generations.
"""


class Results(msgspec.Struct):
    """Everything that was measured. `skipped`: what was not, and why."""

    date: str
    machine: dict[str, str]
    seconds: float
    generations: int
    load_average: list[str]
    cases: dict[str, list[Figures]]
    cores: int = 1
    skipped: dict[str, str] = {}


class Judged(msgspec.Struct, frozen=True):
    """A target, and what came of it."""

    text: str
    measured: str
    met: str


def middle(results: Results, figure: Figure) -> float | None:
    """The median of a figure's runs; None when it was not measured."""
    case, name = figure
    values = [run[name] for run in results.cases.get(case, []) if name in run]
    return median(values) if values else None


def ratio(results: Results, figure: Figure, of: Figure | None) -> float | None:
    """How many times another figure it is; None when one of them was not measured."""
    above, below = middle(results, figure), None if of is None else middle(results, of)
    return above / below if above is not None and below else None


def targets(results: Results) -> list[Judged]:
    """The targets that this run can judge."""
    return [judged for target in TARGETS if (judged := _judged(results, target)) is not None]


def _judged(results: Results, target: Target) -> Judged | None:
    of = target.of
    measured = middle(results, target.figure) if of is None else ratio(results, target.figure, of)
    if measured is None:
        return None
    met = (target.least is None or measured >= target.least) and (
        target.most is None or measured <= target.most
    )
    raw = [middle(results, figure) or 0 for figure in (target.figure, of or target.figure)]
    if target.within is not None and raw[0] - raw[1] <= target.within:
        met = True
    told = "yes" if met else "no"
    if results.cores < target.cores:
        told = f"reported: {results.cores} cores"
    if of is None:
        return Judged(target.text, f"{text_of(target.figure[1], measured)} {target.unit}".strip(), told)
    shown = [text_of(target.figure[1], raw[0]), text_of(of[1], raw[1])]
    return Judged(target.text, f"{measured:.2f} ({shown[0]} / {shown[1]})", told)


def loops(results: Results) -> Iterator[tuple[str, float, float, str]]:
    """Each loop by hand: its ratio to the bare loop, the prototype's, and whether it counts as a limit."""
    for case in results.cases:
        wanted = prototype_ratio(case)
        found = ratio(results, (case, _RATE), ("hand-decode", _RATE))
        if wanted is not None and found is not None:
            yield case, found, wanted, "yes" if found >= REACHED * wanted else "no"


def label_of(name: str) -> str:
    """What a figure is, in words."""
    if name in METRICS:
        return METRICS[name][0]
    end = _end_of(name)
    return (name.removesuffix(end) + _ENDS[end][0] if end else name).replace("_", " ")


def text_of(name: str, value: float) -> str:
    """A figure as it is shown."""
    end = _end_of(name)
    digits = METRICS[name][1] if name in METRICS else _ENDS[end][1] if end else 0
    return f"{value:,.{digits}f}"


def _end_of(name: str) -> str:
    return next((end for end in _ENDS if name.endswith(end)), "")


def _rates(results: Results) -> Iterator[tuple[str, str]]:
    """Every rate of throughput."""
    for case, runs in results.cases.items():
        if not case.startswith("latency"):
            yield from ((case, name) for name in runs[0] if name.endswith(_RATE))


def _title(case: str, name: str) -> str:
    return case if name == _RATE else f"{case}: {label_of(name).removesuffix(' 1/s')}"


def _spread(results: Results, case: str, name: str) -> list[str]:
    values = [run[name] for run in results.cases[case]]
    return [text_of(name, of(values)) for of in (min, median, max)]


def _compared(results: Results, case: str, name: str) -> tuple[str, str]:
    """How many times its limit a figure is, and the limit's name."""
    of = LIMITS.get((case, name))
    found = ratio(results, (case, name), of)
    return ("", "") if of is None or found is None else (f"{found:.2f}", _title(*of))


def tables(results: Results) -> list[Table]:
    """For the screen: each figure's least, median and greatest; then what to make of them."""
    shown = Table("case", "figure")
    for title in ("min", "median", "max", "ratio"):
        shown.add_column(title, justify="right")
    shown.add_column("to")
    for case, runs in results.cases.items():
        for number, name in enumerate(runs[0]):
            cells = (*_spread(results, case, name), *_compared(results, case, name))
            last = name == [*runs[0]][-1]
            shown.add_row("" if number else case, label_of(name), *cells, end_section=last)
    judged = Table("target")
    for title in ("measured", "met"):
        judged.add_column(title, justify="right")
    for target in targets(results):
        judged.add_row(target.text, target.measured, target.met)
    return [shown, judged] if judged.rows else [shown]


def page(results: Results) -> str:
    """For docs/: the method, the machine, the targets, and every figure."""
    before, after = results.load_average
    lines = [
        "# Benchmarks\n",
        _ABOUT,
        f"## {results.date}\n",
        *(f"- {name}: {value}" for name, value in results.machine.items()),
        f"- load average of one minute: {before} before, {after} after, when some 2 are the benchmark's own",
        f"- {results.seconds:g} s a rate, twice that at 1/s; {results.generations:,} generations a run",
        *(f"- not measured: {case}: {reason}" for case, reason in results.skipped.items()),
    ]
    lines += _table(
        "Targets, by the median of the runs", ("target", "measured", "met"), _target_rows(results)
    )
    heads: tuple[str, ...] = (
        "case",
        "min 1/s",
        "median 1/s",
        "max 1/s",
        "ratio of medians",
        "to",
        "CPU us each",
    )
    lines += _table("Throughput", heads, _rate_rows(results))
    heads = ("loop by hand", "ratio to hand-decode", "the prototype's", "counts as a limit")
    lines += _table("Are the loops by hand quick enough?", heads, _loop_rows(results))
    lines += _latency(results)
    lines += _table("The rest", ("case", "figure", "min", "median", "max"), _other_rows(results))
    return "\n".join(lines) + "\n"


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [f"\n## {title}\n", f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _target_rows(results: Results) -> list[tuple[str, ...]]:
    return [(target.text, target.measured, target.met) for target in targets(results)]


def _rate_rows(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for case, name in _rates(results):
        used_us = middle(results, (case, "cpu_us")) if name == _RATE else None
        used = "" if used_us is None else text_of("cpu_us", used_us)
        compared = _compared(results, case, name)
        rows.append((_title(case, name), *_spread(results, case, name), *compared, used))
    return rows


def _loop_rows(results: Results) -> list[tuple[str, ...]]:
    return [(case, f"{found:.3f}", f"{wanted:.3f}", told) for case, found, wanted, told in loops(results)]


def _other_rows(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    rates = set(_rates(results))
    for case, runs in results.cases.items():
        if not case.startswith("latency"):
            names = [name for name in runs[0] if (case, name) not in rates and name != "cpu_us"]
            rows += [(case, label_of(name), *_spread(results, case, name)) for name in names]
    return rows


def _latency(results: Results) -> list[str]:
    cases = {case: runs for case, runs in results.cases.items() if case.startswith("latency")}
    if not cases:
        return []
    names = list(next(iter(cases.values()))[0])
    rows: list[tuple[str, ...]] = []
    how: dict[str, Callable[[Sequence[float]], float]] = {"min": min, "median": median, "max": max}
    for case, runs in cases.items():
        for title, of in how.items():
            cells = [text_of(name, of([run[name] for run in runs])) for name in names]
            rows.append((case, title, *cells))
    return _table("Latency", ("case", "of the runs", *map(label_of, names)), rows)
