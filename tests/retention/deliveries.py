"""Made-up traffic of a year, day by day, from a seed: what is told, told again, and told much too late.

    traffic = Traffic(seed=7, ids_per_day=170)
    for told in traffic.day(0): ...                  # in the order of their log times
    traffic.again(told, day=1)                       # the same once more, on another day

An id's twins come at every distance from its date: seconds, and just before and after it is forgotten. Each
is the same version, or another one: dearer, cheaper, void, undated, moved, from another source, of another
organisation. It knows nothing of the service, nor of what becomes of a telling.
"""

import json
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from tests.model.settings import Settings
from tests.model.traffic import MARKUPS, ZONES

FIRST_DAY = date(2026, 1, 1)
LONG_AGO = date(2024, 1, 1)
DAY_NS = 86_400 * 10**9
HOUR_NS = DAY_NS // 24
USERS, MODELS = 20, 12
# When the log takes what was sent, in nanoseconds after midnight; the first one is before the job at 00:05.
CHUNKS_NS = (60 * 10**9, 5 * HOUR_NS, 13 * HOUR_NS, 21 * HOUR_NS + 17 * 60 * 10**9)
FIRST_SHARE = 0.02
TWINS = 0.12
SECONDS = "seconds"
DISTANCES: tuple[float | str, ...] = (SECONDS, 0.4, 7, 45, 89, 90, 91, 92, 93, 200)
BACKFILL_DAYS = 20
BACKFILL_SHARE = 0.2

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Told:
    """One line, and when the log takes it."""

    id: str
    line: bytes
    time_ms: int
    forced: bool = False


class Traffic:
    """Draws everything from one seeded source. What is to be told again waits until its day."""

    def __init__(self, seed: int, ids_per_day: int) -> None:
        self._random = random.Random(seed)
        self._ids_per_day = ids_per_day
        self._waiting: dict[int, list[tuple[int, str, bytes, bool]]] = defaultdict(list)
        self._start_ns = int(datetime.combine(FIRST_DAY, time(), tzinfo=UTC).timestamp()) * 10**9
        self._number = 0
        self.kinds: Counter[str] = Counter()

    def organizations(self) -> Sequence[tuple[str, str, str]]:
        """Every organisation: its id, timezone and markup, in force from long ago."""
        return [(f"org-{n:02d}", zone, MARKUPS[n % len(MARKUPS)]) for n, zone in enumerate(ZONES)]

    def settings(self) -> Settings:
        """What a model must know of them."""
        settings = Settings()
        for id, zone, markup in self.organizations():
            settings.set_organization(id, LONG_AGO, timezone=zone, markup=markup)
        return settings

    def midnight_ms(self, day: int) -> int:
        """The midnight (UTC) that a day begins with."""
        return (self._start_ns + day * DAY_NS) // 10**6

    def day(self, day: int) -> Sequence[Told]:
        """Everything that the log takes on a day."""
        for _ in range(self._ids_per_day):
            self._generation(day)
        waiting = sorted(self._waiting.pop(day, []), key=lambda one: one[0])
        midnight_ns = self._start_ns + day * DAY_NS
        return [
            Told(id, line, (midnight_ns + CHUNKS_NS[chunk]) // 10**6, forced)
            for chunk, id, line, forced in waiting
        ]

    def again(self, told: Told, day: int, *, forced: bool = False) -> None:
        """Tell the same once more, on another day."""
        self._waiting[day].append((1, told.id, told.line, forced))

    def _generation(self, day: int) -> None:
        r = self._random
        chunk = 0 if r.random() < FIRST_SHARE else r.randint(1, len(CHUNKS_NS) - 1)
        organization = r.randrange(len(ZONES))
        log_ns = self._start_ns + day * DAY_NS + CHUNKS_NS[chunk]
        kind, created_ns = self._created(day, log_ns, organization)
        self.kinds[kind] += 1
        prompt, completion = r.randint(0, 20_000), r.randint(0, 4_000)
        fields: Fields = {
            "id": self._id(),
            "organization": f"org-{organization:02d}",
            "user": f"user-{r.randrange(USERS):02d}",
            "model": f"vendor/model-{r.randrange(MODELS):02d}",
            "provider": r.choice(("Anthropic", "OpenAI", "Google")),
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "cost": _dollars(
                Decimal(prompt * 3 + completion * 15) / 10**6 + Decimal(r.randrange(10**6)) / 10**9
            ),
            "source": r.choice(("webhook", "sdk", "openrouter")),
        }
        if created_ns is not None:
            fields["created_at"] = _text(created_ns)
        if r.random() < 0.01:
            del fields["cost"]
        # A void may come before what it voids.
        first = {"id": fields["id"], "organization": fields["organization"], "void": True}
        if r.random() < 0.003:
            self._wait(day, chunk, {**first, **({"created_at": _text(created_ns)} if created_ns else {})})
        self._wait(day, chunk, fields)
        if r.random() < TWINS:
            self._twin(fields, log_ns if created_ns is None else created_ns, day, chunk)

    def _created(self, day: int, log_ns: int, organization: int) -> tuple[str, int | None]:
        """When it was made, next to when the log has it."""
        r = self._random
        if day < BACKFILL_DAYS and r.random() < BACKFILL_SHARE:
            return "backfill", log_ns - r.randrange(180 * DAY_NS)
        drawn = r.random()
        if drawn < 0.02:
            return "undated", None
        if drawn < 0.05:  # at midnight, of the log or of the organisation
            zone = ZoneInfo(ZONES[organization]) if r.random() < 0.5 else UTC
            midnight = datetime.combine(FIRST_DAY + timedelta(days=day), time(), tzinfo=zone)
            midnight_ns = int(midnight.timestamp()) * 10**9
            return "midnight", midnight_ns + r.choice((-(10**9), -(10**6), -1, 0, 1, 10**6, 10**9))
        if drawn < 0.06:
            return "late", log_ns - r.randrange(DAY_NS, 20 * DAY_NS)
        if drawn < 0.065:
            return "very late", log_ns - r.randrange(20 * DAY_NS, 220 * DAY_NS)
        if drawn < 0.068:
            return "early", log_ns + r.choice((HOUR_NS, DAY_NS - 1, DAY_NS))
        if drawn < 0.07:
            return "too early", log_ns + r.choice((DAY_NS + 1, 2 * DAY_NS, 300 * DAY_NS))
        return "plain", log_ns - r.randrange(3 * HOUR_NS)

    def _twin(self, fields: Fields, date_ns: int, day: int, chunk: int) -> None:
        distance = self._random.choice(DISTANCES)
        kind = self._random.choice(_KINDS)
        if isinstance(distance, str):
            place = day, chunk
        else:
            # The first chunk at or after that moment; an old one's twin comes no earlier than itself.
            at_ns = max(date_ns + round(distance * DAY_NS) - self._start_ns, day * DAY_NS + CHUNKS_NS[chunk])
            place = _place(at_ns)
        self.kinds[f"twin at {distance}"] += 1
        self.kinds[f"twin: {kind}"] += 1
        for version in self._versions(kind, fields, date_ns):
            self._wait(*place, version)

    def _versions(self, kind: str, fields: Fields, date_ns: int) -> Sequence[Fields]:
        cost = Decimal(str(fields.get("cost", "0.5")))
        created = {name: fields[name] for name in ("created_at",) if name in fields}
        bare = {"id": fields["id"], "organization": fields["organization"], **created}
        later = {"created_at": _text(date_ns + self._random.choice((1, 5)) * DAY_NS)}
        other = f"org-{self._random.randrange(len(ZONES)):02d}"
        undated = {name: value for name, value in fields.items() if name != "created_at"}
        changes: dict[str, Sequence[Fields]] = {
            "same": [fields],
            "same twice": [fields, fields],
            "another source": [{**fields, "source": "activity"}],
            "dearer": [{**fields, "cost": _dollars(cost + 1)}],
            "cheaper": [{**fields, "cost": _dollars(cost / 3)}],
            "revised": [{**fields, "cost": _dollars(cost / 2), "revision": 1}],
            "reconciled": [{**fields, "cost": _dollars(cost / 2), "authority": "reconciled"}],
            "unpriced": [{**fields, "cost": None, "revision": 9}],
            "void": [{**bare, "void": True}],
            "void undone": [
                {**bare, "void": True, "revision": 1},
                {**fields, "authority": "corrected", "revision": 2},
            ],
            "undated": [undated],
            "undated and dearer": [{**undated, "cost": _dollars(cost + 2)}],
            "moved": [{**fields, **later, "revision": 2}],
            "moved, and cheaper": [{**fields, **later, "cost": _dollars(cost / 7)}],
            "of another": [{**fields, "organization": other}],
            "taken over": [{**fields, "organization": other, "authority": "reconciled"}],
        }
        return changes[kind]

    def _wait(self, day: int, chunk: int, fields: Fields) -> None:
        line = json.dumps(fields).encode()
        self._waiting[day].append((chunk, str(fields["id"]), line, False))

    def _id(self) -> str:
        self._number += 1
        if self._random.random() < 0.3:
            return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        return f"gen-{self._number:08d}-{self._random.getrandbits(40):010x}"


_KINDS = (
    *("same", "same", "same", "same twice", "another source", "dearer", "cheaper", "revised", "reconciled"),
    *("unpriced", "void", "void undone", "undated", "undated and dearer", "moved", "moved, and cheaper"),
    *("of another", "taken over"),
)


def _place(at_ns: int) -> tuple[int, int]:
    """The day and chunk in which the log has what is sent at a moment after the start."""
    day, within_ns = divmod(at_ns, DAY_NS)
    for chunk, chunk_ns in enumerate(CHUNKS_NS):
        if within_ns <= chunk_ns:
            return day, chunk
    return day + 1, 0


def _dollars(dollars: Decimal) -> str:
    return f"{dollars:.9f}"


def _text(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
