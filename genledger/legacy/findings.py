"""What is wrong with a legacy database or this installation, where, and how it is mended. Pure.

>>> found = Findings()
>>> found.error("client_daily_usage row 3", "raw_cost is negative", "correct the row")
>>> found.errors
1

Many rows may be wrong in the same way: each way is shown with a few of its rows and their number.
"""

from typing import Literal

import msgspec

Level = Literal["error", "warning", "note"]
PLACES_MAX = 5


class Finding(msgspec.Struct):
    """One thing: in how many places, and where the first of them are."""

    level: Level
    what: str
    mend: str
    count: int
    places: list[str]


class Findings:
    """All that was found, each kind once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Level, str, str], Finding] = {}

    def add(self, level: Level, place: str, what: str, mend: str) -> None:
        """One more of its kind."""
        found = self._found.setdefault((level, what, mend), Finding(level, what, mend, 0, []))
        found.count += 1
        if len(found.places) < PLACES_MAX:
            found.places.append(place)

    def error(self, place: str, what: str, mend: str) -> None:
        """It can't be migrated like this."""
        self.add("error", place, what, mend)

    def warn(self, place: str, what: str, mend: str = "") -> None:
        """It can; a person should know."""
        self.add("warning", place, what, mend)

    def note(self, place: str, what: str, mend: str = "") -> None:
        """As it should be, and good to know."""
        self.add("note", place, what, mend)

    @property
    def errors(self) -> int:
        """How many places are wrong."""
        return sum(found.count for found in self._found.values() if found.level == "error")

    def all(self) -> list[Finding]:
        """The errors first."""
        order = ("error", "warning", "note")
        return sorted(self._found.values(), key=lambda found: order.index(found.level))
