"""A body taken apart into events, none of them looked at yet. Pure.

>>> split(b'[{"id":"a"},{"id":"b"}]', JSON, 10)
[(0, b'{"id":"a"}'), (1, b'{"id":"b"}')]

An item's text stays as it was sent, so that a cost is never read through a float. Each item has its place:
in an array its index, in NDJSON its line, both from 0.
"""

import codecs
from collections.abc import Sequence

import msgspec

from streams.gateway.answers import Refusal

JSON = "application/json"
NDJSON = "application/x-ndjson"
PROTOBUF = "application/x-protobuf"

Item = bytes | msgspec.Raw

# More commas than events of the largest count could hold: refused before anything is built from them.
COMMAS_PER_ITEM_MAX = 200
# Of other people's bodies, whose objects are taken apart, too; more than a span with its attributes has.
FOREIGN_COMMAS_PER_ITEM_MAX = 100
LINES_PER_ITEM_MAX = 4
_SPACE = b" \t\r\n"
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_array = msgspec.json.Decoder(list[msgspec.Raw])


def split(
    body: bytes, content_type: str, items_max: int, *, are_ours: bool = True
) -> Sequence[tuple[int, Item]]:
    """The items of a body with their places; a `Refusal` when the body as a whole is no good."""
    check_text(body)
    if not are_ours and body.count(b",") > items_max * FOREIGN_COMMAS_PER_ITEM_MAX:
        raise too_many(items_max)
    items = _lines(body, items_max) if content_type == NDJSON else _values(body, items_max)
    if not items:
        raise _unprocessable("there is no event in the body")
    if len(items) > items_max:
        raise too_many(items_max)
    return items


def check_text(body: bytes) -> None:
    """Refuse what is not UTF-8."""
    if body.startswith(_MARKS):
        raise _not_utf8("it begins with a byte order mark")
    if b"\0" in body:
        raise _not_utf8("it has NUL bytes, as UTF-16 has")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise _not_utf8(f"{error.reason} at byte {error.start}") from None


def _lines(body: bytes, items_max: int) -> Sequence[tuple[int, Item]]:
    if body.count(b"\n") > items_max * LINES_PER_ITEM_MAX:
        raise too_many(items_max)
    return [(place, line) for place, line in enumerate(body.split(b"\n")) if line.strip(_SPACE)]


def _values(body: bytes, items_max: int) -> Sequence[tuple[int, Item]]:
    start = body.lstrip(_SPACE)[:1] if body[:1] not in (b"[", b"{") else body[:1]
    if start == b"{":
        return [(0, body)]
    if start != b"[":
        raise _unprocessable("the body must be an event, an array of events, or NDJSON")
    if body.count(b",") > items_max * COMMAS_PER_ITEM_MAX:
        raise too_many(items_max)
    try:
        return list(enumerate(_array.decode(body)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unprocessable(f"the body is not JSON: {error}") from None


def _not_utf8(why: str) -> Refusal:
    return Refusal(400, "not_utf8", f"the body must be UTF-8 without a byte order mark: {why}")


def _unprocessable(why: str) -> Refusal:
    return Refusal(422, "no_events", why)


def too_many(items_max: int) -> Refusal:
    """More events than a request may have."""
    return Refusal(413, "too_many", f"a request may have at most {items_max} events")
