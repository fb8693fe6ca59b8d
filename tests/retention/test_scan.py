"""A shelf walked in steps: each key once, in an order that does not change, while others write."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.seen import shelf as shelves
from streams.seen.shelf import MemoryShelf, Shelf, open_shelf


@pytest.fixture(params=["rocksdb", "memory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    return open_shelf(tmp_path / "0" if request.param == "rocksdb" else None, "log-1", 0)


def walk(shelf: Shelf, limit: int) -> list[tuple[bytes, bytes]]:
    """Everything, so many at a time."""
    found: list[tuple[bytes, bytes]] = []
    while chunk := shelf.scan(found[-1][0] if found else None, limit):
        assert len(chunk) <= limit
        found += chunk
    return found


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_a_walk_meets_each_key_once_with_its_value(shelf: Shelf, limit: int) -> None:
    """Whatever the steps: also keys with odd bytes, and never the shelf's own."""
    values = {b"gen-%d" % n: b"%d" % n for n in range(50)} | {b"\xff\xfe": b"a", b"\x01": b"b", b"z": b"c"}
    shelf.write(values, 51)
    found = walk(shelf, limit)
    assert dict(found) == values and len(found) == len(values)
    assert walk(shelf, 3) == found
    shelf.close()


def test_an_empty_shelf_has_nothing_to_walk(shelf: Shelf) -> None:
    """Its own keys, offset and identity, are no ids."""
    assert shelf.scan(None, 10) == []
    shelf.write({b"gen-1": b"1"}, 1)
    shelf.write({b"gen-1": None}, 2)
    assert shelf.scan(None, 10) == [] and shelf.scan(b"gen-1", 10) == []
    shelf.close()


def test_keys_that_stay_are_met_once_though_others_come_and_go(shelf: Shelf) -> None:
    """Written and deleted meanwhile, the last one met among them: those that stay are met all the same."""
    stay = {b"stay-%03d" % n: b"s" for n in range(100)}
    shelf.write(stay | {b"go-%03d" % n: b"g" for n in range(100)}, 1)
    met: list[bytes] = []
    while chunk := shelf.scan(met[-1] if met else None, 9):
        met += [key for key, _ in chunk]
        coming = {b"come-%d" % len(met): b"c", b"stay-%03d.5" % len(met): b"c"}
        shelf.write({b"go-%03d" % n: None for n in range(100)} | {met[-1]: None} | coming, 2)
        stay.pop(met[-1], None)
    assert len(met) == len(set(met))
    assert stay.keys() <= set(met)
    shelf.close()


def test_chunks_of_a_closed_walk_keep_no_file_open(tmp_path: Path) -> None:
    """A walk given up in its middle leaves nothing behind: the shelf closes, and opens again."""
    shelf = open_shelf(tmp_path / "0", "log-1", 0)
    shelf.write({b"gen-%d" % n: b"x" for n in range(100)}, 100)
    assert len(shelf.scan(None, 10)) == 10
    shelf.close()
    again = open_shelf(tmp_path / "0", "log-1", 100)
    assert len(walk(again, 30)) == 100
    again.close()


@settings(max_examples=50)
@given(st.sets(st.binary(min_size=1, max_size=3)), st.integers(1, 5))
def test_whatever_the_keys_a_shelf_in_memory_is_walked_whole(keys: set[bytes], limit: int) -> None:
    """Also where many keys share a bin."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shelves, "BINS", 3)
        shelf = MemoryShelf()
        shelf.write(dict.fromkeys(keys, b"x"), 1)
        found = [key for key, _ in walk(shelf, limit)]
    assert len(found) == len(keys) and set(found) == keys
