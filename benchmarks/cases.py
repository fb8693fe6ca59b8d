"""Every case: its name, the function that measures it, and what it needs. A new case is a line here.

for case in CASES:
    figures = case.run(Bench(base, bootstrap, traffic, prefix))
"""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from benchmarks import by_hand, cleaning, door, limits, ours, points, rebuilding, sources
from benchmarks.bench import Bench, Figures
from benchmarks.latency import latency
from benchmarks.peers import bytewax, quix, stock_faust
from benchmarks.state import known_ids, queries, recovery
from benchmarks.state.served import served
from benchmarks.targets import KAFKA_IDS
from benchmarks.throughput import BATCH, throughput
from benchmarks.traffic import IDS, make

RUNS = 3
# A p99 is of twenty requests in two thousand: it takes more runs to tell two of them apart.
DOOR_RUNS = 5
# An embedded service takes so many at most, after a tenth of them to warm up.
EMBEDDED_MAX = 100_000
WARM_UP = 10
# requests a second, and how many times the given seconds it lasts
RATES = {"latency-1": (1, 2), "latency-100": (100, 1), "latency-1000": (1000, 1)}
# The kind that is harder on a table: at random, longer than its caches remember.
KNOWN_KIND = "uuid"
KNOWN = {"1m": 1_000_000, "10m": 10_000_000}
STORES = ("memory", "rocksdb", "embedded")

Run = Callable[[Bench], Figures]


class Case(msgspec.Struct, frozen=True):
    """`reads`: it only reads `generations`, which are there before it begins. `kind`: of ids.

    `runs` is how often it is measured at most.
    """

    name: str
    run: Run
    kind: str = "openrouter"
    kafka: bool = False
    reads: bool = False
    runs: int = RUNS


def _latency(rate: int, longer: int, bench: Bench) -> Figures:
    count = max(1, round(rate * bench.seconds * longer))
    return latency(bench.base, make(count, "openrouter", bench.seed + 1), rate, bench.seed)


def _throughput(kind: str, bench: Bench) -> Figures:
    traffic = bench.traffic.first(EMBEDDED_MAX)
    warm_up = make(max(BATCH, len(traffic.lines) // WARM_UP), kind, bench.seed + 1)
    return throughput(bench.base, warm_up, traffic)


def _by_hand(bench: Bench) -> Figures:
    return limits.by_hand(bench.base, bench.traffic.first(EMBEDDED_MAX))


def _decode(bench: Bench) -> Figures:
    return limits.decode_only(bench.traffic.first(EMBEDDED_MAX))


def _kafka_cases(kind: str) -> Sequence[Case]:
    reading: dict[str, Run] = {
        "ledger": by_hand.ledger,
        "summaries": by_hand.summaries,
        "summaries-bare": by_hand.summaries_bare,
        "both": by_hand.road,
    }
    writing: dict[str, Run] = {
        "ledger": ours.ledger,
        "summaries": ours.summaries,
        "road-in-one": ours.road_in_one,
        "road": ours.road,
        "road-with-two": ours.road_with_two,
    }
    return (
        *(Case(f"hand-{name}-{kind}", run, kind, kafka=True, reads=True) for name, run in reading.items()),
        *(Case(f"ours-{name}-{kind}", run, kind, kafka=True) for name, run in writing.items()),
        Case(f"rebuild-{kind}", rebuilding.rebuild, kind, kafka=True),
    )


def _known_ids(store: str, count: int, bench: Bench) -> Figures:
    if store == "embedded":
        return served(count, KNOWN_KIND, bench.base)
    return known_ids.store(store, count, KNOWN_KIND, bench.base)


CASES: Sequence[Case] = (
    *(Case(name, partial(_latency, *rate)) for name, rate in RATES.items()),
    # Side by side, so that the runs of the two alternate.
    Case("latency-200-checked", door.checked, runs=DOOR_RUNS),
    Case("latency-200-unchecked", door.unchecked, runs=DOOR_RUNS),
    Case("summaries-200-influxdb", points.healthy, runs=DOOR_RUNS),
    Case("summaries-200-influxdb-away", points.away, runs=DOOR_RUNS),
    Case("cleanup-200-off", cleaning.resting, runs=DOOR_RUNS),
    Case("cleanup-200", cleaning.sweeping, runs=DOOR_RUNS),
    Case("cleanup-200-compacting", cleaning.compacting, runs=DOOR_RUNS),
    *(Case(f"throughput-{kind}", partial(_throughput, kind), kind) for kind in IDS),
    *(Case(f"by-hand-{kind}", _by_hand, kind) for kind in IDS),
    Case("decode", _decode),
    Case("sources", sources.read),
    Case("hand-decode", by_hand.decode, kafka=True, reads=True),
    *(case for kind in KAFKA_IDS for case in _kafka_cases(kind)),
    Case("points", points.points, kafka=True),
    Case("faust-two-steps", stock_faust.two_steps, kafka=True),
    Case("quix-dedup-and-sums", quix.dedup_and_sums, kafka=True),
    Case("bytewax-dedup-and-sums", bytewax.dedup_and_sums, kafka=True),
    Case("recovery-ours", recovery.ours, kafka=True),
    Case("recovery-stock", recovery.stock, kafka=True),
    *(
        # Ten million take minutes: once.
        Case(
            f"known-ids-{size}-{store}", partial(_known_ids, store, count), runs=1 if size == "10m" else RUNS
        )
        for size, count in KNOWN.items()
        for store in STORES
    ),
    Case("queries-year", queries.year),
)
NAMES = tuple(case.name for case in CASES)
ROUNDS = max(case.runs for case in CASES)
