"""Values of a JSON object read by their type, each complaint with the path to the value. Pure.

>>> Reader({"usage": msgspec.Raw(b'{"prompt_tokens":7}')}).object("usage").whole("prompt_tokens")
7

What is absent and what is null are the same: None. A value of another type is a `BadEvent` that names its
path and never its content, for the content may be a prompt. Counts are whole JSON numbers, as all providers
send them: `"12"` and `1.5` are refused. Amounts of money stay the text that they are.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any

import msgspec

from streams import times
from streams.errors import BadEvent
from streams.generation import LATENCY_MS_MAX, TOKENS_MAX, in_plain_words
from streams.sources.interface import Fields

LABEL_LENGTH_MAX = 128

# Plain enough that no exponent can make a huge number of a short text.
_DECIMAL = re.compile(rb"-?[0-9]{1,20}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?")
_MONEY = re.compile(rb'"?-?[0-9][0-9.eE+-]{0,62}"?')
_ZONED = re.compile(r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})$")
_EXPECTED = re.compile(r" - at `.*$", re.DOTALL)

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str | None)
_whole = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)] | None)
_flag = msgspec.json.Decoder(bool | None)


@dataclass(frozen=True, slots=True)
class Reader:
    """One object's values. `path` is where it stands in the body, "" for its top."""

    fields: Fields
    path: str = ""

    def given(self, name: str) -> bool:
        """Whether there is such a value, and it is not null."""
        raw = self.fields.get(name)
        return raw is not None and bytes(raw) != b"null"

    def text(self, name: str) -> str | None:
        """A text; an empty one is none."""
        return self._decoded(_text, name) or None

    def label(self, name: str) -> str | None:
        """A text that no figure needs, cut short; None where there is no text."""
        if not bytes(self.fields.get(name, b"")).startswith(b'"'):
            return None
        text = self.text(name)
        return text[:LABEL_LENGTH_MAX] if text else None

    def whole(self, name: str) -> int | None:
        """A count, of tokens or of milliseconds."""
        value: int | None = self._decoded(_whole, name)
        return value

    def flag(self, name: str) -> bool | None:
        """True, false or unknown."""
        value: bool | None = self._decoded(_flag, name)
        return value

    def money(self, name: str) -> msgspec.Raw | None:
        """An amount as it is written; whether it is a good one is for the event's own checks."""
        if not self.given(name):
            return None
        raw = self.fields[name]
        if _MONEY.fullmatch(bytes(raw)) is None:
            raise BadEvent(self.place(name), "must be a decimal number of dollars")
        return raw

    def milliseconds(self, name: str) -> int | None:
        """A duration in milliseconds, rounded to whole ones."""
        value = self._decimal(name)
        if value is not None and not 0 <= value <= LATENCY_MS_MAX:
            raise BadEvent(self.place(name), f"must be from 0 to {LATENCY_MS_MAX} milliseconds")
        return None if value is None else _rounded(value)

    def instant(self, name: str) -> str | None:
        """A time as an event has it, of RFC 3339 text or of seconds since 1970.

        Text without a zone is in UTC, as these providers mean it. 0 is what a server without a clock says.
        """
        if not self.given(name):
            return None
        if not bytes(self.fields[name]).startswith(b'"'):
            time_ns = self.nanoseconds(name)
            return None if time_ns is None else times.text_of(time_ns)
        text = self.text(name) or ""
        zoned = text if _ZONED.search(text) else f"{text}Z"
        try:
            times.nanoseconds_of(zoned)
        except ValueError as error:
            raise BadEvent(self.place(name), str(error)) from None
        return zoned

    def nanoseconds(self, name: str) -> int | None:
        """A time, as `instant` takes it, in nanoseconds since 1970."""
        if self.given(name) and bytes(self.fields[name]).startswith(b'"'):
            return times.nanoseconds_of(self.instant(name) or "")
        seconds = self._decimal(name)
        if not seconds:
            return None
        try:
            # Floats: what is below a millisecond is their noise, and would make one instant two.
            time_ns = int(seconds * 1000) * times.MS_NS
            # Back and forth, so that the years are those that an event may have.
            return times.nanoseconds_of(times.text_of(time_ns))
        except (ValueError, OverflowError, OSError):
            raise BadEvent(self.place(name), "must be a time of the years 2000 to 2199") from None

    def object(self, name: str) -> "Reader":
        """An object within; an empty one where there is none."""
        if not self.given(name):
            return Reader({}, self.place(name))
        return Reader(self._decoded(_object, name), self.place(name))

    def embedded(self, name: str) -> "Reader":
        """An object, or the text of one: how databases export a JSON column."""
        if not self.given(name) or not bytes(self.fields[name]).startswith(b'"'):
            return self.object(name)
        text = self.text(name)
        return Reader({name: msgspec.Raw((text or "null").encode())}, self.path).object(name)

    def place(self, name: str) -> str:
        """The path to a value."""
        return f"{self.path}.{name}" if self.path else name

    def decoded(self, decoder: msgspec.json.Decoder[Any], name: str) -> Any:
        """A value of any other type; None where there is none."""
        return self._decoded(decoder, name) if self.given(name) else None

    def _decoded(self, decoder: msgspec.json.Decoder[Any], name: str) -> Any:
        raw = self.fields.get(name)
        if raw is None:
            return None
        try:
            return decoder.decode(raw)
        except msgspec.ValidationError as error:
            plain = in_plain_words(_EXPECTED.sub("", str(error)))
            raise BadEvent(self.place(name), plain) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise BadEvent(self.place(name), "is not JSON in UTF-8") from None

    def _decimal(self, name: str) -> Decimal | None:
        if not self.given(name):
            return None
        text = bytes(self.fields[name])
        if _DECIMAL.fullmatch(text) is None:
            raise BadEvent(self.place(name), "must be a plain number")
        return Decimal(text.decode())


def top(value: Mapping[str, msgspec.Raw] | msgspec.Raw | bytes) -> Reader:
    """The reader of a whole object, taken apart or still text."""
    if isinstance(value, Mapping):
        return Reader(value)
    try:
        return Reader(_object.decode(value))
    except msgspec.ValidationError:
        raise BadEvent("", "must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadEvent("", "is not JSON in UTF-8") from None


def is_object(raw: msgspec.Raw | None) -> bool:
    """Whether a value begins as an object does."""
    return raw is not None and bytes(raw).startswith(b"{")


def _rounded(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_HALF_EVEN))
