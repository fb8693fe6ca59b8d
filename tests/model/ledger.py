"""The records of a log, one by one and in order: which version of an id wins, and when a row was touched.

    model = Model(settings)
    for record in records_of_the_log:
        model.take(record)
    model.books, model.ids["gen-1"].winner

Totals are not kept here: `tables.py` sums up the winners when all is read.
"""

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

from tests.model.events import AUTHORITIES, Event, Refused, is_greater, is_same, rank, read, rounded
from tests.model.settings import Settings

DAY_NS = 86_400 * 10**9
RECONCILED = AUTHORITIES.index("reconciled")


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the log. `own` is one that the ledger published itself, a winner once more."""

    partition: int
    time_ms: int
    key: bytes
    line: bytes
    own: bool = False


@dataclass(frozen=True, slots=True)
class Worth:
    """What an id adds to the totals, and where."""

    organization: str
    day: str
    user: str
    user_id: str
    model: str
    provider: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_nano: int | None
    markup_nano: int | None


@dataclass(slots=True)
class Id:
    """What is known of one generation; `won_ms`: when its winner won."""

    winner: Event
    first_ms: int
    dated_ns: int | None = None
    believed: bool = True
    won_ms: int = 0

    @property
    def date_ns(self) -> int:
        """When it was made: as the winner says, else when the first undated record came."""
        found = self.dated_ns if self.winner.created_ns is None else self.winner.created_ns
        assert found is not None
        return found


@dataclass(slots=True)
class Touched:
    """The first and the last log time at which a row changed."""

    first_ms: int
    last_ms: int


@dataclass
class Model:
    """All that follows from the settings and the records taken so far."""

    settings: Settings
    ids: dict[str, Id] = field(default_factory=dict)
    books: dict[int, Counter[str]] = field(default_factory=dict)
    touched: dict[tuple[str, ...], Touched] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Read one more record of its partition."""
        self.books.setdefault(record.partition, Counter())[self._fate(record)] += 1

    def _fate(self, record: Record) -> str:
        try:
            event = read(record.line)
        except Refused:
            return "quarantined"
        log_ns = record.time_ms * 10**6
        if event.id.encode() != record.key or (event.created_ns or 0) > log_ns + DAY_NS:
            return "quarantined"
        known = self.ids.get(event.id)
        undated_ns = log_ns if event.created_ns is None and not record.own else None
        fresh = Id(event, record.time_ms, undated_ns)
        fresh.believed = self._believes(fresh) if not record.own else known is None or known.believed
        if known is None:
            if not fresh.believed:
                self.ids[event.id] = fresh
                return "quarantined"
            self._turn(None, fresh, record.time_ms)
            return "voided" if event.void else "counted"
        if not known.believed:
            fate = self._fate_of_held(known, fresh, record.time_ms)
            return "republished" if record.own else fate
        if event.organization != known.winner.organization:
            if rank(known.winner)[1] < RECONCILED == rank(event)[1]:
                self._turn(known, Id(event, known.first_ms, undated_ns), record.time_ms)
            return "conflict"
        dated_ns = undated_ns if known.dated_ns is None else known.dated_ns
        if is_greater(event, known.winner):
            self._turn(known, Id(event, known.first_ms, dated_ns), record.time_ms)
            return "voided" if event.void else "amended"
        known.dated_ns = dated_ns
        if is_same(event, known.winner):
            return "republished" if record.own else "duplicate"
        return "superseded"

    def _believes(self, id: Id) -> bool:
        event = id.winner
        return event.authority == "corrected" or self.settings.believes(
            event.organization, event.model, event.source, id.date_ns
        )

    def _fate_of_held(self, known: Id, fresh: Id, time_ms: int) -> str:
        """A version of an id that only sources without belief have told of: it counts nothing yet."""
        if known.winner.organization != fresh.winner.organization:
            if not fresh.believed:
                return "quarantined"
            if rank(known.winner)[1] >= RECONCILED > rank(fresh.winner)[1]:
                return "conflict"  # whose it is the provider has proved
            self._turn(None, fresh, time_ms)
            return "voided" if fresh.winner.void else "counted"
        dated_ns = fresh.dated_ns if known.dated_ns is None else known.dated_ns
        greater = is_greater(fresh.winner, known.winner)
        winner = fresh.winner if greater else known.winner
        after = Id(winner, fresh.first_ms, dated_ns, believed=fresh.believed)
        if not after.believed:
            self.ids[winner.id] = after
            return "quarantined"
        self._turn(None, after, time_ms)
        return "voided" if winner.void else "counted"

    def _turn(self, before: Id | None, after: Id, time_ms: int) -> None:
        organization = after.winner.organization
        self.seen[organization] = min(time_ms, self.seen.get(organization, time_ms))
        for side in (before, after):
            worth = None if side is None else self.worth(side)
            if worth is not None:
                self._touch(worth, time_ms)
        after.won_ms = time_ms
        self.ids[after.winner.id] = after

    def _touch(self, worth: Worth, time_ms: int) -> None:
        organization, day = worth.organization, worth.day
        for row in (
            ("organization", organization),
            ("day", organization, day),
            ("user", organization, worth.user, day),
            ("model", organization, worth.model, day),
        ):
            touched = self.touched.setdefault(row, Touched(time_ms, time_ms))
            touched.first_ms = min(touched.first_ms, time_ms)
            touched.last_ms = max(touched.last_ms, time_ms)

    def day_of(self, id: Id) -> str:
        """The day that an id belongs to."""
        return self.settings.day(id.winner.organization, id.date_ns)

    def worth(self, id: Id) -> Worth | None:
        """What an id is worth now; a void is worth nothing."""
        event = id.winner
        if event.void or not id.believed:
            return None
        organization, day = event.organization, self.day_of(id)
        markup_nano = None
        if event.cost_nano is not None:
            rate = Decimal(self.settings.markup(organization, id.date_ns))
            markup_nano = rounded(event.cost_nano * rate)
        return Worth(
            organization=organization,
            day=day,
            user=event.user,
            user_id=self.settings.user_id(organization, event.user, day),
            model=event.model,
            provider=event.provider,
            prompt_tokens=event.prompt_tokens,
            completion_tokens=event.completion_tokens,
            total_tokens=event.total_tokens,
            cost_nano=event.cost_nano,
            markup_nano=markup_nano,
        )
