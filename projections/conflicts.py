"""Which generation ids were claimed by two organisations? One row for each id, its holder and who claimed it.

>>> facts = [Fact("conflict", "gen-1", 0, n, n - 1, n * 1000, holder="acme", claimant="beta") for n in (3, 4)]
>>> fold(facts).rows
{'gen-1': {('acme', 'beta'): Claims(times=2, taken_over=0, first_s=3, last_s=4)}}

`taken_over` counts the claims that were granted: read back with the claimant's own provider key. A forgotten
id loses its rows. Who may see what of a row: `seen_by`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from projections.view import decode_fact
from streams import topics
from streams.fact import Fact
from streams.log.interface import Record

# Whose the id was, and who claimed it.
Parties = tuple[str, str]


class Claims(msgspec.Struct, frozen=True, gc=False):
    """How often it was claimed, and when, in seconds."""

    times: int
    taken_over: int
    first_s: int
    last_s: int


class Changes:
    """First the ids of `forgotten` lose their rows, then the claims are added."""

    __slots__ = ("forgotten", "rows")

    def __init__(self) -> None:
        self.forgotten: set[str] = set()
        self.rows: dict[str, dict[Parties, Claims]] = {}


def fold(facts: Sequence[Fact]) -> Changes:
    """Facts in, differences out."""
    changes = Changes()
    for fact in facts:
        if fact.fate == "conflict":
            parties = _parties(fact)
            if not all(parties):
                continue
            claims = changes.rows.setdefault(fact.id, {})
            claims[parties] = _added(claims.get(parties), fact)
        elif fact.fate == "forgotten":
            changes.rows.pop(fact.id, None)
            changes.forgotten.add(fact.id)
    return changes


def _parties(fact: Fact) -> Parties:
    """A take-over says it by its two sides. A fact that names nobody is the ledger's own copy, or an older
    version's, which said it in its detail only.
    """
    if fact.plus is not None and fact.minus is not None:
        return fact.minus.organization, fact.plus.organization
    return fact.holder, fact.claimant


def _added(before: Claims | None, fact: Fact) -> Claims:
    time_s, granted = fact.time_ms // 1000, int(fact.plus is not None)
    if before is None:
        return Claims(1, granted, time_s, time_s)
    return Claims(
        before.times + 1,
        before.taken_over + granted,
        min(before.first_s, time_s),
        max(before.last_s, time_s),
    )


def seen_by(row: Mapping[str, Any], organization: str) -> dict[str, Any]:
    """A row as an organisation may see it: the other one has no name. '' is everybody's owner. Pure.

    >>> seen_by({"id": "gen-1", "holder": "acme", "claimant": "beta"}, "beta")
    {'id': 'gen-1', 'holder': None, 'claimant': 'beta'}
    """
    hidden = {name: None for name in ("holder", "claimant") if row[name] != organization}
    return {**row, **hidden} if organization else dict(row)


class Conflicts:
    """The view."""

    name = "conflicts"
    version = 1
    topics = (topics.USAGE,)

    def decode(self, record: Record) -> Fact:
        """A record of `usage` as its fact."""
        return decode_fact(record)

    def fold(self, items: Sequence[Fact]) -> Changes:
        """Facts in, differences out."""
        return fold(items)
