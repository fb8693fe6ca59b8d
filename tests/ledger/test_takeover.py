"""Taking an id over: who may, and what must outlive it."""

import pytest

from streams.errors import BadEvent
from streams.gateway.access import Caller
from streams.gateway.events import Ignored, Terms, message_of
from streams.known import Horizon, Known
from streams.records import horizon_key
from streams.times import nanoseconds_of
from tests.ledger.sim import Sim, event


def test_an_organisation_s_administrator_cannot_take_another_s_generation() -> None:
    """No organisation's figures change through another's key: a read-back is the sync's alone to claim."""
    caller = Caller("admin", "beta")
    terms = Terms("beta", caller.authorities, 2**62, 1, strict=False, accepts=None)
    sim = Sim().post(organization="acme", cost="5").run()
    before = dict(sim.totals)
    stolen = event(id="gen-1", organization="beta", cost="0", authority="reconciled")
    try:
        message = message_of(stolen, terms, Ignored())
    except BadEvent:
        return
    sim.append(message.key, message.value, message.headers)
    sim.run()
    assert sim.totals[("acme", "2026-11-20")] == before[("acme", "2026-11-20")]


def test_a_conflict_names_both_and_the_ledger_s_own_copy_nobody() -> None:
    """Who is told of a conflict stands in its fact; the ledger's own copies claim nothing."""
    sim = Sim().post(organization="acme", cost="5").post(organization="acme", cost="4")
    sim.post(organization="beta", cost="1").post(organization="beta", cost="5", authority="reconciled")
    sim.run()
    named = [(one.holder, one.claimant) for one in sim.facts if one.fate == "conflict"]
    assert named[:2] == [("acme", "beta"), ("acme", "beta")]
    assert {*named[2:]} == {("", "")}
    assert len(named) > 2


@pytest.mark.parametrize("authority", ["reported", "reconciled"])
def test_the_latest_date_outlives_a_conflict(authority: str) -> None:
    """An id's retention goes by the latest date of all versions read, another organisation's among them.

    Else the id is forgotten while the other delivery is still young enough to be counted again.
    """
    early, late = "2026-11-10T00:00:00Z", "2026-11-20T10:00:00Z"
    sim = Sim()
    if authority == "reconciled":
        sim.post(organization="acme", created_at=late, cost="1")
        sim.post(organization="beta", created_at=early, cost="1", authority="reconciled")
    else:
        sim.post(organization="beta", created_at=early, cost="1")
        sim.post(organization="acme", created_at=late, cost="1")
    sim.run()
    known = sim.table[b"gen-1"]
    assert isinstance(known, Known)
    # The retention job: everything before the 15th goes, the horizon is the 17th.
    run = Horizon("run", nanoseconds_of("2026-11-15T00:00:00Z"), nanoseconds_of("2026-11-17T00:00:00Z"))
    sim.table[horizon_key(0)] = run
    sim.append(b"gen-1", None, (("kind", b"forget"), ("run", b"run"), ("cutoff_ns", b"%d" % run.cutoff_ns)))
    sim.post(organization="acme", created_at=late, cost="1").run()
    assert sum(requests for requests, *_ in sim.totals.values()) == 1, sim.fates
