"""OTLP/HTTP trace bodies in protobuf, made into the fields of the JSON ones. Pure.

    fields = fields_of(body)  # or what is wrong with it
    opentelemetry.events(fields, how)

It needs the extra `otlp` (opentelemetry-proto). A message is built only of what is asked for: the body is
walked first, field by field, counted, and what is not wanted is skipped where it stands. So a small body
can't become a large one in memory, and prompts and answers are never decoded.

Ids become hex digits, as OTLP's JSON has them. A double is a binary one here: what goes on is the shortest
decimal text that means it, which is the amount the sender's program had.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from streams.errors import BadEvent
from streams.sources import otlp
from streams.sources.genai import WANTED
from streams.sources.interface import Fields

NEEDED = "protobuf needs the extra `otlp`: pip install 'genledger[otlp]'; or send OTLP as JSON"
# Those of a body of the size that the door takes, of spans with a hundred attributes each.
FIELDS_MAX = 500_000
VALUE_BYTES_MAX = 65_536

_SEVEN_BITS, _VARINT_BITS_MAX = 0x7F, 70
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_REQUEST_RESOURCE_SPANS = 1
_GROUP_RESOURCE, _GROUP_SCOPE_SPANS = 1, 2
_RESOURCE_ATTRIBUTES, _SCOPE_SPANS, _ATTRIBUTE_KEY = 1, 2, 1
_SPAN_ATTRIBUTES = 9
# Trace id, span id, parent's id, name, start, end.
_SPAN_KEPT = frozenset((1, 2, 4, 5, 7, 8))

_encode = msgspec.json.Encoder().encode


class _Walk:
    """Goes over one body's fields, and counts them."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._left = FIELDS_MAX

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Each field's number, its beginning, and its value's beginning and end."""
        body, position = self._body, start
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise BadEvent("", f"has more than {FIELDS_MAX} fields: send fewer spans at once")
            tag, value = body[position], position + 1
            if tag > _SEVEN_BITS:
                tag, value = self._varint(position, end)
            kind = tag & 7
            if kind == _BYTES:
                length, value = self._varint(value, end)
                after = value + length
            elif kind == _VARINT:
                after = self._varint(value, end)[1]
            elif kind in (_FIXED64, _FIXED32):
                after = value + (8 if kind == _FIXED64 else 4)
            else:
                raise _broken()
            if after > end:
                raise _broken()
            # A number with another type than ours is no field that we know: 0 is nobody's.
            yield (tag >> 3 if kind in (_BYTES, _FIXED64) else 0), position, value, after
            position = after

    def parts(self, wanted: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where the values of one field are."""
        for number, _, value, after in self.fields(start, end):
            if number == wanted:
                yield value, after

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        result = shift = 0
        while position < end and shift < _VARINT_BITS_MAX:
            byte = self._body[position]
            position += 1
            if byte <= _SEVEN_BITS:
                return result | byte << shift, position
            result |= (byte & _SEVEN_BITS) << shift
            shift += 7
        raise _broken()


def _broken() -> BadEvent:
    return BadEvent("", "is not an OTLP trace request in protobuf")


@cache
def _messages() -> tuple[Any, Any, type[Exception]] | None:
    try:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.resource.v1.resource_pb2 import Resource
        from opentelemetry.proto.trace.v1.trace_pb2 import Span
    except ImportError:
        return None
    return Resource, Span, DecodeError


def available() -> bool:
    """Whether the extra is installed."""
    return _messages() is not None


def fields_of(body: bytes) -> Fields | BadEvent:
    """An ExportTraceServiceRequest as the JSON's fields, of attributes only those that `genai` reads."""
    walk = _Walk(body)
    try:
        places = walk.parts(_REQUEST_RESOURCE_SPANS, 0, len(body))
        groups = [group for place in places if (group := _group(walk, body, *place))]
    except BadEvent as error:
        return otlp.bare(error)
    return {otlp.TOP: msgspec.Raw(_encode(groups))}


def answer_of(rejected: int, why: str) -> bytes:
    """An ExportTraceServiceResponse: empty when every span was taken."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = why
    return bytes(answer.SerializeToString())


def _group(walk: _Walk, body: bytes, start: int, end: int) -> dict[str, Any]:
    resource: list[Any] = []
    scopes: list[Any] = []
    for number, _, value, after in walk.fields(start, end):
        if number == _GROUP_RESOURCE:
            kept = _kept(walk, body, value, after, _RESOURCE_ATTRIBUTES)
            resource += _attributes(_message(False, kept))
        elif number == _GROUP_SCOPE_SPANS:
            places = walk.parts(_SCOPE_SPANS, value, after)
            kepts = (_kept(walk, body, *place, _SPAN_ATTRIBUTES) for place in places)
            spans = [_span(_message(True, kept)) for kept in kepts if kept]
            scopes += [{"spans": spans}] if spans else []
    return {"resource": {"attributes": resource}, "scopeSpans": scopes} if scopes else {}


def _kept(walk: _Walk, body: bytes, start: int, end: int, attributes: int) -> bytes:
    """The same message with what is wanted only, each once: of several the last one counts."""
    kept: dict[int | str, bytes] = {}
    for number, field, value, after in walk.fields(start, end):
        if number == attributes:
            name: int | str = _key(walk, body, value, after)
            if name not in WANTED:
                continue
        elif attributes == _SPAN_ATTRIBUTES and number in _SPAN_KEPT:
            name = number
        else:
            continue
        if after - field > VALUE_BYTES_MAX:
            raise BadEvent(name if isinstance(name, str) else "", f"has more than {VALUE_BYTES_MAX} bytes")
        kept[name] = body[field:after]
    return b"".join(kept.values())


def _key(walk: _Walk, body: bytes, start: int, end: int) -> str:
    key = b""
    for value, after in walk.parts(_ATTRIBUTE_KEY, start, end):
        key = body[value : min(after, value + 256)]
    return key.decode(errors="replace")


def _message(is_span: bool, body: bytes) -> Any:
    messages = _messages()
    if messages is None:
        raise BadEvent("", NEEDED)
    resource, span, decode_error = messages
    try:
        return (span if is_span else resource).FromString(body)
    except decode_error:
        raise _broken() from None


def _span(span: Any) -> dict[str, Any]:
    return {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "parentSpanId": span.parent_span_id.hex(),
        "name": span.name,
        "startTimeUnixNano": str(span.start_time_unix_nano),
        "endTimeUnixNano": str(span.end_time_unix_nano),
        "attributes": _attributes(span),
    }


def _attributes(message: Any) -> list[dict[str, Any]]:
    return [{"key": each.key, "value": _value(each.value)} for each in message.attributes]


def _value(value: Any) -> dict[str, Any]:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return {"stringValue": value.string_value}
    if kind == "bool_value":
        return {"boolValue": value.bool_value}
    if kind == "int_value":
        return {"intValue": str(value.int_value)}
    if kind == "double_value":
        number = value.double_value
        return {"doubleValue": msgspec.Raw(repr(number).encode()) if math.isfinite(number) else str(number)}
    if kind == "array_value":
        texts = [each.string_value for each in value.array_value.values if each.HasField("string_value")]
        return {"arrayValue": {"values": [{"stringValue": text} for text in texts]}}
    return {}
