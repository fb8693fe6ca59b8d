"""LiteLLM's StandardLoggingPayload, and the rows of its spend logs. Pure.

    {"id": "chatcmpl-9", "call_type": "acompletion", "status": "success", "model": "openai/gpt-4o",
     "prompt_tokens": 812, "completion_tokens": 240, "total_tokens": 1052, "response_cost": 0.00443,
     "startTime": 1763634720.25, "endTime": 1763634721.16, "metadata": {"user_api_key_team_id": "acme"}}

The first is what the generic API callback sends, one object a call; arrays and NDJSON are the door's to take
apart. The second is a row of LiteLLM_SpendLogs as `/spend/logs` or the database exports it.

- **Id**: `id`, in a row `request_id`: the response's id where the provider gave one. That of OpenAI's
  Responses API is wrapped by LiteLLM (`resp_` and base64); the provider's own is taken out of it.
- **Aliases**: `litellm_call_id`, `trace_id` and LiteLLM's cache key, kept in `metadata` where they tell
  something. A provider whose response id LiteLLM replaces (Anthropic, Gemini, Bedrock: chatcmpl- and a random
  part) can't be joined by id: docs/sources.md says what to do.
- **Organisation**: the caller's, else by GENLEDGER_LITELLM_ORGANIZATION: the key's team, organisation, the
  alias of either, or the key's own alias; else that of `?org=`.
- **User**: `end_user`, else the virtual key's user.
- **Tokens**: prompt_tokens, completion_tokens, total_tokens. Those of the cache and of reasoning are inside
  them, and read from `metadata.usage_object`.
- **Cost**: `response_cost`, in a row `spend`. LiteLLM writes 0 for a model whose price it does not know, so
  a 0 is a price only where it says so itself (hidden_params.response_cost, cost_breakdown). Else the cost is
  unknown, and whoever knows it says so later.
- **Model**: as LiteLLM names it; `openrouter/` comes off, for OpenRouter names its models without it.

Left out, as no generations: answers from LiteLLM's cache, for no model was called (it gives each a new id,
another in each of its two forms); failed tries without tokens or cost (a retry that succeeds is a call of its
own); and calls of other kinds (files, tools, health) without tokens or cost. A model's call that succeeded
with 0 tokens at 0 dollars, as streamed ones were written, counts as one request of unknown cost. Never
copied: messages, response, proxy_server_request, model_parameters, error texts, headers, addresses, and
metadata that callers made up.
"""

import base64
import binascii
import re
from typing import Any

import msgspec

from streams.errors import BadEvent
from streams.generation import METADATA_BYTES_MAX
from streams.sources.interface import Fields, How, LiteLLMOrganization, Parsed, native
from streams.sources.values import Reader
from streams.times import MS_NS

NAME = "litellm"

TAGS_MAX = 20
TAG_LENGTH_MAX = 64
# Of an answer from LiteLLM's cache: the time it was given is added to the id.
_CACHED_ID = re.compile(r"_cache_hit[0-9]+(?:\.[0-9]+)?$")
_WRAPPED = "resp_"
_WRAPPED_ID = re.compile(r"litellm:custom_llm_provider:[^;]*;model_id:[^;]*;response_id:(.+)")
# Calls of a model, their asynchronous twins (a-, _a-) among them.
_MODEL_CALL = re.compile(
    r"_?a?(?:completion|text_completion|anthropic_messages|responses|generate_content(?:_stream)?|embedding"
    r"|image_generation|image_edit|transcription|speech|rerank|realtime|responses_websocket|ocr)"
)
# Where the organisation stands: in a payload's metadata, and in a row.
_ORGANIZATION: dict[LiteLLMOrganization, tuple[str, str]] = {
    "organization": ("user_api_key_org_id", "organization_id"),
    "team": ("user_api_key_team_id", "team_id"),
    "team_alias": ("user_api_key_team_alias", ""),
    "organization_alias": ("user_api_key_org_alias", ""),
    "key_alias": ("user_api_key_alias", ""),
}
# What may be done where it stands nowhere.
_MEND = ", send with a key or secret of one organisation, add ?org=, or set GENLEDGER_LITELLM_ORGANIZATION"
_NAMED: dict[LiteLLMOrganization, str] = {
    "organization": f"give the key an organisation{_MEND}",
    "team": f"give the key a team{_MEND}",
    "team_alias": f"give the key a team with an alias{_MEND}",
    "organization_alias": f"give the key an organisation with an alias{_MEND}",
    "key_alias": f"give the key an alias{_MEND}",
}

_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def matches(fields: Fields) -> bool:
    """Whether this is a payload, or a row."""
    return "call_type" in fields and "startTime" in fields and ("id" in fields or "request_id" in fields)


def events(fields: Fields, how: How) -> list[Parsed]:
    """The one generation; none where no model was called."""
    try:
        event = _event(Reader(fields), how)
    except BadEvent as error:
        return [error]
    return [] if event is None else [event]


def _event(call: Reader, how: How) -> bytes | None:
    is_row = "request_id" in call.fields
    id = call.text("request_id" if is_row else "id") or ""
    metadata = call.embedded("metadata")
    prompt, completion = call.whole("prompt_tokens"), call.whole("completion_tokens")
    cost = _row_cost(call, metadata) if is_row else _payload_cost(call)
    has_figures = bool(prompt or completion or cost is not None)
    if _is_cached(call, id) or not (has_figures or _is_unpriced_call(call)):
        return None
    usage = metadata.object("usage_object")
    return native(
        id=_provider_id(id) or None,
        organization=how.organization or _organization(call, metadata, how),
        model=_model(call),
        user=_user(call, metadata, is_row=is_row),
        provider=call.text("custom_llm_provider"),
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=call.whole("total_tokens") or None,
        cached_tokens=usage.object("prompt_tokens_details").whole("cached_tokens"),
        reasoning_tokens=usage.object("completion_tokens_details").whole("reasoning_tokens"),
        cost=cost,
        created_at=call.instant("startTime"),
        latency_ms=_latency_ms(call),
        finish_reason="error" if call.text("status") == "failure" else None,
        session=call.text("session_id"),
        source=NAME,
        metadata=_kept(call, metadata),
    )


def _is_cached(call: Reader, id: str) -> bool:
    """Whether LiteLLM answered by itself. A row says so in words: "True", "False", "None" or nothing."""
    said = bytes(call.fields.get("cache_hit", b"")).strip(b'"').lower()
    return said == b"true" or _CACHED_ID.search(id) is not None


def _is_unpriced_call(call: Reader) -> bool:
    """Whether a call without any figures called a model nevertheless."""
    call_type = call.text("call_type")
    return call.text("status") != "failure" and (
        call_type is None or _MODEL_CALL.fullmatch(call_type) is not None
    )


def _payload_cost(call: Reader) -> msgspec.Raw | None:
    cost = call.money("response_cost")
    if cost is None or not _is_zero(cost):
        return cost
    doubted = call.given("response_cost_failure_debug_info") or call.given("zero_cost_diagnostic")
    said = call.object("hidden_params").given("response_cost")
    return cost if said and not doubted else None


def _row_cost(call: Reader, metadata: Reader) -> msgspec.Raw | None:
    cost = call.money("spend")
    if cost is None or not _is_zero(cost):
        return cost
    return cost if metadata.object("cost_breakdown").given("total_cost") else None


def _is_zero(cost: msgspec.Raw) -> bool:
    return not bytes(cost).lower().partition(b"e")[0].strip(b'"-0.')


def _provider_id(id: str) -> str:
    """The provider's id, out of the one that LiteLLM wraps it into."""
    if not id.startswith(_WRAPPED):
        return id
    try:
        text = base64.b64decode(id.removeprefix(_WRAPPED), validate=True).decode()
    except (binascii.Error, ValueError):
        return id
    wrapped = _WRAPPED_ID.fullmatch(text)
    return wrapped.group(1) if wrapped else id


def _organization(call: Reader, metadata: Reader, how: How) -> str:
    inside, column = _ORGANIZATION[how.litellm_organization]
    found = (call.text(column) if column else None) or metadata.text(inside) or how.otherwise
    if not found:
        raise BadEvent("organization", f"is not in metadata.{inside}: {_NAMED[how.litellm_organization]}")
    return found


def _user(call: Reader, metadata: Reader, *, is_row: bool) -> str | None:
    key_user = call.text("user") if is_row else None
    return (
        call.text("end_user")
        or metadata.text("user_api_key_end_user_id")
        or key_user
        or metadata.text("user_api_key_user_id")
    )


def _model(call: Reader) -> str | None:
    model = call.text("model") or call.text("model_group")
    return model.removeprefix("openrouter/") if model else None


def _latency_ms(call: Reader) -> int | None:
    if call.given("request_duration_ms"):
        return call.milliseconds("request_duration_ms")
    start_ns, end_ns = call.nanoseconds("startTime"), call.nanoseconds("endTime")
    if start_ns is None or end_ns is None or end_ns < start_ns:
        return None
    return (end_ns - start_ns) // MS_NS


def _kept(call: Reader, metadata: Reader) -> dict[str, Any] | None:
    kept: dict[str, Any] = {
        "litellm_call_id": call.label("litellm_call_id"),
        "trace_id": call.label("trace_id"),
        "call_type": call.label("call_type"),
        "model_group": call.label("model_group"),
        "key_alias": metadata.label("user_api_key_alias"),
        "tags": _tags(call),
    }
    given = {name: value for name, value in kept.items() if value}
    if len(_encode(given)) > METADATA_BYTES_MAX:
        del given["tags"]
    return given or None


def _tags(call: Reader) -> list[str]:
    """The request's tags, a bounded number of them; LiteLLM's own, which repeat a header, left out."""
    tags = call.decoded(_any, "request_tags")
    if isinstance(tags, str):
        tags = Reader({"request_tags": msgspec.Raw(tags.encode())}).decoded(_any, "request_tags")
    if not isinstance(tags, list):
        return []
    own = [tag for tag in tags if isinstance(tag, str) and not tag.startswith("User-Agent: ")]
    return [tag[:TAG_LENGTH_MAX] for tag in own[:TAGS_MAX]]
