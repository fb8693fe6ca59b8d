"""What a caller records, as the line that is sent: checked here, so that an error names its field. Pure.

>>> id, line = line_of({"id": "gen-1", "model": "m", "cost": "0.0123"}, "acme", 1795176000000)
>>> line.decode()
'{"id":"gen-1","organization":"acme","model":"m","cost":"0.0123","created_at":"2026-11-20T12:00:00Z"}'

An event without an id gets one, once, so that every try of it says the same. One without `created_at` is
dated now: it may be sent days later.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from streams import generation, times
from streams.errors import BadEvent

ID_PREFIX = "client-"
MONEY = ("cost", "upstream_cost")
# Stands for the organisation of the API key, which only the gateway knows.
_OF_THE_KEY = "key"

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()
_as_sent = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def line_of(
    event: Mapping[str, Any], organization: str, now_ms: int, *, keyed: bool = False
) -> tuple[str, bytes]:
    """The id and the line of an event given as Python values; `BadEvent` names a field that is wrong.

    `keyed`: an API key is shown, which may have an organisation of its own.
    """
    plain = {name: _plain(name, value) for name, value in event.items() if value is not None}
    try:
        text = _encoder.encode(plain)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
        raise BadEvent(_unencodable(plain), "can't be written as JSON") from None
    return line_of_json(text, organization, now_ms, keyed=keyed)


def line_of_json(text: bytes, organization: str, now_ms: int, *, keyed: bool = False) -> tuple[str, bytes]:
    """The same of an event that is JSON already: its numbers stay as they are written."""
    try:
        fields = _fields.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadEvent("", "must be a JSON object in UTF-8") from None
    given = {name: raw for name, raw in fields.items() if raw != b"null"}
    defaults = {
        "id": f"{ID_PREFIX}{uuid.uuid4()}",
        "organization": organization,
        "created_at": times.text_of(now_ms * times.MS_NS),
    }
    for name, value in defaults.items():
        if name not in given and value:
            given[name] = msgspec.Raw(_encoder.encode(value))
    # In the event's own order, so that the same event is the same line.
    names = sorted(given, key=lambda name: _ORDER.get(name, len(_ORDER)))
    line = _encoder.encode({name: given[name] for name in names})
    if len(line) > generation.EVENT_BYTES_MAX:
        raise BadEvent("", f"must be at most {generation.EVENT_BYTES_MAX} bytes")
    return generation.decode(line, _OF_THE_KEY if keyed else "").id, line.replace(b"\n", b" ").replace(
        b"\r", b" "
    )


_ORDER = {name: place for place, name in enumerate(generation.FIELDS)}


def event_of(line: bytes) -> dict[str, Any]:
    """A line as a caller gets it back; {} when it can't be read. Numbers with a point are decimals."""
    try:
        return _as_sent.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _plain(name: str, value: Any) -> Any:
    """A value as JSON is to have it: money and times as text."""
    if name in MONEY:
        if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
            raise BadEvent(name, "must be text, a Decimal or a number")
        # A float is what its repr says: the provider's own digits, as far as the float has them.
        return value if isinstance(value, str) else _decimal_text(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadEvent(name, "must have a time zone")
        return value.isoformat()
    return value


def _decimal_text(value: float | Decimal) -> str:
    return str(value) if isinstance(value, int | Decimal) else repr(value)


def _unencodable(fields: Mapping[str, Any]) -> str:
    for name, value in fields.items():
        try:
            _encoder.encode(value)
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError):
            return str(name)
    return ""
