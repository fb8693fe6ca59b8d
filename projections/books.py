"""Do the books balance? Each record of a partition has exactly one fate: the fates add up to the records.

>>> [row] = balance({0: {"counted": 2, "duplicate": 1}}, read={0: 3}, ends={0: 5})
>>> row.in_flight, row.residue, row.balanced
(2, 0, True)

The two sides come from different places: `ends` is what the log says it has, `read` how far the summaries
have come by their position, `fates` what they have counted fact by fact.
"""

from collections.abc import Mapping, Sequence

import msgspec


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
    fates: Mapping[int, Mapping[str, int]], read: Mapping[int, int], ends: Mapping[int, int]
) -> Sequence[Balance]:
    """The books of every partition of the log, in order."""
    rows = []
    for partition in sorted(ends):
        counts = dict(fates.get(partition, {}))
        taken = read.get(partition, 0)
        residue = taken - sum(counts.values())
        rows.append(Balance(partition, ends[partition], taken, ends[partition] - taken, residue, counts))
    return rows
