"""Webhooks: whose they are, which source reads them, what they get, and how often they may come."""

import asyncio
import base64
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from standardwebhooks import Webhook

from streams import metrics, webhook_secrets
from streams.directory import Directory
from streams.errors import SettingError
from streams.gateway import openapi
from streams.gateway.access import NOBODY
from streams.settings import FILE_ORIGIN
from streams.sources import otlp_protobuf
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

PROTOBUF = "application/x-protobuf"
PROMPT = "tell nobody of the golden goose"


def secrets(secret: str, organization: str = "acme") -> str:
    """The same secret for every source."""
    return "\n".join(f"{entry.source} {organization} {secret}" for entry in WEBHOOKS)


def bare(entry: Entry) -> Entry:
    """The same endpoint without its query."""
    return Entry(entry.name, entry.path.partition("?")[0], entry.made, entry.ok, entry.type, entry.source)


def protobuf(id: str = "gen-1", tokens: int = 7, spans: int = 1) -> bytes:
    """An OTLP request in protobuf."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(spans):
        span = scope.spans.add(trace_id=bytes(15) + b"1", span_id=number.to_bytes(8, "big"), name="chat m")
        span.start_time_unix_nano, span.end_time_unix_nano = 1795170000 * 10**9, 1795170001 * 10**9
        texts = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
        texts["gen_ai.response.id"] = id if spans == 1 else f"{id}-{number}"
        for name, text in texts.items():
            span.attributes.add(key=name).value.string_value = text
        span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = tokens if not number else 7
    return request.SerializeToString()


async def test_a_good_body_is_taken_everywhere(house: House) -> None:
    """Each endpoint puts a generation of its own format onto the log, with the same figures."""
    for entry in ENTRIES:
        status, answer = await house.send(entry, entry.body(f"gen-{entry.name}"))
        assert status == entry.ok, (entry.name, answer)
    events = await house.events()
    assert set(events) == {f"gen-{entry.name}" for entry in ENTRIES}
    for entry in ENTRIES:
        one = events[f"gen-{entry.name}"]
        figures = (one.organization, one.model, one.prompt_tokens, one.completion_tokens, one.cost_nano)
        assert figures == ("acme", "m", 7, 5, 10_000_000), entry.name
    assert events["gen-litellm"].source == "litellm"


async def test_a_body_that_no_source_knows_is_422(house: House) -> None:
    """An object of nobody's is refused as a whole, and counted under no source's name."""
    refused = metrics.EVENTS_REJECTED.labels("unknown", "unknown_body")
    before = refused._value.get()
    for entry in WEBHOOKS:
        status, answer = await house.send(entry, b'{"hello":"world"}')
        assert (status, answer["rejected"][0]["code"]) == (422, "unknown_body"), entry.name
        assert "docs/sources.md" in answer["error"]["message"]
    assert refused._value.get() == before + len(WEBHOOKS)
    assert await house.records() == []


async def test_a_batch_is_judged_one_by_one(house: House) -> None:
    """Of an array the good ones are taken and the others are named; a CloudEvents batch says so with 202."""
    for entry in (OPENROUTER, LITELLM, STANDARD, EVENTS):
        good = [entry.body(f"gen-{entry.name}-{n}") for n in range(2)]
        body = b"[" + b",".join([good[0], entry.body(prompt_tokens="-1"), b"{}", good[1]]) + b"]"
        status, answer = await house.send(entry, body, Content_Type=entry.type.replace("+", "-batch+"))
        assert (status, answer["accepted"]) == (202, 2), entry.name
        assert [refusal["index"] for refusal in answer["rejected"]] == [1, 2]
    assert len(await house.records()) == 8


async def test_a_body_without_a_generation_is_taken_with_none(house: House) -> None:
    """A trace of parent spans, or a response from a cache, is no event and no error."""
    for entry, body in ((TRACES, b'{"resourceSpans":[]}'), (OPENROUTER, b'{"resourceSpans":[]}')):
        status, answer = await house.send(entry, body)
        assert status == entry.ok
        assert answer in ({}, answer | {"accepted": 0, "rejected": []})
    assert await house.records() == []


async def test_openrouters_probe_is_200(make_house: Make) -> None:
    """X-Test-Connection with nothing in it is answered 200, to those who may send."""
    house: House = await make_house(webhook_secrets="openrouter acme s3cret-0123456789")
    for body in (b"", b"{}", b'{"resourceSpans":[]}'):
        shown = {"Authorization": "Bearer s3cret-0123456789", "X-Test-Connection": "true"}
        assert (await house.send(OPENROUTER, body, **shown))[0] == 200
        assert (await house.send(OPENROUTER, body, X_Test_Connection="true"))[0] == 401
        assert (await house.send(OPENROUTER, b"", Authorization="Bearer s3cret-0123456789"))[0] == 422
    async with house.session.post("/webhooks/openrouter", headers=shown) as response:
        assert response.status == 200
    assert await house.records() == []


async def test_a_standard_envelope_holds_any_sources_object(house: House) -> None:
    """Under `data` may be an event of ours or a body that some source knows; bare ones are taken as well."""
    for entry in ENTRIES:
        body = entry.body(f"in-{entry.name}")
        if entry is not STANDARD and entry is not EVENTS:
            envelope = b'{"type":"t","timestamp":"2026-11-20T12:00:00Z","data":%b}' % body
            status, answer = await house.call(
                "POST",
                "/webhooks/standard?org=acme",
                data=envelope,
                headers={"Content-Type": "application/json"},
            )
            assert (status, answer["accepted"]) == (202, 1), (entry.name, answer)
        bare = entry.body(f"bare-{entry.name}")
        status, answer = await house.call(
            "POST", "/webhooks/standard?org=acme", data=bare, headers={"Content-Type": "application/json"}
        )
        assert (status, answer["accepted"]) == (202, 1), (entry.name, answer)
    assert len(await house.events()) == 2 * len(ENTRIES) - 2
    for data in (b"[]", b"1", b'"x"', b"null"):
        body = b'{"type":"t","timestamp":"2026-11-20T12:00:00Z","data":%b}' % data
        assert (await house.send(STANDARD, body))[0] == 422


async def test_the_secret_decides_the_organisation(make_house: Make) -> None:
    """A secret of one organisation writes for that one only, whatever the body says."""
    house: House = await make_house(
        webhook_secrets=secrets("s-acme-0123456789") + "\n" + secrets("s-beta-0123456789", "beta")
    )
    for entry in map(bare, WEBHOOKS):
        for name in ("acme", "beta"):
            id = f"{entry.name}-{name}"
            body = entry.body(id, organization=f'"{name}"')
            assert (await house.send(entry, body, X_Webhook_Secret=f"s-{name}-0123456789"))[0] == entry.ok
            assert (await house.events())[id].organization == name
        status, _ = await house.send(entry, entry.body("x"), X_Webhook_Secret="s-beta-0123456789")
        if entry == bare(STANDARD):
            assert status == 403  # an event of ours that says another's name
        elif status == entry.ok:
            assert (await house.events())["x"].organization == "beta"
    status, answer = await house.send(
        STANDARD, STANDARD.body(authority='"corrected"'), X_Webhook_Secret="s-acme-0123456789"
    )
    assert (status, answer["error"]["field"]) == (403, "authority")


@pytest.mark.parametrize("way", ["secret", "key"])
async def test_one_for_all_takes_the_bodys_organisation(make_house: Make, way: str) -> None:
    """With a secret or a key for all the body says whose it is, and ?org= where the body does not."""
    house: House = await make_house(webhook_secrets=secrets("s-all-0123456789", "*"))
    shown = "s-all-0123456789" if way == "secret" else await house.key("", "admin")
    for entry in map(bare, WEBHOOKS):
        head = {"Authorization": f"Bearer {shown}"}
        named = entry.name in ("litellm", "standard", "events")
        status, answer = await house.send(entry, entry.body("a", organization='"beta"'), **head)
        assert status == (entry.ok if named else 422), (entry.name, answer)
        assert not named or (await house.events())["a"].organization == "beta"
        asking = Entry(entry.name, f"{entry.path}?org=acme", entry.made, entry.ok, entry.type)
        for id, said, wanted in (("b", '"beta"', "beta" if named else "acme"), ("c", "null", "acme")):
            assert (await house.send(asking, entry.body(id, organization=said), **head))[0] == entry.ok
            assert (await house.events())[id].organization == wanted, entry.name
        status, answer = await house.send(entry, entry.body("d", organization="null"), **head)
        assert (status, answer["error"]["field"]) == (422, "organization"), entry.name
        assert "?org=" in answer["error"]["message"], entry.name


async def test_usage_without_an_organisation_is_the_querys(make_house: Make) -> None:
    """A provider's own answer, which never says whose it is, is ?org='s; elsewhere ?org= is not spoken of."""
    house: House = await make_house()
    body = (
        b'{"id":"u","object":"chat.completion","model":"m","usage":{"prompt_tokens":7,"completion_tokens":5}}'
    )
    head = {"Content-Type": "application/json"}
    for query, wanted in (("?org=acme", 202), ("", 422)):
        status, answer = await house.call("POST", f"/webhooks/standard{query}", data=body, headers=head)
        assert status == wanted, answer
    assert answer["error"]["message"].endswith(", or as ?org=")
    assert {one.organization for one in (await house.events()).values()} == {"acme"}
    _, answer = await house.send(OURS, OURS.body(organization="null"))
    assert "?org=" not in answer["error"]["message"]


async def test_the_query_narrows_the_secrets(make_house: Make) -> None:
    """?org= leaves only that organisation's secrets, and those for all."""
    house: House = await make_house(
        webhook_secrets="litellm acme s-acme-0123456789; litellm beta s-beta-0123456789;"
        " litellm * s-all-0123456789 # three of them"
    )
    for asked, whose, status in (
        ("acme", "acme", 202), ("acme", "beta", 401), ("beta", "beta", 202), ("beta", "all", 202),
        ("nobody", "beta", 401), ("nobody", "all", 202),
    ):  # fmt: skip
        secret = f"s-{whose}-0123456789"
        headers = {"Content-Type": "application/json", "X-Webhook-Secret": secret}
        path = f"/webhooks/litellm?org={asked}"
        assert (await house.call("POST", path, data=LITELLM.body(), headers=headers))[0] == status, (
            asked,
            secret,
        )
    for query in ("org=", "org=a&org=b", "organization=a"):
        headers["X-Webhook-Secret"] = "s-all-0123456789"
        status, _ = await house.call("POST", f"/webhooks/litellm?{query}", data=b"{}", headers=headers)
        assert status == 400, query


async def test_a_key_opens_every_webhook(make_house: Make) -> None:
    """An API key with the right to write may send, for its own organisation; others may not."""
    house: House = await make_house(webhook_secrets=secrets("s-acme-0123456789"))
    producer, reader, admin = [
        await house.key("acme"), await house.key("acme", "reader"), await house.key("", "admin"),
    ]  # fmt: skip
    for entry in WEBHOOKS:
        assert (await house.send(entry, entry.body(), producer))[0] == entry.ok
        assert (await house.send(entry, entry.body(), admin))[0] == entry.ok
        assert (await house.send(entry, entry.body(), reader))[0] == 403
        kind = {"Content-Type": entry.type}
        path = f"{bare(entry).path}?org=beta"
        assert (await house.call("POST", path, producer, data=entry.body(), headers=kind))[0] == 403
        assert (await house.send(entry, entry.body(), producer[:-1]))[0] == 401
        assert (await house.send(entry, entry.body(), producer.lower()))[0] == 401
    assert {one.organization for one in (await house.events()).values()} == {"acme"}


async def test_an_open_service_is_closed_where_there_is_a_secret(make_house: Make) -> None:
    """Of a source with a secret nothing is taken without it; the others stay open, to localhost."""
    house: House = await make_house(webhook_secrets="litellm acme s-acme-0123456789")
    for entry in WEBHOOKS:
        wanted = 401 if entry is LITELLM else entry.ok
        assert (await house.send(entry, entry.body()))[0] == wanted
        wanted = 401 if entry is LITELLM else 403
        assert (await house.send(entry, entry.body(), Host="evil.example"))[0] == wanted
        assert (await house.send(entry, entry.body(), Origin="https://evil.example"))[0] == wanted
    shown = {"Host": "meter.example", "X_Webhook_Secret": "s-acme-0123456789"}
    assert (await house.send(LITELLM, LITELLM.body(), **shown))[0] == 202
    await house.key("acme")
    for entry in WEBHOOKS:
        assert (await house.send(entry, entry.body()))[0] == 401


async def test_no_webhook_is_open_elsewhere_than_on_loopback(make_house: Make) -> None:
    """Bound to an address of the network, a service without keys takes nothing from anybody."""
    house: House = await make_house(host="0.0.0.0")
    for entry in WEBHOOKS:
        assert (await house.send(entry, entry.body()))[0] == 401
    assert await house.records() == []


@pytest.mark.parametrize(
    "shown", ["s-acme-012345678", "s-acme-01234567892", "S-ACME-0123456789", "", "\u00e9", "*", "env:SECRET"]
)
async def test_a_wrong_secret_is_401(make_house: Make, shown: str) -> None:
    """Shown as a bearer or in its own header: a secret is the whole of it."""
    house: House = await make_house(webhook_secrets=secrets("s-acme-0123456789"))
    for entry in WEBHOOKS:
        assert (await house.send(entry, entry.body(), X_Webhook_Secret=shown))[0] == 401
        assert (await house.send(entry, entry.body(), Authorization=f"Bearer {shown}"))[0] == 401
        assert (await house.send(entry, entry.body(), Authorization="Bearer s-acme-0123456789"))[
            0
        ] == entry.ok


def test_only_the_webhooks_are_let_in_without_a_caller() -> None:
    """The need that asks for nothing before the handler stands on those five routes, and nobody may write."""
    free = {one.path for one in openapi.TABLE if one.need == "webhook"}
    assert free == {bare(entry).path for entry in WEBHOOKS}
    assert not NOBODY.may("write") and not NOBODY.may("settings")


async def test_a_rotation_needs_no_restart(
    make_house: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A changed file is in force within a second; a broken one changes nothing until it is mended."""
    caplog.set_level("INFO")
    monkeypatch.setattr(webhook_secrets, "LOOK_S", 0.0)
    file, named = tmp_path / "secrets", tmp_path / "new"
    file.write_text("litellm acme s-old-0123456789\n")
    house: House = await make_house(origin={"webhook_secrets": f"{FILE_ORIGIN}{file}"})

    async def statuses(*shown: str) -> list[int]:
        return [(await house.send(LITELLM, LITELLM.body(), X_Webhook_Secret=one))[0] for one in shown]

    assert await statuses("s-old-0123456789", "s-new") == [202, 401]
    named.write_text("s-new\n")
    file.write_text(f"litellm acme s-old-0123456789\nlitellm acme file:{named}\n")
    assert await statuses("s-old-0123456789", "s-new") == [202, 202]
    named.write_text("s-newer\n")
    assert await statuses("s-old-0123456789", "s-new", "s-newer") == [202, 401, 202]
    file.write_text("litellm acme s-one-more secret\n")
    assert await statuses("s-old-0123456789", "s-newer", "s-one-more") == [202, 202, 401]
    assert metrics.WEBHOOK_SECRETS_STALE._value.get() == 1
    (trouble,) = house.errors
    assert f"{file}, line 1: has 4 words" in trouble and "s-one-more" not in trouble
    assert webhook_secrets.SETTING not in trouble and "good again" not in caplog.text
    house.errors.clear()
    file.write_text("")
    assert await statuses("s-old-0123456789", "s-newer", "") == [401, 401, 401]
    assert metrics.WEBHOOK_SECRETS_STALE._value.get() == 0
    assert caplog.text.count("webhook secrets are good again") == 1
    assert (await house.send(LITELLM, LITELLM.body()))[0] == 401, "a file cut short must not open the door"


@pytest.mark.parametrize(
    ("text", "why"),
    [("litellm acme", "line 1 has 2 words"),
     ("\nlitellm acme s3cret-0123456789 s3cret-0123456789", "line 2 has 4 words"),
     ("openai acme s3cret-0123456789", "line 1 begins with no source"),
     ("standard acme whsec_s3cret!", "line 1 has a secret"),
     ("standard acme whsec_", "line 1"),
     ("litellm a s3cret-0123456789; litellm b s3cret-0123456789", "another organisation"),
     ("standard a whsec_czNjcmV0czNjcmV0; standard b czNjcmV0czNjcmV0", "another organisation"),
     ("litellm a s3cret-0123456789\nlitellm * s3cret-0123456789", "line 2 has the secret of another"),
     ("litellm a env:NO_SUCH_THING", "NO_SUCH_THING is not set"),
     ("litellm a file:/no/such", "/no/such can't"),
     ("litellm acme s3cr-0123456789", "line 1 has a secret of fewer than 16 characters"),
     ("litellm a name:x", "no store"), ("litellm a s3cr\u00e9t-0123456789", "ASCII"),
     (f"litellm {'o' * 129} s3cret-0123456789", "128 bytes"),
     ("\n".join(f"litellm o{n} s3cret-0123456789{n}" for n in range(65)), "more than 64")],
)  # fmt: skip
async def test_bad_lines_stop_the_start(make_house: Make, text: str, why: str) -> None:
    """The error says which line and what is wrong with it, and never the secret."""
    with pytest.raises(SettingError) as caught:
        await make_house(webhook_secrets=text)
    assert why in str(caught.value)
    assert "s3cr" not in str(caught.value)


async def test_secrets_by_reference(
    make_house: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line may say where its secret is; comments and empty lines are skipped."""
    monkeypatch.setenv("A_SECRET", "s-env")
    (tmp_path / "b").write_text("s-file\n")
    lines = [
        "# none; litellm acme s-none",
        "",
        "litellm acme env:A_SECRET # theirs",
        "  ",
        f"litellm * file:{tmp_path}/b",
    ]
    house: House = await make_house(webhook_secrets="\n".join(lines))
    wanted = {"s-env": 202, "s-file": 202, "s-none": 401, "env:A_SECRET": 401, "A_SECRET": 401}
    for shown, status in wanted.items():
        assert (await house.send(LITELLM, LITELLM.body(), X_Webhook_Secret=shown))[0] == status, shown


async def test_protobuf_is_taken_and_answered_as_such(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTLP in protobuf is answered in protobuf; without the extra it is 415, with what to do."""

    async def sent(body: bytes) -> tuple[int, Any]:
        headers = {"Content-Type": PROTOBUF}
        async with house.session.post("/v1/traces?org=acme", data=body, headers=headers) as response:
            return response.status, (response.content_type, await response.read())

    assert await sent(protobuf("gen-p")) == (200, (PROTOBUF, b""))
    assert (await house.events())["gen-p"].prompt_tokens == 7
    status, (kind, answer) = await sent(protobuf("gen-q", tokens=-1, spans=3))
    assert (status, kind) == (200, PROTOBUF)
    found = ExportTraceServiceResponse.FromString(answer).partial_success
    assert (found.rejected_spans, "tokens" in found.error_message) == (1, True)
    assert (await sent(protobuf("gen-r", tokens=-1)))[0] == 422
    for body in (b"\xff" * 100, b"{}", protobuf()[:-3], b"\x0a\xff\xff\xff\xff\x0f"):
        assert (await sent(body))[0] == 422, body
    assert set(await house.events()) == {"gen-p", "gen-q-1", "gen-q-2"}
    monkeypatch.setattr(otlp_protobuf, "available", lambda: False)
    status, (_, answer) = await sent(protobuf())
    assert status == 415 and b"pip install" in answer


async def test_spans_that_were_refused_are_counted(house: House) -> None:
    """OTLP's partial success says how many spans were not taken, and why; the others are."""
    spans = [json.loads(TRACES.body(f"gen-{n}"))["resourceSpans"][0] for n in range(3)]
    for attribute in spans[1]["scopeSpans"][0]["spans"][0]["attributes"]:
        if attribute["key"] == "gen_ai.usage.input_tokens":
            attribute["value"] = {"intValue": "-5"}
    for number, one in enumerate(spans):
        one["scopeSpans"][0]["spans"][0]["spanId"] = f"{number:016x}"
    status, answer = await house.send(TRACES, json.dumps({"resourceSpans": spans}).encode())
    assert (status, answer["partialSuccess"]["rejectedSpans"]) == (200, "1")
    assert set(await house.events()) == {"gen-0", "gen-2"}


async def test_cloudevents_in_binary_mode(house: House) -> None:
    """The attributes may be headers, and the body the data."""
    head = {
        "ce_specversion": "1.0",
        "ce_id": "e%201",
        "ce_source": "/s",
        "ce_type": "t",
        "ce_subject": "acme",
    }
    head["Content_Type"] = "application/json"
    assert (await house.send(EVENTS, b'{"model":"m","cost":"0.5"}', **head))[0] == 204
    ((id, one),) = (await house.events()).items()
    assert (id, one.organization, one.cost_nano) == ("2:/s:e 1", "acme", 500_000_000)
    for body, status in ((b"", 422), (b"[]", 422), (b"{", 422), (b"\xff", 400), (b"null", 422)):
        assert (await house.send(EVENTS, body, **head))[0] == status, body
    assert (await house.send(EVENTS, b"{}", **{**head, "ce_id": "\udcff"}))[0] in (400, 422)
    assert (await house.send(EVENTS, b'{"model":"m"}', Content_Type="application/json"))[0] == 422
    assert len(await house.records()) == 1


async def test_a_signature_does_not_cover_headers(make_house: Make) -> None:
    """A signed body can't be sent again as another event by other ce- headers, on no route."""
    secret = "whsec_" + base64.b64encode(b"a key of thirty-two bytes or so.").decode()
    house: House = await make_house(webhook_secrets=secrets(secret))
    head = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/s", "ce_type": "t", "ce_subject": "beta"}
    for entry in (STANDARD, LITELLM, EVENTS):
        body = entry.body(f"gen-{entry.name}")
        if entry is EVENTS:
            body = b'{"id":"gen-events","model":"m"}'
        time = dt.datetime.fromtimestamp(NOW_MS // 1000, dt.UTC)
        signature = Webhook(secret).sign("msg_1", time, body.decode())
        signed = {
            "webhook_id": "msg_1",
            "webhook_timestamp": str(NOW_MS // 1000),
            "webhook_signature": signature,
        }
        status, _ = await house.send(entry, body, **head, **signed, Content_Type="application/json")
        assert status == (422 if entry is EVENTS else 202)
    assert set(await house.events()) == {"gen-standard", "gen-litellm"}


async def test_prompts_are_dropped_at_the_door(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """What was asked and answered is not on the log, in no answer and in no line of the service's own."""
    caplog.set_level("DEBUG")
    for entry in (OPENROUTER, LITELLM, STANDARD, EVENTS):
        for texts in ({}, {"prompt_tokens": "-1"}, {"model": f'["{PROMPT}"]'}):
            extra = {
                "messages": f'[{{"role":"user","content":"{PROMPT}"}}]',
                "response": f'{{"x":"{PROMPT}"}}',
            }
            _, answer = await house.send(entry, entry.body(**{**extra, **texts}))
            assert PROMPT not in str(answer), entry.name
    assert PROMPT not in caplog.text
    assert all(PROMPT.encode() not in (record.value or b"") for record in await house.records())


async def test_a_secret_is_in_no_log(make_house: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The access log says which secret let a request in by its source and organisation."""
    caplog.set_level("INFO")
    house: House = await make_house(webhook_secrets=secrets("s-acme-0123456789"))
    for entry in WEBHOOKS:
        await house.send(entry, entry.body(), X_Webhook_Secret="s-acme-0123456789")
        await house.send(entry, entry.body(), Authorization="Bearer s-acme-0123456789")
    await asyncio.sleep(0.05)
    assert "key=secret:litellm:acme" in caplog.text
    assert "s-acme-0123456789" not in caplog.text


async def test_too_many_requests_are_429(make_house: Make) -> None:
    """Each key and secret has a rate of its own; who waits as he is told is served."""
    house: House = await make_house(
        rate_per_s=0.5,
        rate_burst=2,
        webhook_secrets="litellm acme s-acme-0123456789; litellm beta s-beta-0123456789",
    )
    open_caller = [await house.send(OURS, OURS.body()) for _ in range(3)]
    assert [status for status, _ in open_caller] == [202, 202, 429]
    assert open_caller[2][1]["error"]["code"] == "rate_limited"
    for secret in ("s-acme-0123456789", "s-beta-0123456789"):
        shown = [(await house.send(LITELLM, LITELLM.body(), X_Webhook_Secret=secret))[0] for _ in range(3)]
        assert shown == [202, 202, 429]
    headers = {"Content-Type": "application/json", "X-Webhook-Secret": "s-acme-0123456789"}
    async with house.session.post("/webhooks/litellm", data=b"{}", headers=headers) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "2")
    key = await house.key("acme")
    assert [(await house.send(OURS, OURS.body(), key))[0] for _ in range(3)] == [202, 202, 429]
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        for _ in range(4):
            assert (await house.call("GET", path))[0] == 200


async def test_a_key_revoked_elsewhere_is_refused(make_house: Make) -> None:
    """A key that another process has revoked is 401 on the webhooks once the directory has read on."""
    house: House = await make_house(webhook_secrets=secrets("s-acme-0123456789"))
    admin, key = await house.key("", "admin"), await house.key("acme")
    for entry in WEBHOOKS:
        assert (await house.send(entry, entry.body(), key))[0] == entry.ok
    assert (await house.call("POST", f"/api/v1/keys/{house.key_id(key)}/revoke", admin))[0] == 200
    for entry in WEBHOOKS:
        assert (await house.send(entry, entry.body(), key))[0] == 401


async def test_a_key_made_elsewhere_is_found(make_house: Make) -> None:
    """A key of another process's making opens a webhook at once, as it opens every other route."""
    house: House = await make_house(webhook_secrets=secrets("s-acme-0123456789"))
    elsewhere = Directory(house.real)
    here, house.administration._directory = house.administration._directory, elsewhere
    key = await house.key("acme")
    house.administration._directory = here
    assert (await house.send(STANDARD, STANDARD.body(), key))[0] == 202


async def test_every_answer_has_its_headers_and_no_cors(make_house: Make) -> None:
    """Refusals and acceptances alike forbid sniffing, framing and reading from other sites."""
    house: House = await make_house(webhook_secrets=secrets("s-acme-0123456789"))
    for entry in WEBHOOKS:
        for secret in ("s-acme-0123456789", "no"):
            headers = {
                "Content-Type": entry.type,
                "X-Webhook-Secret": secret,
                "Origin": "https://evil.example",
            }
            async with house.session.post(entry.path, data=entry.body(), headers=headers) as response:
                assert response.status in (entry.ok, 401)
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
                assert not [name for name in response.headers if name.startswith("Access-Control")]
        async with house.session.options(entry.path, headers={"Origin": "https://evil.example"}) as response:
            assert response.status == 405


async def test_unknown_fields_and_strict(house: House) -> None:
    """An unknown field of an event of ours is named in the answer; ?strict=1 refuses it."""
    body = STANDARD.body(colour="1")
    status, answer = await house.send(STANDARD, body)
    assert (status, answer["ignored_fields"]) == (202, ["colour"])
    headers = {"Content-Type": "application/json"}
    status, answer = await house.call("POST", "/webhooks/standard?strict=1", data=body, headers=headers)
    assert (status, answer["rejected"][0]["code"]) == (422, "unknown_field")


async def test_an_unknown_organisation_may_be_refused(make_house: Make) -> None:
    """With the setting on reject, webhooks make no organisations either."""
    house: House = await make_house(unknown_organizations="reject")
    for entry in WEBHOOKS:
        assert (await house.send(entry, entry.body()))[0] == 422
    assert (await house.call("POST", "/api/v1/organizations", json={"id": "acme"}))[0] == 201
    for entry in WEBHOOKS:
        assert (await house.send(entry, entry.body()))[0] == entry.ok


async def test_a_mapping_that_is_none_stops_the_start(make_house: Make) -> None:
    """A slip in GENLEDGER_CLOUDEVENTS_MAPPING is told at once."""
    with pytest.raises(SettingError, match="GENLEDGER_CLOUDEVENTS_MAPPING"):
        await make_house(cloudevents_mapping="organisation=subject")


async def test_another_organisation_in_the_body_is_403(make_house: Make) -> None:
    """Row 32 where a body can say so: an event of ours under another organisation's key."""
    house: House = await make_house()
    key = await house.key("beta")
    status, answer = await house.send(STANDARD, json.dumps(event()).encode(), key)
    assert (status, answer["error"]["field"]) == (403, "organization")
    assert await house.records() == []
