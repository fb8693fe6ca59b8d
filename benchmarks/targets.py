"""What is compared with what, and what must come of it.

LIMITS["ours-ledger-uuid", "per_s"]        # ("hand-ledger-uuid", "per_s"): the limit of that figure
TARGETS[0].text, TARGETS[0].figure, TARGETS[0].least

A loop written by hand counts as a limit only if it is quick enough itself: `PROTOTYPE` has the ratios to the
bare decode loop that a prototype of each has once reached, and a loop must come within 20 % of them.
"""

import msgspec

from benchmarks.traffic import IDS

Figure = tuple[str, str]

KAFKA_IDS = ("openrouter", "uuid")
# events a second of the prototypes, and of the bare loop on the same machine
DECODE = 355_000
PROTOTYPE = {
    "hand-ledger": 101_000,
    "hand-summaries": 122_000,
    "hand-summaries-bare": 122_000,
    "hand-both": 53_000,
}
PROTOTYPE_IDS = "openrouter"
REACHED = 0.8
CORES_FOR_TWO = 4


class Target(msgspec.Struct, frozen=True):
    """A figure, or how many times another it is, and the least or most that it must be.

    `within`: so much more than the other one is good enough, however many times it is.
    `cores`: on fewer it is only reported.
    """

    text: str
    figure: Figure
    of: Figure | None = None
    least: float | None = None
    most: float | None = None
    within: float | None = None
    cores: int = 1
    unit: str = ""


def prototype_ratio(case: str) -> float | None:
    """What a loop by hand must come within 20 % of, as a ratio to the bare loop; None for other cases."""
    name, _, kind = case.rpartition("-")
    return PROTOTYPE[name] / DECODE if name in PROTOTYPE and kind == PROTOTYPE_IDS else None


def _limits() -> dict[Figure, Figure]:
    found: dict[Figure, Figure] = {("decode", "per_s"): ("hand-decode", "per_s")}
    for kind in KAFKA_IDS:
        for name in PROTOTYPE:
            found[f"{name}-{kind}", "per_s"] = ("hand-decode", "per_s")
        for name in ("ledger", "summaries"):
            found[f"ours-{name}-{kind}", "per_s"] = (f"hand-{name}-{kind}", "per_s")
        for name in ("road-in-one", "road"):
            found[f"ours-{name}-{kind}", "per_s"] = (f"hand-both-{kind}", "per_s")
        found[f"ours-road-with-two-{kind}", "per_s"] = (f"ours-road-{kind}", "per_s")
        found[f"rebuild-{kind}", "replay_per_s"] = (f"rebuild-{kind}", "hand_per_s")
        found[f"rebuild-{kind}", "replay_working_per_s"] = (f"rebuild-{kind}", "hand_working_per_s")
        found[f"rebuild-{kind}", "prove_per_s"] = (f"rebuild-{kind}", "hand_per_s")
    found["points", "ours_per_s"] = ("points", "hand_per_s")
    for name in ("p50", "p99"):
        found["points", f"write_100_{name}_ms"] = ("points", f"hand_write_100_{name}_ms")
    for kind in IDS:
        found[f"by-hand-{kind}", "per_s"] = ("decode", "per_s")
        found[f"throughput-{kind}", "road_per_s"] = (f"by-hand-{kind}", "per_s")
        found[f"throughput-{kind}", "accepted_per_s"] = ("decode", "per_s")
    for name in ("faust-two-steps", "quix-dedup-and-sums", "bytewax-dedup-and-sums"):
        found[name, "per_s"] = ("hand-both-openrouter", "per_s")
    return found


LIMITS = _limits()
_SHARE = 0.75


def _of_limit(case: str, text: str, least: float, figure: str = "per_s") -> Target:
    return Target(text, (case, figure), LIMITS[case, figure], least)


TARGETS = (
    Target(
        "acknowledged within 5 ms at p50, 100 requests/s", ("latency-100", "ack_p50_ms"), most=5.0, unit="ms"
    ),
    Target(
        "acknowledged within 20 ms at p99, 100 requests/s",
        ("latency-100", "ack_p99_ms"),
        most=20.0,
        unit="ms",
    ),
    Target(
        "in the summaries within 250 ms at p99, 100 requests/s",
        ("latency-100", "summary_p99_ms"),
        most=250.0,
        unit="ms",
    ),
    Target(
        "the door's checks: p99 at most 1.25 times that without them, or 5 ms more, 200 requests/s",
        ("latency-200-checked", "ack_p99_ms"),
        ("latency-200-unchecked", "ack_p99_ms"),
        most=1.25,
        within=5.0,
    ),
    Target(
        "summaries, InfluxDB away: p99 at most 1.25 times that beside it, or 5 ms more, 200 requests/s",
        ("summaries-200-influxdb-away", "summary_p99_ms"),
        ("summaries-200-influxdb", "summary_p99_ms"),
        most=1.25,
        within=5.0,
    ),
    *(
        Target(
            f"{what} at p99 while {doing}: at most 1.25 times that at rest, or 5 ms more, 200 requests/s",
            (case, figure),
            ("cleanup-200-off", figure),
            most=1.25,
            within=5.0,
        )
        for case, doing in (("cleanup-200", "ids are forgotten"), ("cleanup-200-compacting", "compacting"))
        for what, figure in (("acknowledged", "ack_p99_ms"), ("in the summaries", "summary_p99_ms"))
    ),
    Target(
        "20,000 generations/s, whole road, embedded",
        ("throughput-openrouter", "road_per_s"),
        least=20_000.0,
        unit="1/s",
    ),
    *(
        target
        for kind in KAFKA_IDS
        for target in (
            _of_limit(f"ours-ledger-{kind}", f"ledger, 0.75 of its loop by hand, {kind} ids", _SHARE),
            _of_limit(
                f"ours-summaries-{kind}",
                f"summaries, 0.75 of its loop by hand on the same tables, {kind} ids",
                _SHARE,
            ),
            Target(
                f"summaries, 0.75 of its loop by hand on bare tables, {kind} ids",
                (f"ours-summaries-{kind}", "per_s"),
                (f"hand-summaries-bare-{kind}", "per_s"),
                _SHARE,
            ),
            _of_limit(
                f"ours-road-in-one-{kind}", f"one worker, 0.75 of both steps by hand, {kind} ids", _SHARE
            ),
            _of_limit(f"rebuild-{kind}", f"replay, 0.8 of its loop by hand, {kind} ids", 0.8, "replay_per_s"),
        )
    ),
    _of_limit("points", "points, 0.75 of a loop by hand that posts the same lines", _SHARE, "ours_per_s"),
    Target(
        "one worker, 10 times stock Faust doing the same two steps",
        ("ours-road-in-one-openrouter", "per_s"),
        ("faust-two-steps", "per_s"),
        least=10.0,
    ),
    Target(
        f"two ledger workers, faster than one (asked of {CORES_FOR_TWO} cores and more)",
        ("ours-road-with-two-openrouter", "per_s"),
        ("ours-road-openrouter", "per_s"),
        least=1.0,
        cores=CORES_FOR_TWO,
    ),
    Target(
        "table recovery, 20 times stock Faust's",
        ("recovery-ours", "keys_per_s"),
        ("recovery-stock", "keys_per_s"),
        least=20.0,
    ),
    Target(
        "10 million known ids in RocksDB: the ledger's process under 500 MB",
        ("known-ids-10m-rocksdb", "memory_max_mib"),
        most=500e6 / 2**20,
        unit="MiB",
    ),
    Target(
        "10 million known ids in RocksDB: a look-up of a known id under 0.02 ms, in batches",
        ("known-ids-10m-rocksdb", "known_ms_per_key"),
        most=0.02,
        unit="ms",
    ),
)
