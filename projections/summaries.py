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

# Requests, prompt, completion and total tokens, cost, marked-up cost, unpriced requests.
Difference = tuple[int, int, int, int, int, int, int]
NEVER_S = 2**62


class Totals:
    """Differences to one row, and the least and greatest log time of the facts that made them.

    Of a user's day also whom the application knows the user as; of a model's, requests and cost by provider.
    One class for all: with one each, Python's look-ups of their fields are a third slower.
    """

    __slots__ = (
        "completion_tokens",
        "first_s",
        "last_s",
        "markup_nano",
        "prompt_tokens",
        "providers",
        "raw_nano",
        "requests",
        "total_tokens",
        "unpriced",
        "user_id",
        "user_id_ms",
    )

    def __init__(self, time_s: int) -> None:
        self.requests = self.unpriced = 0
        self.prompt_tokens = self.completion_tokens = self.total_tokens = 0
        self.raw_nano = self.markup_nano = 0
        self.first_s = self.last_s = time_s
        self.user_id = ""
        self.user_id_ms = -1
        self.providers: dict[str, list[int]] = {}

    def add(
        self,
        requests: int,
        prompt_tokens: int,
        completion_tokens: int,
        total_tokens: int,
        raw_nano: int,
        markup_nano: int,
        unpriced: int,
        time_s: int,
    ) -> None:
        """Add what a fact of this time changes."""
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

    def name(self, user_id: str, time_ms: int) -> None:
        """Take the name if it is by a newer fact; of two at the same time, the greater."""
        newer = time_ms > self.user_id_ms
        if newer or (time_ms == self.user_id_ms and user_id > self.user_id):
            self.user_id_ms, self.user_id = time_ms, user_id

    def serve(self, provider: str, requests: int, raw_nano: int) -> None:
        """Add what one entry changes of its provider's part."""
        part = self.providers.get(provider)
        if part is None:
            self.providers[provider] = [requests, raw_nano]
        else:
            part[0] += requests
            part[1] += raw_nano

    def absorb(self, other: "Totals") -> None:
        """Add what another row adds up to."""
        self.add(*other.difference(), other.first_s)
        self.last_s = max(self.last_s, other.last_s)

    def difference(self) -> Difference:
        """What it all adds up to."""
        return (
            self.requests,
            self.prompt_tokens,
            self.completion_tokens,
            self.total_tokens,
            self.raw_nano,
            self.markup_nano,
            self.unpriced,
        )


class Changes:
    """What a batch changes: differences to rows, by the rows' keys."""

    __slots__ = ("books", "days", "live", "models", "organizations", "users")

    def __init__(self) -> None:
        self.days: dict[tuple[str, str], Totals] = {}
        self.users: dict[tuple[str, str, str], Totals] = {}
        self.models: dict[tuple[str, str, str], Totals] = {}
        # The greatest log time of an organisation's facts, its local day then, and its timezone.
        self.live: dict[str, tuple[int, str, str]] = {}
        self.organizations: dict[str, int] = {}  # when each was seen, in seconds
        self.books: dict[str, int] = {}


def fold(facts: Sequence[Fact]) -> Changes:
    """Facts in, differences out."""
    changes = Changes()
    books, seen = changes.books, changes.organizations
    balances: list[tuple[int, Entry, int]] = []
    for fact in facts:
        fate, plus, time_ms = fact.fate, fact.plus, fact.time_ms
        books[fate] = books.get(fate, 0) + 1
        time_s = time_ms // 1000
        if plus is not None and time_s < seen.get(plus.organization, NEVER_S):
            seen[plus.organization] = time_s
        for sign, entry in effects(fact):
            if entry.margin:
                balances.append((sign, entry, time_ms))
            else:
                _add(changes, sign, entry, time_ms, time_s)
            # Of one organisation's two entries the newer says which day it is.
            if sign > 0 or plus is None or plus.organization != entry.organization:
                _mark(changes, entry, time_ms)
    # Without balances a day is the sum of its users, which are fewer than the facts.
    for (organization, day, _), user in changes.users.items():
        _day(changes, organization, day, user.first_s).absorb(user)
    for sign, entry, time_ms in balances:
        _add_balance(changes, sign, entry, time_ms)
    return changes


def _add(changes: Changes, sign: int, entry: Entry, time_ms: int, time_s: int) -> None:
    """What one generation adds to its user's and its model's row: the hottest lines of a rebuild."""
    organization, day = entry.organization, entry.day
    requests, raw_nano, markup_nano = entry.requests, entry.cost_nano, entry.markup_nano or 0
    prompt, completion, total = entry.prompt_tokens, entry.completion_tokens, entry.total_tokens
    missing = 0
    if raw_nano is None:
        raw_nano, missing = 0, unpriced(entry)
    if sign < 0:
        requests, prompt, completion, total = -requests, -prompt, -completion, -total
        raw_nano, markup_nano, missing = -raw_nano, -markup_nano, -missing
    key = (organization, day, entry.user)
    user = changes.users.get(key)
    if user is None:
        user = changes.users[key] = Totals(time_s)
    user.add(requests, prompt, completion, total, raw_nano, markup_nano, missing, time_s)
    # What is taken away says nothing new of the user, but a row must have some name.
    user.name(entry.user_id or entry.user, time_ms if sign > 0 else -1)
    key = (organization, day, entry.model)
    model = changes.models.get(key)
    if model is None:
        model = changes.models[key] = Totals(time_s)
    model.add(requests, prompt, completion, total, raw_nano, markup_nano, missing, time_s)
    model.serve(entry.provider, requests, raw_nano)


def _mark(changes: Changes, entry: Entry, time_ms: int) -> None:
    before = changes.live.get(entry.organization)
    if (before is None or time_ms >= before[0]) and entry.margin in ("", "day"):
        mark = (time_ms, entry.today, entry.today_zone or entry.zone)
        if before is None or mark > before:
            changes.live[entry.organization] = mark


def _day(changes: Changes, organization: str, day: str, time_s: int) -> Totals:
    totals = changes.days.get((organization, day))
    if totals is None:
        totals = changes.days[organization, day] = Totals(time_s)
    return totals


def _add_balance(changes: Changes, sign: int, entry: Entry, time_ms: int) -> None:
    """An opening balance touches its one table and no other."""
    organization, day, time_s = entry.organization, entry.day, time_ms // 1000
    if entry.margin == "day":
        totals = _day(changes, organization, day, time_s)
    elif entry.margin == "user":
        key = (organization, day, entry.user)
        totals = user = changes.users.get(key) or changes.users.setdefault(key, Totals(time_s))
        user.name(entry.user_id or entry.user, time_ms if sign > 0 else -1)
    else:
        key = (organization, day, entry.model)
        totals = model = changes.models.get(key) or changes.models.setdefault(key, Totals(time_s))
        model.serve(entry.provider, sign * entry.requests, sign * (entry.cost_nano or 0))
    difference: Difference = (
        sign * entry.requests,
        sign * entry.prompt_tokens,
        sign * entry.completion_tokens,
        sign * entry.total_tokens,
        sign * (entry.cost_nano or 0),
        sign * (entry.markup_nano or 0),
        sign * unpriced(entry),
    )
    totals.add(*difference, time_s)


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
