"""One source of truth for a model prefix: which calls count, and what joins them by their id."""

from typing import Any

import msgspec
import pytest

from streams import ledger, records
from streams.admin import BadChange, OrganizationChange, check_organization
from streams.directory import message_of
from streams.known import Held, Horizon, Known
from streams.ledger import Here
from streams.log.interface import Record
from streams.organizations import Change, Organization
from streams.times import MS_NS, nanoseconds_of
from streams.truth import RULES_MAX, believed, rules_of
from tests.ledger.sim import NOON_MS, Sim, event

NOON_NS = NOON_MS * MS_NS
FORCED = (("schema", b"1"), ("force", b"1"))


def believing(truth: str, *more: Change, logged_ms: int = NOON_MS - 1000) -> Sim:
    """A ledger whose organisation acme named its sources long ago."""
    sim = Sim()
    first = Change(effective_ns=0, logged_ms=logged_ms, truth=truth)
    message = message_of(Organization(id="acme", created_ms=0, history=(first, *more)))
    sim.directory.apply(Record(message.topic, 0, 0, logged_ms, message.key, message.value))
    return sim


def openai(sim: Sim, source: str, id: str = "gen-1", **fields: Any) -> Sim:
    return sim.post(
        id, **{"model": "openai/gpt-5", "source": source, "cost": "1", "prompt_tokens": 7, **fields}
    )


def requests(sim: Sim) -> int:
    return sum(count for count, *_ in sim.totals.values())


def test_of_two_ids_of_one_call_only_the_believed_source_s_counts() -> None:
    """A call that two sources tell of under ids that can't be joined counts once."""
    sim = believing("openai/=litellm")
    openai(openai(sim, "litellm", "litellm-1"), "openrouter", "gen-1").run()
    assert sim.fates == ["counted", "quarantined"]
    assert requests(sim) == 1
    assert sim.facts[1].reason == "source"
    assert sim.facts[1].detail == "of openai/gpt-5 the organisation believes litellm, not 'openrouter'"
    assert dict(sim.rejected[0].headers)["reason"] == b"source"
    assert sim.rejected[0].value == sim.log[1].value


def test_the_sync_itself_is_refused_where_it_is_not_the_truth() -> None:
    """What the provider tells of is no exception: its ids can't be joined either."""
    sim = believing("openai/=litellm")
    openai(sim, "sync", authority="reconciled").run()
    assert (sim.fates, requests(sim)) == (["quarantined"], 0)


def test_a_version_of_a_known_id_joins_it_from_any_source() -> None:
    """The provider's figures reach a call that counts, by its id."""
    sim = believing("openai/=litellm")
    openai(openai(sim, "litellm"), "sync", cost="3", authority="reconciled").run()
    assert sim.fates == ["counted", "amended", "republished"]
    assert sim.totals["acme", "2026-11-20"][2] == 3 * 10**9


@pytest.mark.parametrize("first", ["litellm", "sync"])
def test_it_does_not_matter_which_source_is_first(first: str) -> None:
    """The figures are the same whether the believed source's version comes first or last."""
    sim = believing("openai/=litellm")
    versions = {
        "litellm": {"cost": "1"},
        "sync": {"cost": "3", "authority": "reconciled"},
    }
    for source in sorted(versions, key=lambda name: name != first):
        openai(sim, source, **versions[source])
    sim.run()
    assert sim.totals == {("acme", "2026-11-20"): (1, 7, 3 * 10**9, 4_500_000_000)}
    assert sim.compacted().run().totals == sim.totals


def test_other_models_and_other_organisations_are_untouched() -> None:
    """A prefix says nothing of what does not begin with it, nor of anybody else's calls."""
    sim = believing("openai/=litellm")
    openai(sim, "openrouter", "gen-1", model="mistral/large")
    openai(sim, "openrouter", "gen-2", organization="beta")
    assert sim.run().fates == ["counted", "counted"]


def test_another_s_settings_lift_nobody_s_rule() -> None:
    """An organisation that believes everybody says nothing of the others, whoever was set up last."""
    sim = believing("openai/=litellm")
    message = message_of(
        Organization(id="beta", created_ms=0, history=(Change(effective_ns=0, logged_ms=1),))
    )
    sim.directory.apply(Record(message.topic, 0, 1, NOON_MS - 500, message.key, message.value))
    assert openai(sim, "sync").run().fates == ["quarantined"]


def test_an_administrator_s_correction_needs_no_source() -> None:
    """Above the sources stands who may correct them."""
    sim = believing("openai/=litellm")
    assert openai(sim, "by hand", authority="corrected").run().fates == ["counted"]


def test_redriven_by_force_it_counts() -> None:
    """An administrator may let a call count after all; again without force it stays counted once."""
    sim = believing("openai/=litellm")
    openai(openai(openai(sim, "sync"), "sync", headers=FORCED), "sync").run()
    assert sim.fates == ["quarantined", "counted", "duplicate", "republished"]
    assert requests(sim) == 1
    assert requests(sim.compacted().run()) == 1


def test_a_rule_that_was_lifted_or_is_not_in_force_refuses_nothing() -> None:
    """By the event's date, as markup is, and by what was logged before the record."""
    lifted = Change(effective_ns=NOON_NS - 10**9, logged_ms=NOON_MS - 999, truth="")
    later = "2026-11-20T11:59:59.5Z"
    sim = believing("openai/=litellm", lifted)
    openai(openai(sim, "sync", "gen-1"), "sync", "gen-2", created_at=later).run()
    assert sim.fates == ["quarantined", "counted"]
    assert openai(believing("openai/=litellm", logged_ms=NOON_MS), "sync").run().fates == ["counted"]


def test_what_was_counted_before_the_rule_stays_counted_after_compaction() -> None:
    """A duplicate that comes under the rule leaves a record from which a rebuild learns the winner."""
    sim = openai(Sim(), "sync").run()
    message = message_of(
        Organization(
            id="acme", created_ms=0, history=(Change(effective_ns=0, logged_ms=1, truth="*=litellm"),)
        )
    )
    sim.directory.apply(Record(message.topic, 0, 0, NOON_MS, message.key, message.value))
    sim.time_ms += 1000
    openai(sim, "sync").run()
    assert sim.fates == ["counted", "duplicate", "republished"]
    assert sim.compacted().run().totals == sim.totals


def test_a_held_call_is_forgotten_and_expired_as_others_are() -> None:
    """Retention ends what counts nothing, too, and nothing is held that is dated before the horizon."""
    sim = openai(believing("openai/=litellm"), "sync", created_at="2026-11-10T00:00:00Z").run()
    assert isinstance(sim.table[b"gen-1"], Held)
    run = Horizon("run", nanoseconds_of("2026-11-15T00:00:00Z"), nanoseconds_of("2026-11-17T00:00:00Z"))
    sim.table[records.horizon_key(0)] = run
    forget = records.forget_message(b"gen-1", run, 0)
    sim.append(forget.key, None, forget.headers)
    openai(sim, "sync", created_at="2026-11-10T00:00:00Z").run()
    assert sim.fates == ["quarantined", "forgotten", "expired", "forgotten"]
    assert b"gen-1" not in sim.table


def test_a_held_call_keeps_its_id_from_nobody() -> None:
    """What counts nothing is no claim: another organisation's call of that id counts."""
    sim = openai(believing("openai/=litellm"), "sync")
    openai(openai(sim, "sync", organization="beta"), "litellm").run()
    assert sim.fates == ["quarantined", "counted", "conflict", "republished"]
    assert [key[0] for key in sim.totals] == ["beta"]


@pytest.mark.parametrize("told_before", [False, True])
def test_what_the_provider_proved_is_kept_from_others(told_before: bool) -> None:
    """Though it counts nothing: a lesser claim of another is a conflict, whatever the ledger published."""
    sim = believing("openai/=litellm")
    if told_before:
        openai(sim, "openrouter", created_at="2026-11-20T11:00:00Z")
    openai(sim, "sync", authority="reconciled")
    openai(sim, "webhook", organization="beta").run()
    assert [fate for fate in sim.fates if fate not in ("quarantined", "republished")] == ["conflict"]
    told = sim.facts[sim.fates.index("conflict")]
    assert (told.holder, told.claimant) == ("acme", "beta")
    assert not sim.totals
    other = sim.compacted()
    openai(other, "litellm", cost="2").run()
    assert other.totals == {("acme", "2026-11-20"): (1, 7, 10**9, 1_500_000_000)}


def test_nobody_else_ends_what_is_held() -> None:
    """Another organisation's expired event, or an opening rolled back, leaves the versions of an id there."""
    sim = openai(believing("openai/=litellm"), "openrouter", cost="3", revision=2).run()
    run = Horizon("run", nanoseconds_of("2026-11-15T00:00:00Z"), nanoseconds_of("2026-11-17T00:00:00Z"))
    sim.table[records.horizon_key(0)] = run
    openai(sim, "webhook", organization="beta", created_at="2026-11-10T00:00:00Z").run()
    opening = msgspec.json.encode({"known": msgspec.Raw(event(id="gen-1", void=True))})
    sim.append(b"gen-1", opening, (("schema", b"1"), ("kind", records.OPENING)))
    sim.run()
    assert sim.fates == ["quarantined", "expired", "republished", "opening", "republished"]
    openai(sim, "litellm").run()
    assert sim.totals["acme", "2026-11-20"][2] == 3 * 10**9
    assert sim.compacted().run().totals == sim.totals


def test_a_read_back_takes_a_squatted_id_over_whoever_is_believed() -> None:
    """Whose call it is the provider proves: that it would not have counted by itself changes nothing."""
    sim = openai(believing("openai/=litellm"), "webhook", organization="beta")
    openai(sim, "sync", authority="reconciled").run()
    assert sim.fates == ["counted", "conflict", "republished"]
    assert [key[0] for key in sim.totals] == ["acme"]
    assert sim.compacted().run().totals == sim.totals


def test_the_short_way_counts_what_is_believed_and_leaves_the_rest() -> None:
    """An organisation with a source of truth is not slow for it."""
    sim = believing("openai/=litellm")
    openai(openai(sim, "litellm"), "sync", "gen-2")
    here = Here(0, 1, None, sim.rules)
    found = ledger.counted(sim.log[0], here, -1, 1)
    assert found is not None
    assert isinstance(found[1], Known)
    assert ledger.counted(sim.log[1], here, 0, 2) is None


def test_the_longest_prefix_decides() -> None:
    """However the rules are ordered."""
    rules = rules_of("*=sync openai/gpt-5=litellm openai/=opentelemetry|sync")
    assert believed(rules, "openai/gpt-5-mini") == ("litellm",)
    assert believed(rules, "openai/o3") == ("opentelemetry", "sync")
    assert believed(rules, "") == ("sync",)
    assert believed(rules_of(""), "openai/o3") == ()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("openai/", "must be PREFIX=SOURCE"),
        ("=litellm", "must be PREFIX=SOURCE"),
        ("openai/=", "is no source's name"),
        ("openai/=lite llm", "must be PREFIX=SOURCE"),
        ("openai/=litellm|", "is no source's name"),
        ("openai/=" + "s" * 65, "is no source's name"),
        ("a=x a=y", "names the prefix a twice"),
        ("m" * 257 + "=x", "at most 256 bytes"),
        ("a=" + "|".join(f"s{n}" for n in range(9)), "at most 8 sources"),
        (" ".join(f"p{n}=s" for n in range(RULES_MAX + 1)), "at most 64 prefixes"),
        ("p=" + "s" * 9000, "at most 8192 bytes"),
        ("a=x\x00", "control characters"),
    ],
)
def test_a_wrong_rule_is_refused_with_what_is_wrong(text: str, error: str) -> None:
    """The field is named, and so is the rule."""
    with pytest.raises(BadChange, match="truth: ") as refused:
        check_organization(OrganizationChange(id="acme", truth=text))
    assert error in refused.value.error
