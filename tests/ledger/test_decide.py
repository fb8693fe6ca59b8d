"""Every row of the decision table: what becomes of a record, and what it does to totals."""

import pytest

from streams import records
from streams.known import Horizon, Known
from streams.log.partition import partition_of
from streams.organizations import Change, Organization
from streams.times import nanoseconds_of
from tests.ledger.sim import NOON_MS, Sim, event

DAY = ("acme", "2026-11-20")
HORIZON = Horizon("run-1", nanoseconds_of("2026-11-10T00:00:00Z"), nanoseconds_of("2026-11-12T00:00:00Z"))


def horizon(sim: Sim, given: Horizon = HORIZON) -> None:
    message = records.horizon_message(given, 0)
    sim.append(message.key, message.value, message.headers)


def forget(sim: Sim, id: str, given: Horizon = HORIZON) -> None:
    message = records.forget_message(id.encode(), given, 0)
    sim.append(message.key, message.value, message.headers)


def test_an_unknown_id_counts() -> None:
    """A generation seen for the first time adds its requests, tokens, cost and markup."""
    sim = Sim().post(cost="0.01", prompt_tokens=7, completion_tokens=3).run()
    assert sim.fates == ["counted"]
    assert sim.totals == {DAY: (1, 10, 10_000_000, 15_000_000)}


def test_a_twin_is_a_duplicate_and_nothing_is_published_for_it() -> None:
    """The same version again changes nothing, and needs no new record."""
    sim = Sim().post(cost="0.01").post(cost="0.01").run()
    assert sim.fates == ["counted", "duplicate"]
    assert sim.totals == {DAY: (1, 0, 10_000_000, 15_000_000)}


def test_an_undated_twin_keeps_the_first_date() -> None:
    """A twin without a date, a day later, is published again with the day that stands."""
    sim = Sim().post(created_at=None).run()
    sim.time_ms += 86_400_000
    sim.post(created_at=None).run()
    assert sim.fates == ["counted", "duplicate", "republished"]
    assert set(sim.totals) == {DAY}
    assert sim.compacted().run().totals == sim.totals


def test_a_higher_version_takes_the_place_of_the_winner() -> None:
    """An amendment subtracts what was and adds what is, on the day of each."""
    sim = Sim().post(cost="0.01").post(cost="0.02", revision=1, created_at="2026-11-19T10:00:00Z").run()
    assert sim.fates[:2] == ["counted", "amended"]
    assert sim.totals == {("acme", "2026-11-19"): (1, 0, 20_000_000, 30_000_000)}


def test_a_lower_version_is_superseded_and_the_winner_published_again() -> None:
    """After a late lower version the key's newest record is the winner again."""
    sim = Sim().post(cost="0.02", authority="reconciled").post(cost="0.01").run()
    assert sim.fates == ["counted", "superseded", "republished"]
    assert sim.compacted().run().totals == sim.totals == {DAY: (1, 0, 20_000_000, 30_000_000)}


def test_a_version_without_a_cost_never_replaces_one_that_has_it() -> None:
    """Unknown is lowest, whatever the authority."""
    sim = Sim().post(cost="0.02").post(cost=None, authority="reconciled", revision=9).run()
    assert sim.fates[:2] == ["counted", "superseded"]


def test_a_later_price_prices_an_unpriced_generation() -> None:
    """A cost that was unknown is added when somebody knows it."""
    sim = Sim().post(cost=None).post(cost="0.02").run()
    assert sim.fates == ["counted", "amended"]
    assert sim.facts[0].plus is not None and sim.facts[0].plus.cost_nano is None
    assert sim.totals == {DAY: (1, 0, 20_000_000, 30_000_000)}


def test_a_void_takes_everything_back_and_only_a_higher_revision_undoes_it() -> None:
    """A voided id is worth nothing; an equal authority with a higher revision brings it back."""
    sim = Sim().post(cost="0.02").post(void=True, cost=None).post(cost="0.03", authority="corrected").run()
    assert sim.fates[:3] == ["counted", "voided", "superseded"]
    assert sim.totals == {}
    sim.post(cost="0.03", authority="corrected", revision=1).run()
    assert sim.facts[-1].fate == "amended"
    assert sim.totals == {DAY: (1, 0, 30_000_000, 45_000_000)}


def test_a_void_of_an_unknown_id_is_remembered() -> None:
    """A void that comes first keeps the generation from ever counting."""
    sim = Sim().post(void=True, cost=None, model=None).post(cost="0.02").run()
    assert sim.fates[:2] == ["voided", "superseded"]
    assert sim.totals == {}


def test_another_organisations_id_is_a_conflict_with_its_bytes_kept() -> None:
    """The second organisation's event is kept aside, never added to the first's."""
    sim = Sim().post(cost="0.02").post(cost="0.05", organization="evil").run()
    assert sim.fates == ["counted", "conflict", "republished"]
    assert sim.rejected[0].value == event(id="gen-1", cost="0.05", organization="evil")
    assert sim.totals == {DAY: (1, 0, 20_000_000, 30_000_000)}
    assert sim.compacted().run().totals == sim.totals


def test_a_read_back_takes_a_squatted_id_over() -> None:
    """What the owner's own provider key read back moves from there to here."""
    sim = Sim().post(cost="0.02", organization="evil").post(cost="0.05", authority="reconciled").run()
    assert sim.fates == ["counted", "conflict"]
    assert sim.totals == {DAY: (1, 0, 50_000_000, 75_000_000)}


@pytest.mark.parametrize(
    ("key", "value", "headers", "reason"),
    [
        (b"gen-1", b"{", (), "undecodable"),
        (b"gen-1", b'{"id":"gen-1","model":"m"}', (), "undecodable"),
        (b"other", event(id="gen-1"), (), "key"),
        (None, event(id="gen-1"), (), "key"),
        (b"gen-1", None, (), "null"),
        (b"gen-1", event(id="gen-1"), (("schema", b"2"),), "schema"),
        (b"gen-1", event(id="gen-1"), (("x", b"y" * 1_000_000),), "headers"),
        (b"gen-1", event(id="gen-1", created_at="2026-11-21T12:00:01Z"), (), "early"),
        (b"gen-1", event(id="gen-1", created_at="1970-01-01T00:00:00Z"), (), "undecodable"),
        (b"gen-1", event(id="gen-1", created_at="9999-01-01T00:00:00Z"), (), "undecodable"),
        (b"gen-1", event(id="gen-1"), (("kind", b"winner"),), "undecodable"),
        (b"gen-1", b"[]", (("kind", b"opening"),), "undecodable"),
    ],
)
def test_what_cant_be_taken_is_quarantined_with_its_bytes(key, value, headers, reason) -> None:  # type: ignore[no-untyped-def]
    """A bad record is kept aside with its reason, and the key's winner is published again."""
    sim = Sim().post(cost="0.02").run()
    sim.append(key, value, headers)
    sim.run()
    assert sim.facts[1].fate == "quarantined" and sim.facts[1].reason == reason
    assert sim.rejected[0].value == value and ("reason", reason.encode()) in sim.rejected[0].headers
    assert sim.fates[2:] == (["republished"] if key == b"gen-1" else [])
    assert sim.totals == {DAY: (1, 0, 20_000_000, 30_000_000)}


def test_a_misplaced_record_is_forwarded_and_its_place_emptied() -> None:
    """A record in the wrong partition is not decided there; the null that replaces it says nothing more."""
    from streams import ledger
    from streams.ledger import Here
    from streams.log.interface import Record

    sim = Sim()
    key = next(f"gen-{n}".encode() for n in range(99) if partition_of(f"gen-{n}".encode(), 4) == 3)
    here = Here(0, 4, None, sim.rules)
    record = Record("generations", 0, 5, NOON_MS, key, event(id=key.decode()))
    decision = ledger.decide(None, record, here)
    assert decision.fate == "rerouted" and decision.known is None
    forwarded, gone = decision.publish
    assert (forwarded.partition, forwarded.value) == (3, record.value)
    assert (gone.partition, gone.key, gone.value) == (0, key, None)
    null = Record("generations", 0, 6, NOON_MS, key, None)
    assert ledger.decide(None, null, here).publish == ()


def test_a_tombstone_forgets_an_id_and_moves_no_total() -> None:
    """What is wholly before the cutoff goes; its money stays."""
    sim = Sim().post(cost="0.02", created_at="2026-11-09T10:00:00Z").run()
    before = sim.totals
    horizon(sim)
    forget(sim, "gen-1")
    sim.run()
    assert sim.fates == ["counted", "horizon", "forgotten"]
    assert sim.totals == before and b"gen-1" not in sim.table


def test_a_late_twin_of_a_forgotten_id_expires() -> None:
    """After its id is gone a twin is kept aside, not counted again; a tombstone takes its place."""
    sim = Sim().post(cost="0.02", created_at="2026-11-09T10:00:00Z").run()
    horizon(sim)
    forget(sim, "gen-1")
    sim.post(cost="0.02", created_at="2026-11-09T10:00:00Z").run()
    assert sim.fates == ["counted", "horizon", "forgotten", "expired", "forgotten"]
    assert sim.rejected[0].headers[0] == ("reason", b"expired")
    assert sim.totals == {("acme", "2026-11-09"): (1, 0, 20_000_000, 30_000_000)}


def test_an_administrator_may_force_what_has_expired() -> None:
    """With the header `force` an expired event counts."""
    sim = Sim()
    horizon(sim)
    sim.post(created_at="2026-11-09T10:00:00Z", headers=(("force", b"1"),)).run()
    assert sim.fates == ["horizon", "counted"]


def test_an_id_that_moved_past_the_cutoff_is_kept() -> None:
    """A tombstone for an id with a later version does nothing, and the winner is published again."""
    sim = Sim().post(created_at="2026-11-09T10:00:00Z").post(created_at="2026-11-15T10:00:00Z", revision=1)
    forget(sim, "gen-1")
    sim.run()
    assert sim.fates == ["counted", "amended", "superseded", "republished"]
    assert b"gen-1" in sim.table


def test_a_horizon_never_falls() -> None:
    """A lower horizon leaves the higher one standing."""
    sim = Sim()
    horizon(sim)
    horizon(sim, Horizon("run-2", 0, 0))
    sim.run()
    held = sim.table[b"horizon-0"]
    assert isinstance(held, Horizon) and held.horizon_ns == HORIZON.horizon_ns


def test_an_opening_balance_counts_once_and_a_newer_one_replaces_it() -> None:
    """Balances of the migration add, and subtract the older balance of their row."""
    sim = Sim()
    for requests in (5, 7):
        body = b'{"balance":[2,"day","acme","2025-01-01","","","",%d,0,0,0,9,100,120]}' % requests
        sim.append(b"balance-1", body, (("kind", b"opening"),))
    sim.run()
    assert sim.fates == ["opening", "opening"]
    assert sim.totals == {("acme", "2025-01-01"): (7, 9, 100, 120)}


def test_an_opening_id_is_known_without_counting() -> None:
    """A sync that reads a migrated generation again adds nothing; an amendment adds the difference."""
    sim = Sim()
    sim.append(b"gen-1", b'{"known":' + event(id="gen-1", cost="0.02") + b"}", (("kind", b"opening"),))
    sim.post(cost="0.02").run()
    assert sim.fates == ["opening", "duplicate", "republished"]
    assert sim.totals == {}
    assert sim.compacted().run().fates == ["opening"]
    sim.post(cost="0.03", revision=1).run()
    assert sim.totals == {DAY: (0, 0, 10_000_000, 15_000_000)}


def test_a_setting_changed_for_the_past_touches_nothing_counted() -> None:
    """Twins after a changed markup keep the rate that the first was counted at, also after compaction."""
    sim = Sim().post(cost="0.02").run()
    later = Change(effective_ns=0, logged_ms=sim.time_ms + 1, markup="3")
    sim.directory._organizations["acme"] = Organization(id="acme", created_ms=0, history=(later,))
    sim.time_ms += 10
    sim.post(cost="0.02").run()
    assert sim.fates == ["counted", "duplicate", "republished"]
    assert sim.totals == sim.compacted().run().totals == {DAY: (1, 0, 20_000_000, 30_000_000)}


def test_the_table_keeps_no_metadata() -> None:
    """Metadata is nobody's figure: it stays out of the ledger's state, and two versions may differ in it."""
    sim = Sim().post(metadata={"a": "1"}).post(metadata={"a": "2"}).run()
    held = sim.table[b"gen-1"]
    assert isinstance(held, Known) and held.winner.metadata == b""
    assert sim.fates == ["counted", "duplicate"]


def test_unknown_organisations_are_rejected_where_the_setting_says_so() -> None:
    """With unknown organisations rejected, their events are quarantined."""
    sim = Sim()
    sim.rules._unknown = "reject"
    assert sim.post().run().facts[0].reason == "organization"
