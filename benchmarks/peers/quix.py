"""Quix Streams 3: each id kept in its own state store, sums written by a sink.

    dedup_and_sums(bench)      # {"per_s": ...}

As its documentation has it: a stateful callback with the message's key as the state's key (RocksDB with a
changelog topic on Kafka, both by default), and a custom `BatchingSink` that is flushed with each checkpoint.
Its JSON deserializer (orjson) reads the values; it produces idempotently, with acks=all. The sink folds in
memory and writes SQLite: summing in its state would need a repartition topic, and be slower. So it does less
than our two steps: no facts. What it guarantees is at-least-once; the timing ends with the last checkpoint.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.bench import Bench, Figures
from benchmarks.peers import EVENTS, sums, venv
from benchmarks.peers.sums import Event, Sums, nano_of
from benchmarks.state import child
from benchmarks.traffic import deliveries
from streams import clock

MODULE = "benchmarks.peers.quix"


class Plan(msgspec.Struct, frozen=True):
    """What the process is to do."""

    bootstrap: str
    topic: str
    records: int
    base: str


def dedup_and_sums(bench: Bench) -> Figures:
    """Fill a topic, and let it run until it has taken all of it."""
    from benchmarks import kafka, preload

    python = venv.python_with("quixstreams")
    traffic = bench.traffic.first(EVENTS)
    topic = bench.prefix + "generations"
    records = preload.fill(bench.bootstrap, topic, deliveries(traffic))
    plan = Plan(bench.bootstrap, topic, records, str(bench.base))
    try:
        figures = child.run(MODULE, plan, python)
    finally:
        kafka.remove(bench.bootstrap, f"changelog__{bench.prefix}")  # the runner knows no such names
    sums.check(bench.base / "sums.db", traffic.totals())
    return figures


def measure(plan: Plan) -> Figures:
    """In the process itself."""
    from quixstreams import Application

    app = Application(
        broker_address=plan.bootstrap,
        consumer_group=f"{plan.topic}-quix",
        auto_offset_reset="earliest",
        state_dir=Path(plan.base) / "state",
        producer_extra_config={"acks": "all"},
        loglevel="WARNING",
    )
    started_s = 0.0

    def unseen(value: dict[str, Any], state: Any) -> dict[str, Any] | None:
        nonlocal started_s
        if not started_s:
            started_s = clock.monotonic_s()
        if state.get("seen", False):
            return None
        state.set("seen", True)
        return value

    totals = Sums(Path(plan.base) / "sums.db")
    frame = app.dataframe(app.topic(plan.topic, key_deserializer="bytes", value_deserializer="json"))
    frame = frame.apply(unseen, stateful=True)
    frame.sink(_sink(totals))
    # As many outputs as records, for it stops by their number: what was seen before comes out as None.
    app.run(count=plan.records, collect=False)
    took_s = clock.monotonic_s() - started_s
    totals.close()
    return {"records": plan.records, "per_s": plan.records / took_s}


def _sink(totals: Sums) -> Any:
    from quixstreams.sinks import BatchingSink, SinkBatch

    class Summaries(BatchingSink):  # type: ignore[misc]
        """Flushed with each checkpoint, after the changelog and before the state."""

        def write(self, batch: SinkBatch) -> None:
            for item in batch:
                if item.value is not None:
                    totals.add(event_of(item.value))
            totals.write()

    return Summaries()


def event_of(value: dict[str, Any]) -> Event:
    """From the event's JSON."""
    return Event(
        value["organization"],
        value["created_at"][:10],
        value["user"],
        value["model"],
        value["provider"],
        value["prompt_tokens"] + value["completion_tokens"],
        nano_of(value["cost"]),
    )


if __name__ == "__main__":
    child.main(sys.argv[1], Plan, measure)
