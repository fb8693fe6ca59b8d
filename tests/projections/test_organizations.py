"""Organisations and users as rows."""

import hashlib

import msgspec
import pytest

from projections.organizations import Organizations
from projections.summaries import Summaries
from streams.errors import LogMismatch
from streams.log.interface import Record
from streams.organizations import Change, Mapping, Organization, User, row_id
from tests.projections.samples import NOON_MS, applied, apply, digest_of, entry, fact, row_of

ORGANIZATIONS = Organizations()
ACME = Organization(
    id="acme",
    created_ms=NOON_MS,
    history=(
        Change(effective_ns=0, logged_ms=NOON_MS, name="Acme", markup="1.3", monthly_limit="500.25"),
        Change(effective_ns=0, logged_ms=NOON_MS, provider_key="env:ACME_KEY", timezone="Europe/Warsaw"),
        Change(effective_ns=10**19, logged_ms=NOON_MS, markup="2"),
    ),
)


def record(thing, offset=0, time_ms=NOON_MS):
    topic = "organizations" if isinstance(thing, Organization) else "users"
    return Record(topic, 0, offset, time_ms, b"key", msgspec.json.encode(thing))


async def test_a_row_shows_the_values_that_count_now(database, path):
    """Values by effective date, the reference to the key and never the key, money as exact text too."""
    after = await applied(database, ORGANIZATIONS, "organizations", 0, [record(ACME)])
    row = row_of(path, "client_organizations")
    assert (row["name"], row["markup_rate"], row["markup_rate_text"]) == ("Acme", 1.3, "1.3")
    assert (row["monthly_limit"], row["timezone"], row["is_active"]) == (500.25, "Europe/Warsaw", 1)
    assert row["openrouter_api_key"] == "env:ACME_KEY"
    assert row["openrouter_key_hash"] == hashlib.sha256(b"env:ACME_KEY").hexdigest()
    assert await database.positions(ORGANIZATIONS, "organizations") == {0: after}
    assert await database.positions(ORGANIZATIONS, "users") == {}


@pytest.mark.parametrize("seen_ms", [NOON_MS - 5000, NOON_MS + 5000])
async def test_first_sight_and_settings_give_one_row_in_either_order(
    database, path, tmp_path, made_tables, seen_ms
):
    """Whether the first generation or the settings are read first, the row is the same."""
    seen = [fact(0, plus=entry(), time_ms=seen_ms)]
    await apply(database, Summaries(), seen)
    await applied(database, ORGANIZATIONS, "organizations", 0, [record(ACME)])
    one = row_of(path, "client_organizations")
    digest = digest_of(path)["client_organizations"]
    with_settings_first = tmp_path / "other.db"
    with_settings_first.write_bytes(made_tables.read_bytes())
    other = type(database).open(with_settings_first)
    await applied(other, ORGANIZATIONS, "organizations", 0, [record(ACME)])
    await apply(other, Summaries(), seen)
    await other.close()
    assert row_of(with_settings_first, "client_organizations") == one
    assert digest_of(with_settings_first)["client_organizations"] == digest
    assert one["created_at"] == min(seen_ms, NOON_MS) // 1000


async def test_a_user_is_shown_by_its_mapping(database, path):
    """A mapped user has the application's id; one whose mapping ended is inactive."""
    user = User(
        organization="acme",
        user="or-1",
        created_ms=NOON_MS,
        history=(Mapping(effective_day="2026-01-01", logged_ms=NOON_MS, user_id="alice"),),
    )
    after = await applied(database, ORGANIZATIONS, "users", 0, [record(user)])
    row = row_of(path, "user_client_mapping")
    assert (row["id"], row["user_id"], row["is_active"]) == (row_id("acme", "or-1"), "alice", 1)
    ended = (*user.history, Mapping(effective_day="2026-02-01", logged_ms=NOON_MS))
    user = msgspec.structs.replace(user, history=ended)
    await applied(database, ORGANIZATIONS, "users", 0, [record(user, 1)], after)
    row = row_of(path, "user_client_mapping")
    assert (row["user_id"], row["is_active"]) == ("or-1", 0)


async def test_a_settings_record_that_does_not_decode_stops_the_view(database):
    """It is not skipped: the message says where it is."""
    bad = Record("organizations", 0, 7, NOON_MS, b"acme", b"{")
    with pytest.raises(LogMismatch, match="organizations/0@7"):
        await applied(database, ORGANIZATIONS, "organizations", 0, [bad])
