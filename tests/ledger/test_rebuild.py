"""Deciding again from the same records gives the same decision."""

from streams.log.interface import Record
from streams.organizations import Change, Organization
from streams.rules import Rules
from streams.times import MS_NS
from tests.ledger.sim import NOON_MS, Sim


def test_an_organisation_that_was_unknown_then() -> None:
    """Where unknown organisations are rejected: what was refused before one was made stays so."""
    sim = Sim()
    sim.rules = Rules(sim.directory, "1.5", "UTC", unknown="reject")
    sim.post(organization="acme", cost="1").run()
    assert sim.fates == ["quarantined"]
    made = Change(effective_ns=0, logged_ms=NOON_MS + 60_000, name="Acme")
    sim.directory._organizations["acme"] = Organization(
        id="acme", created_ms=NOON_MS + 60_000, history=(made,)
    )
    assert sim.compacted().run().totals == sim.totals == {}


def test_a_change_in_the_millisecond_of_an_event() -> None:
    """A change logged after an event, in the same millisecond, does not rate it in a rebuild."""
    sim = Sim()
    before = sim.rules.terms("acme", "", NOON_MS * MS_NS, NOON_MS)  # decided at once: the change is not there
    organization = Organization(
        id="acme", created_ms=0, history=(Change(effective_ns=0, logged_ms=NOON_MS, markup="3"),)
    )
    sim.directory._organizations["acme"] = organization
    assert sim.rules.terms("acme", "", NOON_MS * MS_NS, NOON_MS) == before


def test_a_change_made_while_the_clock_was_back() -> None:
    """A change takes its place in the log's order though the clock has gone back since the one before."""
    from msgspec.json import encode

    sim = Sim()
    later, earlier = NOON_MS, NOON_MS - 3_600_000
    first = Change(effective_ns=0, logged_ms=later, markup="2")
    value = encode(Organization(id="acme", created_ms=0, history=(first,)))
    sim.directory.apply(Record("organizations", 0, 0, later, b"acme", value))
    date_ns = (earlier - 1000) * MS_NS
    decided = sim.rules.terms("acme", "", date_ns, later)
    # The clock goes back an hour, then an administrator changes the markup: logged after that event.
    known = sim.directory.organization("acme")
    assert known is not None
    second = Change(effective_ns=0, logged_ms=earlier, markup="3")
    history = tuple(sorted((*known.history, second), key=lambda c: (c.effective_ns, c.logged_ms)))
    value = encode(Organization(id="acme", created_ms=0, history=history))
    sim.directory.apply(Record("organizations", 0, 1, earlier, b"acme", value))
    assert sim.rules.terms("acme", "", date_ns, later) == decided
    # And the change itself has not been lost: from now on it counts.
    assert sim.rules.terms("acme", "", date_ns, later + 3_600_000).rate == "3"
