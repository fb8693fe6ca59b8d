"""Bytewax 0.21: each id kept in its own state, sums written by a sink.

    dedup_and_sums(bench)      # {"per_s": ...}

As its documentation has it: `kop.input` from Kafka in batches of 1,000 (its default), keyed by id, a
`stateful_flat_map` that lets an id through once, and a `DynamicSink`. One worker: its workers are threads of
one interpreter. Without a recovery store, so nothing of its state is durable: with one it would be slower. A
message is decoded by msgspec into a type of the fields that are summed, which is the fastest there is. The
sink folds in memory and writes SQLite every 4,000 events. It does less than our two steps: no facts.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.bench import Bench, Figures
from benchmarks.peers import EVENTS, sums, venv
from benchmarks.peers.sums import BATCH, Event, Sums, nano_of
from benchmarks.state import child
from benchmarks.traffic import deliveries
from streams import clock

MODULE = "benchmarks.peers.bytewax"


class Plan(msgspec.Struct, frozen=True):
    """What the process is to do."""

    bootstrap: str
    topic: str
    records: int
    base: str


class Line(msgspec.Struct, frozen=True, gc=False):
    """The fields of an event that are summed."""

    id: str
    organization: str
    user: str
    model: str
    provider: str
    prompt_tokens: int
    completion_tokens: int
    cost: str
    created_at: str


def dedup_and_sums(bench: Bench) -> Figures:
    """Fill a topic, and let it run to the topic's end."""
    from benchmarks import preload

    python = venv.python_with("bytewax")
    traffic = bench.traffic.first(EVENTS)
    topic = bench.prefix + "generations"
    records = preload.fill(bench.bootstrap, topic, deliveries(traffic))
    figures = child.run(MODULE, Plan(bench.bootstrap, topic, records, str(bench.base)), python)
    sums.check(bench.base / "sums.db", traffic.totals())
    return figures


def measure(plan: Plan) -> Figures:
    """In the process itself."""
    import bytewax.operators as op
    from bytewax.connectors.kafka import operators as kop
    from bytewax.dataflow import Dataflow
    from bytewax.run import cli_main

    decode = msgspec.json.Decoder(Line).decode
    started_s = 0.0

    def line_of(message: Any) -> tuple[str, Line]:
        nonlocal started_s
        if not started_s:
            started_s = clock.monotonic_s()
        line = decode(message.value)
        return line.id, line

    def unseen(seen: bool | None, line: Line) -> tuple[bool, Iterable[Line]]:
        return True, () if seen else (line,)

    totals = Sums(Path(plan.base) / "sums.db")
    flow = Dataflow("dedup_and_sums")
    source = kop.input("generations", flow, brokers=[plan.bootstrap], topics=[plan.topic], tail=False)
    keyed = op.map("decode", source.oks, line_of)
    once = op.stateful_flat_map("dedup", keyed, unseen)
    op.output("sums", once, _sink(totals))
    cli_main(flow, workers_per_process=1)
    took_s = clock.monotonic_s() - started_s
    totals.close()
    return {"records": plan.records, "per_s": plan.records / took_s}


def _sink(totals: Sums) -> Any:
    from bytewax.outputs import DynamicSink, StatelessSinkPartition

    class Part(StatelessSinkPartition[tuple[str, Line]]):
        """The one worker's."""

        def write_batch(self, items: list[tuple[str, Line]]) -> None:
            for _, line in items:
                totals.add(event_of(line))
            if totals.waiting >= BATCH:
                totals.write()

        def close(self) -> None:
            totals.write()

    class Summaries(DynamicSink[tuple[str, Line]]):
        """Written by each worker."""

        def build(self, step_id: str, worker_index: int, worker_count: int) -> Part:
            return Part()

    return Summaries()


def event_of(line: Line) -> Event:
    """From the decoded event."""
    return Event(
        line.organization,
        line.created_at[:10],
        line.user,
        line.model,
        line.provider,
        line.prompt_tokens + line.completion_tokens,
        nano_of(line.cost),
    )


if __name__ == "__main__":
    child.main(sys.argv[1], Plan, measure)
