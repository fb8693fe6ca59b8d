"""The newest records of each partition in memory: who follows closely reads them here, not from the file.

    tail = Tail(bytes_max=1 << 20)
    tail.extend(place, records, size_bytes)     # when their commit is durable
    tail.read(place, offset, limit, bytes_max)  # None: not here, read the file

Three readers of each record would otherwise each fetch, check and decode it again (7 us of 50). Only what
this process has committed is here; bytes from the disk always go through their checksums.
"""

from collections import deque
from collections.abc import Sequence

import msgspec

from streams.log.interface import Record
from streams.log.sqlite.records import RECORD_BYTES

Place = tuple[str, int]


def weight_of(record: Record) -> int:
    """About what a record takes in memory."""
    return RECORD_BYTES + (len(record.key) if record.key else 0) + (len(record.value) if record.value else 0)


class Piece(msgspec.Struct, frozen=True, gc=False):
    """The records of one partition in one commit."""

    place: Place
    records: Sequence[Record]
    size_bytes: int


class Tail:
    """Bounded by bytes, over all partitions of a file; the oldest commits go first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_left = bytes_max
        self._pieces: deque[Piece] = deque()
        self._by_place: dict[Place, deque[Piece]] = {}
        self._below: dict[Place, int] = {}

    def extend(self, place: Place, records: Sequence[Record], size_bytes: int) -> None:
        """Add what was committed to a partition."""
        piece = Piece(place, records, size_bytes)
        self._pieces.append(piece)
        self._by_place.setdefault(place, deque()).append(piece)
        self._bytes_left -= size_bytes
        while self._bytes_left < 0:
            self._drop_oldest()

    def follow(self, place: Place, records: Sequence[Record]) -> None:
        """Add what was read from the file, if it goes on from what is here; else start anew with it.

        Compaction leaves gaps, and places are found by counting: what has gaps is not kept.
        """
        if records[-1].offset - records[0].offset != len(records) - 1:
            return
        pieces = self._by_place.get(place)
        if pieces and pieces[-1].records[-1].offset + 1 != records[0].offset:
            self.forget()
        self.extend(place, records, sum(map(weight_of, records)))

    def forget_below(self, place: Place, offset: int) -> None:
        """Records below an offset were removed from the file: what is left of them is read there."""
        self._below[place] = max(offset, self._below.get(place, 0))

    def forget(self) -> None:
        """Drop everything."""
        while self._pieces:
            self._drop_oldest()

    def read(self, place: Place, offset: int, limit: int, bytes_max: int) -> Sequence[Record] | None:
        """Records from an offset on, at least one; None when that offset is not here."""
        pieces = self._by_place.get(place)
        if not pieces or offset < max(pieces[0].records[0].offset, self._below.get(place, 0)):
            return None
        found: list[Record] = []
        for piece in pieces:
            records = piece.records
            if records[-1].offset < offset:
                continue
            skip = max(0, offset - records[0].offset)
            found += records[skip : skip + limit - len(found)]
            bytes_max -= piece.size_bytes
            if len(found) >= limit or bytes_max <= 0:
                break
        return found or None

    def _drop_oldest(self) -> None:
        piece = self._pieces.popleft()
        self._by_place[piece.place].popleft()
        self._bytes_left += piece.size_bytes
