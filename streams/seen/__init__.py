"""The ledger's table "seen": what is known of each generation id.

`table.py` is the Faust table, `store.py` its store, `shelf.py` one partition of it on disk or in memory.
"""

from streams.seen.store import Store
from streams.seen.table import SeenTable

__all__ = ["SeenTable", "Store"]
