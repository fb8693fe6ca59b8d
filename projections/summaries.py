"""Who used how much, and what does it cost? Daily, user and model summaries, live counters, the books.

>>> entry = Entry(organization="acme", day="2026-11-20", today="2026-11-20", model="m", cost_nano=5)
>>> changes = fold([Fact(fate="counted", id="gen-1", partition=0, offset=0, prev=-1, time_ms=1, plus=entry)])
>>> changes.days["acme", "2026-11-20"].requests, changes.books
(1, {'counted': 1})

The fold is pure: facts in, differences out. Any batching of the same facts adds up to the same rows, so
whatever "last" means here is decided by log time, never by which partition was read first.
"""

from collections.abc import Sequence

from projections.view import decode_fact
from streams import topics
from streams.fact import Entry, Fact, effects, unpriced
from streams.log.interface import Record


class Totals:
    """Differences to one row, and the least and greatest log time of the facts that made them."""

    __slots__ = (
        "completion_tokens",
        "first_s",
        "last_s",
        "markup_nano",
        "prompt_tokens",
        "raw_nano",
        "requests",
        "total_tokens",
        "unpriced",
    )

    def __init__(self, time_s: int) -> None:
        self.requests = self.unpriced = 0
        self.prompt_tokens = self.completion_tokens = self.total_tokens = 0
        self.raw_nano = self.markup_nano = 0
        self.first_s = self.last_s = time_s

    def add(self, difference: tuple[int, int, int, int, int, int, int], time_s: int) -> None:
        """Add what one entry changes."""
        requests, prompt_tokens, completion_tokens, total_tokens, raw_nano, markup_nano, unpriced = difference
        self.requests += requests
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.total_tokens += total_tokens
        self.raw_nano += raw_nano
        self.markup_nano += markup_nano
        self.unpriced += unpriced
        if time_s > self.last_s:
            self.last_s = time_s
        elif time_s < self.first_s:
            self.first_s = time_s


class UserTotals(Totals):
    """Also whom the application knows the user as, by the newest fact that says so."""

    __slots__ = ("user_id", "user_id_ms")

    def __init__(self, time_s: int) -> None:
        super().__init__(time_s)
        self.user_id = ""
        self.user_id_ms = -1

    def name(self, user_id: str, time_ms: int) -> None:
        """Take the name if it is newer; of two at the same time, the greater."""
        if (time_ms, user_id) > (self.user_id_ms, self.user_id):
            self.user_id_ms, self.user_id = time_ms, user_id


class Changes:
    """What a batch changes: differences to rows, by the rows' keys."""

    __slots__ = ("books", "days", "live", "models", "organizations", "providers", "users")

    def __init__(self) -> None:
        self.days: dict[tuple[str, str], Totals] = {}
        self.users: dict[tuple[str, str, str], UserTotals] = {}
        self.models: dict[tuple[str, str, str], Totals] = {}
        # What names the provider of a model's day: requests and cost.
        self.providers: dict[tuple[str, str, str, str], list[int]] = {}
        # The greatest log time of an organisation's facts, its local day then, and its timezone.
        self.live: dict[str, tuple[int, str, str]] = {}
        self.organizations: dict[str, int] = {}  # when each was seen, in seconds
        self.books: dict[str, int] = {}


def fold(facts: Sequence[Fact]) -> Changes:
    """Facts in, differences out."""
    changes = Changes()
    books, seen = changes.books, changes.organizations
    for fact in facts:
        books[fact.fate] = books.get(fact.fate, 0) + 1
        live: dict[str, tuple[int, str, str]] | None = None
        for sign, entry in effects(fact):
            _add(changes, sign, entry, fact.time_ms)
            if entry.margin in ("", "day"):
                # Of one fact's two entries the newer says which day it is.
                live = live or {}
                live[entry.organization] = (fact.time_ms, entry.today, entry.zone)
        if live is not None:
            for organization, mark in live.items():
                changes.live[organization] = max(mark, changes.live.get(organization, mark))
        if fact.plus is not None:
            organization, time_s = fact.plus.organization, fact.time_ms // 1000
            seen[organization] = min(time_s, seen.get(organization, time_s))
    return changes


def _add(changes: Changes, sign: int, entry: Entry, time_ms: int) -> None:
    difference = _difference(sign, entry)
    organization, day, margin = entry.organization, entry.day, entry.margin
    time_s = time_ms // 1000
    if margin in ("", "day"):
        totals = changes.days.get((organization, day))
        if totals is None:
            totals = changes.days[organization, day] = Totals(time_s)
        totals.add(difference, time_s)
    if margin in ("", "user"):
        user = changes.users.get((organization, day, entry.user))
        if user is None:
            user = changes.users[organization, day, entry.user] = UserTotals(time_s)
        user.add(difference, time_s)
        # What is taken away says nothing new of the user, but a row must have some name.
        user.name(entry.user_id or entry.user, time_ms if sign > 0 else -1)
    if margin in ("", "model"):
        model = changes.models.get((organization, day, entry.model))
        if model is None:
            model = changes.models[organization, day, entry.model] = Totals(time_s)
        model.add(difference, time_s)
        provider = changes.providers.get((organization, day, entry.model, entry.provider))
        if provider is None:
            provider = changes.providers[organization, day, entry.model, entry.provider] = [0, 0]
        provider[0] += difference[0]
        provider[1] += difference[4]


def _difference(sign: int, entry: Entry) -> tuple[int, int, int, int, int, int, int]:
    return (
        sign * entry.requests,
        sign * entry.prompt_tokens,
        sign * entry.completion_tokens,
        sign * entry.total_tokens,
        sign * (entry.cost_nano or 0),
        sign * (entry.markup_nano or 0),
        sign * unpriced(entry),
    )


class Summaries:
    """The view."""

    name = "summaries"
    version = 1
    topics = (topics.USAGE,)

    def decode(self, record: Record) -> Fact:
        """A record of `usage` as its fact."""
        return decode_fact(record)

    def fold(self, items: Sequence[Fact]) -> Changes:
        """Facts in, differences out."""
        return fold(items)
