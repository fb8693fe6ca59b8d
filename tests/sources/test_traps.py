"""Each trap in what sources really send, and the failures that others shipped because of one."""

import base64
import json
from typing import Any

import msgspec
import pytest

from streams import generation
from streams.errors import BadEvent
from streams.sources import BY_ROUTE, litellm, openrouter, usage
from tests.ledger.sim import Sim
from tests.sources.bodies import GOLDEN, MODULES, exact, fields_of, parsed, read
from tests.sources.test_golden import CASES, how_of

SECRET = b"secret"
OURS = (openrouter, usage, litellm)


def body(name: str, **changes: Any) -> dict[str, Any]:
    """A golden body with some of its fields changed."""
    found: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return found | changes


def counted(*bodies: tuple[str, dict[str, Any]], organization: str = "acme") -> Sim:
    """What the ledger makes of bodies, each with its source's name, one after the other."""
    sim = Sim()
    for name, each in bodies:
        for one in parsed(name, each, organization=organization):
            assert isinstance(one, bytes), one
            sim.append(generation.decode(one).id.encode(), one)
    return sim.run()


def sums(sim: Sim) -> tuple[int, int, int]:
    """Requests, tokens and nano-dollars over all organisations and days."""
    rows = list(sim.totals.values())
    return sum(row[0] for row in rows), sum(row[1] for row in rows), sum(row[2] for row in rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_prompts_and_answers_are_dropped(case) -> None:
    """Nothing of a prompt, an answer or a header is in any event, or in any error."""
    for one in MODULES[case.parent.name].events(fields_of(case.read_bytes()), how_of(case)):
        # LiteLLM's own advice has the word.
        told = str(one).replace("a key or secret of", "").encode() if isinstance(one, BadEvent) else one
        assert SECRET not in told.lower()


@pytest.mark.parametrize("source", OURS, ids=lambda source: source.NAME)
def test_a_body_is_one_source_s_only(source) -> None:
    """A source takes its own bodies and none of another's, so the order of asking decides nothing."""
    for case in CASES:
        if case.parent.name in {one.NAME for one in OURS}:
            assert source.matches(fields_of(case.read_bytes())) == (case.parent.name == source.NAME), case


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if b'"resourceSpans"' not in case.read_bytes()],
    ids=lambda case: f"{case.parent.name}/{case.stem}",
)
def test_the_endpoint_for_all_knows_whose_a_body_is(case) -> None:
    """Where every source's bodies may come, the first that knows one is the right one."""
    fields = fields_of(case.read_bytes())
    found = next(source for source in BY_ROUTE["standard"] if source.matches(fields))
    assert found is MODULES[case.parent.name]


def test_a_cloudevent_around_a_body_is_a_cloudevent() -> None:
    """What an envelope of CloudEvents holds is not read twice."""
    around = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    generation_object, response = body("openrouter/byok"), body("usage/openai_chat")
    assert not openrouter.matches(fields_of(around | {"data": generation_object}))
    assert not usage.matches(fields_of(around | {"response": response}))


# OpenRouter's generation


def test_openrouter_s_two_counts_are_never_added() -> None:
    """The model's own count is taken; OpenRouter's only where that is missing."""
    [event] = read("openrouter", body("openrouter/byok"))
    assert (event.prompt_tokens, event.completion_tokens, event.total_tokens) == (433, 131, 564)
    [event] = read("openrouter", body("openrouter/byok", native_tokens_completion=None))
    assert (event.prompt_tokens, event.completion_tokens) == (433, 120)
    [event] = read("openrouter", body("openrouter/byok", native_tokens_completion=0))
    assert event.completion_tokens == 0


def test_openrouter_s_generation_may_be_nearly_all_null() -> None:
    """A cancelled generation of which nothing is known is still one, at an unknown cost."""
    blank: dict[str, Any] = dict.fromkeys(body("openrouter/byok"))
    [event] = read("openrouter", {"data": blank | {"id": "gen-1", "model": "m", "cancelled": True}})
    assert (event.id, event.total_tokens, event.cost_nano, event.created_ns) == ("gen-1", 0, None, None)


def test_openrouter_s_generation_comes_bare_or_under_data() -> None:
    """The sync's answer and a body sent to the door give the same event."""
    bare = body("openrouter/byok")
    assert parsed("openrouter", bare) == parsed("openrouter", {"data": bare})
    assert parsed("openrouter", bare) == [openrouter.generation_of(fields_of(bare), "acme")]


def test_openrouter_s_cost_is_total_cost_else_usage() -> None:
    """Two names of one amount: the second only where the first is missing."""
    assert read("openrouter", body("openrouter/byok"))[0].cost_nano == 205_000
    assert read("openrouter", body("openrouter/byok", total_cost=None, usage=0.5))[0].cost_nano == 500_000_000
    assert read("openrouter", body("openrouter/byok", total_cost=0, usage=0.5))[0].cost_nano == 0


@pytest.mark.parametrize("time", ["2025-11-20T10:32:11.705Z", "2025-11-20T10:32:11.705000", 1763634731.705])
def test_a_time_comes_with_or_without_a_zone(time: str | float) -> None:
    """Without a zone it is in UTC."""
    [event] = read("openrouter", body("openrouter/byok", created_at=time))
    assert event.created_ns == 1_763_634_731_705_000_000


def test_a_server_without_a_clock_says_no_time() -> None:
    """`created: 0` is no time: the event is dated by the log."""
    assert read("usage", body("usage/openai_chat", created=0))[0].created_ns is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("native_tokens_prompt", -1),
        ("native_tokens_prompt", 1.5),
        ("native_tokens_prompt", "12"),
        ("native_tokens_completion", True),
        ("total_cost", -0.01),
        ("total_cost", 2_000_000),
        ("total_cost", {"prompt": "secret"}),
        ("upstream_inference_cost", "secret"),
        ("latency", 1e30),
        ("latency", -1),
        ("created_at", "yesterday"),
        ("created_at", "secret"),
        ("created_at", 9e18),
        ("created_at", {"prompt": "secret"}),
        ("model", None),
        ("model", ["secret"]),
        ("id", None),
        ("id", 7),
        ("is_byok", "yes"),
    ],
)
def test_an_absurd_value_is_refused_by_name(name: str, value: Any) -> None:
    """A value out of bounds or of another type is a refusal that names a field and repeats nothing."""
    absurd = body("openrouter/byok", **{name: value})
    with pytest.raises(BadEvent) as refused:
        read("openrouter", absurd)
    assert refused.value.field
    assert "secret" not in f"{refused.value} {parsed('openrouter', absurd)}"


# Responses with a usage


def test_anthropic_s_input_tokens_are_without_the_cache_s() -> None:
    """Only there the cache's tokens are added to make the prompt's, once each."""
    [event] = read("usage", body("usage/anthropic_message"))
    assert (event.prompt_tokens, event.cached_tokens, event.total_tokens) == (25 + 300 + 1500, 1500, 1975)


def test_a_proxy_s_openai_usage_has_the_cache_inside() -> None:
    """An OpenAI-shaped usage that names Anthropic's cache counts, too, has them inside the prompt's."""
    found = body("usage/openai_chat")
    found["usage"] |= {"cache_read_input_tokens": 512, "cache_creation_input_tokens": 100}
    assert read("usage", found)[0].total_tokens == 1052


def test_a_sum_of_several_responses_is_none() -> None:
    """A batch's or a run's usage sums up responses that are told of by themselves: it is nobody's."""
    used = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    for kind in ("batch", "thread.run"):
        assert not usage.matches(fields_of({"id": "x", "object": kind, "model": "m", "usage": used}))


def test_a_complete_answer_without_usage_is_refused() -> None:
    """Nobody would tell its usage later: so its sender hears of it."""
    with pytest.raises(BadEvent, match="usage"):
        read("usage", body("usage/openai_chat", usage=None))


def test_the_caller_s_organisation_decides() -> None:
    """What an envelope or a payload says of the organisation counts only for callers without their own."""
    envelope = body("usage/anthropic_message", organization="other")
    assert read("usage", envelope)[0].organization == "acme"
    assert read("usage", envelope, organization="")[0].organization == "other"
    assert read("litellm", body("litellm/success"), organization="mine")[0].organization == "mine"
    assert read("litellm", body("litellm/success"), organization="")[0].organization == "acme"


# LiteLLM


@pytest.mark.parametrize(
    ("setting", "payload", "row"),
    [
        ("organization", "org-acme", "org-acme"),
        ("team", "acme", "acme"),
        ("team_alias", "acme-team", "acme-team"),
        ("organization_alias", "Acme Inc", None),
        ("key_alias", "acme-prod", "acme-prod"),
    ],
)
def test_litellm_s_organisation_is_found_by_the_setting(setting: str, payload: str, row: str | None) -> None:
    """Each choice of the setting finds its own field, in a payload and in a row that has it."""
    how = {"organization": "", "litellm_organization": setting}
    assert read("litellm", body("litellm/success"), **how)[0].organization == payload
    if row:
        assert read("litellm", body("litellm/spend_log"), **how)[0].organization == row
    else:
        with pytest.raises(BadEvent, match="GENLEDGER_LITELLM_ORGANIZATION"):
            read("litellm", body("litellm/spend_log"), **how)


def test_litellm_s_cached_answers_are_no_generations() -> None:
    """LiteLLM gives each a new id, another in each of its forms: counted, a call would count twice."""
    for name in ("cache_hit", "spend_log_cached"):
        assert parsed("litellm", body(f"litellm/{name}")) == []
    assert parsed("litellm", body("litellm/success", id="chatcmpl-9_cache_hit1763634790.5")) == []
    assert parsed("litellm", body("litellm/success", cache_hit=True)) == []


def test_litellm_s_zero_is_not_a_price() -> None:
    """LiteLLM writes 0 for a price it does not know: that is unknown, and a later price stands."""
    [event] = read("litellm", body("litellm/unknown_price"))
    assert (event.cost_nano, event.total_tokens) == (None, 1052)
    assert read("litellm", body("litellm/free_model"))[0].cost_nano == 0
    for doubt in ("response_cost_failure_debug_info", "zero_cost_diagnostic"):
        doubted = body("litellm/free_model", **{doubt: {"reason": "missing"}})
        assert read("litellm", doubted)[0].cost_nano is None
    unpriced = body("litellm/unknown_price", id="chatcmpl-9")
    priced = body("litellm/success", id="chatcmpl-9")
    assert sums(counted(("litellm", priced), ("litellm", unpriced))) == (1, 1052, 4_431_250)
    assert sums(counted(("litellm", unpriced), ("litellm", priced))) == (1, 1052, 4_431_250)


def test_litellm_s_extras_never_cost_a_generation() -> None:
    """Labels too long, too many or of no known kind are cut or dropped; the generation is taken."""
    tags = [f"{n}-{'語' * 100}" for n in range(100)]
    [event] = read(
        "litellm", body("litellm/success", trace_id="t" * 5000, request_tags=tags, call_type="\x01" * 500)
    )
    assert b"tags" not in event.metadata
    assert len(event.metadata) <= generation.METADATA_BYTES_MAX
    [event] = read("litellm", body("litellm/success", trace_id="t" * 5000, request_tags=tags[:2]))
    assert len(msgspec.json.decode(event.metadata)["trace_id"]) == 128
    assert read("litellm", body("litellm/success", request_tags=7, trace_id={}))


def test_litellm_s_blanks_are_filled_from_beside() -> None:
    """Without a model's name its group's is taken; an end before the start is no duration."""
    assert read("litellm", body("litellm/success", model=""))[0].model == "smart"
    assert read("litellm", body("litellm/success", endTime=1763634719.0))[0].latency_ms is None


def test_litellm_s_two_forms_of_a_call_are_one() -> None:
    """The callback and the spend log's row of one call count once, in either order."""
    forms = [("litellm", body("litellm/success")), ("litellm", body("litellm/spend_log"))]
    assert sums(counted(*forms)) == sums(counted(*reversed(forms))) == (1, 1052, 4_431_250)


def test_litellm_s_wrapped_id_is_the_provider_s() -> None:
    """A response of OpenAI's seen by LiteLLM and by the program that got it counts once."""
    wrapped = body("litellm/responses_api")
    [event] = read("litellm", wrapped)
    assert event.id == body("usage/openai_responses")["response"]["id"]
    for other in ("resp_notbase64!", "resp_" + base64.b64encode(b"something else").decode()):
        assert read("litellm", wrapped | {"id": other})[0].id == other


def test_one_call_seen_by_three_counts_once() -> None:
    """LiteLLM, the response's usage and the read-back of one call through OpenRouter are one generation."""
    seen = [
        ("litellm", body("litellm/through_openrouter")),
        ("usage", body("usage/openrouter_chat")),
        ("openrouter", body("openrouter/generation")),
    ]
    for order in (seen, seen[::-1], seen[1:] + seen[:1]):
        assert sums(counted(*order)) == (1, 1052, 4_431_250)


# What others shipped


def test_lean_ctx_746_upstream_cost_is_never_added() -> None:
    """Not BYOK: the cost alone. BYOK: the fee and the provider's bill stay two amounts."""
    for name, plain, own in (
        ("usage", "usage/openrouter_chat", "usage/openrouter_byok_chunk"),
        ("openrouter", "openrouter/generation", "openrouter/byok"),
    ):
        [event] = read(name, body(plain))
        assert (event.cost_nano, event.upstream_cost_nano, event.is_byok) == (4_431_250, None, False)
        [event] = read(name, body(own))
        assert (event.cost_nano, event.upstream_cost_nano, event.is_byok) == (205_000, 4_100_000, True)
    assert sums(counted(("usage", body("usage/openrouter_byok_chunk"))))[2] == 205_000


def test_maple_766_details_are_inside_the_totals() -> None:
    """Cached and reasoning tokens are told, and never added to anything."""
    for name, case in (
        ("usage", "usage/openai_chat"),
        ("usage", "usage/openrouter_chat"),
        ("openrouter", "openrouter/generation"),
        ("litellm", "litellm/success"),
        ("litellm", "litellm/spend_log"),
    ):
        [event] = read(name, body(case))
        assert (event.prompt_tokens, event.completion_tokens, event.total_tokens) == (812, 240, 1052)
        assert (event.cached_tokens, event.reasoning_tokens) == (512, 64)


def test_litellm_37923_streamed_calls_are_not_recorded_at_zero() -> None:
    """A chunk without usage is left out, the one with it counts, and LiteLLM's 0 is unknown until known."""
    assert parsed("usage", body("usage/openai_chunk_without_usage")) == []
    [event] = read("usage", body("usage/openai_chunk"))
    assert (event.id, event.total_tokens) == ("chatcmpl-abc123", 21)
    zero = body("litellm/streamed_at_zero", id="gen-1763634731-byok")
    [event] = read("litellm", zero)
    assert event.cost_nano is None
    told = ("usage", body("usage/openrouter_byok_chunk"))
    assert (
        sums(counted(("litellm", zero), told)) == sums(counted(told, ("litellm", zero))) == (1, 564, 205_000)
    )


def test_litellm_29292_every_row_of_a_long_export_counts() -> None:
    """Two hundred and fifty rows are two hundred and fifty generations, not the first hundred."""
    rows = [("litellm", body("litellm/spend_log", request_id=f"chatcmpl-{n}")) for n in range(250)]
    assert sums(counted(*rows)) == (250, 250 * 1052, 250 * 4_431_250)


def test_flexprice_2659_a_timestamp_is_no_part_of_the_identity() -> None:
    """The same generation told with another time, or none, is the same generation."""
    times = ("2025-11-20T10:32:00Z", "2025-11-20T10:32:01Z", "2025-11-21T00:00:01Z", None)
    told = [("openrouter", body("openrouter/byok", created_at=time)) for time in times]
    assert sums(counted(*told)) == (1, 564, 205_000)


def test_ccusage_1288_retries_count_once() -> None:
    """Tries that failed are none; the response that came, told of twice, is one."""
    tries = [("litellm", body("litellm/failure"))] * 3
    success = ("litellm", body("litellm/success"))
    assert sums(counted(*tries, success, success)) == (1, 1052, 4_431_250)


def test_openmeter_key_of_joined_names_is_nobody_s_identity() -> None:
    """Organisation `a-b` with id `c`, and `a` with `b-c`, are two; another source's same id is not."""
    sim = Sim()
    for organization, id in (("a-b", "c"), ("a", "b-c")):
        for name in ("openrouter/byok", "usage/openrouter_byok_chunk"):
            [one] = parsed(name.split("/")[0], body(name, id=id), organization=organization)
            assert isinstance(one, bytes)
            sim.append(id.encode(), one)
    assert sums(sim.run()) == (2, 2 * 564, 2 * 205_000)
    assert {row for row, _ in sim.totals} == {"a-b", "a"}


def test_costs_never_meet_a_float() -> None:
    """A cost with more digits than a float holds comes out as it was written."""
    text = b'{"id":"gen-1","model":"m","total_cost":0.12345678901234567890123,"tokens_prompt":1}'
    [one] = parsed("openrouter", text)
    assert isinstance(one, bytes)
    assert str(exact(one)["cost"]) == "0.12345678901234567890123"
