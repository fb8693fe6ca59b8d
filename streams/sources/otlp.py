"""OTLP/HTTP trace bodies, JSON: the spans in one, and the attributes that are asked for. Pure.

    for span in spans(fields, wanted):
        span.attributes["gen_ai.usage.input_tokens"], span.resource.get("service.name")

Nothing is decoded that is not asked for: an attribute whose key is not in `wanted`, to the letter, stays
text and falls off, so prompts and answers are never read. A body is walked one span at a time; what can grow
before that is bounded by the objects that its text can have.

`intValue` may be a number or its text, as protobuf's JSON has it. `doubleValue` stays the text that it was:
a cost is never read through a float. Where a key stands twice, the last one counts.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar

import msgspec

from streams.errors import BadEvent
from streams.sources.interface import Fields

# More than a body of real spans has, at the size that the door takes: an attribute is two objects.
OBJECTS_MAX = 250_000
TOP = "resourceSpans"

Value = str | int | bool | list[str] | msgspec.Raw
Attributes = Mapping[str, Value]

T = TypeVar("T")

_ABSENT = msgspec.Raw(b"")
_NULL = msgspec.Raw(b"null")
_INTEGER = re.compile(rb"-?[0-9]{1,19}")
_TIME = re.compile(rb"[0-9]{1,20}")
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span, with those of its attributes, and of its resource's, that were asked for."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start_ns: int  # 0: not given
    end_ns: int
    attributes: Attributes
    resource: Attributes


class _Resource(msgspec.Struct, gc=False):
    attributes: msgspec.Raw = _ABSENT


class _ResourceSpans(msgspec.Struct, gc=False, rename="camel"):
    resource: _Resource | None = None
    scope_spans: msgspec.Raw = _ABSENT


class _ScopeSpans(msgspec.Struct, gc=False):
    spans: msgspec.Raw = _ABSENT


class _Shell(msgspec.Struct, gc=False, rename="camel"):
    """A span with its values still as text, so that one that is wrong spoils no other."""

    trace_id: msgspec.Raw = _ABSENT
    span_id: msgspec.Raw = _ABSENT
    parent_span_id: msgspec.Raw = _ABSENT
    name: msgspec.Raw = _ABSENT
    start_time_unix_nano: msgspec.Raw = _ABSENT
    end_time_unix_nano: msgspec.Raw = _ABSENT
    attributes: msgspec.Raw = _ABSENT


class _Attribute(msgspec.Struct, gc=False):
    key: str = ""
    value: msgspec.Raw = _ABSENT


class _Array(msgspec.Struct, gc=False):
    values: list["_Any"] | None = None


class _Any(msgspec.Struct, gc=False, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: msgspec.Raw = _ABSENT
    double_value: msgspec.Raw = _ABSENT
    array_value: _Array | None = None


_resource_spans = msgspec.json.Decoder(list[_ResourceSpans])
_scope_spans = msgspec.json.Decoder(list[_ScopeSpans])
_shells = msgspec.json.Decoder(list[_Shell])
_attributes = msgspec.json.Decoder(list[_Attribute])
_any = msgspec.json.Decoder(_Any)
_text = msgspec.json.Decoder(str)


def matches(fields: Fields) -> bool:
    """Whether an object is an OTLP trace body."""
    return TOP in fields


def resources(fields: Fields, wanted: Collection[str]) -> Iterator[Attributes]:
    """The attributes of each resource that has spans."""
    for group in _groups(fields):
        yield _resource(group, wanted)


def spans(fields: Fields, wanted: Collection[str]) -> Iterator[Span | BadEvent]:
    """Each span in its order, or what is wrong with it; `BadEvent` is raised for the body as a whole."""
    for group in _groups(fields):
        resource = _resource(group, wanted)
        for scope in _list(_scope_spans, group.scope_spans, "scopeSpans"):
            for shell in _list(_shells, scope.spans, "spans"):
                try:
                    yield _span(shell, resource, wanted)
                except BadEvent as error:
                    yield bare(error)


def bare(error: BadEvent) -> BadEvent:
    """An error to keep: without its traceback, which holds on to all that was being read."""
    return BadEvent(error.field, error.error, error.reason)


def _given(raw: msgspec.Raw) -> bool:
    return bool(raw) and raw != _NULL


def _groups(fields: Fields) -> list[_ResourceSpans]:
    raw = fields.get(TOP, _ABSENT)
    if bytes(raw).count(b"{") > OBJECTS_MAX:
        raise BadEvent(TOP, f"has more than {OBJECTS_MAX} objects: send fewer spans at once")
    return _list(_resource_spans, raw, TOP)


def _list(decoder: msgspec.json.Decoder[list[T]], raw: msgspec.Raw, name: str) -> list[T]:
    return _decoded(decoder, raw, name) if _given(raw) else []


def _decoded(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw, name: str) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not what msgspec says: it may quote what was sent.
        raise BadEvent(name, "is not as OTLP has it") from None


def _resource(group: _ResourceSpans, wanted: Collection[str]) -> Attributes:
    return {} if group.resource is None else _wanted(group.resource.attributes, wanted)


def _span(shell: _Shell, resource: Attributes, wanted: Collection[str]) -> Span:
    return Span(
        trace_id=_string(shell.trace_id, "traceId").lower(),
        span_id=_string(shell.span_id, "spanId").lower(),
        parent_id=_string(shell.parent_span_id, "parentSpanId").lower(),
        name=_string(shell.name, "name"),
        start_ns=_nanoseconds(shell.start_time_unix_nano, "startTimeUnixNano"),
        end_ns=_nanoseconds(shell.end_time_unix_nano, "endTimeUnixNano"),
        attributes=_wanted(shell.attributes, wanted),
        resource=resource,
    )


def _wanted(raw: msgspec.Raw, wanted: Collection[str]) -> Attributes:
    # Keys are compared whole: input_tokens is no part of input_tokens.cached.
    found = {
        attribute.key: attribute.value
        for attribute in _list(_attributes, raw, "attributes")
        if attribute.key in wanted
    }
    values = {key: _value(value, key) for key, value in found.items()}
    return {key: value for key, value in values.items() if value is not None}


def _value(raw: msgspec.Raw, key: str) -> Value | None:
    if not _given(raw):
        return None
    value = _decoded(_any, raw, key)
    if value.string_value is not None:
        return value.string_value
    if value.bool_value is not None:
        return value.bool_value
    if _given(value.int_value):
        return _integer(value.int_value, key)
    if _given(value.double_value):
        return value.double_value
    if value.array_value is not None:
        return [each.string_value for each in value.array_value.values or () if each.string_value is not None]
    return None


def _integer(raw: msgspec.Raw, name: str) -> int:
    text = bytes(raw).strip(b'"')
    number = int(text) if _INTEGER.fullmatch(text) else None
    if number is None or not _INT64_MIN <= number <= _INT64_MAX:
        raise BadEvent(name, "must be a whole number of 64 bits")
    return number


def _nanoseconds(raw: msgspec.Raw, name: str) -> int:
    if not _given(raw):
        return 0
    text = bytes(raw).strip(b'"')
    # As many digits as 64 bits may have; whether it is a year that we take, the event's own checks say.
    if _TIME.fullmatch(text) is None:
        raise BadEvent(name, "must be nanoseconds since 1970")
    return int(text)


def _string(raw: msgspec.Raw, name: str) -> str:
    return _decoded(_text, raw, name) if _given(raw) else ""
