"""Opening records, as a migration brings them: what an earlier system counted. Pure.

    {"balance": {"margin": "day", "organization": "acme", "day": "2025-01-31", "requests": 7,
                 "total_tokens": 900, "cost_nano": 300000000, "markup_nano": 390000000}}
    {"known": {"id": "gen-1", "organization": "acme", "model": "m", "cost": "0.3", ...an event...}}

A balance is one row of one of the three tables (a day's, a user's, a model's): three margins of the same
money. Its key is made of what the row is, so the same row told twice is the same record, and a newer one
takes the place of the older. A balance of zeros takes it back; so does, for a known id, its void.
"""

import re
from hashlib import blake2b
from typing import Literal

import msgspec

from streams import generation, records, times, topics
from streams.errors import BadEvent
from streams.generation import TEXT_BYTES_MAX
from streams.known import Amount, Balance
from streams.log.interface import Message
from streams.log.partition import partition_of

BALANCE_PREFIX = "balance-"
# Of a known id: whatever is told of it later is a lesser version, so that its money stays in the balance.
AUTHORITY: generation.Authority = "corrected"
REVISION = generation.REVISION_MAX
# processed_generations names no model, and an event has one.
MODEL, SOURCE = "unknown", "migration"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ROW_OF = {"day": "", "user": "user", "model": "model"}


class BalanceWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A balance as JSON has it: `user` names a user's row, `model` a model's; money in nano-dollars."""

    margin: Literal["day", "user", "model"]
    organization: str
    day: str
    user: str = ""
    model: str = ""
    provider: str = ""
    requests: Amount = 0
    unpriced_requests: Amount = 0
    prompt_tokens: Amount = 0
    completion_tokens: Amount = 0
    total_tokens: Amount = 0
    cost_nano: Amount = 0
    markup_nano: Amount = 0


class OpeningWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One opening entry: a known id's event, or a balance."""

    known: msgspec.Raw = generation.ABSENT
    balance: BalanceWire | None = None


_decoder = msgspec.json.Decoder(OpeningWire)
_encoder = msgspec.json.Encoder()


def key_of(balance: Balance | BalanceWire) -> str:
    """The key of a balance's row: no two rows share one, whatever characters their names hold."""
    row = (balance.organization, balance.day, balance.margin, row_of(balance))
    return BALANCE_PREFIX + blake2b(_encoder.encode(row), digest_size=16).hexdigest()


def row_of(balance: Balance | BalanceWire) -> str:
    """The user of a user's row, the model of a model's; '' of the day's."""
    return {"user": balance.user, "model": balance.model}.get(balance.margin, "")


def check_balance(balance: Balance) -> None:
    """`BadEvent` when it names no row of a table."""
    if balance.margin not in _ROW_OF:
        raise BadEvent("margin", "must be day, user or model")
    if not balance.organization:
        raise BadEvent("organization", "must not be empty")
    for name in ("organization", "user", "model", "provider"):
        text: str = getattr(balance, name)
        if len(text.encode()) > TEXT_BYTES_MAX[name]:
            raise BadEvent(name, f"must be at most {TEXT_BYTES_MAX[name]} bytes")
        if _CONTROL.search(text):
            raise BadEvent(name, "must not contain control characters")
    try:
        times.date_text(balance.day)
    except ValueError:
        raise BadEvent("day", "must be a date such as 2026-11-20") from None
    for name in {"user", "model"} - {_ROW_OF[balance.margin]}:
        if getattr(balance, name):
            raise BadEvent(name, f"is not what a row of margin {balance.margin} is of")
    if balance.margin == "model" and not balance.model:
        raise BadEvent("model", "is required")
    if balance.unpriced_requests > balance.requests:
        raise BadEvent("unpriced_requests", "must not be more than requests")


def message_of(item: bytes | msgspec.Raw, partitions: int, latest_ns: int) -> Message:
    """An opening entry as it goes onto the log; `BadEvent` says why it does not."""
    try:
        wire = _decoder.decode(item)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$.")
        raise BadEvent(place.strip("`"), generation.in_plain_words(message)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEvent("", f"not JSON in UTF-8: {error}", "undecodable") from None
    if (wire.balance is None) == (wire.known is generation.ABSENT):
        raise BadEvent("", "must have either known or balance")
    if wire.balance is not None:
        balance = Balance(*msgspec.structs.astuple(wire.balance))
        check_balance(balance)
        key = key_of(balance).encode()
        return records.balance_message(key, balance, partition_of(key, partitions))
    event = generation.decode(wire.known)
    if event.created_ns is None and not event.void:
        raise BadEvent("created_at", "is required of a known id")
    if event.created_ns is not None and event.created_ns > latest_ns:
        raise BadEvent("created_at", "is more than 24 hours ahead", "early")
    return _known_message(event, partitions)


def _known_message(event: generation.Generation, partitions: int) -> Message:
    key = event.id.encode()
    value = _encoder.encode({"known": generation.wire_of(event)})
    headers = (*generation.SCHEMA_HEADERS, (records.KIND, records.OPENING))
    return Message(topics.GENERATIONS, partition_of(key, partitions), key, value, headers)
