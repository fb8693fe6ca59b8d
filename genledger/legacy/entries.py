"""A legacy row as an opening entry, and an entry as what takes it back. Pure.

    balance_of(DAY, {"organization": "acme", "day": "2025-01-31", "cost": 0.1 + 0.2, ...})
    known_of({"id": "gen-1", "organization": "acme", "day": "2025-01-31", "cost": 0.3, ...}, "UTC")

A row that can't be taken is a `BadCell`. A user's row goes by the provider's user id, as here; where there is
none, by the application's.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from genledger.legacy import exact
from genledger.legacy.exact import BadCell, Cell
from genledger.legacy.tables import Table
from streams import generation, money, openings, times
from streams.errors import BadEvent
from streams.known import Balance
from streams.openings import BalanceWire

NOON_NS = 12 * 3600 * 1_000_000_000
_encoder = msgspec.json.Encoder()
_balance = msgspec.json.Decoder(dict[str, BalanceWire])

Cells = Mapping[str, Cell]


class KnownId(msgspec.Struct, frozen=True):
    """A row of processed_generations, understood."""

    id: str
    organization: str
    day: str
    cost_nano: int
    total_tokens: int


def row_name(table: Table, cells: Cells) -> str:
    """The user or the model that a row is of; '' of a day's."""
    if table.margin == "user":
        user = exact.text_of(cells.get("user"), "openrouter_user_id", empty=True)
        return user or exact.text_of(cells.get("user_id"), "user_id", empty=True)
    return exact.text_of(cells.get("model"), "model_name") if table.margin == "model" else ""


def balance_of(table: Table, cells: Cells) -> BalanceWire:
    """A row of one of the three summaries."""
    assert table.margin
    row = row_name(table, cells)
    prompt = exact.count_of(cells.get("prompt_tokens") or 0, "prompt_tokens")
    completion = exact.count_of(cells.get("completion_tokens") or 0, "completion_tokens")
    balance = BalanceWire(
        margin=table.margin,
        organization=exact.text_of(cells["organization"], "client_org_id"),
        day=exact.day_of(cells["day"]),
        user=row if table.margin == "user" else "",
        model=row if table.margin == "model" else "",
        provider=exact.text_of(cells.get("provider"), "provider", empty=True),
        requests=exact.count_of(cells["requests"], "total_requests"),
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=exact.count_of(cells["total_tokens"], "total_tokens"),
        cost_nano=exact.nano_of(cells["cost"], "raw_cost"),
        markup_nano=exact.nano_of(cells["markup"], "markup_cost"),
    )
    try:
        openings.check_balance(Balance(*msgspec.structs.astuple(balance)))
    except BadEvent as error:
        raise BadCell(error.field, error.error) from None
    return balance


def added(one: BalanceWire, other: BalanceWire) -> BalanceWire:
    """Two rows of the same organisation, day and name as the one that they are here."""
    more = replace(
        one,
        requests=one.requests + other.requests,
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        total_tokens=one.total_tokens + other.total_tokens,
        cost_nano=one.cost_nano + other.cost_nano,
        markup_nano=one.markup_nano + other.markup_nano,
        provider=one.provider if one.requests >= other.requests else other.provider,
    )
    if max(more.total_tokens, more.cost_nano, more.markup_nano) > exact.AMOUNT_MAX:
        raise BadCell("total_tokens", "of several rows of one name is more than 64 bits hold")
    return more


def is_nothing(balance: BalanceWire) -> bool:
    """A row of zeros: it says nothing, and need not be carried."""
    return not (balance.requests or balance.total_tokens or balance.cost_nano or balance.markup_nano)


def known_id_of(cells: Cells) -> KnownId:
    """A row of processed_generations."""
    found = KnownId(
        id=exact.text_of(cells["id"], "id"),
        organization=exact.text_of(cells["organization"], "client_org_id"),
        day=exact.day_of(cells["day"], "generation_date"),
        cost_nano=exact.nano_of(cells["cost"], "total_cost"),
        total_tokens=exact.count_of(cells["total_tokens"], "total_tokens"),
    )
    known_line(found, "UTC")
    return found


def known_line(row: KnownId, zone: str) -> bytes:
    """The opening entry of a known id: dated at noon of its day, as no later version may be greater."""
    event = generation.Wire(
        id=row.id,
        organization=row.organization,
        model=openings.MODEL,
        total_tokens=row.total_tokens,
        cost=msgspec.Raw(f'"{money.text_of(row.cost_nano)}"'.encode()),
        created_at=times.text_of(times.midnight_ns(times.date_text(row.day), zone) + NOON_NS),
        source=openings.SOURCE,
        authority=openings.AUTHORITY,
        revision=openings.REVISION,
    )
    try:
        generation.checked(event)
        return _encoder.encode({"known": generation.wire_of(generation.checked(event))})
    except BadEvent as error:
        raise BadCell(error.field, error.error) from None


def balance_line(balance: BalanceWire) -> bytes:
    """The opening entry of a balance."""
    return _encoder.encode({"balance": balance})


def taken_back(line: bytes) -> bytes:
    """What undoes an entry: a balance of zeros, or the id's void."""
    entry: dict[str, Any] = msgspec.json.decode(line)
    if "balance" in entry:
        balance = _balance.decode(line)["balance"]
        return balance_line(
            BalanceWire(
                margin=balance.margin,
                organization=balance.organization,
                day=balance.day,
                user=balance.user,
                model=balance.model,
                provider=balance.provider,
            )
        )
    known = entry["known"]
    return _encoder.encode(
        {"known": {"id": known["id"], "organization": known["organization"], "void": True}}
    )
