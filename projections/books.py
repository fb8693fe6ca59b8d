"""Do the books balance? Each record of a partition has exactly one fate: the fates add up to the records.

>>> [row] = balance({0: {"counted": 2, "duplicate": 1}}, read={0: Read(3, next_offset=4)}, ends={0: 6})
>>> row.in_flight, row.residue, row.balanced
(2, 0, True)

The two sides come from different places: `ends` is where the log says it ends, `read` how far the summaries
have come by their position, `fates` what they have counted fact by fact. What is in flight is a difference
of offsets: on Kafka, markers of transactions that lie among those records are counted with them until
they are read.
"""

from collections.abc import Mapping, Sequence

import msgspec


class Read(msgspec.Struct, frozen=True):
    """What the summaries have read of a partition: so many records, all those below an offset."""

    records: int = 0
    next_offset: int = 0


NOTHING_READ = Read()


class Balance(msgspec.Struct, frozen=True):
    """One partition's books. `residue` is records that were read and have no fate (or two, if negative)."""

    partition: int
    records: int
    read: int
    in_flight: int
    residue: int
    fates: Mapping[str, int]

    @property
    def balanced(self) -> bool:
        """Nothing is missing, and nothing is there twice."""
        return self.residue == 0 and self.in_flight >= 0


def balance(
    fates: Mapping[int, Mapping[str, int]], read: Mapping[int, Read], ends: Mapping[int, int]
) -> Sequence[Balance]:
    """The books of every partition of the log, in order."""
    rows = []
    for partition in sorted(ends):
        counts = dict(fates.get(partition, {}))
        taken = read.get(partition, NOTHING_READ)
        in_flight = ends[partition] - taken.next_offset
        residue = taken.records - sum(counts.values())
        records = taken.records + in_flight
        rows.append(Balance(partition, records, taken.records, in_flight, residue, counts))
    return rows
