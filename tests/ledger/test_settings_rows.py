"""Settings as views and readers see them, right after they were made."""

from msgspec.json import encode

from projections.organizations import organization_row
from streams.directory import Directory
from streams.log.interface import Record
from streams.organizations import Change, Organization, with_change
from tests.ledger.sim import NOON_MS, Sim


def test_a_setting_logged_in_the_millisecond_it_was_made() -> None:
    """The row of an organisation shows the change that its own record brings."""
    change = Change(effective_ns=0, logged_ms=NOON_MS, markup="1.3", timezone="Europe/Warsaw")
    row = organization_row(Organization(id="acme", created_ms=NOON_MS, history=(change,)), NOON_MS)
    assert (row.markup, row.timezone) == ("1.3", "Europe/Warsaw")


def test_a_directory_read_from_what_compaction_left() -> None:
    """The newest record of an organisation alone says the same as all of its records."""
    first = Organization(
        id="acme", created_ms=0, history=(Change(effective_ns=0, logged_ms=NOON_MS, markup="2"),)
    )
    # Meanwhile the clock has gone back an hour.
    second = with_change(first, Change(effective_ns=0, logged_ms=NOON_MS - 3_600_000, markup="3"))
    records = [
        Record("organizations", 0, n, time_ms, b"acme", encode(value))
        for n, (time_ms, value) in enumerate([(NOON_MS, first), (NOON_MS - 3_600_000, second)])
    ]
    whole, compacted = Directory(log=None), Directory(log=None)  # type: ignore[arg-type]
    for record in records:
        whole.apply(record)
    compacted.apply(records[-1])
    assert compacted.organization("acme") == whole.organization("acme")


def test_a_winner_dated_before_2000_survives_compaction() -> None:
    """What the ledger publishes again it can read again: a rebuild from what compaction left is the same."""
    sim = Sim().post(created_at="2000-01-01T00:00:00+01:00", cost="2").run()
    sim.post(created_at="2000-01-01T00:00:00+01:00", cost="1").run()
    assert sim.compacted().run().totals == sim.totals
