"""Events that are not what they should be: rows 21 to 23, 25, 27 to 31, 34, 36, 38, 39, 45, 50 and 52.

What a body of another source has of a field, at its own endpoint, gets what the field gets in an event.
"""

import json
from typing import Any

import pytest

from streams import generation, times
from streams.log.partition import partition_of
from streams.money import text_of
from tests.gateway.conftest import NOW_MS, House, Make, event
from tests.gateway.entries import (
    ENTRIES,
    EVENTS,
    LITELLM,
    OPENROUTER,
    OURS,
    STANDARD,
    TRACES,
    WEBHOOKS,
    Entry,
)

NOW_NS = NOW_MS * 1_000_000


def body(**fields: Any) -> bytes:
    """An event whose fields are given as JSON text."""
    texts = {"id": '"gen-1"', "organization": '"acme"', "model": '"m"', **fields}
    return ("{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}").encode()


HUGE = "1" + "0" * 5000
REFUSED = [
    *[("cost", text) for text in ("NaN", "Infinity", "-Infinity", "1e400", '"NaN"', '"1e400"')],
    *[("cost", text) for text in ("-0", "-0.01", '"-0.01"', "1000000.01", '"1e7"', "true", "[]", "{}", '""')],
    *[("cost", text) for text in ('"0x10"', '"1_000"', '" 1"', '"\u0661"', '"1,5"', '"+1"')],
    *[("cost", text) for text in (HUGE, f'"{HUGE}"')],
    *[("prompt_tokens", text) for text in ("NaN", "Infinity", "1e400", "-1", str(2**63), "1.5")],
    *[("prompt_tokens", text) for text in ("true", '"12"')],
    *[("total_tokens", text) for text in ("-1", str(2**64), HUGE, "[]", '"12"', "false")],
    *[(name, '"\\ud800"') for name in ("id", "organization", "user", "model", "session")],
    *[(name, '"a\\ud800b"') for name in ("id", "user", "model")],
    *[("id", text) for text in ('""', f'"{"a" * 257}"', f'"{"é" * 129}"', '"a\\u0000"', '"a\\r"')],
    *[("id", text) for text in ('"a\\n"', "null", "1")],
    *[(name, '"a\\u0001"') for name in ("user", "model", "provider", "source", "finish_reason", "session")],
    *[(name, '"a\\u007f"') for name in ("organization", "user", "model")],
    *[("model", text) for text in ('""', "null", f'"{"m" * 257}"', "7", "[]")],
    *[("created_at", f'"{text}"') for text in ("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z")],
    *[("created_at", f'"{text}"') for text in ("2026-11-20T10:00:00", "2026-11-20", "")],
    *[("created_at", f'"{text}"') for text in ("2026-02-30T00:00:00Z", "2026-11-20T25:00:00Z")],
    *[("created_at", text) for text in ("1795176000", "1795176000.5", "true", "[]")],
    ("created_at", '"2026-11-20T10:00:00+24:00"'),
    *[("authority", text) for text in ('"highest"', "1", '""')],
    *[("revision", text) for text in ("-1", "1.5", str(2**63), '"1"')],
    *[("void", text) for text in ("1", '"true"')],
    *[("metadata", text) for text in ("[]", '"x"', "1", '{"a":"' + "x" * 5000 + '"}')],
    ("id", '"horizon-0"'),
    ("id", '"balance-x"'),
]  # fmt: skip


# What an endpoint's bodies have of an event's fields.
_COMMON = frozenset(("id", "model", "user", "cost", "prompt_tokens"))
FIELDS = {
    OPENROUTER: _COMMON,
    LITELLM: _COMMON | {"total_tokens"},
    STANDARD: frozenset(generation.FIELDS),
    TRACES: _COMMON,
    EVENTS: frozenset(generation.FIELDS) - {"source"},
}
# What their formats mean by it: an integer as text, an id of the envelope's, 0 for a price that is unknown.
FINE = {(TRACES, "prompt_tokens", '"12"'), (TRACES, "id", '""'), (TRACES, "id", "null"),
        (EVENTS, "id", "null"), (LITELLM, "cost", "-0")}  # fmt: skip


@pytest.mark.parametrize("entry", WEBHOOKS, ids=lambda entry: entry.name)
async def test_a_field_that_is_not_right_is_422_in_every_format(house: House, entry: Entry) -> None:
    """Whatever is wrong with one field of a source's body, nothing reaches the log."""
    for name, text in REFUSED:
        if name in FIELDS[entry] and (entry, name, text) not in FINE:
            status, answer = await house.send(entry, entry.body(**{name: text}))
            assert status == 422, (name, text[:80], answer)
            assert len(json.dumps(answer)) < 2000
    assert await house.records() == []


async def test_costs_are_exact_in_every_format(house: House) -> None:
    """A cost is read as the text that it is, and rounded once, wherever it comes from."""
    texts = {"1e-30": 0, "0.0000000015": 2, "0.30000000000000004": 300_000_000, "0.1": 100_000_000,
             "1.5E-3": 1_500_000, "123456.123456789": 123_456_123_456_789}  # fmt: skip
    for entry in ENTRIES:
        for number, text in enumerate(texts):
            body = entry.body(f"{entry.name}-{number}", cost=text)
            assert (await house.send(entry, body))[0] == entry.ok, (entry.name, text)
    events = await house.events()
    for entry in ENTRIES:
        found = [events[f"{entry.name}-{number}"].cost_nano for number in range(len(texts))]
        assert found == list(texts.values()), entry.name


async def test_names_are_kept_to_the_letter_in_every_format(house: House) -> None:
    """Ids, models and users are text and nothing else; ids are not folded."""
    names = [
        "'; DROP TABLE x--",
        '") |> yield()',
        "${env.HOME}",
        "a\\",
        "caf\u00e9",
        "cafe\u0301",
        "\u202egnp",
        "=x",
    ]
    for entry in ENTRIES:
        for number, name in enumerate(names):
            id, text = f"{entry.name}-{number}-{name}", json.dumps(name)
            assert (await house.send(entry, entry.body(id, model=text, user=text)))[0] == entry.ok, entry.name
            one = (await house.events())[id]
            assert (one.model, one.user) == (name, name), entry.name


async def test_of_a_key_given_twice_the_last_one_wins_in_every_format(house: House) -> None:
    """The same JSON key twice in one object: one generation, of the last value."""
    for entry in ENTRIES:
        first, last = entry.body(model='"first"'), entry.body(f"gen-{entry.name}", model='"last"')
        if entry is TRACES:
            body = first[:-1] + b"," + last[1:]  # all the spans twice
        else:
            body = last.replace(b'"model":', b'"model":"first","model":')
        assert (await house.send(entry, body))[0] == entry.ok, entry.name
    events = await house.events()
    assert {id: one.model for id, one in events.items()} == {f"gen-{entry.name}": "last" for entry in ENTRIES}


async def test_authority_is_bounded_in_every_format(house: House) -> None:
    """Row 50: no body lifts itself above its key's right, nor voids by it."""
    key = await house.key("acme")
    for entry in (OURS, STANDARD, EVENTS):
        for texts in ({"authority": '"corrected"'}, {"authority": '"reconciled"'}, {"void": "true"}):
            assert (await house.send(entry, entry.body(**texts), key))[0] == 403, (entry.name, texts)
    for entry in WEBHOOKS:
        assert (await house.send(entry, entry.body(f"gen-{entry.name}"), key))[0] == entry.ok
    assert {one.authority for one in (await house.events()).values()} <= {"estimate", "reported"}


async def test_one_id_of_two_organisations_is_left_to_the_ledger_in_every_format(house: House) -> None:
    """Row 34: both are on the log under one key, each with its own organisation."""
    acme, beta = await house.key("acme"), await house.key("beta")
    for entry in WEBHOOKS:
        head = {"Content-Type": entry.type}
        for key in (acme, beta):
            body = entry.body("gen-9", organization="null")
            path = entry.path.partition("?")[0]
            assert (await house.call("POST", path, key, data=body, headers=head))[0] == entry.ok
    found = [generation.decode(record.value or b"").organization for record in await house.records()]
    assert found == ["acme", "beta"] * len(WEBHOOKS)


@pytest.mark.parametrize("strict", ["", "?strict=1"])
async def test_a_field_that_is_not_right_is_422_and_named(house: House, strict: str) -> None:
    """Whatever is wrong with one field, the answer names it and nothing reaches the log."""
    for name, text in REFUSED:
        status, answer = await house.post(body(**{name: text}), query=strict)
        assert status == 422, (name, text)
        wanted = (name, "") if "\\ud800" in text or text in ("NaN", "Infinity", "-Infinity") else (name,)
        assert answer["error"]["field"] in wanted, (name, text[:80], answer)
    assert await house.records() == []


async def test_bad_events_of_a_batch_are_named_one_by_one(house: House) -> None:
    """In one batch every bad event has its own answer, and the good ones between them are taken."""
    bad = [pair for pair in REFUSED if pair[1] not in ("NaN", "Infinity", "-Infinity")]
    lines = [
        line for n, (name, text) in enumerate(bad) for line in (body(**{name: text}), body(id=f'"good-{n}"'))
    ]
    status, answer = await house.post(b"\n".join(lines), Content_Type="application/x-ndjson")
    assert (status, answer["accepted"]) == (202, len(bad))
    assert [refusal["index"] for refusal in answer["rejected"]] == list(range(0, len(lines), 2))
    assert {refusal["code"] for refusal in answer["rejected"] if refusal["field"]} == {"invalid"}
    assert {refusal["code"] for refusal in answer["rejected"] if not refusal["field"]} <= {"undecodable"}
    assert set(await house.events()) == {f"good-{n}" for n in range(len(bad))}


@pytest.mark.parametrize(
    ("cost", "dollars"),
    [("1e-30", "0"), ("0.0000000005", "0"), ("0.0000000015", "0.000000002"), ("1000000", "1000000"),
     ("0", "0"), ('"0.0123"', "0.0123"), ("0.1", "0.1"), ("1.5E-3", "0.0015"),
     ("0.30000000000000004", "0.3")],
)  # fmt: skip
async def test_costs_are_read_as_text_and_rounded_once(house: House, cost: str, dollars: str) -> None:
    """Digits below a nano-dollar round half-even; nothing is read through a float."""
    assert (await house.post(b"[" + body(cost=cost) + b"]"))[0] == 202
    found = (await house.events())["gen-1"].cost_nano
    assert found is not None and text_of(found) == dollars


async def test_an_absent_cost_stays_unknown(house: House) -> None:
    """No cost and a null cost are unknown, never zero."""
    assert (await house.post(b"[" + body(id='"a"') + b"," + body(id='"b"', cost="null") + b"]"))[0] == 202
    assert [one.cost_nano for one in (await house.events()).values()] == [None, None]


@pytest.mark.parametrize("template", [b"%b", b"[%b]", b"\n%b\n"])
@pytest.mark.parametrize("extra", [b"", b'"colour":1,'])
async def test_of_a_json_key_given_twice_the_last_one_wins(
    house: House, template: bytes, extra: bytes
) -> None:
    """On every path alike: one event, an array, NDJSON, with and without an unknown field."""
    twice = b'{"id":"x",' + extra + b'"id":"y","organization":"acme","model":"m","cost":"1","cost":"2"}'
    kind = "application/x-ndjson" if template.startswith(b"\n") else "application/json"
    assert (await house.post(template % twice, Content_Type=kind))[0] == 202
    events = await house.events()
    assert [(one.id, one.cost_nano) for one in events.values()] == [("y", 2_000_000_000)]


async def test_ids_that_look_alike_are_different_generations(house: House) -> None:
    """Unicode normal forms are not folded, and organisation and id are never glued together."""
    pairs = [("acme", "caf\u00e9"), ("acme", "cafe\u0301"), ("a-b", "c"), ("a", "b-c")]
    batch = [event(id, organization=organization) for organization, id in pairs]
    assert (await house.post(batch))[1]["accepted"] == 4
    events = await house.events()
    assert [(events[id].organization, id) for _, id in pairs] == pairs
    assert len({record.key for record in await house.records()}) == 4


async def test_one_id_under_two_organisations_is_left_to_the_ledger(house: House) -> None:
    """Both are on the log under one key, in order: the ledger calls the second a conflict."""
    assert (await house.post([event("gen-9"), event("gen-9", organization="other")]))[0] == 202
    first, second = await house.records()
    assert (
        (first.key, first.partition)
        == (second.key, second.partition)
        == (b"gen-9", partition_of(b"gen-9", 4))
    )
    assert first.offset < second.offset
    assert [generation.decode(r.value or b"").organization for r in (first, second)] == ["acme", "other"]


@pytest.mark.parametrize(
    "name",
    ["'; DROP TABLE x--", '") |> yield()', "${env.HOME}", "{{7*7}}", "a\\", "=HYPERLINK(1)",
     "<img onerror=x>", "../../etc/passwd", "\u202egnp.exe", "%s%n", "\U0001f600", "\u00a0", "null"],
)  # fmt: skip
async def test_names_are_kept_to_the_letter(house: House, name: str) -> None:
    """A model, user or id is text and nothing else."""
    assert (await house.post(event(name, model=name, user=name, provider=name)))[0] == 202
    one = (await house.events())[name]
    assert (one.model, one.user, one.provider) == (name, name, name)


@pytest.mark.parametrize(
    ("created", "taken"),
    [
        ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00Z"),
        ("2026-11-21T12:00:00.000000001Z", None),
        ("2026-11-21T14:00:00+01:00", None),
        ("2026-11-21T12:59:59+01:00", "2026-11-21T11:59:59Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999999Z"),
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z"),
        ("2026-11-20T12:00:00.123456789123Z", "2026-11-20T12:00:00.123456789Z"),
    ],
)
async def test_created_at_by_the_documented_policy(house: House, created: str, taken: str | None) -> None:
    """Up to 24 hours ahead of the clock; a leap second is the last nanosecond of its day."""
    status, answer = await house.post(event(created_at=created))
    if taken is None:
        assert (status, answer["error"]["field"]) == (422, "created_at")
        assert answer["rejected"][0]["code"] == "early"
    else:
        assert status == 202
        found = (await house.events())["gen-1"].created_ns
        assert found is not None and times.text_of(found) == taken


async def test_unknown_fields_are_dropped_named_and_counted(house: House) -> None:
    """A prompt that comes along never reaches the log; ?strict=1 refuses it."""
    batch = [event("a", prompt="a secret", n=1), event("b", prompt="another"), event("c")]
    status, answer = await house.post(batch)
    assert (status, answer["accepted"]) == (202, 3)
    assert (answer["ignored_fields"], answer["ignored_count"]) == (["prompt", "n"], 3)
    assert all(b"secret" not in (record.value or b"") for record in await house.records())
    status, answer = await house.post(batch, query="?strict=1")
    assert (status, answer["accepted"]) == (202, 1)
    assert [(r["index"], r["field"], r["code"]) for r in answer["rejected"]] == [
        (0, "prompt", "unknown_field"),
        (1, "prompt", "unknown_field"),
    ]


async def test_the_names_of_unknown_fields_are_bounded(house: House) -> None:
    """A thousand unknown names, or a long one, make no long answer."""
    many = event() | {f"field-{n}-{'x' * 1000}": n for n in range(1000)}
    status, answer = await house.post(many)
    assert (status, answer["ignored_count"], len(answer["ignored_fields"])) == (202, 1000, 50)
    assert max(map(len, answer["ignored_fields"])) == 64
    status, answer = await house.post(many, query="?strict=1")
    assert status == 422
    assert len(json.dumps(answer)) < 2000


async def test_what_is_on_the_log_decodes_to_what_was_sent(house: House) -> None:
    """Every field arrives, in the partition of its key, under the schema's header."""
    sent = event(
        "gen-full", user="u", provider="p", prompt_tokens=3, completion_tokens=4, total_tokens=9,
        created_at="2026-11-20T10:00:00.5Z", source="sdk", reasoning_tokens=1, cached_tokens=2,
        upstream_cost=0.02, is_byok=True, latency_ms=5, finish_reason="stop", session="s",
        metadata={"k": [1, "é"]}, authority="corrected", revision=7, void=True,
    )  # fmt: skip
    assert (await house.post(sent))[0] == 202
    (record,) = await house.records()
    assert record.headers == (("schema", b"1"),)
    assert record.partition == partition_of(b"gen-full", 4)
    assert generation.decode(record.value or b"") == generation.decode(json.dumps(sent).encode())


async def test_unknown_organisations_can_be_refused(make_house: Make) -> None:
    """With the setting on reject, an organisation without settings is 422."""
    house = await make_house(unknown_organizations="reject")
    status, answer = await house.post(event())
    assert (status, answer["error"]["field"]) == (422, "organization")
    assert (await house.call("POST", "/api/v1/organizations", json={"id": "acme"}))[0] == 201
    assert (await house.post(event()))[0] == 202


async def test_a_large_batch_is_one_append(house: House) -> None:
    """Ten thousand events in one request: one answer for all of them."""
    batch = [event(f"gen-{n}") for n in range(10_000)]
    status, answer = await house.post(batch)
    assert (status, answer["accepted"], answer["rejected"]) == (202, 10_000, [])
    assert len(await house.records()) == 10_000


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("prompt_tokens", '"7"', "must be a whole number"), ("prompt_tokens", "1.5", "must be a whole number"),
     ("prompt_tokens", "-1", "must be at least 0"), ("latency_ms", "9" * 12, "must be at most 1000000000"),
     ("prompt_tokens", "9" * 30, "must be at most"), ("user", "7", "must be text"),
     ("id", "null", "must be text"), ("void", "1", "must be true or false"),
     ("authority", '"boss"', "must not be 'boss'"), ("model", '""', "is required")],
)  # fmt: skip
async def test_refusals_are_in_plain_words(house: House, name: str, text: str, message: str) -> None:
    """A value that is not right is `invalid`, with its field and without a programmer's types."""
    status, answer = await house.post(body(**{name: text}))
    (refusal,) = answer["rejected"]
    assert (status, refusal["code"], refusal["field"]) == (422, "invalid", name)
    assert refusal["error"].startswith(message) and "`" not in refusal["error"]


async def test_what_is_no_json_is_undecodable(house: House) -> None:
    """Bytes that can't be read name no field."""
    (refusal,) = (await house.post(b'{"id":', Content_Type="application/x-ndjson"))[1]["rejected"]
    assert (refusal["code"], refusal["field"]) == ("undecodable", "")
