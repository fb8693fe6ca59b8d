"""The loops of `hand.py` as cases: each in a process of its own, its totals read back from where it wrote.

decode(bench), ledger(bench), summaries(bench), road(bench)      # {"per_s": ..., "cpu_us": ...}
"""

from benchmarks import hand, kafka, views
from benchmarks.alone import alone
from benchmarks.bench import Bench, Figures
from benchmarks.hand import Took
from benchmarks.preload import make_topics
from benchmarks.traffic import records_of


def decode(bench: Bench) -> Figures:
    """Records fetched and decoded, nothing more."""
    count = _count(bench)
    return _figures(alone(hand.decode_loop, bench.bootstrap, bench.generations, count), count)


def ledger(bench: Bench) -> Figures:
    """The ledger's step."""
    took, count = _ledger(bench)
    return _figures(took, count)


def summaries(bench: Bench) -> Figures:
    """The summaries' step, into the project's own tables with all their indexes."""
    return _summaries(bench, indexed=True)


def summaries_bare(bench: Bench) -> Figures:
    """The same with processed_generations as a table of its key alone."""
    return _summaries(bench, indexed=False)


def road(bench: Bench) -> Figures:
    """Both steps in one process."""
    _make_topics(bench)
    count, path = _count(bench), bench.base / "views.db"
    took = alone(hand.road_loop, bench.bootstrap, bench.generations, bench.prefix, path, count)
    kafka.check_usage(bench.bootstrap, bench.prefix + "usage", count, bench.traffic.totals())
    views.check(path, bench.traffic.totals())
    return _figures(took, count)


def _ledger(bench: Bench) -> tuple[Took, int]:
    _make_topics(bench)
    count = _count(bench)
    took = alone(hand.ledger_loop, bench.bootstrap, bench.generations, bench.prefix, count)
    kafka.check_usage(bench.bootstrap, bench.prefix + "usage", count, bench.traffic.totals())
    return took, count


def _summaries(bench: Bench, *, indexed: bool) -> Figures:
    _, count = _ledger(bench)
    path = bench.base / "views.db"
    usage = bench.prefix + "usage"
    took = alone(hand.summaries_loop, bench.bootstrap, usage, path, count, indexed=indexed)
    views.check(path, bench.traffic.totals())
    return _figures(took, count)


def _make_topics(bench: Bench) -> None:
    make_topics(bench.bootstrap, bench.prefix + "usage")
    make_topics(bench.bootstrap, bench.prefix + "changelog", compacted=True)


def _count(bench: Bench) -> int:
    return records_of(len(bench.traffic.lines))


def _figures(took: Took, count: int) -> Figures:
    return {"per_s": count / took.wall_s, "cpu_us": took.cpu_s / count * 1e6}
