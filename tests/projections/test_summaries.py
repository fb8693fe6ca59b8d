"""What each fate does to the summaries, and that batching does not matter."""

import asyncio
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.stores.sqlite import Database
from projections.summaries import Summaries, fold
from projections.view import START
from streams.fact import FATES
from tests.projections.samples import (
    DAY,
    NOON_MS,
    applied,
    apply,
    digest_of,
    entry,
    fact,
    reading,
    records,
    row_of,
)

SUMMARIES = Summaries()
NEXT_DAY = "2026-11-21"
FIGURES = ("total_requests", "total_tokens", "raw_cost_nano", "markup_cost_nano", "unpriced_requests")


def figures(path, table, where="1"):
    row = row_of(path, table, where)
    return tuple(row[name] for name in FIGURES)


async def test_a_counted_generation_is_in_every_summary(database, path):
    """One generation stands in its day, its user's day, its model's day and the live counters."""
    await apply(database, SUMMARIES, [fact(0, plus=entry(user_id="u-1"))])
    for table in ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage"):
        assert figures(path, table) == (1, 15, 100, 130, 0)
    day = row_of(path, "client_daily_usage")
    assert (day["primary_model"], day["unique_users"], day["raw_cost"]) == ("m", 1, 1e-7)
    assert (day["created_at"], day["updated_at"]) == (NOON_MS // 1000, NOON_MS // 1000)
    user = row_of(path, "client_user_daily_usage")
    assert (user["user_id"], user["openrouter_user_id"]) == ("u-1", "alice")
    assert row_of(path, "client_model_daily_usage")["provider"] == "P"
    live = row_of(path, "client_live_counters")
    assert (live["current_date"], live["today_requests"], live["today_tokens"]) == (DAY, 1, 15)
    assert live["last_updated"] == NOON_MS // 1000
    organization = row_of(path, "client_organizations")
    assert (organization["id"], organization["name"], organization["is_active"]) == ("acme", "acme", 1)


@pytest.mark.parametrize("fate", sorted(set(FATES) - {"counted", "amended", "voided", "conflict", "opening"}))
async def test_a_fact_without_effect_is_only_booked(database, path, fate):
    """What does not count moves no total, and is in the books."""
    await apply(database, SUMMARIES, [fact(0, fate, plus=entry(), minus=entry())])
    with reading(path) as connection:
        assert connection.execute("SELECT count(*) FROM client_daily_usage").fetchone()[0] == 0
        assert [tuple(r) for r in connection.execute("SELECT * FROM books")] == [(0, fate, 1)]


async def test_an_amendment_to_another_day_moves_the_money(database, path):
    """The old day loses what the new one gains, and stays with zeros."""
    amended = fact(1, "amended", id="gen-0", minus=entry(), plus=entry(day=NEXT_DAY, cost_nano=70))
    await apply(database, SUMMARIES, [fact(0, plus=entry()), amended])
    assert figures(path, "client_daily_usage", f"usage_date = '{DAY}'") == (0, 0, 0, 0, 0)
    assert figures(path, "client_daily_usage", f"usage_date = '{NEXT_DAY}'") == (1, 15, 70, 130, 0)
    old = row_of(path, "client_daily_usage", f"usage_date = '{DAY}'")
    assert (old["primary_model"], old["unique_users"]) == (None, 0)
    assert old["updated_at"] == NOON_MS // 1000 + 1


async def test_a_void_takes_away_and_a_void_of_an_unknown_id_takes_nothing(database, path):
    """Voiding leaves a row of zeros; voiding what never counted leaves none."""
    void = fact(1, "voided", id="gen-0", minus=entry(), plus=entry(requests=0))
    unknown = fact(2, "voided", plus=entry("other", requests=0))
    await apply(database, SUMMARIES, [fact(0, plus=entry()), void, unknown])
    assert figures(path, "client_daily_usage") == (0, 0, 0, 0, 0)
    assert row_of(path, "client_live_counters")["today_requests"] == 0


async def test_a_takeover_moves_between_organisations(database, path):
    """A conflict that is decided for the other organisation is - there and + here."""
    conflict = fact(1, "conflict", id="gen-0", minus=entry(), plus=entry("globex"))
    await apply(database, SUMMARIES, [fact(0, plus=entry()), conflict])
    assert figures(path, "client_daily_usage", "client_org_id = 'acme'") == (0, 0, 0, 0, 0)
    assert figures(path, "client_daily_usage", "client_org_id = 'globex'") == (1, 15, 100, 130, 0)
    assert row_of(path, "client_live_counters", "client_org_id = 'globex'")["today_requests"] == 1


async def test_an_unknown_cost_is_counted_as_unpriced_until_it_is_known(database, path):
    """A generation without a cost counts as a request; its price comes later."""
    unknown = entry(cost_nano=None, markup_nano=None)
    after = await apply(database, SUMMARIES, [fact(0, plus=unknown)])
    assert figures(path, "client_daily_usage") == (1, 15, 0, 0, 1)
    assert row_of(path, "client_live_counters")["today_unpriced_requests"] == 1
    await apply(database, SUMMARIES, [fact(1, "amended", id="gen-0", minus=unknown, plus=entry())], after)
    assert figures(path, "client_daily_usage") == (1, 15, 100, 130, 0)


async def test_an_opening_balance_touches_its_one_table(database, path):
    """Balances of day, user and model are three margins of the same money, in any order."""
    balances = [
        fact(0, "opening", plus=entry(margin="user", requests=7, unpriced_requests=2)),
        fact(1, "opening", plus=entry(margin="model", requests=7, unpriced_requests=2)),
        fact(2, "opening", plus=entry(margin="day", requests=7, unpriced_requests=2)),
        fact(3, "opening", plus=entry()),
    ]
    await apply(database, SUMMARIES, balances)
    for table in ("client_daily_usage", "client_user_daily_usage", "client_model_daily_usage"):
        assert figures(path, table) == (7, 15, 100, 130, 2)
    day = row_of(path, "client_daily_usage")
    assert (day["unique_users"], day["primary_model"]) == (1, "m")


async def test_balances_in_batches_of_one_name_the_same_day(database, path):
    """A day that comes after its users and models finds them."""
    after = START
    for i, margin in enumerate(("user", "model", "day")):
        after = await apply(database, SUMMARIES, [fact(i, "opening", plus=entry(margin=margin))], after)
    day = row_of(path, "client_daily_usage")
    assert (day["unique_users"], day["primary_model"]) == (1, "m")


async def test_the_primary_model_has_most_requests_then_cost_then_the_first_name(database, path):
    """Ties go to the dearer model, and between equals to the first by name."""
    after = await apply(database, SUMMARIES, [fact(0, plus=entry(model="b")), fact(1, plus=entry(model="a"))])
    assert row_of(path, "client_daily_usage")["primary_model"] == "a"
    dearer = fact(2, "amended", id="gen-0", minus=entry(model="b"), plus=entry(model="b", cost_nano=101))
    after = await apply(database, SUMMARIES, [dearer], after)
    assert row_of(path, "client_daily_usage")["primary_model"] == "b"
    await apply(database, SUMMARIES, [fact(3, plus=entry(model="a", cost_nano=0))], after)
    assert row_of(path, "client_daily_usage")["primary_model"] == "a"


async def test_the_provider_of_a_models_day_follows_the_requests(database, path):
    """It changes with the majority, also when the majority is taken away again."""
    after = await apply(database, SUMMARIES, [fact(0, plus=entry(provider="A"))])
    more = [fact(1, plus=entry(provider="B")), fact(2, plus=entry(provider="B"))]
    after = await apply(database, SUMMARIES, more, after)
    assert row_of(path, "client_model_daily_usage")["provider"] == "B"
    voids = [fact(i + 2, "voided", id=f"gen-{i}", minus=entry(provider="B")) for i in (1, 2)]
    after = await apply(database, SUMMARIES, voids, after)
    assert row_of(path, "client_model_daily_usage")["provider"] == "A"
    await apply(database, SUMMARIES, [fact(5, "voided", id="gen-0", minus=entry(provider="A"))], after)
    assert row_of(path, "client_model_daily_usage")["provider"] is None


async def test_no_user_is_a_row_but_not_a_user(database, path):
    """Generations without a user have a row of user '' and are not counted among the users."""
    await apply(database, SUMMARIES, [fact(0, plus=entry(user="")), fact(1, plus=entry(user="bob"))])
    assert row_of(path, "client_daily_usage")["unique_users"] == 1
    assert row_of(path, "client_user_daily_usage", "openrouter_user_id = ''")["user_id"] == ""


async def test_the_newest_mapping_names_the_user(database, path):
    """The application's user id is the one of the newest fact by log time, whatever is read first."""
    after = await apply(database, SUMMARIES, [fact(0, plus=entry(user_id="new"), time_ms=NOON_MS + 9000)])
    after = await apply(database, SUMMARIES, [fact(1, plus=entry(user_id="old"))], after)
    assert row_of(path, "client_user_daily_usage")["user_id"] == "new"
    void = fact(2, "voided", id="gen-1", minus=entry(user_id="old"), time_ms=NOON_MS + 20_000)
    await apply(database, SUMMARIES, [void], after)
    assert row_of(path, "client_user_daily_usage")["user_id"] == "new"


async def test_live_counters_show_the_day_of_the_newest_fact(database, path):
    """They are the daily row of the day on which the newest fact came, whatever day that one counts on."""
    after = await apply(database, SUMMARIES, [fact(0, plus=entry())])
    after = await apply(database, SUMMARIES, [fact(1, plus=entry(today=NEXT_DAY))], after)
    live = row_of(path, "client_live_counters")
    assert (live["current_date"], live["today_requests"], live["last_updated"]) == (
        NEXT_DAY,
        0,
        NOON_MS // 1000 + 1,
    )
    late = fact(2, time_ms=NOON_MS - 1, plus=entry(day=NEXT_DAY))
    await apply(database, SUMMARIES, [late], after)
    live = row_of(path, "client_live_counters")
    assert (live["current_date"], live["today_requests"], live["last_ms"]) == (NEXT_DAY, 1, NOON_MS + 1000)


def test_a_duplicate_does_not_move_the_live_counters():
    """Only a fact that changes a total says which day it is."""
    changes = fold([fact(0, "duplicate", plus=entry(today=NEXT_DAY))])
    assert changes.live == {}


ENTRIES = st.builds(
    entry,
    organization=st.sampled_from(["acme", "globex"]),
    day=st.sampled_from([DAY, NEXT_DAY]),
    today=st.sampled_from([DAY, NEXT_DAY]),
    model=st.sampled_from(["m", "n", ""]),
    user=st.sampled_from(["", "alice", "bob"]),
    user_id=st.sampled_from(["", "u"]),
    provider=st.sampled_from(["", "P", "Q"]),
    cost_nano=st.sampled_from([None, 0, 7, 100]),
    requests=st.sampled_from([1, 1, 0]),
)


@st.composite
def sequences(draw):
    """A few ids, counted, amended and voided, and the places where the sequence is cut into batches."""
    worth: dict[str, object] = {}
    items = []
    for offset in range(draw(st.integers(1, 14))):
        id, new = draw(st.sampled_from("abcde")), draw(ENTRIES)
        fate = "amended" if id in worth else "counted"
        margin = draw(st.sampled_from(["", "", "", "day", "user", "model"]))
        if margin:
            balance = entry(new.organization, new.day, user=new.user, model=new.model, margin=margin)
            items.append(fact(offset, "opening", id=f"balance-{offset}", plus=balance))
            continue
        time_ms = NOON_MS + draw(st.integers(0, 3)) * 700
        items.append(fact(offset, fate, id=id, minus=worth.get(id), plus=new, time_ms=time_ms))
        worth[id] = new
    cuts = draw(st.sets(st.integers(1, len(items))))
    return items, sorted(cuts | {0, len(items)})


# What the tables say of themselves, worked out the slow way: no row may come back.
CONTRADICTIONS = (
    """SELECT * FROM client_daily_usage d WHERE primary_model IS NOT (
        SELECT model_name FROM client_model_daily_usage m
        WHERE m.client_org_id = d.client_org_id AND m.usage_date = d.usage_date AND m.total_requests > 0
        ORDER BY m.total_requests DESC, m.raw_cost_nano DESC, m.model_name LIMIT 1)""",
    """SELECT * FROM client_daily_usage d WHERE unique_users <> (
        SELECT count(*) FROM client_user_daily_usage u
        WHERE u.client_org_id = d.client_org_id AND u.usage_date = d.usage_date AND u.total_requests > 0
        AND u.openrouter_user_id <> '')""",
    """SELECT * FROM client_model_daily_usage m WHERE provider IS NOT (
        SELECT provider FROM model_daily_providers p
        WHERE p.client_org_id = m.client_org_id AND p.usage_date = m.usage_date
        AND p.model_name = m.model_name AND p.total_requests > 0
        ORDER BY p.total_requests DESC, p.raw_cost_nano DESC, p.provider LIMIT 1)""",
    """SELECT * FROM client_live_counters c LEFT JOIN client_daily_usage d
        ON d.client_org_id = c.client_org_id AND d.usage_date = c."current_date"
        WHERE (today_requests, today_tokens, today_raw_cost_nano, today_unpriced_requests) <>
        (ifnull(total_requests, 0), ifnull(total_tokens, 0), ifnull(raw_cost_nano, 0),
        ifnull(unpriced_requests, 0))""",
)


async def _digest_of_batches(made_tables, batches):
    """The digest after batches of (partition, facts)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "views.db"
        shutil.copy(made_tables, path)
        database = Database.open(path)
        stands = {}
        for partition, items in batches:
            after = stands.get(partition, START)
            batch = records(items, after.usage_offset + 1, partition)
            stands[partition] = await applied(database, SUMMARIES, "usage", partition, batch, after)
        await database.close()
        with reading(path) as connection:
            for query in CONTRADICTIONS:
                assert connection.execute(query).fetchall() == []
        return digest_of(path)


SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(sequences())
def test_any_batching_of_the_same_facts_gives_the_same_rows(made_tables, sequence):
    """The tables do not depend on how the log was cut into batches, and never contradict each other."""
    items, cuts = sequence
    batches = [(0, items[first:end]) for first, end in pairwise(cuts)]
    one = asyncio.run(_digest_of_batches(made_tables, [(0, items)]))
    assert asyncio.run(_digest_of_batches(made_tables, batches)) == one


@SLOW
@given(sequences(), sequences())
def test_the_order_in_which_partitions_are_read_does_not_matter(made_tables, left, right):
    """What two partitions hold adds up to the same rows, whichever is read first."""
    batches = [(0, left[0][first:end]) for first, end in pairwise(left[1])]
    others = [(1, right[0][first:end]) for first, end in pairwise(right[1])]
    one = asyncio.run(_digest_of_batches(made_tables, batches + others))
    assert asyncio.run(_digest_of_batches(made_tables, others + batches)) == one
