"""The event, read from its JSON text, and which of two versions of an id is the greater.

>>> event = read(b'{"id":"gen-1","organization":"acme","model":"m","cost":"0.0123","prompt_tokens":7}')
>>> event.cost_nano, event.total_tokens
(12300000, 7)
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any

AUTHORITIES = ("estimate", "reported", "reconciled", "corrected")
_WIDE = Context(prec=200, rounding=ROUND_HALF_EVEN)
_TEXT = ("id", "organization", "user", "model", "provider", "source", "finish_reason", "session")
_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens", "cached_tokens")
_KNOWN = {
    *_TEXT,
    *_TOKENS,
    *("cost", "created_at", "upstream_cost", "is_byok", "latency_ms"),
    *("metadata", "authority", "revision", "void"),
}


class Refused(Exception):
    """The event can't be taken; the text names the field."""


@dataclass(frozen=True, slots=True)
class Event:
    """One version of one generation. None is unknown."""

    id: str
    organization: str
    model: str
    user: str
    provider: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_nano: int | None
    created_ns: int | None
    source: str
    reasoning_tokens: int | None
    cached_tokens: int | None
    upstream_cost_nano: int | None
    is_byok: bool | None
    latency_ms: int | None
    finish_reason: str
    session: str
    authority: str
    revision: int | None
    void: bool


def read(line: bytes) -> Event:
    """A line of JSON as an event; `Refused` when it is none."""
    try:
        fields = json.loads(line.decode("utf-8"), parse_float=Decimal, parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Refused("not an object")
    unknown = set(fields) - _KNOWN
    if unknown:
        raise Refused(f"{min(unknown)}: not a field")
    texts = {name: _text(fields, name) for name in _TEXT}
    counts = {name: _count(fields, name, 10**12) for name in _TOKENS}
    void = _flag(fields, "void") or False
    for name in ("id", "organization", *(() if void else ("model",))):
        if not texts[name]:
            raise Refused(f"{name}: required")
    prompt, completion = counts["prompt_tokens"] or 0, counts["completion_tokens"] or 0
    total = counts["total_tokens"]
    if total is not None and total < prompt + completion:
        raise Refused("total_tokens: less than its parts")
    authority = fields.get("authority") or "reported"
    if authority not in AUTHORITIES:
        raise Refused("authority: unknown")
    return Event(
        **texts,
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion if total is None else total,
        cost_nano=_nano(fields, "cost"),
        created_ns=_time(fields.get("created_at")),
        reasoning_tokens=counts["reasoning_tokens"],
        cached_tokens=counts["cached_tokens"],
        upstream_cost_nano=_nano(fields, "upstream_cost"),
        is_byok=_flag(fields, "is_byok"),
        latency_ms=_count(fields, "latency_ms", 10**9),
        authority="corrected" if void else authority,
        revision=_count(fields, "revision", 2**53),
        void=void,
    )


def line_number(line: bytes) -> int | None:
    """The number that the traffic wrote into a line's metadata: it tells lines apart, and is no content."""
    found = json.loads(line).get("metadata") or {}
    number = found.get("n")
    return number if isinstance(number, int) else None


def _not_a_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or re.search(r"[\x00-\x1f\x7f]", value):
        raise Refused(f"{name}: not a plain text")
    if len(value.encode()) > (128 if name in ("organization", "provider") else 256):
        raise Refused(f"{name}: too long")
    return value


def _count(fields: dict[str, Any], name: str, most: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Refused(f"{name}: not a count")
    return value


def _flag(fields: dict[str, Any], name: str) -> bool | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(f"{name}: not true or false")
    return value


def _nano(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise Refused(f"{name}: not a number")
    try:
        dollars = Decimal(value)
    except InvalidOperation:
        raise Refused(f"{name}: not a number") from None
    if not dollars.is_finite() or dollars.is_signed() or dollars > 1_000_000:
        raise Refused(f"{name}: out of bounds")
    return rounded(_WIDE.multiply(dollars, Decimal(10**9)))


def rounded(value: Decimal) -> int:
    """The nearest integer, the even one of two."""
    return int(value.quantize(Decimal(1), rounding=ROUND_HALF_EVEN, context=_WIDE))


def _time(text: object) -> int | None:
    if text is None:
        return None
    found = re.fullmatch(r"(.*?)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text) if isinstance(text, str) else None
    if found is None:
        raise Refused("created_at: not a time with a zone")
    whole, fraction, zone = found.groups()
    try:
        instant = datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    except ValueError:
        raise Refused("created_at: not a time") from None
    if not 2000 <= instant.year < 2200:
        raise Refused("created_at: out of bounds")
    since = instant - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + int((fraction or "").ljust(9, "0")[:9])


def is_greater(left: Event, right: Event) -> bool:
    """Does the left version win over the right one? By rank, and between equals by their content's hash."""
    return (rank(left), fingerprint(left)) > (rank(right), fingerprint(right))


def is_same(left: Event, right: Event) -> bool:
    """Is it the same version told again?"""
    return rank(left) == rank(right) and content(left) == content(right)


def rank(event: Event) -> tuple[bool, int, int, bool, int, int]:
    """(cost known or void, authority, revision, void, total tokens, cost); absent is lowest."""
    return (
        event.void or event.cost_nano is not None,
        AUTHORITIES.index(event.authority),
        -1 if event.revision is None else event.revision,
        event.void,
        event.total_tokens,
        -1 if event.cost_nano is None else event.cost_nano,
    )


def content(event: Event) -> list[object]:
    """What a view may show."""
    return [
        *(event.user, event.model, event.provider),
        *(event.prompt_tokens, event.completion_tokens, event.total_tokens),
        *(event.cost_nano, event.created_ns, event.source),
        *(event.reasoning_tokens, event.cached_tokens, event.upstream_cost_nano),
        *(event.is_byok, event.latency_ms, event.finish_reason, event.session),
    ]


def fingerprint(event: Event) -> bytes:
    """16 bytes of BLAKE2b over the content as a JSON array."""
    text = json.dumps(content(event), ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).digest()
