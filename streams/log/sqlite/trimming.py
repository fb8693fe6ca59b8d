"""The head of a partition goes: what is before an offset, in pieces that keep no other writer waiting.

    removed = trim(tx, partition, offset)       # a transaction each, until nothing is before the offset

The last record of a partition stays, so that the next offset can always be told from the records.
"""

from streams.log.sqlite.transaction import Partition, Transaction

# Some 10 ms of work for facts of half a kilobyte.
PIECE_RECORDS = 2_000


def trim(tx: Transaction, partition: Partition, offset: int) -> int:
    """Remove a piece of what is before an offset; how many records."""
    place = partition.topic, partition.number
    changed = tx.change(place)
    below = min(offset, changed.next - 1)
    if changed.first >= below:
        return 0
    end = min(below, changed.first + PIECE_RECORDS)
    removed = tx.connection.execute(f'DELETE FROM {partition.table} WHERE "offset" < ?', (end,)).rowcount
    found = f'SELECT "offset" FROM {partition.table} ORDER BY "offset" LIMIT 1'
    (changed.first,) = tx.connection.execute(found).fetchone()
    tx.forget_tail(partition, end)
    return removed
