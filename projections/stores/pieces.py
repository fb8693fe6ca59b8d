"""A batch in bounded pieces, so that the event loop is never held for longer than one of them takes.

>>> list(pieces("abcde", 2))
[['a', 'b'], ['c', 'd'], ['e']]
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

PIECE_ROWS_MAX = 500  # some 3 ms of SQLite's work

T = TypeVar("T")


def pieces(items: Iterable[T], size: int = PIECE_ROWS_MAX) -> Iterator[list[T]]:
    """The items in lists of at most so many."""
    iterator = iter(items)
    while piece := list(islice(iterator, size)):
        yield piece
