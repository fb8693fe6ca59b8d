"""The shapes of OpenRouter's answers, and a check that a fake's answer has them.

Restated from its published OpenAPI (3.1.0, https://openrouter.ai/openapi.json, as of 2026-08-22): the names,
types and required fields of `GenerationResponse`, `ActivityResponse` and of its errors. `?` is nullable.
"""

import json
from typing import Any

from jsonschema import Draft202012Validator

GENERATION = {
    "integer?": "app_id native_tokens_cached native_tokens_completion native_tokens_completion_images "
    "native_tokens_prompt native_tokens_reasoning num_fetches num_input_audio_prompt num_media_completion "
    "num_media_prompt num_search_results tokens_completion tokens_prompt",
    "number": "total_cost usage",
    "number?": "cache_discount generation_time latency moderation_latency upstream_inference_cost",
    "string": "created_at data_region id model origin",
    "string?": "api_type external_user finish_reason http_referer native_finish_reason preset_id "
    "provider_name request_id response_cache_source_id router service_tier session_id upstream_id user_agent "
    "web_search_engine workspace_id",
    "boolean": "is_byok",
    "boolean?": "cancelled streamed",
    "array?": "provider_responses",
}
GENERATION_OPTIONAL = {"request_id", "response_cache_source_id", "session_id"}
ACTIVITY = {
    "string": "date endpoint_id model model_permaslug provider_name workspace_id",
    "integer": "completion_tokens prompt_tokens reasoning_tokens requests",
    "number": "byok_usage_inference usage",
}
ACTIVITY_OPTIONAL = {"workspace_id"}
ENUMS: dict[str, list[str | None]] = {
    "api_type": ["completions", "embeddings", "rerank", "tts", "stt", "video", "image", None],
    "data_region": ["global", "europe", "us"],
}


def _object(table: dict[str, str], optional: set[str]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for kind, names in table.items():
        for name in names.split():
            plain = kind.removesuffix("?")
            properties[name] = {"type": [plain, "null"] if kind != plain else plain}
            if name in ENUMS:
                properties[name]["enum"] = ENUMS[name]
    return {"type": "object", "properties": properties, "required": sorted(set(properties) - optional)}


def _under(name: str, schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({"type": "object", "properties": {name: schema}, "required": [name]})


_ITEM = _object(GENERATION, GENERATION_OPTIONAL)
GENERATION_ANSWER = _under("data", _ITEM)
LIST_ANSWER = _under("data", {"type": "array", "items": _ITEM})
ACTIVITY_ANSWER = _under("data", {"type": "array", "items": _object(ACTIVITY, ACTIVITY_OPTIONAL)})
ERROR_ANSWER = _under(
    "error",
    {
        "type": "object",
        "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
        "required": ["code", "message"],
    },
)


def violation(validator: Draft202012Validator, answer: bytes) -> str:
    """Where an answer is not of its shape; "" where it is."""
    found = next(validator.iter_errors(json.loads(answer)), None)
    return "" if found is None else f"{found.json_path}: {found.message}"
