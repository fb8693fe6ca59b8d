"""OpenRouter's generation object, as `GET /api/v1/generation?id=` returns it. Pure.

    {"data": {"id": "gen-1763634720-Xw", "model": "openai/gpt-4o", "native_tokens_prompt": 812,
              "native_tokens_completion": 240, "total_cost": 0.00443, "is_byok": false}}

It comes bare or under `data`, to the door or to the sync.

- **Id**: `id` (gen-...), which is also the id of the response, and of Broadcast's span.
- **Alias**: `upstream_id`, the provider's own id. Nothing is counted by it: it is kept in `metadata`.
- **Organisation**: the caller's. The object names none.
- **User**: `external_user`, what the call had as `user`.
- **Tokens**: `native_tokens_*`, the model's own count and what is billed; where that is not given,
  `tokens_*`, OpenRouter's. Two counts of the same thing: never added. Cached and reasoning tokens are
  inside the totals.
- **Cost**: `total_cost`; where that is not given, `usage`. For a call with the organisation's own key
  (`is_byok`) that is OpenRouter's fee, and `upstream_inference_cost` what the provider bills: two amounts,
  never added. For any other call the latter is OpenRouter's own expense, which nobody here pays: left out.

Nearly everything may be null. A cancelled generation without tokens still is one. Left out, as nobody's
figure: cache_discount (inside the cost), num_media_*, generation_time, moderation_latency, app_id, origin,
and whatever OpenRouter adds later.
"""

from typing import Any

import msgspec

from streams.errors import BadEvent
from streams.sources.interface import Fields, How, Parsed, native
from streams.sources.values import Reader, is_object, top

NAME = "openrouter"

# A generation has one of these at least, null or not, and no other source's object has.
_MARKS = (
    "total_cost",
    "tokens_prompt",
    "tokens_completion",
    "native_tokens_prompt",
    "native_tokens_completion",
)
_KEPT = ("upstream_id", "api_type", "native_finish_reason", "service_tier")


def matches(fields: Fields) -> bool:
    """Whether this is a generation, bare or under `data`."""
    if "specversion" in fields:
        return False
    if is_object(fields.get("data")):
        try:
            fields = top(fields["data"]).fields
        except BadEvent:
            return False
    return "id" in fields and any(name in fields for name in _MARKS)


def events(fields: Fields, how: How) -> list[Parsed]:
    """The one generation."""
    try:
        return [generation_of(fields, how.organization)]
    except BadEvent as error:
        return [error]


def generation_of(data: Fields | msgspec.Raw, organization: str) -> bytes:
    """A generation as a native event without an authority, which is for who calls to know."""
    given = top(data)
    if is_object(given.fields.get("data")):
        given = top(given.fields["data"])
    is_byok = given.flag("is_byok")
    upstream_cost = given.money("upstream_inference_cost")
    return native(
        id=given.text("id"),
        organization=organization or None,
        model=given.text("model"),
        user=given.text("external_user"),
        provider=given.text("provider_name"),
        prompt_tokens=_first(given.whole("native_tokens_prompt"), given.whole("tokens_prompt")),
        completion_tokens=_first(given.whole("native_tokens_completion"), given.whole("tokens_completion")),
        reasoning_tokens=given.whole("native_tokens_reasoning"),
        cached_tokens=given.whole("native_tokens_cached"),
        cost=_first(given.money("total_cost"), given.money("usage")),
        upstream_cost=None if is_byok is False else upstream_cost,
        is_byok=is_byok,
        created_at=given.instant("created_at"),
        latency_ms=given.milliseconds("latency"),
        finish_reason=given.text("finish_reason"),
        session=given.text("session_id"),
        source=NAME,
        metadata=_metadata(given),
    )


def _first(native_value: Any, other: Any) -> Any:
    return other if native_value is None else native_value


def _metadata(given: Reader) -> dict[str, Any] | None:
    kept: dict[str, Any] = {name: given.label(name) for name in _KEPT}
    kept |= {name: given.flag(name) for name in ("streamed", "cancelled")}
    return {name: value for name, value in kept.items() if value is not None} or None
