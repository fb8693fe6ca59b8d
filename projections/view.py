"""What a view is: a name, a version, the topics it follows, and a pure fold of what they hold.

    fold(items) -> changes        pure: no SQL, no clock
    stores/...  write(changes)    rows as differences, and the position, in one transaction

A view goes on from its own position, which is kept with its rows. `fresh` says which items of a batch are
new to it, and finds a missing one.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from streams import fact as facts
from streams import topics
from streams.errors import Hole
from streams.fact import Fact
from streams.log.interface import Record


class Position(msgspec.Struct, frozen=True):
    """How far a view has come in one partition: what it took last, and the digest of that record.

    `records` is how many records of the source that makes: offsets may have gaps.
    """

    usage_offset: int = -1
    source_offset: int = -1
    digest: str = ""
    records: int = 0


START = Position()


class Item(Protocol):
    """Something a view folds: it has a place, and names the one before it."""

    @property
    def offset(self) -> int: ...
    @property
    def prev(self) -> int: ...


ItemT = TypeVar("ItemT", bound=Item)
ChangesT = TypeVar("ChangesT", covariant=True)  # noqa: PLC0105 - the name is the same everywhere


class View(Protocol[ItemT, ChangesT]):
    """One view. A changed `version` means other rows from the same facts: rebuild it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def topics(self) -> Sequence[str]: ...
    def decode(self, record: Record) -> ItemT: ...
    def fold(self, items: Sequence[ItemT]) -> ChangesT: ...


def position_name(view: View[ItemT, ChangesT], topic: str) -> str:
    """The name under which a view's position is kept: a settings topic has a position of its own."""
    return view.name if topic == topics.USAGE else topic


def decode_fact(record: Record) -> Fact:
    """A record of `usage` as the fact it holds."""
    return facts.decode(record.value or b"", record.headers)


def records_to(item: Item) -> int:
    """How many records of the source there are up to an item: what says nothing comes without gaps."""
    number: int = getattr(item, "number", 0)
    return number or item.offset + 1


def fresh(items: Sequence[ItemT], after: Position) -> Iterator[ItemT]:
    """The items beyond a position, in order. `Hole` when one names a predecessor that was never seen."""
    seen = after.source_offset
    for item in items:
        if item.offset <= seen:
            continue
        if item.prev > seen:
            raise Hole(
                f"the fact of record {item.offset} follows record {item.prev}, but the view has only come"
                f" to {seen}: facts are missing from the log. Restore it, then run `genledger replay`"
            )
        seen = item.offset
        yield item


class Folded(msgspec.Struct, frozen=True):
    """What a batch comes to for one view: from where to where, and the changes; None when it has no part."""

    view: View[Any, Any]
    before: Position
    after: Position
    changes: Any


def folded(view: View[Any, Any], records: Sequence[Record], items: Sequence[Any], before: Position) -> Folded:
    """Fold what is new to a view of a batch: the records beyond its position, with what they hold."""
    first = next((n for n, record in enumerate(records) if record.offset > before.usage_offset), len(records))
    if first == len(records):
        return Folded(view, before, before, None)
    new = list(fresh(items[first:], before))
    last = records[-1]
    after = Position(
        last.offset,
        new[-1].offset if new else before.source_offset,
        facts.digest(last.value or b""),
        records_to(new[-1]) if new else before.records,
    )
    return Folded(view, before, after, view.fold(new))
