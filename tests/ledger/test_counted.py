"""The short way of nearly every record comes to what the long way does."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import fact, ledger, records
from streams.decider import Decider
from streams.directory import Directory, message_of
from streams.fact import Fact
from streams.generation import SCHEMA_HEADERS
from streams.known import Horizon, Known
from streams.ledger import Here
from streams.log.interface import Message, Record
from streams.organizations import Change, Mapping, Organization, User
from streams.rules import Rules
from streams.times import MINUTE_NS, MS_NS
from tests.ledger.sim import NOON_MS

NOON_NS = NOON_MS * MS_NS
ZONES = st.sampled_from((None, "UTC", "Asia/Kathmandu", "America/St_Johns"))


def change(effective: int, logged: int, markup: str | None, zone: str | None) -> Change:
    return Change(
        effective_ns=NOON_NS + effective * MINUTE_NS, logged_ms=NOON_MS + logged, markup=markup, timezone=zone
    )


MINUTES = st.integers(-2000, 100)
CHANGES = st.builds(change, MINUTES, MINUTES, st.sampled_from((None, "1.3", "0.9")), ZONES)
# Each by itself makes an event one that is not plain, or another plain one; None leaves a field out.
ODDITIES = (
    *(("id", id) for id in ("gen-2", "horizon-0", "")),
    *(("model", model) for model in ("m\n", "", None)),
    *(("user", user) for user in ("bob", None, "żółw", "u" * 250, "u" * 257)),
    *(("organization", name) for name in ("o", "", "o" * 129)),
    *(("prompt_tokens", -1), ("total_tokens", 6), ("total_tokens", 9), ("latency_ms", 5), ("unknown", 1)),
    *(("cost", cost) for cost in ("0.", "1.5", 0.000000001, "0.0000000015", 2, None, "-1", "0.1_0", "")),
    *(("created_at", time) for time in (None, "2026-11-19T23:59:59.999Z", "2026-11-22T09:00:00Z", "now")),
    *(("void", True), ("authority", "estimate"), ("revision", 2), ("metadata", {"note": "x"})),
    *(("finish_reason", "f" * length) for length in (64, 65)),
    *(("provider", "p" * length) for length in (120, 128, 129)),
)
PLAIN = {
    "id": "gen-1",
    "organization": "acme",
    "model": "m-1",
    "user": "alice",
    "prompt_tokens": 7,
    "cost": "0.0123",
    "created_at": "2026-11-20T10:00:00Z",
}


def event_of(oddities: list[tuple[str, Any]]) -> dict[str, Any]:
    """The plain event, but for these fields."""
    return {name: value for name, value in (PLAIN | dict(oddities)).items() if value is not None}


EVENTS = st.lists(st.sampled_from(ODDITIES), max_size=2).map(event_of)
# None, the plain event's own time, and a later one.
HORIZONS = (None, *(Horizon("run-1", NOON_NS, NOON_NS - hours * 60 * MINUTE_NS) for hours in (2, 1)))


def rules_of(changes: list[Change], unknown: str) -> Rules:
    """Those of acme's settings; the other organisation has none."""
    directory = Directory(log=None)  # type: ignore[arg-type]
    mapping = Mapping(effective_day="2026-11-20", logged_ms=NOON_MS - 60_000, user_id="al")
    things: tuple[Organization | User, ...] = (
        *([Organization(id="acme", created_ms=0, history=tuple(changes))] if changes else []),
        User(organization="acme", user="alice", created_ms=0, history=(mapping,)),
    )
    for thing in things:
        message = message_of(thing)
        directory.apply(Record(message.topic, 0, 0, NOON_MS - 30_000, message.key, message.value))
    return Rules(directory, "1.5", "UTC", unknown)


def record_of(event: dict[str, Any], offset: int = 0) -> Record:
    """One every four hours, so that several fall on one day, and several on the next."""
    value, time_ms = msgspec.json.encode(event), NOON_MS + offset * 4 * 3_600_000
    return Record("generations", 0, offset, time_ms, event["id"].encode(), value, SCHEMA_HEADERS)


def check_both_ways(event: dict[str, Any], here: Here) -> None:
    """Where `counted` answers, the answer is the fact and the entry of "seen" that `decide` comes to."""
    record = record_of(event)
    found = ledger.counted(record, here, -1, 1)
    decision = ledger.decide(None, record, here)
    told = ledger.fact_of(decision, record, -1, 1)
    if found is None:
        undated = "created_at" not in event
        assert decision.fate in ("quarantined", "expired", "voided") or undated
    else:
        assert found == (told, decision.known)
        assert (decision.publish, decision.keep_bytes) == ((), False)


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("unknown", ["create", "reject"])
def test_an_oddity_is_decided_the_same_by_both_ways(horizon: Horizon | None, unknown: str) -> None:
    """Whatever is odd about an event, the short way leaves it to the long one, or comes to the same."""
    here = Here(0, 1, horizon, rules_of([change(-60, -60, "1.3", "UTC")], unknown))
    for oddity in ODDITIES:
        check_both_ways(event_of([oddity]), here)


@given(
    EVENTS, st.lists(CHANGES, max_size=3), st.sampled_from(HORIZONS), st.sampled_from(("create", "reject"))
)
def test_the_short_way_decides_as_the_long_way_does(
    event: dict[str, Any], changes: list[Change], horizon: Horizon | None, unknown: str
) -> None:
    """Under whatever settings and horizon, several oddities are decided the same by both ways."""
    check_both_ways(event, Here(0, 1, horizon, rules_of(changes, unknown)))


class Seen:
    """A table in memory."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}

    def get_many(self, partition: int, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self.values.get(key) for key in keys]


@given(st.lists(EVENTS, max_size=6), st.lists(CHANGES, max_size=2), st.sampled_from(HORIZONS))
def test_a_batch_is_decided_as_its_records_are_one_by_one(
    events: list[dict[str, Any]], changes: list[Change], horizon: Horizon | None
) -> None:
    """What an earlier record of a batch changed a later one knows, as if it had been written between them."""
    rules = rules_of(changes, "create")
    batch = [record_of(event, offset) for offset, event in enumerate(events, 1)]
    if horizon is not None:
        message = records.horizon_message(horizon, 0)
        batch.insert(0, Record("generations", 0, 0, NOON_MS, message.key, None, message.headers))
    before = batch[0].offset - 1 if batch else 0
    at_once = Decider(Seen(), rules, 1).decide(0, batch, before, 0)
    seen, told = Seen(), list[Message]()
    for number, record in enumerate(batch):
        one = Decider(seen, rules, 1).decide(0, [record], record.offset - 1, number)
        seen.values |= one.changes
        told += one.facts
    assert at_once.facts == told
    assert at_once.changes == seen.values
    facts: list[Fact] = [fact.decode(message.value or b"") for message in told]
    assert at_once.fates == {fate: sum(one.fate == fate for one in facts) for fate in at_once.fates}
    assert sum(at_once.fates.values()) == len(batch)


def test_a_plain_event_takes_the_short_way() -> None:
    """The property above is not an empty one."""
    found = ledger.counted(record_of(PLAIN), Here(0, 1, None, rules_of([], "create")), -1, 1)
    assert found is not None
    assert found[0].fate == "counted"
    assert isinstance(found[1], Known)
