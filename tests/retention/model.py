"""What retention must come to, by plain rules: an id is known, then forgotten, and the totals stay.

    model = Model(settings)
    model.take(line, time_ms)                      # its fate, as "counted"
    run = model.forget("cleanup-1", days=90, now_ms=now_ms)
    run.ids, run.before, run.tokens                # who goes, and what the audit must say of it
    model.totals().days["acme", "2026-01-05"]

It imports nothing of the project. Of an id that is known it keeps the winner, and adds it up when it is asked
for totals; of one that is forgotten only what it was worth. So it never takes anything away, as the service
does with every amendment, and it holds no more than the service does.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from tests.model.events import AUTHORITIES, Event, Refused, is_greater, is_same, rank, read, rounded
from tests.model.settings import Settings

DAY_NS = 86_400 * 10**9
MS_NS = 10**6
RECONCILED = AUTHORITIES.index("reconciled")
# An id is kept for so many days; what first comes when it is this much younger may have been forgotten.
BEYOND_DAYS = 2


@dataclass(slots=True)
class Id:
    """What is known of one generation. `latest_ns`: the latest date of all versions that were read."""

    winner: Event
    dated_ns: int | None
    latest_ns: int

    @property
    def date_ns(self) -> int:
        """When it was: as the winner says, else when the log had the first version without a date."""
        found = self.dated_ns if self.winner.created_ns is None else self.winner.created_ns
        assert found is not None
        return found


@dataclass(slots=True)
class Sum:
    """The figures of a row."""

    requests: int = 0
    tokens: int = 0
    cost_nano: int = 0
    markup_nano: int = 0
    unpriced: int = 0

    def add(self, tokens: int, cost_nano: int | None, markup_nano: int | None) -> None:
        """One more generation."""
        self.requests += 1
        self.tokens += tokens
        self.cost_nano += cost_nano or 0
        self.markup_nano += markup_nano or 0
        self.unpriced += cost_nano is None

    def figures(self) -> tuple[int, int, int, int, int]:
        """All of them."""
        return self.requests, self.tokens, self.cost_nano, self.markup_nano, self.unpriced


Rows = dict[tuple[str, ...], Sum]


def _rows() -> Rows:
    return defaultdict(Sum)


@dataclass
class Totals:
    """The three summaries: by day, by user, by model."""

    days: Rows = field(default_factory=_rows)
    users: Rows = field(default_factory=_rows)
    models: Rows = field(default_factory=_rows)

    def add(self, event: Event, day: str, markup_nano: int | None) -> None:
        """One more generation."""
        worth = event.total_tokens, event.cost_nano, markup_nano
        self.days[event.organization, day].add(*worth)
        self.users[event.organization, day, event.user].add(*worth)
        self.models[event.organization, day, event.model].add(*worth)


@dataclass
class Run:
    """One run of the job: its cutoff, who went, and what the audit must say, by organisation too."""

    name: str
    days: int
    cutoff_ns: int
    before: int
    deleted: int
    ids: frozenset[str]
    organizations: dict[str, tuple[int, int, int]]

    @property
    def tokens(self) -> int:
        """Their tokens."""
        return sum(tokens for _, tokens, _ in self.organizations.values())

    @property
    def cost_nano(self) -> int:
        """Their raw cost, where it was known."""
        return sum(cost_nano for *_, cost_nano in self.organizations.values())


class Model:
    """All that follows from the settings, the deliveries and the runs so far, in their order."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ids: dict[str, Id] = {}
        self.fates: Counter[str] = Counter()
        self.horizon_ns = 0
        self.newest_ms = 0
        self.runs: list[Run] = []
        self.never_taken: set[str] = set()
        self._gone = Totals()

    def take(self, line: bytes, time_ms: int, *, forced: bool = False) -> str:
        """One delivery, as the log took it; its fate. An administrator may force what came too late."""
        self.newest_ms = max(self.newest_ms, time_ms)
        fate = self._fate(line, time_ms * MS_NS, forced)
        self.fates[fate] += 1
        return fate

    def _fate(self, line: bytes, log_ns: int, forced: bool) -> str:
        try:
            event = read(line)
        except Refused:
            return "quarantined"
        if event.created_ns is not None and event.created_ns > log_ns + DAY_NS:
            if event.id not in self.ids:
                self.never_taken.add(event.id)
            return "quarantined"
        dated_ns = log_ns if event.created_ns is None else None
        fresh = Id(event, dated_ns, log_ns if event.created_ns is None else event.created_ns)
        known = self.ids.get(event.id)
        if known is not None:
            return self._fate_of_known(known, fresh)
        if fresh.latest_ns < self.horizon_ns and not forced:
            return "expired"
        self.ids[event.id] = fresh
        return "voided" if event.void else "counted"

    def _fate_of_known(self, known: Id, fresh: Id) -> str:
        event = fresh.winner
        # Whoever tells of it, and whatever: it is remembered for as long as it could be told again.
        known.latest_ns = max(known.latest_ns, fresh.latest_ns)
        if event.organization != known.winner.organization:
            if rank(known.winner)[1] < RECONCILED == rank(event)[1]:
                known.winner, known.dated_ns = event, fresh.dated_ns
            return "conflict"
        if known.dated_ns is None:
            known.dated_ns = fresh.dated_ns
        if is_greater(event, known.winner):
            known.winner = event
            return "voided" if event.void else "amended"
        return "duplicate" if is_same(event, known.winner) else "superseded"

    def forget(self, name: str, days: int, now_ms: int) -> Run:
        """A run of the job that keeps ids for so many days: who goes. Its records are on the log, too."""
        midnight_ns = self.newest_ms * MS_NS // DAY_NS * DAY_NS
        cutoff_ns = max(0, midnight_ns - days * DAY_NS)
        if cutoff_ns:
            self.horizon_ns = max(self.horizon_ns, cutoff_ns + BEYOND_DAYS * DAY_NS)
        self.newest_ms = max(self.newest_ms, now_ms)
        gone = [id for id, known in self.ids.items() if known.latest_ns < cutoff_ns]
        before = len(self.ids)
        organizations: dict[str, tuple[int, int, int]] = {}
        for id in gone:
            known = self.ids.pop(id)
            self._add(self._gone, known)
            event = known.winner
            count, tokens, cost_nano = organizations.get(event.organization, (0, 0, 0))
            worth = (0, 0) if event.void else (event.total_tokens, event.cost_nano or 0)
            organizations[event.organization] = (count + 1, tokens + worth[0], cost_nano + worth[1])
        run = Run(name, days, cutoff_ns, before, len(gone), frozenset(gone), organizations)
        self.runs.append(run)
        return run

    def totals(self) -> Totals:
        """Every row of the three summaries that has anything in it."""
        found = Totals()
        for mine, theirs in zip(_parts(found), _parts(self._gone), strict=True):
            mine.update((key, Sum(*row.figures())) for key, row in theirs.items())
        for known in self.ids.values():
            self._add(found, known)
        return found

    def day_of(self, known: Id) -> str:
        """The day that an id belongs to."""
        return self.settings.day(known.winner.organization, known.date_ns)

    def _add(self, totals: Totals, known: Id) -> None:
        event = known.winner
        if event.void:
            return
        markup_nano = None
        if event.cost_nano is not None:
            rate = Decimal(self.settings.markup(event.organization, known.date_ns))
            markup_nano = rounded(event.cost_nano * rate)
        totals.add(event, self.day_of(known), markup_nano)


def _parts(totals: Totals) -> Iterable[Rows]:
    return totals.days, totals.users, totals.models
