"""Strategy (c): the provider's own account of completed days beside ours, and why they differ. Pure.

    rows = compare(theirs, ours)          # theirs: Activity of GET /activity; ours: Day of the State
    missing(rows)                         # how many requests the provider has and we don't

A row is a UTC day, model and provider; its endpoints are added up. Each difference (theirs - ours) is shared
out among causes that add up to it, in each of its figures:

    day_boundary   short on one day, over on the next one or the one before, of the same model and provider
    missing_here   requests that the provider has and we don't
    missing_there  requests that we have and the provider doesn't
    unpriced       the cost of requests whose cost nobody has told us
    amended_later  other figures, and some requests not read back: their figures are still to come
    rounding       less than a nano-dollar for each request: the provider rounds its sum, we each cost
    unexplained    what is left

Where requests are missing and others are unpriced, the missing cost is shared out by their numbers.

Names: `model` is matched by its exact name first, then as the permaslug that the provider gives beside it,
then without a variant (":free"); and only where that leaves one model. A provider's name is matched without
regard to case; one that is not known here is the only provider of that model, if there is only one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Literal

import msgspec

from streams.sync.interface import Day

Cause = Literal[
    "day_boundary",
    "missing_here",
    "missing_there",
    "unpriced",
    "amended_later",
    "rounding",
    "unexplained",
]
Key = tuple[str, str, str]  # day, model, provider


class Activity(msgspec.Struct, frozen=True):
    """What the provider says of one completed UTC day, model and endpoint."""

    day: str
    model: str
    permaslug: str
    provider: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_nano: int
    upstream_cost_nano: int  # of calls with the customer's own provider key


class Figures(msgspec.Struct, frozen=True):
    """What is counted of some requests, or a difference of that."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int = 0
    upstream_cost_nano: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return _each(lambda mine, theirs: mine + theirs, self, other)

    def __sub__(self, other: "Figures") -> "Figures":
        return _each(lambda mine, theirs: mine - theirs, self, other)

    def __bool__(self) -> bool:
        return self != NONE


NONE = Figures()


def _each(function: Callable[[int, int], int], one: Figures, other: Figures) -> Figures:
    return Figures(*map(function, msgspec.structs.astuple(one), msgspec.structs.astuple(other)))


class Residue(msgspec.Struct, frozen=True):
    """One day, model and provider: both accounts, and what they differ by, by cause."""

    day: str
    model: str
    provider: str
    theirs: Figures
    ours: Figures
    difference: Figures  # theirs - ours
    causes: Mapping[Cause, Figures]  # their sum is the difference

    @property
    def differs(self) -> bool:
        """Whether there is a difference that is more than rounding."""
        return any(cause != "rounding" for cause in self.causes)


class _Side(msgspec.Struct):
    """A row while it is compared."""

    theirs: Figures = NONE
    ours: Figures = NONE
    unpriced: int = 0
    awaited: int = 0


def compare(theirs: Iterable[Activity], ours: Iterable[Day]) -> list[Residue]:
    """Both accounts, a row for each day, model and provider that either has, in that order."""
    theirs = list(theirs)
    names = _Names(theirs)
    sides: dict[Key, _Side] = {}
    for row in theirs:
        side = sides.setdefault((row.day, row.model, names.provider(row.model, row.provider)), _Side())
        side.theirs += _figures(row)
    days = [row.day for row in theirs]
    for day in ours:
        model = names.model(day.model)
        key = day.day, model, names.provider(model, day.provider)
        side = sides.setdefault(key, _Side())
        side.ours += _figures(day)
        side.unpriced += day.unpriced_requests
        side.awaited += day.awaited_requests
    # A day that is not over is told of by nobody, and has nothing to give to the one before it.
    inside = {key: side for key, side in sides.items() if days and min(days) <= key[0] <= max(days)}
    moved = _moved({key: side.theirs - side.ours for key, side in inside.items()})
    return [_residue(key, sides[key], moved.get(key, NONE)) for key in sorted(sides)]


def missing(rows: Iterable[Residue]) -> int:
    """How many requests the provider has and we don't."""
    return sum(row.causes.get("missing_here", NONE).requests for row in rows)


def _figures(row: Activity | Day) -> Figures:
    return Figures(
        row.requests,
        row.prompt_tokens,
        row.completion_tokens,
        row.reasoning_tokens,
        row.cost_nano,
        row.upstream_cost_nano,
    )


class _Names:
    """How the provider calls what we have under another name."""

    def __init__(self, theirs: Iterable[Activity]) -> None:
        self._providers: dict[str, dict[str, str]] = {}
        self._permaslugs: dict[str, set[str]] = {}
        self._bases: dict[str, set[str]] = {}
        for row in theirs:
            self._providers.setdefault(row.model, {}).setdefault(row.provider.casefold(), row.provider)
            self._permaslugs.setdefault(row.permaslug, set()).add(row.model)
            for name in (row.model, row.permaslug):
                self._bases.setdefault(_base(name), set()).add(row.model)

    def model(self, name: str) -> str:
        if name in self._providers:
            return name
        for found in (self._permaslugs.get(name, set()), self._bases.get(_base(name), set())):
            if len(found) == 1:
                return next(iter(found))
        return name

    def provider(self, model: str, name: str) -> str:
        known = self._providers.get(model, {})
        if not name and len(known) == 1:
            return next(iter(known.values()))
        return known.get(name.casefold(), name)


def _base(name: str) -> str:
    return name.partition(":")[0]


def _moved(left: dict[Key, Figures]) -> dict[Key, Figures]:
    """What neighbouring days have to give to each other: as much on the one side as on the other."""
    moved: dict[Key, Figures] = {}
    for key in sorted(left):
        day, model, provider = key
        after = (date.fromisoformat(day) + timedelta(days=1)).isoformat(), model, provider
        if after not in left:
            continue
        common = _each(_common, left[key], NONE - left[after])
        if common.requests:
            left[key] -= common
            left[after] += common
            moved[key] = moved.get(key, NONE) + common
            moved[after] = moved.get(after, NONE) - common
    return moved


def _common(one: int, other: int) -> int:
    """What two amounts of one sign have in common; nothing of two signs."""
    if one > 0 and other > 0:
        return min(one, other)
    return max(one, other) if one < 0 and other < 0 else 0


def _residue(key: Key, side: _Side, moved: Figures) -> Residue:
    difference = side.theirs - side.ours
    causes: dict[Cause, Figures] = {"day_boundary": moved, **dict(_parts(difference - moved, side))}
    causes = {cause: part for cause, part in causes.items() if part}
    return Residue(*key, side.theirs, side.ours, difference, causes)


def _parts(left: Figures, side: _Side) -> Iterable[tuple[Cause, Figures]]:
    """What is left of a difference, cause by cause: each takes its part of what the last one left."""
    takers: Sequence[tuple[Cause, Callable[[Figures, _Side], Figures]]] = (
        ("unpriced", _unpriced),
        ("rounding", _rounding),
        ("missing_here", _missing_here),
        ("missing_there", _missing_there),
    )
    for cause, taken in takers:
        part = taken(left, side)
        left -= part
        yield cause, part
    yield "amended_later" if side.awaited else "unexplained", left


def _unpriced(left: Figures, side: _Side) -> Figures:
    cost_nano, absent = max(0, left.cost_nano), max(0, left.requests)
    if not side.unpriced:
        return NONE
    return Figures(cost_nano=cost_nano * side.unpriced // (side.unpriced + absent))


def _rounding(left: Figures, side: _Side) -> Figures:
    if left.requests:
        return NONE
    most_nano = side.theirs.requests
    amounts_nano = (left.cost_nano, left.upstream_cost_nano)
    cost_nano, upstream_cost_nano = (nano if abs(nano) <= most_nano else 0 for nano in amounts_nano)
    return Figures(cost_nano=cost_nano, upstream_cost_nano=upstream_cost_nano)


def _missing_here(left: Figures, side: _Side) -> Figures:
    return _each(lambda amount, _: max(0, amount), left, NONE) if left.requests > 0 else NONE


def _missing_there(left: Figures, side: _Side) -> Figures:
    return _each(lambda amount, _: min(0, amount), left, NONE) if left.requests < 0 else NONE
