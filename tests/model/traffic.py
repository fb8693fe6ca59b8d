"""Made-up traffic from a seed: three days with a change of the clocks, and all that goes wrong in the world.

    traffic = generate(seed=7, generations=20_000)
    traffic.deliveries            # lines in the order of their making, bad ones among them
    traffic.shuffled(8)           # another order, in which each id's first organisation stays first
    traffic.settings()            # what the model must know, and what is posted before the first line

Every line has a number in its metadata, which is no content: by it a record on the log is known again. The
last organisation sends no dates: its days are those of the log, and no two logs agree on them.
"""

import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from tests.model.settings import Settings

FIRST_DAY = date(2025, 10, 25)  # the clocks of Europe change in the night to the 26th
DAYS = 3
LONG_AGO = date(2025, 1, 1)
MIDWAY = date(2025, 10, 26)
ZONES = (
    *("Europe/Warsaw", "Europe/London", "America/New_York", "Asia/Kathmandu", "America/St_Johns"),
    *("Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Cairo"),
    *("America/Los_Angeles", "Asia/Tokyo", "Pacific/Chatham", "Europe/Lisbon", "America/Sao_Paulo"),
    *("Asia/Tehran", "Australia/Adelaide", "Atlantic/Azores", "UTC", "UTC"),
)
MARKUPS = ("1", "1.3", "1.25", "1.5", "1.0725", "0.9", "2", "1.123456789012", "1.1", "1.333")
CHANGING = 3  # the organisation whose markup changes midway
UNDATED = len(ZONES) - 1
USERS, MODELS = 300, 40
PROVIDERS = ("Anthropic", "OpenAI", "Google", "Together", "DeepInfra", "Fireworks", "")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One line on its way to the door. `due_s` orders a first telling; `bad` must be refused."""

    id: str
    organization: str
    line: bytes
    due_s: float
    bad: bool = False


@dataclass
class Traffic:
    """Settings first, then the lines."""

    seed: int
    organizations: list[Fields] = field(default_factory=list)
    users: list[Fields] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    lines: dict[int, bytes] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)

    def settings(self) -> Settings:
        """What the model knows of the organisations and users."""
        settings = Settings()
        for body in self.organizations:
            values = {n: str(v) for n, v in body.items() if n not in ("id", "effective")}
            settings.set_organization(str(body["id"]), date.fromisoformat(str(body["effective"])), **values)
        for body in self.users:
            effective = date.fromisoformat(str(body["effective"]))
            settings.map_user(str(body["organization"]), str(body["user"]), effective, str(body["user_id"]))
        return settings

    def shuffled(self, seed: int) -> list[Delivery]:
        """The same deliveries in another order."""
        found = list(self.deliveries)
        random.Random(seed).shuffle(found)
        return self._owners_first(found)

    def _owners_first(self, deliveries: list[Delivery]) -> list[Delivery]:
        first: dict[str, int] = {}
        settled: set[str] = set()
        for place, delivery in enumerate(deliveries):
            if delivery.bad or delivery.id in settled:
                continue
            earliest = first.setdefault(delivery.id, place)
            if delivery.organization == self.owners[delivery.id]:
                deliveries[earliest], deliveries[place] = delivery, deliveries[earliest]
                settled.add(delivery.id)
        return deliveries


def generate(seed: int, generations: int) -> Traffic:
    """So many generations, with their duplicates, amendments, voids and bad lines."""
    maker = _Maker(seed)
    for _ in range(generations):
        maker.generation()
    traffic = maker.traffic
    traffic.deliveries.sort(key=lambda delivery: delivery.due_s)
    traffic.deliveries = traffic._owners_first(traffic.deliveries)
    return traffic


class _Maker:
    """Draws everything from one seeded source."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.traffic = Traffic(seed)
        self.models = [f"vendor-{n % 7}/model-{n:02d}" for n in range(MODELS)]
        self.providers = {m: self.random.sample(PROVIDERS, self.random.randint(1, 4)) for m in self.models}
        self.start = datetime.combine(FIRST_DAY, time(), tzinfo=UTC)
        self._organizations()
        self._users()

    def _organizations(self) -> None:
        bodies = self.traffic.organizations
        for n, zone in enumerate(ZONES):
            body: Fields = {"id": f"org-{n:02d}", "name": f"Organisation {n}", "timezone": zone}
            body |= {"markup": MARKUPS[n % len(MARKUPS)], "effective": LONG_AGO.isoformat()}
            if n % 5 == 0:
                body |= {"billing_email": f"bills@{n}.example", "monthly_limit": f"{n}.5"}
                body |= {"provider_key": f"env:KEY_{n}"}
            bodies.append(body)
        bodies.append({"id": f"org-{CHANGING:02d}", "markup": "1.7", "effective": MIDWAY.isoformat()})

    def _users(self) -> None:
        for n in range(USERS):
            organization = f"org-{n % len(ZONES):02d}"
            if n % 3 == 0:
                self._map(organization, n, LONG_AGO, f"person-{n}")
            if n % 15 == 0:
                self._map(organization, n, MIDWAY, f"person-{n}-later")

    def _map(self, organization: str, user: int, effective: date, user_id: str) -> None:
        body: Fields = {"organization": organization, "user": f"user-{user:03d}", "user_id": user_id}
        self.traffic.users.append({**body, "effective": effective.isoformat()})

    def generation(self) -> None:
        """One generation, and whatever else is told of it."""
        draw = self.random.random
        base = self._base()
        due_s = self.moment_s
        kind = self._kind()
        self._count(kind)
        before = getattr(self, f"_{kind}")(dict(base), due_s)
        if before is not None:
            base = before
        if draw() < 0.01 and kind == "plain":
            self._count("unpriced")
            unpriced = {**base, "cost": None}
            self._tell(unpriced, due_s)
            if draw() < 0.5:
                self._tell(base, self._later(due_s))
        else:
            self._tell(base, due_s)
        if draw() < 0.05:
            self._count("duplicate")
            last = self.traffic.deliveries[-1]
            self.traffic.deliveries.append(
                Delivery(last.id, last.organization, last.line, self._later(due_s))
            )
        if draw() < 0.005:
            self._bad(base, due_s)

    def _kind(self) -> str:
        drawn = self.random.random()
        for share, kind in (
            (0.02, "amended"),
            (0.004, "voided_after"),
            (0.003, "voided_before"),
            (0.001, "void_undone"),
            (0.001, "void_alone"),
            (0.004, "foreign"),
            (0.001, "taken_over"),
        ):
            drawn -= share
            if drawn < 0:
                return kind
        return "plain"

    def _count(self, kind: str) -> None:
        self.traffic.kinds[kind] = self.traffic.kinds.get(kind, 0) + 1

    def _later(self, due_s: float) -> float:
        return due_s + self.random.expovariate(1 / 1800)

    # One generation as it is first told.

    def _base(self) -> Fields:
        r = self.random
        n = int(r.triangular(0, len(ZONES), 0))
        model = self.models[int(r.triangular(0, MODELS, 0))]
        prompt, completion = r.randint(0, 20_000), r.randint(0, 4_000)
        fields: Fields = {"organization": f"org-{n:02d}", "model": model}
        if r.random() < 0.95:
            fields["user"] = f"user-{r.randrange(n, USERS, len(ZONES)):03d}"
        fields["provider"] = r.choice(self.providers[model]) or None
        fields |= {"prompt_tokens": prompt, "completion_tokens": completion}
        if r.random() < 0.1:
            fields["total_tokens"] = prompt + completion + r.randint(0, 50)
        fields["cost"] = self._cost(prompt, completion)
        self.moment_s = self._moment_s(n)
        if n != UNDATED:
            fields["created_at"] = self._text(self.moment_s)
        fields["id"] = self._id(self.moment_s)
        fields["source"] = r.choice(("webhook", "sdk"))
        if r.random() < 0.2:
            fields |= {
                "latency_ms": r.randint(50, 90_000),
                "finish_reason": "stop",
                "cached_tokens": prompt // 2,
            }
        return fields

    def _cost(self, prompt: int, completion: int) -> Decimal:
        r = self.random
        digits = r.choice((4, 6, 8, 9, 9, 12))
        dollars = Decimal(prompt) * 3 / 10**6 + Decimal(completion) * 15 / 10**6
        return round(dollars + Decimal(r.randint(0, 10**9)) / 10**13, digits)

    def _moment_s(self, organization: int) -> float:
        r = self.random
        drawn = r.random()
        if drawn < 0.05:  # about a local midnight
            day = FIRST_DAY + timedelta(days=r.randint(1, DAYS - 1))
            midnight = datetime.combine(day, time(), tzinfo=ZoneInfo(ZONES[organization]))
            return midnight.timestamp() + r.choice((-1.5, -1e-3, 0.0, 1e-3, 1.5))
        if drawn < 0.07:  # the hour that Europe has twice
            return self.start.timestamp() + 86_400 + r.uniform(-3600, 7200)
        return self.start.timestamp() + r.uniform(0, DAYS * 86_400)

    def _text(self, moment_s: float) -> str:
        zone = self.random.choice((UTC, UTC, UTC, ZoneInfo("Asia/Kathmandu"), ZoneInfo("America/New_York")))
        text = datetime.fromtimestamp(round(moment_s, 3), zone).isoformat(timespec="milliseconds")
        if self.random.random() < 0.2:
            whole, dot, rest = text.partition(".")
            text = f"{whole}{dot}{rest[:3]}123456{rest[3:]}"
        return text.replace("+00:00", "Z")

    def _id(self, moment_s: float) -> str:
        if self.random.random() < 0.3:
            return str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        return f"gen-{int(moment_s)}-{''.join(self.random.choices(LETTERS, k=20))}"

    # What else is told of it. Each may give the first telling another form.

    def _plain(self, base: Fields, due_s: float) -> None:
        return None

    def _amended(self, base: Fields, due_s: float) -> Fields | None:
        kind = self.random.choice(AMENDMENTS)
        self._count(f"amended: {kind}")
        first, others = _amendments(kind, base, self)
        for other in others:
            self._tell(other, self._later(due_s))
        return first

    def _void(self, base: Fields, due_s: float, **more: object) -> None:
        void: Fields = {n: base[n] for n in ("id", "organization", "created_at") if n in base}
        self._tell({**void, "void": True, **more}, due_s)

    def _voided_after(self, base: Fields, due_s: float) -> None:
        self._void(base, self._later(due_s))

    def _voided_before(self, base: Fields, due_s: float) -> None:
        self._void(base, due_s - 60)

    def _void_undone(self, base: Fields, due_s: float) -> None:
        self._void(base, self._later(due_s), revision=1)
        self._tell({**base, "authority": "corrected", "revision": 2}, self._later(due_s))

    def _void_alone(self, base: Fields, due_s: float) -> None:
        self._void({**base, "id": self._id(self.moment_s)}, due_s)

    def _foreign(self, base: Fields, due_s: float) -> None:
        other = f"org-{self.random.randrange(UNDATED):02d}"
        self.traffic.owners[str(base["id"])] = str(base["organization"])
        authority = self.random.choice(("reported", "corrected"))
        self._tell({**base, "organization": other, "authority": authority}, self._later(due_s))

    def _taken_over(self, base: Fields, due_s: float) -> None:
        other = f"org-{self.random.randrange(UNDATED):02d}"
        self.traffic.owners[str(base["id"])] = str(base["organization"])
        dated = {"created_at": base.get("created_at") or self._text(self.moment_s)}
        self._tell({**base, **dated, "organization": other, "authority": "reconciled"}, self._later(due_s))

    def _bad(self, base: Fields, due_s: float) -> None:
        kind, line = self.random.choice(_bad_lines(base))
        self._count(f"bad: {kind}")
        self.traffic.deliveries.append(Delivery("", "", line, due_s, bad=True))

    def _tell(self, fields: Fields, due_s: float) -> None:
        id, organization = str(fields["id"]), str(fields["organization"])
        self.traffic.owners.setdefault(id, organization)
        number = len(self.traffic.lines)
        line = _line({**fields, "metadata": {"n": number}}, self.random)
        self.traffic.lines[number] = line
        self.traffic.deliveries.append(Delivery(id, organization, line, due_s))


AMENDMENTS = (
    *("higher", "late lower", "revised", "late revision", "reconciled lower", "late estimate"),
    *("0.9e-6 more", "1.1e-6 more", "0.9e-6 less", "1.1e-6 less", "higher without a cost"),
    *("another user", "another day", "another model", "another provider", "more tokens", "estimate first"),
    *("no user", "markup's other side"),
)


def _amendments(kind: str, base: Fields, maker: _Maker) -> tuple[Fields, list[Fields]]:
    """The first telling, and the versions that come later."""
    cost = base["cost"]
    assert isinstance(cost, Decimal)
    price = {"authority": "reconciled", "cost": cost / 2}
    moved_s = maker.moment_s + maker.random.choice((-86_400, 86_400))
    dated = {"created_at": maker._text(moved_s)} if "created_at" in base else {}
    midway_s = datetime.combine(MIDWAY, time(), tzinfo=ZoneInfo(ZONES[CHANGING])).timestamp()
    other_side = {"created_at": maker._text(midway_s - 1)} if "created_at" in base else {}
    user = f"user-{maker.random.randrange(USERS):03d}"
    n = AMENDMENTS.index(kind)
    versions: tuple[list[Fields], ...] = (
        [{"cost": cost + 1}],
        [{"cost": cost / 3}],
        [{"cost": cost / 2, "revision": 1}],
        [{"cost": cost / 2, "revision": 3}, {"cost": cost * 2, "revision": 2}],
        [price],
        [{"cost": cost * 3, "authority": "estimate"}],
        [{"cost": cost + Decimal("0.0000009")}],
        [{"cost": cost + Decimal("0.0000011")}],
        [{"cost": max(cost - Decimal("0.0000009"), Decimal(0)), "revision": 1}],
        [{"cost": max(cost - Decimal("0.0000011"), Decimal(0)), "authority": "reconciled"}],
        [{"cost": None, "authority": "reconciled", "revision": 9}],
        [{"user": user, "revision": 1}],
        [{**dated, "authority": "reconciled"}],
        [{"model": maker.random.choice(maker.models), "revision": 1}],
        [{"provider": "Elsewhere", "authority": "corrected"}],
        [{"prompt_tokens": 30_000, "total_tokens": 40_000}],
        [],
        [{"user": None, "authority": "reconciled"}, {"user": user, "authority": "corrected", "revision": 1}],
        [{**other_side, "revision": 4}],
    )
    first = base
    if kind == "estimate first":
        first = {**base, "authority": "estimate", "cost": cost * 2}
        versions[n].append({"authority": "reported"})
    return first, [{**base, **version} for version in versions[n]]


def _line(fields: Fields, source: random.Random) -> bytes:
    parts = []
    for name, value in fields.items():
        if isinstance(value, Decimal):
            parts.append(f'"{name}":{_number(value, source)}')
        elif value is not None or source.random() < 0.1:
            parts.append(f'"{name}":{json.dumps(value)}')
    return ("{" + ",".join(parts) + "}").encode()


def _number(value: Decimal, source: random.Random) -> str:
    plain = f"{value:.18f}".rstrip("0").rstrip(".") or "0"
    form = source.random()
    if form < 0.5:
        return f'"{plain}"'
    return plain if form < 0.8 or not value else f"{Decimal(plain):e}".replace("e+0", "e0")


def _bad_lines(base: Fields) -> list[tuple[str, bytes]]:
    def changed(**more: object) -> bytes:
        fields = {n: str(v) if isinstance(v, Decimal) else v for n, v in base.items()}
        return json.dumps({n: v for n, v in {**fields, **more}.items() if v is not None}).encode()

    return [
        ("cut off", changed()[:-7]),
        ("negative cost", changed(cost="-0.01")),
        ("NaN", changed().replace(b"{", b'{"upstream_cost":NaN,', 1)),
        ("no id", changed(id=None)),
        ("no organisation", changed(organization=None)),
        ("no model", changed(model=None)),
        ("half a token", changed(prompt_tokens=1.5)),
        ("tokens as text", changed(completion_tokens="12")),
        ("less than its parts", changed(total_tokens=1, prompt_tokens=5, completion_tokens=5)),
        ("no zone", changed(created_at="2025-10-25T10:00:00")),
        ("1970", changed(created_at="1970-01-01T00:00:00Z")),
        ("the far future", changed(created_at="2150-01-01T00:00:00Z")),
        ("a control character", changed(user="a\nb")),
        ("another authority", changed(authority="god")),
        ("an array", b"[1]"),
    ]
