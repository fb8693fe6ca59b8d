"""A model's response with its `usage`: OpenAI's, Anthropic's and OpenRouter's shapes. Pure.

    {"organization": "acme", "user": "u-7", "latency_ms": 912,
     "response": {"id": "chatcmpl-9", "object": "chat.completion", "model": "gpt-4o", "created": 1763634720,
                  "usage": {"prompt_tokens": 812, "completion_tokens": 240, "total_tokens": 1052}}}

The body is the response itself, or has it under `response` with fields of ours beside it: organization,
user, created_at, latency_ms, session, metadata, authority. Those beside it come before the response's own.

- **Id**: the response's `id` (chatcmpl-, resp_, msg_, gen-). OpenRouter's is its generation's id.
- **Aliases**: none are in it. What LiteLLM calls the same response is said in litellm.py.
- **Organisation**: the caller's, else the envelope's. A bare response names none.
- **User**: the envelope's, else the response's `user`, where OpenAI's Responses API repeats it.
- **Tokens**: prompt_tokens or input_tokens, completion_tokens or output_tokens, total_tokens. Cached and
  reasoning tokens (`*_details`) are inside them and never added. Anthropic's input_tokens are the only ones
  without the cache's: there prompt_tokens is their sum with cache_creation_ and cache_read_input_tokens.
- **Cost**: only OpenRouter's `usage.cost`; without it the cost is unknown. For a call with the
  organisation's own key (`is_byok`) that is the fee, and cost_details.upstream_inference_cost a second
  amount, never added. For any other call that second amount is inside the first: left out.

A streamed chunk with a usage is a generation like any other. A chunk without one, or a response that is not
complete, is none: it is left out, never recorded at 0. A complete answer without one is refused. Anthropic's
stream events have no complete usage and are not taken: send the final message. A batch's or a run's usage
sums up responses of their own: not taken. Of choices, content and output nothing is read but why they ended;
the response's own metadata, which may be anything, is left out.
"""

from collections.abc import Mapping

import msgspec

from streams.errors import BadEvent
from streams.sources.interface import Fields, How, Parsed, native
from streams.sources.values import Reader, is_object, top

NAME = "usage"

_CHUNK, _RESPONSE, _MESSAGE = "chat.completion.chunk", "response", "message"
_RESPONSES = ("chat.completion", "text_completion", _CHUNK, _RESPONSE, _MESSAGE)
# With a usage these are responses, too: embeddings, and servers that don't say what they answer. Anything
# else with a usage, such as a batch or a run of an assistant, sums up responses of their own.
_WITH_USAGE = ("list", "")
# Who else has a `response` or a `usage` in what they send.
_OTHERS = ("call_type", "request_id", "specversion", "resourceSpans")


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


_choices = msgspec.json.Decoder(list[_Choice])
_any_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def matches(fields: Fields) -> bool:
    """Whether this is a response, bare or under `response`."""
    if any(name in fields for name in _OTHERS):
        return False
    if is_object(fields.get("response")):
        try:
            fields = top(fields["response"]).fields
        except BadEvent:
            return False
    kind = _kind(fields)
    return kind in _RESPONSES or (kind in _WITH_USAGE and is_object(fields.get("usage")))


def events(fields: Fields, how: How) -> list[Parsed]:
    """The one generation; none where nothing is said of its usage."""
    try:
        around = Reader(fields)
        response = around
        if is_object(fields.get("response")):
            response = around.object("response")
        else:
            around = Reader({})
        if not response.given("usage") and _is_underway(response):
            return []
        return [_event(around, response, how)]
    except BadEvent as error:
        return [error]


def _is_underway(response: Reader) -> bool:
    """Whether a later part of the same answer will say what was used."""
    kind = _kind(response.fields)
    return kind == _CHUNK or (kind == _RESPONSE and response.text("status") != "completed")


def _event(around: Reader, response: Reader, how: How) -> bytes:
    if not response.given("usage"):
        raise BadEvent("usage", "is required: without it nobody knows what was used")
    usage = response.object("usage")
    is_byok = usage.flag("is_byok")
    upstream_cost = usage.object("cost_details").money("upstream_inference_cost")
    return native(
        id=response.text("id"),
        organization=how.organization or around.text("organization"),
        model=response.text("model"),
        user=around.text("user") or response.text("user"),
        provider=response.text("provider"),
        **_tokens(usage, is_anthropic=_kind(response.fields) == _MESSAGE),
        cost=usage.money("cost"),
        upstream_cost=None if is_byok is False else upstream_cost,
        is_byok=is_byok,
        created_at=_created(around, response),
        latency_ms=around.milliseconds("latency_ms"),
        finish_reason=_finish_reason(response),
        session=around.text("session"),
        source=NAME,
        metadata=around.decoded(_any_object, "metadata"),
        authority=around.text("authority"),
    )


def _tokens(usage: Reader, *, is_anthropic: bool) -> Mapping[str, int | None]:
    if is_anthropic:
        return _anthropic_tokens(usage)
    prompt = "prompt_tokens" if usage.given("prompt_tokens") else "input_tokens"
    completion = "completion_tokens" if usage.given("completion_tokens") else "output_tokens"
    inside_prompt = usage.object(f"{prompt}_details")
    inside_completion = usage.object(f"{completion}_details")
    return {
        "prompt_tokens": usage.whole(prompt),
        "completion_tokens": usage.whole(completion),
        # Some servers say 0 where they have not added up.
        "total_tokens": usage.whole("total_tokens") or None,
        "cached_tokens": inside_prompt.whole("cached_tokens"),
        "reasoning_tokens": inside_completion.whole("reasoning_tokens"),
    }


def _anthropic_tokens(usage: Reader) -> Mapping[str, int | None]:
    cached = usage.whole("cache_read_input_tokens")
    written = usage.whole("cache_creation_input_tokens")
    return {
        "prompt_tokens": (usage.whole("input_tokens") or 0) + (written or 0) + (cached or 0),
        "completion_tokens": usage.whole("output_tokens"),
        "cached_tokens": cached,
    }


def _created(around: Reader, response: Reader) -> str | None:
    if around.given("created_at"):
        return around.instant("created_at")
    return response.instant("created" if response.given("created") else "created_at")


def _finish_reason(response: Reader) -> str | None:
    """Why it ended: of what was answered, nothing else is looked at."""
    choices = response.decoded(_choices, "choices")
    if choices:
        reason: str | None = choices[0].finish_reason
        return reason
    return response.text("stop_reason") or response.text("status")


def _kind(fields: Fields) -> str:
    """What a response calls itself: `object` at OpenAI, `type` at Anthropic; "" for anything else."""
    for name in ("object", "type"):
        raw = bytes(fields.get(name, b""))
        if 2 < len(raw) <= 64 and raw.startswith(b'"'):
            return raw[1:-1].decode(errors="replace")
    return ""
