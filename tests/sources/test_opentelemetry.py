"""OTLP's GenAI spans, an application's and OpenRouter's: each trap, and the failures others shipped."""

import tracemalloc
from typing import Any

import pytest

from streams.errors import BadEvent
from streams.sources import broadcast, genai, opentelemetry, otlp
from streams.sources.interface import How
from tests.sources.bodies import fields_of, parsed, read
from tests.sources.spans import CHAT, START_NS, TRACE, body, span
from tests.sources.test_traps import counted, sums

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"}
SECRET = "the secret that a prompt told"


def one(given: dict[str, Any], **how: Any) -> Any:
    """The generation of a body with this one span."""
    [found] = read("opentelemetry", body(span(given)), **how)
    return found


def errors(given: dict[str, Any], name: str = "opentelemetry") -> list[str]:
    """The fields that are wrong with a body's spans; "" for a good one."""
    return [each.field if isinstance(each, BadEvent) else "" for each in parsed(name, given)]


def test_maple_766() -> None:
    """One call counts once, in the application's trace and OpenRouter's mirror of it, without its details."""
    details = {
        "gen_ai.usage.cache_read.input_tokens": 512,
        "gen_ai.usage.cache_write.input_tokens": 100,
        "gen_ai.usage.reasoning.output_tokens": 64,
    }
    mirrored = {
        "gen_ai.usage.input_tokens.cached": 512,
        "gen_ai.usage.output_tokens.reasoning": 64,
        "gen_ai.usage.input_cost": 0.003,
        "gen_ai.usage.output_cost": 0.00143,
        "gen_ai.usage.total_cost": 0.00443,
    }
    own = body(span(CHAT | details))
    mirror = body(span(CHAT | mirrored, span_id=2, traceId="f" * 32), service="openrouter")
    for bodies in (
        (("opentelemetry", own), ("broadcast", mirror)),
        (("broadcast", mirror), ("opentelemetry", own), ("broadcast", mirror)),
    ):
        assert sums(counted(*bodies)) == (1, 1052, 4_430_000)


def test_langfuse_14754() -> None:
    """An agent's span repeats what its calls used, and is not counted beside them."""
    spans = [
        span(AGENT | {"gen_ai.usage.input_tokens": 1624, "gen_ai.usage.output_tokens": 480}, span_id=1),
        span({**AGENT, "gen_ai.operation.name": "agent_step", "gen_ai.usage.input_tokens": 5}, span_id=2),
        span(CHAT, span_id=3, parent=2),
        span(CHAT | {"gen_ai.response.id": "gen-2"}, span_id=4, parent=2),
    ]
    assert sums(counted(("opentelemetry", body(*spans))))[:2] == (2, 2104)


@pytest.mark.parametrize("operation", sorted(genai.SUMS))
def test_sums_are_no_calls(operation: str) -> None:
    """Spans of agents, workflows, steps and tools are left out, whatever usage and id they have."""
    assert parsed("opentelemetry", body(span(CHAT | {"gen_ai.operation.name": operation}))) == []


def test_a_call_seen_by_two_libraries() -> None:
    """A span without a response id above one that counts is the same call, however far above."""
    outer = {name: each for name, each in CHAT.items() if name != "gen_ai.response.id"}
    spans = [
        span(CHAT, span_id=3, parent=2),
        span({"http.request.method": "POST"}, span_id=2, parent=1),
        span(outer, span_id=1),
    ]
    assert [each.id for each in read("opentelemetry", body(*spans))] == ["gen-1"]


def test_spans_in_a_circle() -> None:
    """Spans that are each other's parents end nothing."""
    spans = [span(CHAT, span_id=1, parent=2), span(CHAT, span_id=2, parent=1)]
    assert len(parsed("opentelemetry", body(*spans))) == 2


def test_a_span_without_a_response_id() -> None:
    """It is a generation by its trace's and its own id, the same when it is sent again."""
    given = CHAT | {"gen_ai.response.id": ""}
    assert one(given).id == f"span:{TRACE}:0000000000000001"
    assert sums(counted(*[("opentelemetry", body(span(given)))] * 2))[0] == 1
    two = body(span(given, span_id=1), span(given, span_id=2))
    assert sums(counted(("opentelemetry", two)))[0] == 2


@pytest.mark.parametrize("ids", [{"traceId": "mine"}, {"spanId": ""}, {"traceId": None}])
def test_ids_that_callers_set_are_no_ids(ids: dict[str, Any]) -> None:
    """Without a response id, and without ids as OTLP has them, a call is refused, not given a made-up id."""
    given = body(span(CHAT | {"gen_ai.response.id": None}, **ids))
    assert errors(given) == ["gen_ai.response.id"]


def test_a_trace_id_used_again() -> None:
    """Calls of one trace, as callers set it, are calls of their own, whatever they are named."""
    given = [
        span(
            CHAT | {"gen_ai.response.id": f"gen-{n}"},
            span_id=7,
            traceId="nightly",
            name="provider attempt 1: x",
        )
        for n in range(3)
    ]
    given[0]["attributes"].append({"key": "span.type", "value": {"stringValue": "generation"}})
    assert [each.id for each in read("opentelemetry", body(*given))] == ["gen-0", "gen-1", "gen-2"]
    assert [each.id for each in read("broadcast", body(given[0], service="openrouter"))] == ["gen-0"]


def test_an_unknown_operation() -> None:
    """It counts with a response id; without one it is refused, for it may be a sum."""
    given = CHAT | {"gen_ai.operation.name": "new_kind"}
    assert one(given).id == "gen-1"
    assert errors(body(span(given | {"gen_ai.response.id": None}))) == ["gen_ai.response.id"]


def test_spans_without_usage() -> None:
    """Spans of other kinds, and those without tokens or cost, are no generations."""
    given = {"gen_ai.request.model": "m", "gen_ai.response.id": "gen-1", "gen_ai.operation.name": "chat"}
    assert parsed("opentelemetry", body(span(given), span({"http.request.method": "GET"}))) == []


@pytest.mark.parametrize("key", genai.COST)
def test_each_key_of_a_cost(key: str) -> None:
    """A cost is found under every key that is seen, and read exactly."""
    assert one(CHAT | {key: 0.00443}).cost_nano == 4_430_000
    assert one(CHAT | {key: "0.00443"}).cost_nano == 4_430_000
    assert one(CHAT | {key: 0}).cost_nano == 0


def test_costs_are_not_added() -> None:
    """Several keys of a cost say the same thing."""
    assert one(CHAT | dict.fromkeys(genai.COST, 0.5)).cost_nano == 500_000_000


def test_a_cost_keeps_its_text() -> None:
    """A cost that no binary number can hold comes through to the nano-dollar."""
    text = (
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":['
        + b",".join(
            b'{"key":"%s","value":{"%s":%s}}' % part
            for part in (
                (b"gen_ai.response.id", b"stringValue", b'"gen-1"'),
                (b"gen_ai.request.model", b"stringValue", b'"m"'),
                (b"gen_ai.usage.cost", b"doubleValue", b"123456.123456789"),
            )
        )
        + b"]}]}]}]}"
    )
    [found] = read("opentelemetry", text)
    assert found.cost_nano == 123_456_123_456_789


def test_another_currency() -> None:
    """A cost in euros is no cost in dollars: it is unknown."""
    given = CHAT | {"gen_ai.usage.cost.amount": 0.5}
    assert one(given | {"gen_ai.usage.cost.currency": "EUR"}).cost_nano is None
    assert one(given | {"gen_ai.usage.cost.currency": "usd"}).cost_nano == 500_000_000


def test_no_cost_is_unknown() -> None:
    """A failed call of OpenRouter's has no cost: it counts, and its cost is unknown, not zero."""
    [found] = read("broadcast", body(span(CHAT), service="openrouter"))
    assert found.cost_nano is None
    assert found.total_tokens == 1052


def test_keys_that_begin_alike() -> None:
    """A count is read under its own key, whatever longer or shorter keys stand before or after it."""
    longer = {
        "gen_ai.usage.input_tokens.cached": 7,
        "gen_ai.usage.input_tokens.cache_write": 5,
        "gen_ai.usage": 1,
    }
    for given in (longer | CHAT, CHAT | longer):
        found = one(given)
        assert (found.prompt_tokens, found.cached_tokens) == (812, 7)
    alone = {name: each for name, each in CHAT.items() if name != "gen_ai.usage.input_tokens"} | longer
    assert one(alone).prompt_tokens == 0


@pytest.mark.parametrize("number", [812, {"intValue": "812"}, {"doubleValue": 812}, {"doubleValue": 812.0}])
def test_whole_numbers(number: Any) -> None:
    """A count may be a number, its text, or a double that is whole."""
    assert one(CHAT | {"gen_ai.usage.input_tokens": number}).prompt_tokens == 812


@pytest.mark.parametrize(
    "number",
    [
        True,
        "812",
        1.5,
        {"intValue": "1e3"},
        {"intValue": "9" * 19},
        {"intValue": "9" * 5000},
        {"intValue": {}},
        [],
    ],
)
def test_what_is_no_count(number: Any) -> None:
    """Anything else is refused by its key, and spoils no other span."""
    given = body(span(CHAT | {"gen_ai.usage.input_tokens": number}), span(CHAT, span_id=2))
    assert errors(given) == ["gen_ai.usage.input_tokens", ""]


def test_older_names() -> None:
    """What older libraries call the same things is known."""
    found = one(
        {
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.usage.prompt_tokens": 56,
            "gen_ai.usage.completion_tokens": 5,
            "enduser.id": "u-1",
        }
    )
    assert (found.provider, found.model, found.user) == ("openai", "gpt-4o", "u-1")
    assert (found.prompt_tokens, found.completion_tokens) == (56, 5)


def test_a_users_number() -> None:
    """A user or a session may be a number."""
    found = one(CHAT | {"user.id": 42, "session.id": True})
    assert (found.user, found.session) == ("42", "")


def test_the_time_of_a_call() -> None:
    """A generation is dated by the start of its span; without one, by the log."""
    found = one(CHAT)
    assert (found.created_ns, found.latency_ms) == (START_NS, 1250)
    [found] = read("opentelemetry", body(span(CHAT, startTimeUnixNano=START_NS, endTimeUnixNano=0)))
    assert (found.created_ns, found.latency_ms) == (START_NS, None)
    [found] = read("opentelemetry", body(span(CHAT, startTimeUnixNano="0")))
    assert found.created_ns is None


def test_the_organisation() -> None:
    """The caller's decides; else the span's, then its resource's."""
    given = {"genledger.organization": "span"}
    resource = {"genledger.organization": "resource"}
    assert one(CHAT | given, organization="acme").organization == "acme"
    [found] = read("opentelemetry", body(span(CHAT | given), **resource), organization="")
    assert found.organization == "span"
    [found] = read("opentelemetry", body(span(CHAT), **resource), organization="")
    assert found.organization == "resource"
    [found] = read("broadcast", body(span(CHAT | {"trace.metadata.organization": "b"})), organization="")
    assert found.organization == "b"


def test_attempts() -> None:
    """The tries of one generation are none of their own, though they have ids and usage of their own."""
    tries = [
        span(CHAT | {"gen_ai.response.id": "gen-1:attempt-0"}, span_id=2, parent=1),
        span(CHAT | {"span.type": "span"}, span_id=3, parent=1),
        span(CHAT, span_id=4, parent=1, name="provider attempt 3: Azure"),
    ]
    root = span(CHAT | {"gen_ai.usage.total_cost": 0.5, "span.type": "generation"})
    for name in ("broadcast", "opentelemetry"):
        found = read(name, body(root, *tries, service="openrouter"))
        assert [(each.id, each.source, each.cost_nano) for each in found] == [
            ("gen-1", "broadcast", 500_000_000)
        ]


def test_broadcast_without_a_response_id() -> None:
    """OpenRouter's generation has no other id that anything could be joined with: refused."""
    given = CHAT | {"gen_ai.response.id": None}
    assert errors(body(span(given), service="openrouter")) == ["gen_ai.response.id"]


def test_whose_body_it_is() -> None:
    """Broadcast's bodies are told from others' by the service that sent them; a probe is OpenRouter's."""
    assert broadcast.matches(fields_of(body(span(CHAT), service="openrouter")))
    assert not broadcast.matches(fields_of(body(span(CHAT))))
    assert not broadcast.matches(fields_of({"id": "gen-1"}))
    assert broadcast.matches(fields_of({"resourceSpans": []}))
    assert opentelemetry.matches(fields_of(body(span(CHAT))))


@pytest.mark.parametrize(
    "probe", [{}, {"resourceSpans": []}, {"resourceSpans": None}, {"resourceSpans": [{}]}]
)
def test_an_empty_probe(probe: dict[str, Any]) -> None:
    """What OpenRouter sends to test a webhook has no events, and nothing wrong with it."""
    assert parsed("broadcast", probe) == []


@pytest.mark.parametrize(
    "key",
    [
        *("gen_ai.prompt", "gen_ai.completion", "gen_ai.input.messages", "gen_ai.output.messages"),
        *(
            "gen_ai.system_instructions",
            "trace.input",
            "span.output",
            "trace.metadata.note",
            "gen_ai.prompt.0.content",
        ),
        *("gen_ai.usage.input_tokens", "gen_ai.usage.cost", "gen_ai.response.finish_reasons"),
    ],
)
def test_prompts_are_never_copied(key: str) -> None:
    """Neither an event nor an error has anything of a prompt or an answer, wherever a sender puts it."""
    told = span(CHAT | {key: {"doubleValue": {"text": SECRET}, "kvlistValue": {"values": []}}})
    told["events"] = [
        {"name": "gen_ai.choice", "attributes": [{"key": "content", "value": {"stringValue": SECRET}}]}
    ]
    other = span(CHAT | {"gen_ai.prompt": SECRET}, name=SECRET, span_id=2)
    for each in parsed("opentelemetry", body(told, other)):
        assert SECRET not in str(each)


@pytest.mark.parametrize(
    "more", [{"attributes": SECRET}, {"name": {"text": SECRET}}, {"startTimeUnixNano": SECRET}]
)
def test_errors_repeat_nothing(more: dict[str, Any]) -> None:
    """What is wrong with a span is said without what stood there."""
    wrong = span(CHAT | {"gen_ai.response.id": {"stringValue": {"text": SECRET}}}, span_id=2)
    found = parsed("opentelemetry", body(span(CHAT, **more), wrong))
    assert len(found) == 2
    assert all(isinstance(each, BadEvent) and SECRET not in str(each) for each in found)


def test_what_is_not_asked_for_spoils_nothing() -> None:
    """A key that only begins as one of ours is never looked into."""
    longer = {"gen_ai.usage.input_tokens.odd": {"intValue": "many"}, "gen_ai.usage": {"stringValue": 5}}
    assert one(CHAT | longer).prompt_tokens == 812


def test_one_bad_span_spoils_no_other() -> None:
    """What is wrong with a span stands in its place."""
    spans = [
        span(CHAT, spanId=5),
        span(CHAT, span_id=2),
        span(CHAT, attributes={}),
        span(CHAT, span_id=4, startTimeUnixNano="soon"),
        span(CHAT, span_id=5, attributes=[{"key": 5}]),
    ]
    assert errors(body(*spans)) == ["spanId", "", "attributes", "startTimeUnixNano", "attributes"]


@pytest.mark.parametrize(
    "part", [5, "x", [5], [[]], {}, [{"scopeSpans": 1}], [{"scopeSpans": [{"spans": [0]}]}]]
)
def test_what_is_no_otlp(part: Any) -> None:
    """A body of another shape is one error."""
    assert len(errors({"resourceSpans": part})) == 1
    assert len(errors({"resourceSpans": part}, "broadcast")) == 1


def test_more_objects_than_spans_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body is refused before anything is built of it, when it has more objects than a real one could."""
    monkeypatch.setattr(otlp, "OBJECTS_MAX", 20)
    assert errors(body(span(CHAT))) == [""]
    assert errors(body(span(CHAT), span(CHAT))) == ["resourceSpans"]


def test_more_calls_than_a_request_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body with too many calls is refused whole."""
    monkeypatch.setattr(genai, "CALLS_MAX", 2)
    assert errors(body(*[span(CHAT, span_id=n) for n in range(1, 6)])) == ["resourceSpans"]


def test_kept_errors_hold_nothing() -> None:
    """An error that waits for its answer holds on to no frame, and so to nothing that was read."""
    given = body(span(CHAT | {"gen_ai.usage.input_tokens": "x"}), span(CHAT, spanId=5))
    found = opentelemetry.events(fields_of(given), How())
    assert [(each.__traceback__, each.__context__) for each in found if isinstance(each, BadEvent)] == [
        (None, None)
    ] * 2


@pytest.mark.parametrize(
    ("around", "one", "braces"),
    [
        (b"[%s]", b'{"resource":{"attributes":[]},"scopeSpans":[]}', 2),
        (b'[{"scopeSpans":[%s]}]', b'{"spans":[]}', 1),
        (b'[{"scopeSpans":[{"spans":[%s]}]}]', b'{"traceId":1,"spanId":2,"name":3}', 1),
        (b'[{"scopeSpans":[{"spans":[%s]}]}]', b'{"parentSpanId":"a","name":"b"}', 1),
        (b'[{"scopeSpans":[{"spans":[{"attributes":[%s]}]}]}]', b'{"key":"k","value":{}}', 2),
    ],
)
def test_a_hostile_body_is_bounded(
    around: bytes, one: bytes, braces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body of as many objects as are let through takes a few times its own size: at a thirtieth."""
    size, count = 1_100_000, 33_000 // braces - 10
    monkeypatch.setattr(otlp, "OBJECTS_MAX", 33_000)
    monkeypatch.setattr(genai, "CALLS_MAX", 1_500)
    objects = b",".join([one.ljust(size // count)] * count)
    fields = fields_of(b'{"resourceSpans":' + around % objects + b"}")
    tracemalloc.start()
    try:
        opentelemetry.events(fields, How())
        assert tracemalloc.get_traced_memory()[1] < 10 * size
    finally:
        tracemalloc.stop()
