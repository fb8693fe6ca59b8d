"""The others: what people would use instead, doing the same work on the same data.

| module            | what it runs                                                                    |
| ----------------- | ------------------------------------------------------------------------------- |
| `stock_faust.py`  | stock Faust: both of our steps, two agents, with its own transport and changelog |
| `quix.py`         | Quix Streams: ids kept in its own state store, sums by a sink                    |
| `bytewax.py`      | Bytewax: ids kept in its own state, sums by a sink                               |
| `sums.py`         | the three summaries in SQLite that all of them write, and the reading back       |
| `venv.py`         | where their packages are: not in the product's environment                       |

Each runs in a process of its own, on the first 50,000 events with 5 % delivered twice, is written as its
documentation recommends, and is timed from its first record to the commit of the last: not its start. What it
wrote is read back, and must be exactly what was sent.
"""

EVENTS = 50_000
