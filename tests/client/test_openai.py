"""The OpenAI SDK itself, metered, against a provider over real HTTP."""

import subprocess
import sys
from pathlib import Path

import pytest
from openai import AsyncOpenAI, BadRequestError, InternalServerError, OpenAI

from streams.client import AsyncClient, Client
from streams.integrations.openai import Stream, metered
from tests.client.fakes import ANSWER, PROMPT, USAGE, Provider, serving
from tests.road.harness import clean_environ

FLUSH_S = 20
ROOT = Path(__file__).parents[2]
ASKED = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
PRICED = {**USAGE, "cost": 0.00123, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.5}}


@pytest.fixture
def provider():
    """A provider that speaks as OpenAI does."""
    with serving(Provider()) as provider:
        yield provider


@pytest.fixture
def sdk(provider):
    """The SDK's own client of that provider."""
    with OpenAI(base_url=provider.url, api_key="sk-test", max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def ledger(gateway):
    """A client of a gateway that takes everything."""
    with Client(gateway.url, "glk_test", linger_s=0.01, backoff_s_max=0.05) as ledger:
        yield ledger


def _only(gateway, ledger):
    """The one event there is."""
    assert ledger.flush(FLUSH_S)
    [event] = gateway.taken.values()
    assert PROMPT not in str(event)
    assert ANSWER not in str(event)
    return event


def _figures(event):
    return event["prompt_tokens"], event["completion_tokens"], event["total_tokens"]


def test_a_call_is_recorded_with_the_providers_figures(gateway, ledger, sdk):
    """The event has the answer's id, model, user and counts; a cost that nobody named is unknown."""
    answer = metered(sdk, ledger, organization="acme").chat.completions.create(**ASKED, user="alice")
    assert answer.choices[0].message.content == ANSWER
    event = _only(gateway, ledger)
    assert (event["id"], event["model"], event["user"], event["organization"]) == (
        answer.id,
        "m",
        "alice",
        "acme",
    )
    assert _figures(event) == (12, 3, 15)
    assert event["created_at"] == "2026-11-20T12:00:00Z"
    assert event["finish_reason"] == "stop"
    assert "cost" not in event


def test_a_stream_is_recorded_and_looks_as_it_would_have(gateway, ledger, sdk, provider):
    """Litellm 37923: a streamed call has its usage. The program sees no chunk that it did not ask for."""
    stream = metered(sdk, ledger).chat.completions.create(**ASKED, stream=True)
    assert isinstance(stream, Stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == ANSWER
    assert provider.requests[0]["stream_options"] == {"include_usage": True}
    assert _figures(_only(gateway, ledger)) == (12, 3, 15)


def test_a_program_that_asks_for_the_usage_gets_it(gateway, ledger, sdk):
    """Its own stream_options stand, and the last chunk is its."""
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    with metered(sdk, ledger).chat.completions.create(**ASKED, **asked) as stream:
        chunks = list(stream)
    assert chunks[-1].usage.total_tokens == 15
    assert _figures(_only(gateway, ledger)) == (12, 3, 15)


@pytest.mark.parametrize("how", ["without usage", "closed early", "dropped", "not wanted"])
def test_a_stream_without_usage_is_an_estimate_never_zero_dollars(gateway, ledger, sdk, provider, how):
    """One request whose cost and counts nobody has said; whoever knows them says so later, by its id."""
    provider.usage = None if how == "without usage" else USAGE
    client = metered(sdk, ledger, include_usage=how != "not wanted")
    stream = client.chat.completions.create(**ASKED, stream=True)
    if how in ("closed early", "dropped"):
        next(stream)
        if how == "closed early":
            stream.close()
        del stream
    else:
        assert len(list(stream)) == 2
    event = _only(gateway, ledger)
    assert event["id"] == "gen-1"
    assert event["authority"] == "estimate"
    assert not {"cost", "prompt_tokens", "completion_tokens", "total_tokens"} & set(event)


def test_a_provider_that_knows_no_stream_options_is_asked_without(gateway, ledger, sdk, provider):
    """Metering does not break a call that would have worked."""
    provider.knows_stream_options = False
    chunks = list(metered(sdk, ledger).chat.completions.create(**ASKED, stream=True))
    assert len(chunks) == 2
    assert "stream_options" not in provider.requests[1]
    assert _only(gateway, ledger)["authority"] == "estimate"


def test_a_raw_response_is_left_alone(gateway, ledger, sdk, provider):
    """What a program reads itself is not metered, and has no chunk that it did not ask for."""
    completions = metered(sdk, ledger).chat.completions
    chunks = list(completions.with_raw_response.create(**ASKED, stream=True).parse())
    with completions.with_streaming_response.create(**ASKED, stream=True) as response:
        assert response.status_code == 200
    assert all(chunk.choices for chunk in chunks)
    assert [request.get("stream_options") for request in provider.requests] == [None, None]
    assert ledger.flush(FLUSH_S)
    assert not gateway.taken


@pytest.mark.parametrize("stream", [False, True])
def test_the_responses_api_is_recorded(gateway, ledger, sdk, stream):
    """Its counts have other names; cached and reasoning tokens are inside them."""
    made = metered(sdk, ledger).responses.create(model="m", input=PROMPT, user="bob", stream=stream)
    if stream:
        assert [event.type for event in made][-1] == "response.completed"
    else:
        assert made.output_text == ANSWER
    event = _only(gateway, ledger)
    assert _figures(event) == (12, 3, 15)
    assert (event["cached_tokens"], event["reasoning_tokens"], event["user"]) == (2, 1, "bob")


@pytest.mark.parametrize("priced", [True, False])
def test_openrouters_cost_is_taken_and_nobody_elses(gateway, ledger, sdk, provider, priced):
    """`usage.cost` is dollars only where that is known; the fee and the upstream cost are two amounts."""
    provider.usage = PRICED
    metered(sdk, ledger, priced=priced).chat.completions.create(**ASKED)
    event = _only(gateway, ledger)
    if priced:
        assert (event["cost"], event["upstream_cost"], event["is_byok"]) == (0.00123, 0.5, True)
    else:
        assert not {"cost", "upstream_cost"} & set(event)


def test_openrouter_is_known_by_its_address(ledger):
    """Its clients need not be told that costs are dollars, and another host of a like name is another."""
    for url, priced in [
        ("https://openrouter.ai/api/v1", True),
        ("https://eu.openrouter.ai/api/v1", True),
        ("https://openrouter.ai.example.com/v1", False),
        ("https://notopenrouter.ai/v1", False),
    ]:
        client = metered(OpenAI(base_url=url, api_key="sk-test"), ledger)
        assert client.chat.completions.create.__wrapped__
        assert client.chat.completions.create.__closure__ is not None
        meters = [cell.cell_contents for cell in client.chat.completions.create.__closure__]
        assert [meter.priced for meter in meters if hasattr(meter, "priced")] == [priced]


@pytest.mark.parametrize(("status", "kind"), [(400, BadRequestError), (500, InternalServerError)])
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_fails_fails_as_it_would_have_and_counts_nothing(
    gateway, ledger, sdk, provider, status, kind, stream
):
    """The SDK's own error comes out."""
    provider.fail_with = status
    with pytest.raises(kind):
        metered(sdk, ledger).chat.completions.create(**ASKED, stream=stream)
    assert ledger.flush(FLUSH_S)
    assert gateway.bodies == []


def test_metering_that_fails_breaks_no_call(sdk, caplog):
    """A ledger that takes nothing costs a line of log, without what was asked or answered."""
    ledger = Client(organization="acme")
    ledger.close()
    client = metered(sdk, ledger)
    assert client.chat.completions.create(**ASKED).choices[0].message.content == ANSWER
    assert len(list(client.chat.completions.create(**ASKED, stream=True))) == 2
    assert "ClientClosed" in caplog.text
    assert PROMPT not in caplog.text
    assert ANSWER not in caplog.text


def test_a_copy_is_metered_and_nothing_twice(gateway, ledger, sdk):
    """with_options makes another client, which counts too; metering one again changes nothing."""
    client = metered(metered(sdk, ledger), ledger)
    client.with_options(timeout=5).chat.completions.create(**ASKED)
    client.chat.completions.create(**ASKED)
    assert ledger.flush(FLUSH_S)
    assert gateway.order == ["gen-1", "gen-2"]


@pytest.mark.parametrize("spooled", [False, True])
async def test_the_asynchronous_sdk_is_metered_too(gateway, provider, tmp_path, spooled):
    """Awaited, streamed and cancelled calls; the event loop waits for no disk."""
    spool = tmp_path / "spool" if spooled else None
    async with (
        AsyncClient(gateway.url, "glk_test", spool=spool, linger_s=0.01) as ledger,
        AsyncOpenAI(base_url=provider.url, api_key="sk-test", max_retries=0) as sdk,
    ):
        client = metered(sdk, ledger)
        assert (await client.chat.completions.create(**ASKED)).choices[0].message.content == ANSWER
        assert len([chunk async for chunk in await client.chat.completions.create(**ASKED, stream=True)]) == 2
        async with await client.chat.completions.create(**ASKED, stream=True) as stream:
            await anext(stream)
        assert (await client.responses.create(model="m", input=PROMPT)).output_text == ANSWER
        assert await ledger.flush(FLUSH_S)
    assert list(gateway.taken) == ["gen-1", "gen-2", "gen-3", "gen-4"]
    assert [event.get("authority") for event in gateway.taken.values()] == [None, None, "estimate", None]


@pytest.mark.parametrize("name", ["chat", "asynchronous"])
def test_an_example_with_the_sdk_runs(service, provider, name):
    """Two calls, both known to a real service with their figures."""
    environ = {
        **clean_environ(),
        "GENLEDGER_URL": f"http://127.0.0.1:{service.port}",
        "OPENAI_BASE_URL": provider.url,
        "OPENAI_API_KEY": "sk-test",
        "MODEL": f"model-{name}",
    }
    command = [sys.executable, f"examples/openai/{name}.py"]
    run = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"{ANSWER}\n{ANSWER}\n"
    for id in ("gen-1", "gen-2"):
        assert service.get(f"/api/v1/generations/{id}")["known"]
