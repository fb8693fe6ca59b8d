"""What the sync must know of `usage`: which ids lack the provider's own figures, and what each UTC day holds.

>>> entry = Entry(organization="acme", day="2026-11-21", today="2026-11-21", model="m", cost_nano=5)
>>> fact = Fact(fate="counted", id="gen-1", partition=0, offset=0, prev=-1, time_ms=1000, plus=entry)
>>> found = fold([fact], frozenset(["acme"]), "gen-", "1970-01-01")
>>> found.awaited
{'gen-1': Change(settled=False, since_ms={'acme': 1000})}
>>> found.days
{('acme', '1970-01-01', 'm', ''): [1, 0, 0, 0, 5, 0, 0, 1]}

Days are UTC's, as providers reckon, and not the organisation's own. What is older than `first_day` is left
out: no provider tells of it any more. Who claims an id that another organisation holds asks for it, too: if
its provider has it, the ledger gives it to whom it belongs.
"""

from collections.abc import Sequence

import msgspec

from streams import times
from streams.fact import Entry, Fact, effects, unpriced
from streams.version import AUTHORITY_RANK

_RECONCILED = AUTHORITY_RANK["reconciled"]
_MOVES = frozenset(("counted", "amended", "voided", "conflict", "forgotten"))
_ENDS = frozenset(("voided", "forgotten"))

# organisation, UTC day, model, provider
DayKey = tuple[str, str, str, str]
# In the order of `SUMS`.
SUMS = (
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_nano",
    "upstream_cost_nano",
    "unpriced_requests",
    "awaited_requests",
)


class Change(msgspec.Struct):
    """Of one id: `settled` when nobody need ask any more. After that who does: since when, or None."""

    settled: bool = False
    since_ms: dict[str, int | None] = {}


class Changes(msgspec.Struct):
    """Ids to be awaited, or no longer, and differences of days."""

    awaited: dict[str, Change] = {}
    days: dict[DayKey, list[int]] = {}


def fold(facts: Sequence[Fact], organizations: frozenset[str], prefix: str, first_day: str) -> Changes:
    """Facts in, differences out, for the organisations that have a provider key."""
    changes = Changes({}, {})
    for fact in facts:
        for sign, entry in effects(fact):
            if entry.organization in organizations and not entry.margin:
                _add_day(changes.days, entry, sign, first_day)
        if fact.plus is not None or fact.fate in _ENDS:
            if fact.fate in _MOVES:
                _take(changes.awaited, fact, organizations, prefix, first_day)
        elif (
            fact.claimant in organizations
            and fact.id.startswith(prefix)
            and times.day_of(fact.time_ms * times.MS_NS, "UTC") >= first_day
        ):
            changes.awaited.setdefault(fact.id, Change()).since_ms[fact.claimant] = fact.time_ms
    return changes


def _take(
    awaited: dict[str, Change], fact: Fact, organizations: frozenset[str], prefix: str, first_day: str
) -> None:
    """What a fact that moves an id says of who is to ask for it."""
    entry = fact.plus
    if entry is None or not entry.requests or not _is_awaited(entry):
        awaited[fact.id] = Change(settled=True)
        return
    is_wanted = (
        entry.organization in organizations
        and fact.id.startswith(prefix)
        and times.day_of(entry.created_ns, "UTC") >= first_day
    )
    since_ms = fact.time_ms if is_wanted else None
    awaited.setdefault(fact.id, Change()).since_ms[entry.organization] = since_ms


def _is_awaited(entry: Entry) -> bool:
    return AUTHORITY_RANK[entry.authority] < _RECONCILED


def _add_day(days: dict[DayKey, list[int]], entry: Entry, sign: int, first_day: str) -> None:
    day = times.day_of(entry.created_ns, "UTC")
    if day < first_day:
        return
    sums = days.setdefault((entry.organization, day, entry.model, entry.provider), [0] * len(SUMS))
    amounts = (
        entry.requests,
        entry.prompt_tokens,
        entry.completion_tokens,
        entry.reasoning_tokens or 0,
        entry.cost_nano or 0,
        # As the provider sums it up: only what was paid with a key of the customer's own.
        (entry.upstream_cost_nano or 0) if entry.is_byok else 0,
        unpriced(entry),
        entry.requests if _is_awaited(entry) else 0,
    )
    for n, amount in enumerate(amounts):
        sums[n] += sign * amount
