"""How fast is it, on this machine, with every write on the disk, beside what people would use instead?

    python -m benchmarks                      # all, three times; writes docs/benchmarks.md
    python -m benchmarks --quick --only latency
    python -m benchmarks --quick --only hand,ours --generations 50000
    python -m benchmarks --json > figures.json

Each case drives real processes and reads the figures back from what they wrote: a run whose totals are not
exactly those that were sent fails.

| module          | what it does                                                                     |
| --------------- | -------------------------------------------------------------------------------- |
| `cases.py`      | every case: its name, its function, what it needs                                |
| `bench.py`      | what a case is given                                                             |
| `traffic.py`    | makes the events, and their totals in integers                                   |
| `kafka.py`      | the Kafka of a run; what a case wrote there                                      |
| `preload.py`    | topics that are full before a case begins                                        |
| `hand.py`       | the same work written by hand on aiokafka; `by_hand.py` makes cases of it        |
| `tables.py`     | the summaries' tables, written by hand                                           |
| `alone.py`      | a function in a process of its own                                               |
| `ours.py`       | our roles on Kafka; `one_process.py` is the whole road in one                    |
| `rebuilding.py` | replay and prove, beside a rebuild by hand                                       |
| `peers/`        | stock Faust, Quix Streams, Bytewax                                               |
| `state/`        | table recovery, known ids, queries on a year                                     |
| `service.py`    | starts the embedded service, asks the kernel what it used, ends it               |
| `wire.py`       | a client that costs little: bytes made beforehand, answers hardly looked at      |
| `views.py`      | reads the tables from outside; a process that watches when each event is in them |
| `latency.py`    | open loop: one event a request at fixed times, measured from the scheduled time  |
| `cleaning.py`   | the same while old ids are forgotten, while compaction follows, and at rest      |
| `throughput.py` | embedded, batches of 1,000: accepted a second, and the whole road a second       |
| `limits.py`     | beside it: a loop written by hand, and decoding alone                            |
| `machine.py`    | what this was measured on                                                        |
| `targets.py`    | what is compared with what, and what must come of it                             |
| `report.py`     | medians, ratios, targets; the table and the page                                 |
"""


class BenchmarkFailed(Exception):
    """The service ended, took too long, or its figures are not those that were sent."""
