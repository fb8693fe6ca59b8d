"""D: whatever the order, number and batching of deliveries, whatever crashes or is compacted: one result.

A small log stands in for the real one: a list of records, read in batches. Its ledger publishes winners
before it commits, as the real one does, and a crash loses all but what was published.
"""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any, cast

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections import summaries
from streams import fact, ledger, topics
from streams.directory import Directory, message_of
from streams.fact import Fact
from streams.known import Anything, Held, Known
from streams.ledger import Here
from streams.log.interface import Headers, Log, Message, Record
from streams.organizations import Change, Mapping, Organization, User
from streams.rules import Rules
from tests.model.events import read
from tests.model.ledger import Model
from tests.model.ledger import Record as ModelRecord
from tests.model.settings import Settings
from tests.model.tables import tables

START_MS = 1_761_480_000_000  # noon in Warsaw on 26 October 2025: the clocks went back in the night
MIDNIGHT_NS = 1_761_429_600 * 10**9  # of that day, in Warsaw
SLOWLY_MS = 6 * 3_600_000

lines = st.builds(
    lambda **fields: json.dumps({k: v for k, v in fields.items() if v is not None}).encode(),
    id=st.sampled_from(["gen-1", "gen-2", "gen-3"]),
    organization=st.just("acme"),
    model=st.sampled_from(["m", "n"]),
    user=st.sampled_from([None, "alice", "bob"]),
    provider=st.sampled_from([None, "P", "Q"]),
    prompt_tokens=st.integers(0, 2),
    completion_tokens=st.integers(0, 2),
    total_tokens=st.sampled_from([None, None, 4, 5]),
    cost=st.sampled_from([None, "0", "0.000000001", "0.1000009", "0.1000011", 0.1]),
    created_at=st.sampled_from(
        [None, "2025-10-25T21:59:59.999Z", "2025-10-25T22:00:00Z", "2025-10-26T00:30:00+01:00"]
    ),
    authority=st.sampled_from([None, "estimate", "reported", "reconciled", "corrected"]),
    revision=st.sampled_from([None, None, 0, 1, 2]),
    void=st.sampled_from([None, None, None, True]),
    latency_ms=st.sampled_from([None, 5]),
    source=st.sampled_from([None, "a", "b"]),
)
TRUTHS = ("", "", "m=a", "m=b n=a|c", "*=a n=b", "*=c")


class SmallLog:
    """One partition of `generations`. Compaction takes only what the ledger has read, as the lag sees to."""

    def __init__(self, tick_ms: int = 1) -> None:
        self.records: list[Record] = []
        self._tick_ms = tick_ms
        self._next = 0

    def append(self, key: bytes, value: bytes | None, headers: Headers = ()) -> None:
        time_ms = START_MS + self._next * self._tick_ms
        self.records.append(Record(topics.GENERATIONS, 0, self._next, time_ms, key, value, headers))
        self._next += 1

    def read(self, offset: int, limit: int) -> list[Record]:
        return [record for record in self.records if record.offset >= offset][:limit]

    def compact(self, below: int) -> None:
        newest = {record.key: record.offset for record in self.records if record.offset < below}
        self.records = [r for r in self.records if r.offset >= below or newest[r.key] == r.offset]


class SmallLedger:
    """What it knows is there after a crash, as the changelog keeps it; so are the facts."""

    def __init__(self, log: SmallLog, truth: str = "") -> None:
        self.log = log
        self.rules = RULES[truth]
        self.known: dict[bytes, Anything | None] = {}
        self.facts: list[Fact] = []
        self.next = 0

    def step(self, limit: int, *, crash: bool = False) -> bool:
        """Take a batch; False when there is none."""
        batch = self.log.read(self.next, limit)
        if not batch:
            return False
        changed, facts, publish = dict(self.known), list[Fact](), list[Message]()
        prev = self.next - 1
        for record in batch:
            key = record.key or b""
            decision = ledger.decide(changed.get(key), record, Here(0, 1, None, self.rules))
            changed[key] = decision.known
            publish += decision.publish
            found = ledger.fact_of(decision, record, prev)
            facts.append(fact.decode(fact.encode(found)))
            prev = record.offset
        for message in publish:
            self.log.append(message.key or b"", message.value, message.headers)
        if not crash:
            self.known, self.next = changed, batch[-1].offset + 1
            self.facts += facts
        return True


def rules(truth: str = "") -> Rules:
    directory = Directory(cast(Log, None))
    changes = (
        Change(effective_ns=0, logged_ms=0, markup="1.25", timezone="Europe/Warsaw", truth=truth or None),
        Change(effective_ns=MIDNIGHT_NS, logged_ms=1, markup="1.5"),
    )
    mapping = (Mapping(effective_day="2025-10-26", logged_ms=0, user_id="alice-of-acme"),)
    things: tuple[Organization | User, ...] = (
        Organization(id="acme", created_ms=0, history=changes),
        User(organization="acme", user="alice", created_ms=0, history=mapping),
    )
    for offset, thing in enumerate(things):
        message = message_of(thing)
        directory.apply(Record(message.topic, 0, offset, offset, message.key, message.value))
    return Rules(directory, "1.0", "UTC")


RULES = {truth: rules(truth) for truth in TRUTHS}


def model_settings(truth: str = "") -> Settings:
    found = Settings()
    found.set_organization("acme", date(2000, 1, 1), markup="1.25", timezone="Europe/Warsaw", truth=truth)
    found.set_organization("acme", date(2025, 10, 26), markup="1.5")
    found.map_user("acme", "alice", date(2025, 10, 26), "alice-of-acme")
    return found


def model_of(sequence: Sequence[Record], truth: str = "") -> Model:
    """The model, fed with the producers' records only."""
    model = Model(model_settings(truth))
    for record in sequence:
        assert record.key is not None and record.value is not None
        model.take(ModelRecord(0, record.time_ms, record.key, record.value))
    return model


FIGURES = (
    *("total_requests", "prompt_tokens", "completion_tokens", "total_tokens"),
    *("raw_cost_nano", "markup_cost_nano", "unpriced_requests"),
)
SUMMARIES = ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage")


def figures_of(model: Model) -> dict[str, Any]:
    """Rows with requests, and only what does not hang on log times."""
    found = tables(model)
    return {
        name: {
            key: tuple(row[column] for column in FIGURES)
            for key, row in found[name].items()
            if row["total_requests"]
        }
        for name in SUMMARIES
    }


def figures_of_facts(facts: Sequence[Fact]) -> dict[str, Any]:
    changes = summaries.fold(facts)
    found: tuple[dict[Any, Any], ...] = (changes.days, changes.users, changes.models)
    return {
        name: {key: figures_of_row(totals) for key, totals in rows.items() if totals.requests}
        for name, rows in zip(SUMMARIES, found, strict=True)
    }


def figures_of_row(totals: summaries.Totals) -> tuple[int, ...]:
    tokens = (totals.prompt_tokens, totals.completion_tokens, totals.total_tokens)
    return (totals.requests, *tokens, totals.raw_nano, totals.markup_nano, totals.unpriced)


def winners_of(known: dict[bytes, Anything | None]) -> dict[str, dict[str, Any]]:
    found = {}
    for key, value in known.items():
        value = value.known if isinstance(value, Held) else value
        assert isinstance(value, Known)
        winner = msgspec.structs.asdict(value.winner)
        del winner["metadata"]
        found[key.decode()] = winner
    return found


def winners_of_model(model: Model) -> dict[str, dict[str, Any]]:
    return {
        id: {name: getattr(known.winner, name) for name in known.winner.__dataclass_fields__}
        for id, known in model.ids.items()
    }


def assert_is(found: SmallLedger, model: Model) -> None:
    assert figures_of_facts(found.facts) == figures_of(model)
    assert winners_of(found.known) == winners_of_model(model)
    for id, known in model.ids.items():
        has = found.known[id.encode()]
        assert isinstance(has, Held) != known.believed
        has = has.known if isinstance(has, Held) else has
        assert isinstance(has, Known)
        assert has.dated_ns == known.dated_ns, "the first date that the log gave stands"
        assert has.latest_ns >= max(known.date_ns, known.dated_ns or 0)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), told=st.lists(lines, min_size=1, max_size=12), truth=st.sampled_from(TRUTHS))
def test_every_order_batching_crash_and_compaction_gives_the_same_totals_and_winners(
    data: st.DataObject, told: list[bytes], truth: str
) -> None:
    """One organisation's deliveries come to the model's figures, however they arrive, whoever is believed."""
    plain = SmallLog()
    for line in told:
        plain.append(read(line).id.encode(), line)
    expected = model_of(plain.records, truth)

    again = data.draw(st.lists(st.sampled_from(told), max_size=4), label="told twice")
    order = data.draw(st.permutations([*told, *again]), label="order")
    # Some logs fill slowly: what has no date is then on the day of its first telling, which orders differ on.
    tick_ms = data.draw(st.sampled_from([1, SLOWLY_MS]), label="tick")
    log = SmallLog(tick_ms)
    live = SmallLedger(log, truth)
    sent: list[Record] = []
    for line in order:
        log.append(read(line).id.encode(), line)
        sent.append(log.records[-1])
        for step in data.draw(st.lists(st.sampled_from(["take", "crash", "compact"]), max_size=2)):
            if step == "compact":
                log.compact(live.next)
            else:
                live.step(data.draw(st.integers(1, 5), label="batch"), crash=step == "crash")
    drain(live, data.draw(st.integers(1, 7), label="last batches"))

    model = model_of(sent, truth)
    assert_is(live, model)
    if tick_ms != SLOWLY_MS:
        assert figures_of(model) == figures_of(expected)
    assert winners_of_model(model) == winners_of_model(expected)

    log.compact(live.next)
    rebuilt = SmallLedger(log, truth)
    drain(rebuilt, 3)
    assert_is(rebuilt, model)
    assert rebuilt.known == live.known, "compaction has lost something that the ledger knew"


def drain(found: SmallLedger, batch: int) -> None:
    steps = 0
    while found.step(batch):
        steps += 1
        assert steps < 1000, "winners are published again and again"
