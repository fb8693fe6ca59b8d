"""LiteLLM's callback, with payloads that LiteLLM 1.97 made: whole, streamed, and both of them awaited.

LiteLLM itself is too large for every installation (`make soak` runs it, test_litellm_soak.py): a class of the
same name stands for its CustomLogger here.
"""

import asyncio
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from streams.client import Client
from streams.sources.interface import How
from tests.client.fakes import ANSWER, PROMPT

FLUSH_S = 20
ROOT = Path(__file__).parents[2]
PAYLOADS = [json.loads(line) for line in (Path(__file__).parent / "litellm.ndjson").read_text().splitlines()]
NOBODY = (None, None, None)


@pytest.fixture
def module(monkeypatch):
    """`streams.integrations.litellm`, imported anew."""
    for name in ("litellm", "litellm.integrations", "litellm.integrations.custom_logger"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["litellm.integrations.custom_logger"].CustomLogger = object
    monkeypatch.delitem(sys.modules, "streams.integrations.litellm", raising=False)
    import streams.integrations.litellm as module

    yield module
    module.callback.close()
    sys.modules.pop("streams.integrations.litellm", None)


@pytest.fixture
def configured(monkeypatch, gateway):
    """The environment that LiteLLM is started in."""
    monkeypatch.setenv("GENLEDGER_URL", gateway.url)
    monkeypatch.setenv("GENLEDGER_KEY", "glk_test")
    monkeypatch.setenv("LOG_LEVEL", "debug")  # LiteLLM's own, and no level of ours
    return monkeypatch


async def _call(callback, payload):
    """As LiteLLM does: by name for calls that were awaited, by place for the others."""
    kwargs = {"standard_logging_object": payload, "messages": [PROMPT]}
    if payload and payload.get("call_type", "").startswith("a"):
        await callback.async_log_success_event(
            kwargs=kwargs, response_obj=ANSWER, start_time=None, end_time=None
        )
    else:
        callback.log_success_event(kwargs, *NOBODY)


async def test_each_call_is_recorded_with_litellms_figures(gateway, module, configured):
    """Two whole calls, two streamed; the costs are the text of LiteLLM's own floats; no prompt, no answer."""
    configured.setenv("GENLEDGER_ORGANIZATION", "acme")
    for payload in PAYLOADS:
        await _call(module.callback, payload)
    assert module.callback.close() == 0
    assert [event["id"] for event in gateway.taken.values()] == [f"chatcmpl-fake{n}" for n in range(1, 5)]
    first, second = list(gateway.taken.values())[:2]
    assert (first["organization"], first["model"], first["provider"]) == ("acme", "gpt-4o-mini", "openai")
    assert [first[name] for name in ("prompt_tokens", "completion_tokens", "cost")] == [12, 3, 3.6e-06]
    assert [second[name] for name in ("prompt_tokens", "completion_tokens", "cost")] == [10, 2, 2.7e-06]
    sent = str(gateway.bodies)
    assert PROMPT not in sent
    assert ANSWER not in sent


async def test_what_was_asked_is_not_even_looked_at(gateway, module, configured):
    """A prompt that is no text at all, or an answer that is no JSON, costs no event."""
    configured.setenv("GENLEDGER_ORGANIZATION", "acme")
    await _call(module.callback, {**PAYLOADS[0], "messages": ["\ud800"], "response": {"x": {1, "\ud800"}}})
    module.callback.close()
    assert list(gateway.taken) == ["chatcmpl-fake1"]


async def test_the_last_call_of_a_program_is_recorded(gateway, module, configured):
    """Where no thread can be had any more, nothing is raised into LiteLLM, and nothing lost."""
    configured.setenv("GENLEDGER_ORGANIZATION", "acme")
    await asyncio.get_running_loop().shutdown_default_executor()
    await _call(module.callback, {**PAYLOADS[0], "call_type": "acompletion"})
    module.callback.close()
    assert list(gateway.taken) == ["chatcmpl-fake1"]


async def test_a_team_is_an_organisation(gateway, module, configured):
    """Without an organisation of its own each event is its team's, or what the setting names."""
    metadata = {"user_api_key_team_id": "team-1", "user_api_key_org_id": "org-1", "user_api_key_user_id": "u"}
    payload = {**PAYLOADS[0], "metadata": metadata}
    configured.setenv("GENLEDGER_LITELLM_ORGANIZATION", "organization")
    await _call(module.callback, payload)
    module.callback.close()
    with Client(gateway.url, "glk_test") as client:
        await _call(module.Callback(client, How()), {**payload, "id": "chatcmpl-other"})
    assert [event["organization"] for event in gateway.taken.values()] == ["org-1", "team-1"]
    assert gateway.taken["chatcmpl-other"]["user"] == "u"


async def test_a_call_of_nobodys_is_told_of(gateway, module, configured, caplog):
    """Where no setting and no team says whose a call is, the log says what to set here."""
    await _call(module.callback, PAYLOADS[0])
    module.callback.close()
    assert not gateway.taken
    assert "organization: is nobody's: set GENLEDGER_ORGANIZATION" in caplog.text


async def test_workers_of_one_proxy_have_a_spool_each(gateway, module, configured, tmp_path):
    """The same settings in several processes: each takes the first spool that is free."""
    configured.setenv("GENLEDGER_SPOOL", str(tmp_path / "spool"))
    configured.setenv("GENLEDGER_ORGANIZATION", "acme")
    others = [module.Callback(), module.Callback()]
    for n, callback in enumerate(others):
        await _call(callback, {**PAYLOADS[0], "id": f"chatcmpl-{n}"})
    assert {path.name for path in tmp_path.iterdir()} >= {"spool", "spool.2"}
    for callback in others:
        assert callback.close() == 0
    assert sorted(gateway.taken) == ["chatcmpl-0", "chatcmpl-1"]


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        {"call_type": "completion"},
        {**PAYLOADS[0], "prompt_tokens": f"many {PROMPT}"},
        {**PAYLOADS[0], "id": None},
        {**PAYLOADS[0], "metadata": {"x": "\ud800"}},
    ],
    ids=str,
)
async def test_a_payload_that_is_wrong_breaks_nothing(gateway, module, configured, payload, caplog):
    """The next call is recorded; what was asked or answered is in no log."""
    configured.setenv("GENLEDGER_ORGANIZATION", "acme")
    await _call(module.callback, payload)
    await _call(module.callback, PAYLOADS[0])
    module.callback.close()
    assert "chatcmpl-fake1" in gateway.taken
    assert PROMPT not in caplog.text


async def test_a_setting_that_is_wrong_breaks_no_call(module, configured, caplog):
    """A slip of the pen is said in the log, by its kind."""
    configured.setenv("GENLEDGER_SPOOOL", "x")
    await _call(module.callback, PAYLOADS[0])
    assert "SettingError" in caplog.text


def test_the_config_names_the_callback_that_there_is(module):
    """What is to be pasted leads to the instance."""
    config = yaml.safe_load((ROOT / "examples" / "litellm" / "config.yaml").read_text())
    [path] = config["litellm_settings"]["callbacks"]
    name, _, instance = path.rpartition(".")
    assert name == module.__name__
    assert isinstance(getattr(module, instance), module.Callback)
