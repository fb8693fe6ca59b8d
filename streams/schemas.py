"""The JSON Schemas of the event and the fact, made from the types that decode them.

    python -m streams.schemas docs      # writes docs/event.schema.json and docs/fact.schema.json

The event's schema is the promise to producers, `Wire` with what `checked` adds to it: lengths, money as
decimal text or number, times with a zone. A test fails when the files in docs/ are not these.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from streams.fact import Fact
from streams.generation import METADATA_BYTES_MAX, TEXT_BYTES_MAX, Wire
from streams.money import COST_NANO_MAX, NANO, TEXT_LENGTH_MAX

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MONEY = {
    "description": "Dollars: a decimal string, or a number read as its text. Absent or null is unknown.",
    "anyOf": [
        {
            "type": "string",
            "maxLength": TEXT_LENGTH_MAX,
            "pattern": "^(0|[1-9][0-9]{0,11})(\\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$",
        },
        {"type": "number", "minimum": 0, "maximum": COST_NANO_MAX // NANO},
        {"type": "null"},
    ],
}
DESCRIPTIONS = {
    "id": "The provider's id of the generation. The same id is the same generation.",
    "organization": "Who pays. May be left out when the API key belongs to an organisation.",
    "model": "Required, save for a void.",
    "user": "The provider's user id. Absent is no user.",
    "prompt_tokens": "Tokens sent.",
    "completion_tokens": "Tokens received.",
    "total_tokens": "May stand for the two counts; never less than their sum, which it is when absent.",
    "created_at": "RFC 3339 with a zone, years 2000 to 2199. Absent: dated by the log.",
    "source": "Where it was measured.",
    "reasoning_tokens": "Inside completion_tokens, never added to them.",
    "cached_tokens": "Inside prompt_tokens, never added to them.",
    "metadata": f"Kept, never shown in a figure: at most {METADATA_BYTES_MAX} bytes.",
    "authority": "How good the figures are; which the API key's rights may bound.",
    "revision": "Of two versions of the same authority the higher revision counts.",
    "void": "The generation is worth nothing: an administrator's correction.",
}


def event_schema() -> dict[str, Any]:
    """What a producer may send as one event."""
    schema = {"$schema": DIALECT, "title": "Event", **_described(Wire)}
    schema["description"] = "One model call, as a producer publishes it. The record's header `schema` is 1."
    properties: dict[str, Any] = schema["properties"]
    for name in ("cost", "upstream_cost"):
        properties[name] = dict(MONEY)
    properties["metadata"] = {"anyOf": [{"type": "object"}, {"type": "null"}]}
    properties["created_at"] = _typed("string", {"format": "date-time"})
    for name, most in TEXT_BYTES_MAX.items():
        # The bound is on bytes in UTF-8, so a text of so many characters may still be too long.
        bounds = {"maxLength": most, "pattern": "^[^\\u0000-\\u001f\\u007f]*$"}
        required = {"type": "string", "minLength": 1, **bounds}
        properties[name] = required if name in schema["required"] else _typed("string", bounds)
    for name, text in DESCRIPTIONS.items():
        properties[name]["description"] = text
    return schema


def fact_schema() -> dict[str, Any]:
    """What the ledger writes on the topic `usage`. Readers must take fields they do not know."""
    (schema,), components = msgspec.json.schema_components([Fact], ref_template="#/$defs/{name}")
    schema = {**components.pop("Fact"), "$defs": components} if "$ref" in schema else schema
    return {"$schema": DIALECT, **schema}


def _described(kind: type[Wire]) -> dict[str, Any]:
    """A struct's schema, its raw fields left to be filled in: msgspec can't describe raw JSON."""
    fields = [_field(field) for field in msgspec.structs.fields(kind)]
    plain = msgspec.defstruct(kind.__name__, fields, forbid_unknown_fields=True, kw_only=True)
    _, components = msgspec.json.schema_components([plain])
    schema: dict[str, Any] = components[kind.__name__]
    schema.pop("title", None)
    for field in schema["properties"].values():
        field.pop("default", None)
    return schema


def _field(field: msgspec.structs.FieldInfo) -> tuple[str, Any] | tuple[str, Any, Any]:
    if field.type is msgspec.Raw:
        return field.encode_name, Any, None
    if field.default is msgspec.NODEFAULT:
        return field.encode_name, field.type
    return field.encode_name, field.type, field.default


def _typed(kind: str, bounds: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": kind, **bounds}, {"type": "null"}]}


def text_of(schema: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


FILES = {"event.schema.json": event_schema, "fact.schema.json": fact_schema}


def main(folder: Path) -> None:
    """Write the files."""
    for name, schema in FILES.items():
        (folder / name).write_text(text_of(schema()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
