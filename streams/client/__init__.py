"""The producer for Python programs: `record` an event where a model call ends, and go on.

    from streams.client import Client

    ledger = Client("http://127.0.0.1:8787", "glk_...", spool="ledger.spool")
    ledger.record(id="gen-1", model="m", prompt_tokens=12, completion_tokens=3, cost="0.0123")
    ledger.close()

In order: `events.py` checks what is recorded and makes a line of it; `queue.py` or `spool.py` keeps the line;
`sender.py` sends lines in batches through `http.py`; `verdict.py` says what an answer means for them.
`client.py` is all of it together, `asynchronous.py` the same for asyncio. Nothing here needs Faust, Kafka or
RocksDB: a program that only records stays light.
"""

from streams.client.asynchronous import AsyncClient
from streams.client.client import Client, State
from streams.client.errors import (
    ClientClosed,
    ClientError,
    Forked,
    QueueFull,
    SpoolBusy,
    SpoolFull,
    SpoolUnusable,
)
from streams.client.verdict import Rejection
from streams.errors import BadEvent

__all__ = [
    "AsyncClient",
    "BadEvent",
    "Client",
    "ClientClosed",
    "ClientError",
    "Forked",
    "QueueFull",
    "Rejection",
    "SpoolBusy",
    "SpoolFull",
    "SpoolUnusable",
    "State",
]
