"""What every case is given: a folder, a Kafka, the events, and a topic prefix that is its own.

    def dedup_and_sums(bench: Bench) -> dict[str, float]:
        preload.fill(bench.bootstrap, bench.prefix + "generations", deliveries(bench.traffic.first(50_000)))
        ...
        return {"per_s": records / took_s}

A case reads back what it has written, and raises `BenchmarkFailed` when it is not exactly what was sent.
"""

from pathlib import Path

import msgspec

from benchmarks.traffic import Traffic

Figures = dict[str, float]


class Bench(msgspec.Struct, frozen=True):
    """One case of one run. `base` is fresh and goes away afterwards; `bootstrap` is "host:port".

    `generations` is a topic with the deliveries of the traffic, for cases that only read it.
    """

    base: Path
    bootstrap: str
    traffic: Traffic
    prefix: str
    generations: str = ""
    seconds: float = 0.0
    seed: int = 0
