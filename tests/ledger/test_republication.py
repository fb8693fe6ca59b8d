"""A winner that the ledger publishes again must be taken: else it is refused and published for ever."""

from typing import Any

import msgspec

from streams import fact, ledger, records
from streams.known import Horizon
from streams.known import encode as encode_known
from streams.ledger import Here
from streams.log.interface import Record
from streams.log.partition import partition_of
from streams.organizations import Organization
from streams.rules import Rules
from tests.ledger.sim import NOON_MS, Sim, event

ONE_HOUR_MS = 3_600_000


def test_a_date_that_only_its_offset_puts_before_2000() -> None:
    """What the door takes as a date, the ledger can publish again and read back."""
    sim = Sim().post(created_at="2000-01-01T00:00:00+01:00", cost="2").run()
    sim.post(created_at="2000-01-01T00:00:00+01:00", cost="1").run()
    assert set(sim.fates) <= {"counted", "superseded", "republished", "quarantined"}
    assert len(sim.fates) < 10


def test_the_clock_goes_back_an_hour_after_an_early_event() -> None:
    """A winner stays one when the log's clock has gone back since it was counted."""
    sim = Sim().post(created_at="2026-11-21T11:30:00Z", cost="2").run()
    sim.time_ms = NOON_MS - ONE_HOUR_MS
    sim.post(created_at="2026-11-20T09:30:00Z", cost="1").run()
    assert sim.fates == ["counted", "superseded", "republished"]


def test_unknown_organizations_are_rejected_since() -> None:
    """A generation counted while every organisation was taken survives the stricter setting."""
    sim = Sim().post(organization="acme", cost="1").run()
    sim.directory._organizations["beta"] = Organization(id="beta", created_ms=0)
    sim.rules = Rules(sim.directory, "1.5", "UTC", unknown="reject")
    sim.post(organization="beta", cost="1").run()  # beta may post, and happens on (or guesses) acme's id
    assert sim.fates == ["counted", "conflict", "republished"]


def _decided(record: Record, known: Any = None, partitions: int = 1) -> tuple[ledger.Decision, bytes]:
    here = Here(record.partition, partitions, None, Sim().rules)
    decision = ledger.decide(known, record, here)
    if decision.known is not None:
        encode_known(decision.known)
    return decision, fact.encode(ledger.fact_of(decision, record, record.offset - 1))


def _record(key: bytes, value: bytes | None, *headers: tuple[str, bytes], partition: int = 0) -> Record:
    return Record("generations", partition, 0, NOON_MS, key, value, tuple(headers))


def _winner(**carried: Any) -> Record:
    terms = carried.pop("terms", ["1", "UTC", "2026-11-20", ""])
    known = msgspec.json.encode({"terms": terms, "latest_ns": 1, **carried})
    return _record(b"g", event(id="g", cost="1"), ("kind", b"winner"), ("known", known))


def test_a_winner_with_a_rate_that_is_none() -> None:
    """Headers from a producer on Kafka never kill the agent: a rate that is no number."""
    assert _decided(_winner(terms=["abc", "UTC", "2026-11-20", ""]))[0].fate == "quarantined"


def test_a_winner_of_a_zone_and_day_that_are_none() -> None:
    """A zone that is none is quarantined, not written where each reader of live counters stumbles on it."""
    assert _decided(_winner(terms=["1", "No/Where", "yesterday", ""]))[0].fate == "quarantined"


def test_a_winner_with_a_time_out_of_range() -> None:
    """An integer beyond 64 bits in the header `known`."""
    assert _decided(_winner(latest_ns=10**30))[0].fate == "quarantined"


def test_an_undated_winner_without_its_date() -> None:
    """A winner without created_at that carries no date either."""
    known = msgspec.json.encode({"terms": ["1", "UTC", "2026-11-20", ""], "latest_ns": 1})
    value = event(id="g", cost="1", created_at=None)
    record = _record(b"g", value, ("kind", b"winner"), ("known", known))
    assert _decided(record)[0].fate == "quarantined"


def test_a_winner_with_deeply_nested_headers() -> None:
    """Nesting in the header `known` is refused as nesting in a value is."""
    known = b'{"x":' + b"[" * 15_000 + b"]" * 15_000 + b"}"
    record = _record(b"g", event(id="g"), ("kind", b"winner"), ("known", known[:16_000]))
    assert _decided(record)[0].fate == "quarantined"


def test_an_opening_entry_with_deep_nesting() -> None:
    """Nesting in an opening entry is refused as nesting in an event is."""
    value = b'{"known":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert _decided(_record(b"g", value, ("kind", b"opening")))[0].fate == "quarantined"


def test_a_balance_out_of_range() -> None:
    """A balance with an integer beyond 64 bits."""
    row = [2, "day", "acme", "2026-11-20", "", "", "", 1, 0, 0, 0, 0, 10**30, 0]
    value = msgspec.json.encode({"balance": row})
    assert _decided(_record(b"balance-1", value, ("kind", b"opening")))[0].fate == "quarantined"


def test_a_horizon_out_of_range() -> None:
    """A horizon with an integer beyond 64 bits."""
    headers = (("kind", b"horizon"), ("run", b"r"), ("cutoff_ns", b"9" * 30))
    assert _decided(_record(records.horizon_key(0), None, *headers))[0].fate == "quarantined"


def test_a_misplaced_record_under_the_horizon_s_key() -> None:
    """A stranger's record under a partition's horizon key does not compact the horizon away."""
    here = next(n for n in range(4) if partition_of(records.horizon_key(n), 4) != n)
    key = records.horizon_key(here)
    record = _record(key, b"{}", partition=here)
    decision, _ = _decided(record, known=Horizon("run", 1, 2), partitions=4)
    last = [message for message in decision.publish if message.key == key and message.partition == here][-1]
    assert dict(last.headers).get("kind") == b"horizon"
