"""CloudEvents 1.0 in JSON: one event whose `data` is a generation. Pure.

    {"specversion": "1.0", "id": "7f3a", "source": "/gateway/eu", "type": "llm.generation",
     "subject": "acme", "time": "2026-11-20T10:00:00Z",
     "data": {"id": "chatcmpl-9", "model": "openai/gpt-4o", "prompt_tokens": 812, "cost": "0.00443"}}

A batch is an array of them, which is the door's to take apart.

- **Fields**: those of an event (docs/event.schema.json), looked for in `data` under their own names. The
  setting GENLEDGER_CLOUDEVENTS_MAPPING names other places: `organization=subject model=data.model_name`. A
  place is an attribute, or names within `data` parted by dots; a field that is mapped is looked for nowhere
  else. `source` is ours.
- **Id**: `data.id`, the provider's, so that the same call counts once whatever else reports it. Without it,
  the CloudEvent's own identity, which is its source *and* its id: the source's length in bytes stands in
  front, so that no two different pairs give the same id (as openmeter's "%s-%s-%s" did).
- **Organisation**: the caller's, else `data.organization`, else `subject`. **User**: `data.user`.
- **Time**: `data.created_at`, else `time`.

As the specification says: null is unset; `data` of a JSON type is a JSON value, and text in it is never
unpacked; `data_base64` is the same object in base64. Data of another type is refused.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from streams import generation
from streams.errors import BadEvent
from streams.sources.interface import Fields, How, Parsed, native

NAME = "cloudevents"
MAPPABLE = tuple(name for name in generation.FIELDS if name != "source")

_PATH = re.compile(r"[a-z0-9]{1,64}|data(?:\.[^.\s=]{1,64}){1,8}")
_JSON_TYPE = re.compile(r"[^/;\s]+/(?:[^/;\s]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_REQUIRED = ("id", "source", "type")
_NONE = msgspec.Raw(b"null")

_text = msgspec.json.Decoder(str | None)
# Only what is ours is taken out of the data: the rest may be prompts, and any number of them.
_data = msgspec.json.Decoder(
    msgspec.defstruct("Data", [(name, msgspec.Raw, _NONE) for name in MAPPABLE], gc=False)
)


def mapping_of(text: str) -> Mapping[str, str]:
    """The mapping that the setting's text says; `ValueError` says what is wrong with it.

    >>> mapping_of("organization=subject model=data.model_name")
    {'organization': 'subject', 'model': 'data.model_name'}
    """
    mapping: dict[str, str] = {}
    for part in text.split():
        name, equals, path = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} must be a field and a place, as organization=subject")
        if name not in MAPPABLE:
            raise ValueError(f"{name!r} is not a field that can be mapped: they are {', '.join(MAPPABLE)}")
        if name in mapping:
            raise ValueError(f"{name!r} is mapped twice")
        if _PATH.fullmatch(path) is None or path in ("data", "data_base64"):
            raise ValueError(f"{path!r} must be an attribute, or names within data, as data.model")
        mapping[name] = path
    return mapping


def matches(fields: Fields) -> bool:
    """Whether an object says that it is a CloudEvent."""
    return "specversion" in fields


def events(fields: Fields, how: How) -> list[Parsed]:
    """The one generation."""
    try:
        return [_event(fields, how)]
    except BadEvent as error:
        return [error]


def _event(fields: Fields, how: How) -> bytes:
    if _attribute(fields, "specversion") != "1.0":
        raise BadEvent("specversion", "must be 1.0")
    for name in _REQUIRED:
        if not _attribute(fields, name):
            raise BadEvent(name, "is required of a CloudEvent")
    payload = _payload(fields)
    own = _decoded(_data, payload, "data")
    values: dict[str, Any] = {name: _given(getattr(own, name)) for name in MAPPABLE}
    values |= {name: _at(path, fields, payload) for name, path in how.cloudevents.items()}
    mapped = how.cloudevents
    if values["id"] is None:
        values["id"] = _identity(fields) if "id" not in mapped else ""
    if values["organization"] is None and "organization" not in mapped:
        values["organization"] = _attribute(fields, "subject") or None
    if values["created_at"] is None and "created_at" not in mapped:
        values["created_at"] = _attribute(fields, "time") or None
    if how.organization:
        values["organization"] = how.organization
    return native(**values, source=NAME)


def _identity(fields: Fields) -> str:
    source = _attribute(fields, "source")
    return f"{len(source.encode())}:{source}:{_attribute(fields, 'id')}"


def _payload(fields: Fields) -> msgspec.Raw:
    """The data as JSON text, whichever of its two forms it came in."""
    given, packed = _given(fields.get("data", _NONE)), _attribute(fields, "data_base64")
    if given is not None and packed:
        raise BadEvent("data_base64", "must not stand beside data")
    content_type = _attribute(fields, "datacontenttype")
    if content_type and _JSON_TYPE.fullmatch(content_type) is None:
        raise BadEvent("datacontenttype", "must be JSON")
    if not packed:
        return msgspec.Raw(b"{}") if given is None else given
    try:
        return msgspec.Raw(base64.b64decode(packed, validate=True))
    except (binascii.Error, ValueError):
        raise BadEvent("data_base64", "must be base64") from None


def _at(path: str, fields: Fields, payload: msgspec.Raw) -> msgspec.Raw | None:
    first, *names = path.split(".")
    if not names:
        return _given(fields.get(first, _NONE))
    value = payload
    for name in names:
        if not bytes(value).lstrip().startswith(b"{"):
            return None
        value = _decoded(_step(name), value, path).value
    return _given(value)


@lru_cache(maxsize=256)
def _step(name: str) -> msgspec.json.Decoder[Any]:
    """Takes one name out of an object, and nothing else."""
    one = msgspec.defstruct("Step", [("value", msgspec.Raw, _NONE)], rename={"value": name}, gc=False)
    return msgspec.json.Decoder(one)


def _given(raw: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(raw) == b"null" else raw


def _attribute(fields: Fields, name: str) -> str:
    return _decoded(_text, fields.get(name, _NONE), name) or ""


def _decoded(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw, name: str) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        raise BadEvent(name, "must be a JSON object" if name == "data" else "must be text") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadEvent(name, "is not JSON in UTF-8") from None
