"""What may leave a partition: superseded records of a compacted topic, old ones of a topic with retention.

In both, the last record of a partition stays, so that the next offset can always be told from the records.
Records are verified before anything is judged by them: a flipped bit in a key must not make its record
look superseded.
"""

from streams.log.sqlite.transaction import Partition, Transaction

_NEWEST = 'SELECT max("offset") FROM {table} WHERE "offset" < :horizon AND key IS NOT NULL GROUP BY key'

# Of a key only the newest record stays. A null that stood at the end of the compaction before has been
# seen by it, and goes as well. Records without a key always stay.
_COMPACT = (
    'DELETE FROM {table} WHERE "offset" < :horizon AND "offset" < :last AND key IS NOT NULL '
    'AND ((value IS NULL AND "offset" < :seen_below) OR "offset" NOT IN (' + _NEWEST + "))"
)


def compact(tx: Transaction, partition: Partition, horizon: int) -> int:
    """Remove what is superseded below `horizon`; how many records."""
    changed = tx.change((partition.topic, partition.number))
    bounds = {"horizon": horizon, "last": changed.next - 1, "seen_below": changed.compacted_below}
    removed = tx.connection.execute(_COMPACT.format(table=partition.table), bounds).rowcount
    changed.compacted_below = max(changed.compacted_below, horizon)
    _find_first(tx, partition)
    return removed


def expire(tx: Transaction, partition: Partition, before_ms: int) -> int:
    """Remove the records ahead of the first one that is young enough; how many.

    Only a head goes, whatever the clock did: offsets are in order, times need not be.
    """
    table = partition.table
    last = tx.change((partition.topic, partition.number)).next - 1
    young = f'SELECT "offset" FROM {table} WHERE time_ms >= ? ORDER BY "offset" LIMIT 1'
    found = tx.connection.execute(young, (before_ms,)).fetchone()
    below = min(found[0], last) if found else last
    removed = tx.connection.execute(f'DELETE FROM {table} WHERE "offset" < ?', (below,)).rowcount
    _find_first(tx, partition)
    return removed


def _find_first(tx: Transaction, partition: Partition) -> None:
    changed = tx.change((partition.topic, partition.number))
    (first,) = tx.connection.execute(f'SELECT min("offset") FROM {partition.table}').fetchone()
    changed.first = changed.next if first is None else first
    tx.forget_tail()
