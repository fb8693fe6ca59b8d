"""How fast is it, on this machine, with every write on the disk?

    python -m benchmarks                      # all, three times, five minutes; writes docs/benchmarks.md
    python -m benchmarks --quick --only latency
    python -m benchmarks --json > figures.json

Each case drives a real `genledger serve` from another process over loopback HTTP, and reads the figures back
from its tables: a run whose totals are not exactly those that were sent fails.

| module          | what it does                                                                     |
| --------------- | -------------------------------------------------------------------------------- |
| `traffic.py`    | makes the events, and their totals in integers                                   |
| `service.py`    | starts the service, asks the kernel what it used, ends it                        |
| `wire.py`       | a client that costs little: bytes made beforehand, answers hardly looked at      |
| `views.py`      | reads the tables from outside; a process that watches when each event is in them |
| `latency.py`    | open loop: one event a request at fixed times, measured from the scheduled time  |
| `throughput.py` | batches of 1,000: accepted a second, and the whole road a second                 |
| `limits.py`     | beside it: a loop written by hand, and decoding alone                            |
| `machine.py`    | what this was measured on                                                        |
| `report.py`     | medians, ratios, targets; the table and the page                                 |
"""


class BenchmarkFailed(Exception):
    """The service ended, took too long, or its figures are not those that were sent."""
