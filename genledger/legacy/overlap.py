"""Days that both systems counted: what a migration must not add twice.

A day's total says nothing of which calls are in it. So a day of an organisation is one that both counted when
we hold requests of it that no migration brought, or when an id that the legacy file names for it has been
counted here. What came by earlier migrations is known by their own records.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice

import msgspec

from genledger.legacy.backups import Folder
from genledger.legacy.entries import KnownId
from genledger.legacy.here import IDS_AT_ONCE, Here
from genledger.legacy.plan import Plan

Day = tuple[str, str]


class Overlap(msgspec.Struct, frozen=True):
    """Organisations' days: requests of our own, and how many of the file's ids are counted here."""

    requests: Mapping[Day, int]
    ids: Mapping[Day, int]

    @property
    def days(self) -> Sequence[Day]:
        """All of them, in order."""
        return sorted({*self.requests, *self.ids})


class Earlier:
    """What earlier migrations hold on the log: of each key the newest of them."""

    def __init__(self, folders: Sequence[Folder], stack: ExitStack) -> None:
        standing = [folder for folder in folders if folder.manifest().state in ("publishing", "done")]
        self._plans = [stack.enter_context(Plan(folder.records)) for folder in standing]

    def line_of(self, key: str) -> bytes | None:
        """The newest entry under a key; None when no migration has one."""
        for plan in reversed(self._plans):
            line = plan.line_of(key)
            if line is not None:
                return line
        return None

    def requests(self) -> Mapping[Day, int]:
        """The requests of every day's balance."""
        found: dict[Day, int] = {}
        for plan in self._plans:
            found.update({(organization, day): requests for organization, day, requests in plan.requests()})
        return found


def overlap(
    days: set[Day], ids: Iterable[KnownId], first: str, last: str, here: Here, earlier: Earlier
) -> Overlap:
    """What of a legacy file's days is counted here already."""
    brought = earlier.requests()
    own = {
        day: requests - brought.get(day, 0)
        for day, requests in here.requests(first, last).items()
        if day in days and requests > brought.get(day, 0)
    }
    counted: dict[Day, int] = {}
    if here.has_ids:
        for rows in _slices(ids):
            there = here.known(row.id for row in rows)
            for row in rows:
                if row.id in there and earlier.line_of(row.id) is None:
                    day = (row.organization, row.day)
                    counted[day] = counted.get(day, 0) + 1
    return Overlap(own, counted)


def _slices(rows: Iterable[KnownId]) -> Iterator[Sequence[KnownId]]:
    left = iter(rows)
    while found := list(islice(left, IDS_AT_ONCE)):
        yield found
