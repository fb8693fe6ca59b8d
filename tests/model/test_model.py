"""The model against figures worked out by hand: what checks the service must itself be right."""

from datetime import date

import pytest

from tests.model.events import Event, Refused, is_greater, is_same, read
from tests.model.ledger import Model, Record
from tests.model.settings import Settings
from tests.model.tables import Row, SettingsRecord, row_id, tables
from tests.model.traffic import AMENDMENTS, generate

LOG_MS = 1_761_500_000_000  # 2025-10-26T17:33:20Z
LATER_MS = LOG_MS + 30 * 86_400_000  # when all of the made-up traffic is past


def event(**more: object) -> bytes:
    """A line of JSON; values are JSON text."""
    fields = {"id": '"gen-1"', "organization": '"acme"', "model": '"m"', **more}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


def version(**more: object) -> Event:
    return read(event(**more))


def modelled(*lines: bytes, organization_settings: bool = True) -> Model:
    settings = Settings()
    if organization_settings:
        settings.set_organization("acme", date(2025, 1, 1), timezone="Europe/Warsaw", markup="1.5")
        settings.set_organization("acme", date(2025, 10, 26), markup="2")
        settings.map_user("acme", "al", date(2025, 10, 26), "alice")
    model = Model(settings)
    for n, line in enumerate(lines):
        model.take(Record(0, LOG_MS + n * 1000, read(line).id.encode(), line))
    return model


def day(model: Model, organization: str = "acme", day: str = "2025-10-25") -> Row:
    return tables(model)["client_daily_usage"][organization, day]


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ('"0.0123"', 12_300_000),
        ("0.0123", 12_300_000),
        ("1.5e-05", 15_000),
        ("3", 3_000_000_000),
        ('"0.0000000005"', 0),  # half a nano-dollar goes to the even side
        ('"0.0000000015"', 2),
        ("null", None),
    ],
)
def test_money_is_exact(text: str, nano: int | None) -> None:
    """Decimal text becomes nano-dollars, half-even below them."""
    assert version(cost=text).cost_nano == nano


def test_a_markup_is_rounded_half_even_for_each_generation() -> None:
    """1 nano-dollar at 1.5 is 2, and 3 are 4; both on one day make 6, not 4 x 1.5."""
    dated = '"2025-10-25T12:00:00Z"'
    model = modelled(
        event(cost='"0.000000001"', created_at=dated),
        event(id='"g2"', cost='"0.000000003"', created_at=dated),
    )
    assert (day(model)["raw_cost_nano"], day(model)["markup_cost_nano"]) == (4, 6)


def test_a_day_is_the_organisations_own_and_a_markup_counts_from_its_midnight() -> None:
    """A second before midnight in Warsaw is Saturday at 1.5, midnight is Sunday at 2."""
    model = modelled(
        event(cost="1", created_at='"2025-10-25T21:59:59Z"'),
        event(id='"g2"', cost="1", created_at='"2025-10-25T22:00:00Z"'),
        event(id='"g3"', cost="1", created_at='"2025-10-26T22:59:59.999999999Z"'),  # this day has 25 hours
    )
    assert (day(model)["total_requests"], day(model)["markup_cost_nano"]) == (1, 1_500_000_000)
    sunday = day(model, day="2025-10-26")
    assert (sunday["total_requests"], sunday["markup_cost_nano"]) == (2, 4_000_000_000)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ({"authority": '"corrected"', "revision": 9}, {"cost": "0", "authority": '"estimate"'}),
        ({"cost": "9", "revision": 5}, {"cost": "1", "authority": '"reconciled"'}),
        ({"cost": "9"}, {"cost": "1", "revision": 0}),
        ({"cost": "9", "revision": 1, "authority": '"corrected"'}, {"void": "true", "revision": 1}),
        ({"cost": "9", "prompt_tokens": 1}, {"cost": "1", "prompt_tokens": 2}),
        ({"cost": "0.1"}, {"cost": "0.1000009"}),
        ({"void": "true", "revision": 1}, {"cost": "1", "authority": '"corrected"', "revision": 2}),
    ],
)
def test_versions_are_ordered_by_the_first_rank_that_differs(
    lower: dict[str, object], higher: dict[str, object]
) -> None:
    """Known cost, authority, revision, void, tokens, cost: in this order."""
    assert is_greater(version(**higher), version(**lower))
    assert not is_greater(version(**lower), version(**higher))


def test_metadata_is_no_content() -> None:
    """The same version with other metadata is a duplicate; with another provider it is not."""
    assert is_same(version(cost="1", metadata='{"n":1}'), version(cost="1"))
    assert not is_same(version(cost="1", provider='"P"'), version(cost="1"))


def test_an_amendment_moves_the_money_and_leaves_the_old_row_with_zeros() -> None:
    """Moved to another day and user, nothing is left where it was, but the rows stand."""
    model = modelled(
        event(cost="1", user='"al"', created_at='"2025-10-25T10:00:00Z"'),
        event(cost="2", user='"bo"', created_at='"2025-10-26T10:00:00Z"', revision=1),
    )
    old, new = day(model), day(model, day="2025-10-26")
    assert (old["total_requests"], old["raw_cost_nano"], old["primary_model"], old["unique_users"]) == (
        0,
        0,
        None,
        0,
    )
    assert (new["total_requests"], new["raw_cost_nano"], new["primary_model"], new["unique_users"]) == (
        *(1, 2_000_000_000),
        *("m", 1),
    )
    assert (old["created_at"], old["updated_at"], new["created_at"]) == (1761500000, 1761500001, 1761500001)
    users = tables(model)["client_user_daily_usage"]
    assert set(users) == {("acme", "2025-10-25", "al"), ("acme", "2025-10-26", "bo")}
    assert [users[key]["user_id"] for key in sorted(users)] == ["al", "bo"]
    assert model.books[0] == {"counted": 1, "amended": 1}


def test_a_user_has_the_name_of_the_day() -> None:
    """The mapping counts from its day on."""
    model = modelled(
        event(user='"al"', created_at='"2025-10-25T10:00:00Z"'),
        event(id='"g2"', user='"al"', created_at='"2025-10-26T10:00:00Z"'),
    )
    users = tables(model)["client_user_daily_usage"]
    assert users["acme", "2025-10-25", "al"]["user_id"] == "al"
    assert users["acme", "2025-10-26", "al"]["user_id"] == "alice"


def test_a_void_is_worth_nothing_and_remembered() -> None:
    """Before or after its generation, a void leaves a processed row of zeros; alone it touches no summary."""
    dated = '"2025-10-25T10:00:00Z"'
    told, void = event(cost="1", created_at=dated), event(void="true", created_at=dated)
    after, before = modelled(told, void), modelled(void, told)
    for model in (after, before):
        processed = tables(model)["processed_generations"][("gen-1",)]
        assert (processed["total_cost_nano"], processed["generation_date"]) == (0, "2025-10-25")
    assert after.books[0] == {"counted": 1, "voided": 1}
    assert before.books[0] == {"voided": 1, "superseded": 1}
    assert tables(before)["client_daily_usage"] == {}
    assert day(after)["total_requests"] == 0


def test_an_undated_generation_is_of_the_day_its_first_telling_came() -> None:
    """Later tellings without a date don't move it."""
    model = modelled(event(cost="1"), event(cost="2"))
    model.take(Record(0, LOG_MS + 86_400_000, b"gen-1", event(cost="3")))
    assert day(model, day="2025-10-26")["raw_cost_nano"] == 3_000_000_000


def test_another_organisation_is_a_conflict_unless_it_read_it_back() -> None:
    """The first organisation keeps the id; a read-back takes it over from a lower authority, once."""
    dated = '"2025-10-25T10:00:00Z"'
    mine = event(cost="1", created_at=dated)
    reported = event(cost="5", created_at=dated, organization='"other"')
    reconciled = event(cost="7", created_at=dated, organization='"other"', authority='"reconciled"')
    assert day(modelled(mine, reported))["raw_cost_nano"] == 1_000_000_000
    taken = modelled(mine, reconciled, event(cost="9", created_at=dated, authority='"corrected"'))
    assert day(taken)["raw_cost_nano"] == 0
    assert day(taken, "other")["raw_cost_nano"] == 7_000_000_000
    assert taken.books[0] == {"counted": 1, "conflict": 2}


def test_unknown_is_not_zero() -> None:
    """A generation without a cost counts its tokens; its cost is unknown until somebody says it."""
    told = event(prompt_tokens=7, created_at='"2025-10-25T10:00:00Z"')
    model = modelled(told)
    assert (day(model)["unpriced_requests"], day(model)["total_tokens"]) == (1, 7)
    assert tables(model)["processed_generations"][("gen-1",)]["total_cost"] is None
    model.take(Record(0, LOG_MS + 9000, b"gen-1", told.replace(b"}", b',"cost":2}')))
    assert (day(model)["unpriced_requests"], day(model)["raw_cost_nano"]) == (0, 2_000_000_000)


def test_the_primary_model_has_the_most_requests_then_the_most_cost_then_the_first_name() -> None:
    """Three ways to be first, one after the other."""

    def line(id: str, model: str, cost: str) -> bytes:
        dated = '"2025-10-25T10:00:00Z"'
        return event(id=f'"{id}"', model=f'"{model}"', cost=cost, created_at=dated)

    told = [line("1", "b", "1"), line("2", "a", "1")]
    assert day(modelled(*told))["primary_model"] == "a"
    told.append(line("3", "b", "0"))
    assert day(modelled(*told))["primary_model"] == "b"
    told.append(line("4", "c", "9"))
    told.append(line("5", "c", "9"))
    assert day(modelled(*told))["primary_model"] == "c"


def test_live_counters_are_the_days_row_where_the_organisation_is_now() -> None:
    """Yesterday's generation makes a row of zeros for today; today's is in it."""
    model = modelled(event(cost="1", created_at='"2025-10-25T10:00:00Z"'))
    assert tables(model)["client_live_counters"][("acme",)]["today_requests"] == 0
    model.take(
        Record(0, LOG_MS + 5000, b"g2", event(id='"g2"', cost="1", created_at='"2025-10-26T10:00:00Z"'))
    )
    live = tables(model)["client_live_counters"][("acme",)]
    assert (live["current_date"], live["today_requests"], live["last_updated"]) == (
        "2025-10-26",
        1,
        1761500005,
    )


def test_an_organisation_is_there_from_its_first_sight_or_its_settings() -> None:
    """Without settings it has its id for a name, and nothing else."""
    bare = tables(modelled(event(), organization_settings=False))["client_organizations"][("acme",)]
    assert (bare["name"], bare["markup_rate"], bare["created_at"]) == ("acme", None, LOG_MS // 1000)
    told = SettingsRecord(("acme",), LOG_MS - 5000, LOG_MS - 4000)
    set_up = tables(modelled(event()), [told])["client_organizations"][("acme",)]
    assert (set_up["markup_rate"], set_up["created_at"], set_up["updated_at"]) == (
        2.0,
        1761499995,
        1761499996,
    )


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"{",
            b"[]",
            b'{"id":"a","organization":"o"}',
            b'{"id":"a","organization":"o","model":"m","cost":NaN}',
        ),
        *(event(cost='"-1"'), event(cost="1000001"), event(prompt_tokens="true"), event(prompt_tokens="1.5")),
        *(
            event(total_tokens=1, prompt_tokens=2),
            event(created_at='"2025-10-25T10:00:00"'),
            event(color='"red"'),
        ),
        *(event(user='"a\\u0000"'), event(authority='"god"'), event(revision=-1), event(created_at="1")),
    ],
)
def test_a_bad_line_is_refused(line: bytes) -> None:
    """What can't be an event is none."""
    with pytest.raises(Refused):
        read(line)


def test_row_ids_are_hashes_of_keys() -> None:
    """No two keys share one, whatever characters they hold."""
    assert len(row_id("a", "b")) == 32
    assert row_id("a,b", "c") != row_id("a", "b,c")


def test_another_order_of_the_made_up_traffic_comes_to_the_same_winners() -> None:
    """Shuffled, each id's first organisation stays first, and every id comes to the same version."""
    traffic = generate(1, 2000)
    winners = []
    for deliveries in (traffic.deliveries, traffic.shuffled(2), traffic.shuffled(3)):
        model = Model(traffic.settings())
        for n, delivery in enumerate(deliveries):
            if not delivery.bad:
                model.take(Record(0, LATER_MS + n, delivery.id.encode(), delivery.line))
        assert set(model.books[0]) == {"counted", "amended", "duplicate", "superseded", "voided", "conflict"}
        winners.append({id: known.winner for id, known in model.ids.items()})
    assert winners[0] == winners[1] == winners[2]
    assert {known.organization for known in winners[0].values()} >= {"org-00", "org-18"}


def test_the_made_up_traffic_is_the_same_for_the_same_seed_and_has_every_kind() -> None:
    """A seed replays a failure; nothing that the issue names is left out."""
    one, other = generate(4, 8000), generate(4, 8000)
    assert [delivery.line for delivery in one.deliveries] == [delivery.line for delivery in other.deliveries]
    kinds = {"plain", "amended", "voided_after", "voided_before", "void_undone", "void_alone", "foreign"}
    assert kinds | {"taken_over", "unpriced", "duplicate"} <= set(one.kinds)
    assert {f"amended: {kind}" for kind in AMENDMENTS} <= set(one.kinds)
    assert {delivery.bad for delivery in one.deliveries} == {True, False}
