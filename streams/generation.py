"""The event: one model call, as a producer publishes it.

>>> event = decode(b'{"id":"gen-1","organization":"acme","model":"m","cost":"0.0123","prompt_tokens":7}')
>>> event.cost_nano, event.total_tokens
(12300000, 7)

`decode` is strict: a field of the wrong type, a number out of bounds or a name that is not ours is a
`BadEvent` that names the field. `encode` writes an event as the log keeps it; `decode(encode(e)) == e`.
Where the same JSON key stands twice, the last one counts, on every path. The schema's version is a record
header (`schema: 1`; absent means 1).
"""

import re
from typing import Annotated, Literal

import msgspec

from streams import money, times
from streams.errors import BadEvent
from streams.log.interface import Headers

SCHEMA_HEADER = "schema"
SCHEMA_HEADERS: Headers = ((SCHEMA_HEADER, b"1"),)

AUTHORITIES = ("estimate", "reported", "reconciled", "corrected")
Authority = Literal["estimate", "reported", "reconciled", "corrected"]
DEFAULT_AUTHORITY: Authority = "reported"

TOKENS_MAX = 1_000_000_000_000
LATENCY_MS_MAX = 1_000_000_000
REVISION_MAX = 2**53
# An event is dated at most so far after the log takes it.
EARLY_NS_MAX = times.DAY_NS
METADATA_BYTES_MAX = 4096
EVENT_BYTES_MAX = 65_536
ID_BYTES_MAX = 256
# name: most bytes in UTF-8
TEXT_BYTES_MAX = {
    "id": ID_BYTES_MAX,
    "organization": 128,
    "user": 256,
    "model": 256,
    "provider": 128,
    "source": 64,
    "finish_reason": 64,
    "session": 256,
}

Tokens = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]
Revision = Annotated[int, msgspec.Meta(ge=0, le=REVISION_MAX)]
LatencyMs = Annotated[int, msgspec.Meta(ge=0, le=LATENCY_MS_MAX)]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FIELD = re.compile(r" - at `\$\.?([A-Za-z_]*).*`$")
_WANTED = re.compile(r"Expected `([a-z]+)")
_BOUND = re.compile(r"Expected `int` (>=|<=) ([0-9]+)")
_PLAIN = {"int": "a whole number", "str": "text", "bool": "true or false", "object": "a JSON object"}
_UNKNOWN = re.compile(r"unknown field `(.*)`", re.DOTALL)
# Keys of the retention job's own records: a generation of such a name would be compacted away with them.
RESERVED_IDS = ("horizon-", "balance-")
ORGANIZATION_REQUIRED = "is required, in the event or by the API key"


class Generation(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An event, checked. Money is nano-dollars, time nanoseconds; None is unknown, never zero.

    `known.py` keeps it as an array: fields are only ever added, at the end and with a default.
    """

    id: str
    organization: str
    model: str
    user: str = ""
    provider: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost_nano: int | None = None
    created_ns: int | None = None
    source: str = ""
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    upstream_cost_nano: int | None = None
    is_byok: bool | None = None
    latency_ms: int | None = None
    finish_reason: str = ""
    session: str = ""
    authority: Authority = DEFAULT_AUTHORITY
    revision: int | None = None
    void: bool = False
    metadata: bytes = b""


# What stands for "not given" where the text of the JSON itself is wanted.
ABSENT = msgspec.Raw(b"")


class Wire(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False, kw_only=True):
    """The event as JSON has it: what `docs/event.schema.json` is made from."""

    id: str
    organization: str | None = None
    model: str | None = None
    user: str | None = None
    provider: str | None = None
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    total_tokens: Tokens | None = None
    cost: msgspec.Raw = ABSENT
    created_at: str | None = None
    source: str | None = None
    reasoning_tokens: Tokens | None = None
    cached_tokens: Tokens | None = None
    upstream_cost: msgspec.Raw = ABSENT
    is_byok: bool | None = None
    latency_ms: LatencyMs | None = None
    finish_reason: str | None = None
    session: str | None = None
    metadata: msgspec.Raw = ABSENT
    authority: Authority | None = None
    revision: Revision | None = None
    void: bool | None = None


FIELDS = Wire.__struct_fields__

_wire = msgspec.json.Decoder(Wire)
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def decode(value: bytes | msgspec.Raw, organization: str = "") -> Generation:
    """Bytes to an event, or `BadEvent`. `organization` is the key's, which an event may leave out."""
    return checked(decode_wire(value), organization)


def decode_wire(value: bytes | msgspec.Raw) -> Wire:
    """The JSON as it is typed, before its texts and sums are looked at."""
    try:
        return _wire.decode(value)
    except msgspec.ValidationError as error:
        raise _bad(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEvent("", f"not JSON in UTF-8: {error}", "undecodable") from None


def without_unknown_fields(value: bytes | msgspec.Raw) -> tuple[bytes, list[str]]:
    """The same object with our fields only, and the names of the others."""
    try:
        fields = _raw_object.decode(value)
    except msgspec.ValidationError:
        raise BadEvent("", "must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEvent("", f"not JSON in UTF-8: {error}") from None
    ignored = [name for name in fields if name not in FIELDS]
    for name in ignored:
        del fields[name]
    return _encoder.encode(fields), ignored


def checked(wire: Wire, organization: str = "") -> Generation:
    """The event of a typed JSON object: lengths, characters, money, time and sums looked at."""
    prompt, completion, total = wire.prompt_tokens or 0, wire.completion_tokens or 0, wire.total_tokens
    void = wire.void or False
    # By position, in the order of the fields: by name it takes a quarter more of the whole decoding.
    event = Generation(
        wire.id,
        wire.organization or organization,
        wire.model or "",
        wire.user or "",
        wire.provider or "",
        prompt,
        completion,
        prompt + completion if total is None else total,
        None if wire.cost is ABSENT else _money("cost", wire.cost),
        None if wire.created_at is None else _time(wire.created_at),
        wire.source or "",
        wire.reasoning_tokens,
        wire.cached_tokens,
        None if wire.upstream_cost is ABSENT else _money("upstream_cost", wire.upstream_cost),
        wire.is_byok,
        wire.latency_ms,
        wire.finish_reason or "",
        wire.session or "",
        # A void is an administrator's correction, whatever it calls itself.
        "corrected" if void else wire.authority or DEFAULT_AUTHORITY,
        wire.revision,
        void,
        b"" if wire.metadata is ABSENT else _metadata(wire.metadata),
    )
    _check(event)
    return event


def _check(event: Generation) -> None:
    id, organization, provider, source = event.id, event.organization, event.provider, event.source
    finish_reason = event.finish_reason
    text = f"{id}{organization}{event.user}{event.model}{provider}{source}{finish_reason}{event.session}"
    # Nearly every event: complete, and what is text of it short, plain and printable.
    if not (
        id
        and organization
        and event.model
        and event.prompt_tokens + event.completion_tokens <= event.total_tokens
        and not id.startswith(RESERVED_IDS)
        and len(text) <= 256
        and len(organization) + len(provider) <= 128
        and len(source) + len(finish_reason) <= 64
        and text.isascii()
        and text.isprintable()
    ):
        _check_thoroughly(event, text)


def _check_thoroughly(event: Generation, text: str) -> None:
    """Says what is wrong with an event, if anything is. `text` is all that is text of it."""
    if not event.id:
        raise BadEvent("id", "must not be empty")
    if not event.organization:
        raise BadEvent("organization", ORGANIZATION_REQUIRED)
    if not event.model and not event.void:
        raise BadEvent("model", "is required")
    if event.total_tokens < event.prompt_tokens + event.completion_tokens:
        raise BadEvent("total_tokens", "must not be less than prompt_tokens + completion_tokens")
    if event.id.startswith(RESERVED_IDS):
        raise BadEvent("id", "must not begin with horizon- or balance-, which the log uses itself")
    _check_lengths(event)
    if _CONTROL.search(text):
        name = next(n for n in TEXT_BYTES_MAX if _CONTROL.search(getattr(event, n)))
        raise BadEvent(name, "must not contain control characters")


def _check_lengths(event: Generation) -> None:
    for name, most in TEXT_BYTES_MAX.items():
        text: str = getattr(event, name)
        # UTF-8 takes at most 4 bytes a character, so a short text needs no encoding to be measured.
        if len(text) * 4 > most and len(text.encode()) > most:
            raise BadEvent(name, f"must be at most {most} bytes")


def _money(name: str, raw: msgspec.Raw) -> int | None:
    text = bytes(raw)
    whole, _, digits = text.strip(b'"').partition(b".")
    if whole == b"0" and len(digits) <= 9 and digits.isdigit():
        return int(digits) * money.SCALE[len(digits)]  # nearly every cost there is
    if text == b"null":
        return None
    if len(text) > 2 and text[:1] == b'"':
        text = text[1:-1]
    try:
        return money.nano_of(text.decode())
    except ValueError as error:
        raise BadEvent(name, str(error)) from None


def _time(text: str) -> int:
    try:
        return times.nanoseconds_of(text)
    except ValueError as error:
        raise BadEvent("created_at", str(error)) from None


def _metadata(raw: msgspec.Raw) -> bytes:
    text = bytes(raw)
    if text == b"null":
        return b""
    if not text.startswith(b"{"):
        raise BadEvent("metadata", "must be a JSON object")
    if len(text) > METADATA_BYTES_MAX:
        raise BadEvent("metadata", f"must be at most {METADATA_BYTES_MAX} bytes")
    return text


def _bad(message: str) -> BadEvent:
    unknown = _UNKNOWN.search(message)
    if unknown:
        return BadEvent(unknown.group(1), "is not a field of an event", "unknown_field")
    field = _FIELD.search(message)
    if field is None or not field.group(1):
        missing = re.search(r"missing required field `(.*?)`", message)
        if missing:
            return BadEvent(missing.group(1), "is required")
        return BadEvent("", "must be a JSON object")
    return BadEvent(field.group(1), in_plain_words(message[: field.start()]))


def in_plain_words(message: str) -> str:
    """What msgspec says of a JSON value, for people who send JSON and know no Python."""
    bound = _BOUND.match(message)
    if bound:
        return f"must be at {'least' if bound.group(1) == '>=' else 'most'} {bound.group(2)}"
    if message.startswith("Invalid enum value"):
        return f"must not be {message.removeprefix('Invalid enum value ')}"
    if "out of range" in message:
        return "must be a whole number within its bounds"
    wanted = _WANTED.match(message)
    plain = _PLAIN.get(wanted.group(1)) if wanted else None
    return f"must be {plain}" if plain else message


def wire_of(event: Generation) -> Wire:
    """An event as JSON has it: money as decimal text, time as RFC 3339, what is unknown left out."""
    return Wire(
        id=event.id,
        organization=event.organization,
        model=event.model or None,
        user=event.user or None,
        provider=event.provider or None,
        prompt_tokens=event.prompt_tokens,
        completion_tokens=event.completion_tokens,
        total_tokens=None if _is_sum(event) else event.total_tokens,
        cost=_raw_money(event.cost_nano),
        created_at=None if event.created_ns is None else times.text_of(event.created_ns),
        source=event.source or None,
        reasoning_tokens=event.reasoning_tokens,
        cached_tokens=event.cached_tokens,
        upstream_cost=_raw_money(event.upstream_cost_nano),
        is_byok=event.is_byok,
        latency_ms=event.latency_ms,
        finish_reason=event.finish_reason or None,
        session=event.session or None,
        metadata=msgspec.Raw(event.metadata) if event.metadata else ABSENT,
        authority=event.authority,
        revision=event.revision,
        void=True if event.void else None,
    )


def _is_sum(event: Generation) -> bool:
    return event.total_tokens == event.prompt_tokens + event.completion_tokens


def _raw_money(nano: int | None) -> msgspec.Raw:
    return ABSENT if nano is None else msgspec.Raw(f'"{money.text_of(nano)}"'.encode())


def encode(event: Generation) -> bytes:
    """An event as the log keeps it."""
    return _encoder.encode(wire_of(event))
