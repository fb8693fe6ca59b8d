"""The newest records in memory: the same records as in the file, or none."""

from streams.log.interface import Record
from streams.log.sqlite.tail import Tail

PLACE = ("usage", 0)


def records(*offsets: int) -> list[Record]:
    """Records of a partition at these offsets."""
    return [Record("usage", 0, offset, 1, b"k", b"v" * 10) for offset in offsets]


def read(tail: Tail, offset: int, limit: int = 100) -> list[int] | None:
    """Offsets that a read gives; None when it is for the file to answer."""
    found = tail.read(PLACE, offset, limit, 1 << 20)
    return None if found is None else [record.offset for record in found]


def test_it_answers_from_any_offset_that_it_has() -> None:
    """A read begins where it is asked to, goes over commits, and stops at its limit."""
    tail = Tail(1 << 20)
    tail.extend(PLACE, records(5, 6, 7), 100)
    tail.extend(PLACE, records(8, 9), 100)
    assert read(tail, 5) == [5, 6, 7, 8, 9]
    assert read(tail, 7) == [7, 8, 9]
    assert read(tail, 6, limit=2) == [6, 7]
    assert read(tail, 9) == [9]
    assert read(tail, 4) is None and read(tail, 10) is None


def test_the_oldest_commits_go_when_it_is_full() -> None:
    """Its bytes are bounded; what went is the file's to answer."""
    tail = Tail(250)
    for start in (0, 2, 4):
        tail.extend(PLACE, records(start, start + 1), 100)
    assert read(tail, 0) is None and read(tail, 2) == [2, 3, 4, 5]


def test_what_was_read_is_kept_only_without_gaps() -> None:
    """Records between which compaction has removed others are not kept: places are found by counting."""
    tail = Tail(1 << 20)
    tail.follow(PLACE, records(5, 9, 12, 13))
    assert read(tail, 9) is None
    tail.follow(PLACE, records(20, 21))
    tail.follow(PLACE, records(22, 23))
    assert read(tail, 21) == [21, 22, 23]
    tail.follow(PLACE, records(40, 41))
    assert read(tail, 21) is None and read(tail, 40) == [40, 41]
