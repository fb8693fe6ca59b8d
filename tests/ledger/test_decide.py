"""Every row of the decision table: what becomes of a record, and what it does to totals."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams import known, records
from streams.fact import Sweep
from streams.known import Anything, Balance, Held, Horizon, Known
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


RUN = replace(HORIZON, phase="started", days=9, partitions=4)
LATER = Horizon("run-2", HORIZON.cutoff_ns + 5, HORIZON.horizon_ns + 5, "started", 8, 4)


def end(sim: Sim, given: Horizon, phase: known.Phase = "ended", error: str = "") -> None:
    message = records.horizon_message(replace(given, phase=phase), 0, error)
    sim.append(message.key, message.value, message.headers)


def sweeps(sim: Sim) -> list[tuple[str, str]]:
    """Which runs began and ended, by the facts."""
    return [(one.run, one.sweep.phase) for one in sim.facts if one.sweep]


def horizon_of(sim: Sim) -> Horizon:
    held = sim.table[b"horizon-0"]
    assert isinstance(held, Horizon)
    return held


def test_a_run_begins_once_and_ends_once_however_often_that_is_told() -> None:
    """The facts say when it began and that it ended; a record that comes twice tells nothing new."""
    sim = Sim()
    horizon(sim, RUN)
    horizon(sim, RUN)
    sim.run()
    held = horizon_of(sim)
    assert (held.phase, held.started_ms, held.days, held.partitions) == ("started", NOON_MS, 9, 4)
    sim.time_ms += 60_000
    end(sim, held)
    end(sim, held)
    end(sim, held, "failed")
    horizon(sim, RUN)
    sim.run()
    assert sweeps(sim) == [("run-1", "started"), ("run-1", "ended")]
    assert [one.sweep for one in sim.facts if one.sweep] == [
        Sweep("started", 9, 4, NOON_MS),
        Sweep("ended", 9, 4, NOON_MS),
    ]
    assert horizon_of(sim) == replace(held, phase="ended")
    assert sim.compacted().run().table == sim.table


def test_a_run_that_fails_says_why_and_the_next_one_begins() -> None:
    """The fact has the error's text; the horizon stays where the failed run put it."""
    sim = Sim()
    horizon(sim, RUN)
    end(sim, RUN, "failed", "disk: é" + "x" * 600)
    sim.run()
    failed = sim.facts[-1]
    assert failed.sweep is not None and failed.sweep.error.startswith("disk: éxxx")
    assert len(failed.sweep.error.encode()) <= records.ERROR_BYTES_MAX
    assert horizon_of(sim).phase == "failed"
    horizon(sim, LATER)
    sim.run()
    assert sweeps(sim) == [("run-1", "started"), ("run-1", "failed"), ("run-2", "started")]


def test_a_run_that_is_overtaken_does_not_begin_again() -> None:
    """Its beginning was published again, for its horizon was too low: by then another run has begun."""
    sim = Sim()
    horizon(sim, replace(RUN, run="run-0", horizon_ns=RUN.horizon_ns + 1))
    for run in ("run-1", "run-2"):  # side by side: the ledger's word on the first comes after the second
        message = records.horizon_message(replace(RUN, run=run, started_ms=0), 0)
        sim.append(message.key, message.value, message.headers)
    sim.run()
    assert [(one.run, one.sweep.phase) for one in sim.facts if one.sweep] == [
        ("run-0", "started"),
        ("run-1", "started"),
        ("run-2", "started"),
    ]
    assert horizon_of(sim).run == "run-2"


def test_a_run_that_is_overtaken_never_ends() -> None:
    """The end of a run that another has overtaken is a horizon record like any other: nothing ends by it."""
    sim = Sim()
    horizon(sim, RUN)
    horizon(sim, LATER)
    end(sim, RUN)
    sim.run()
    assert sweeps(sim) == [("run-1", "started"), ("run-2", "started")]
    assert sim.fates == ["horizon"] * 4  # the last is the ledger's own: the newest record is the truth again
    assert (horizon_of(sim).run, horizon_of(sim).phase) == ("run-2", "started")
    assert sim.compacted().run().table == sim.table
    end(sim, LATER)
    assert sweeps(sim.run())[-1] == ("run-2", "ended")


def test_a_run_that_keeps_more_days_sweeps_by_its_own_cutoff_under_the_horizon_that_stands() -> None:
    """A lower horizon is published again as it stands, so that compaction leaves the higher one."""
    sim = Sim()
    horizon(sim, LATER)
    end(sim, LATER)
    horizon(sim, RUN)
    sim.run()
    held = horizon_of(sim)
    assert (held.run, held.phase, held.cutoff_ns) == ("run-1", "started", RUN.cutoff_ns)
    assert held.horizon_ns == LATER.horizon_ns == sim.facts[-1].horizon_ns
    fresh = sim.compacted().run()
    assert fresh.table == sim.table
    fresh.post(created_at="2026-11-11T23:59:59Z").run()
    assert fresh.fates[-2:] == ["expired", "forgotten"]


PHASES = st.sampled_from(["", "started", "ended", "failed"])
HORIZON_RECORDS = st.builds(
    Horizon,
    run=st.sampled_from(["a", "b", "c"]),
    cutoff_ns=st.integers(0, 3),
    horizon_ns=st.integers(0, 5),
    phase=PHASES,
    days=st.integers(0, 2),
    partitions=st.just(1),
    started_ms=st.integers(0, 2),
)


@given(st.lists(HORIZON_RECORDS, max_size=8))
def test_under_whatever_records_a_horizon_never_falls_and_compaction_keeps_it(given: list[Horizon]) -> None:
    """It is the highest of all that were told, at each step; a run ends at most once, and after it began."""
    sim = Sim()
    highest_ns = 0
    for one in given:
        sim.time_ms += 1
        horizon(sim, one)
        sim.run()
        highest_ns = max(highest_ns, one.horizon_ns)
        assert horizon_of(sim).horizon_ns == highest_ns
        assert all(fact.horizon_ns is not None and fact.horizon_ns <= highest_ns for fact in sim.facts)
        fresh = sim.compacted().run()
        assert fresh.table == sim.table
    for before, after in pairwise(fact for fact in sim.facts if fact.sweep):
        assert before.sweep and after.sweep
        if after.sweep.phase != "started":
            assert (before.run, before.sweep.phase) == (after.run, "started")
        assert (before.horizon_ns or 0) <= (after.horizon_ns or 0)


MOMENTS = st.integers(0, 2**63 - 1)


@given(MOMENTS, st.none() | MOMENTS, st.booleans())
def test_the_latest_date_is_read_from_the_value_s_bytes_as_decoding_finds_it(
    latest_ns: int, dated_ns: int | None, opening: bool
) -> None:
    """Of what is known of an id the sweep reads only that; what has no age has none by either way."""
    sim = Sim().post(cost="0.02").run()
    held = sim.table[b"gen-1"]
    assert isinstance(held, Known)
    held = replace(held, latest_ns=latest_ns, dated_ns=dated_ns, opening=opening)
    ageless: list[Anything] = [RUN, Balance("day", "acme", "2026-11-20", "", "", "", 1, 0, 0, 0, 0, 0, 0)]
    assert known.latest_ns_of(known.encode(held)) == latest_ns
    assert known.latest_ns_of(known.encode(Held(held))) == latest_ns
    assert [known.latest_ns_of(known.encode(one)) for one in ageless] == [None, None]


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
