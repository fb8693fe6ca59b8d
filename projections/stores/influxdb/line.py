r"""A point as a line of the protocol, and back from what a query says. Pure.

    line_of(point, "time")
    # llm_usage,organization=acme,model=gpt-4o,provider=OpenAI,source=webhook
    #     request_id="gen-1",user="u1",...,cost_nano=5i,...,requests=1i,... 1795217400000123456

Every field is in every write: a second write of a point merges fields, so one that were left out would stay
as it was. Only a latency that nobody knows is left out, and `untimed` says so. A void is zeros with
`requests=0i`: a sum is right also for a reader who knows nothing of voids.

A tag can't hold every text: a backslash at its end would escape what follows, and it can't be empty. So
backslashes, percent signs and control characters are written as in a URL, and an empty tag is left out.

>>> tag_text("50% of a\\b"), text_of_tag("50%25 of a%5Cb"), text_of_tag(None)
('50%25 of a%5Cb', '50% of a\\b', '')
"""

import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal
from urllib.parse import quote, unquote

from projections.points import Opening, Point, stamp_ns
from streams.times import DAY_NS

USAGE = "llm_usage"
OPENING = "llm_opening"

Dedup = Literal["time", "tag"]

# How many sets of tags, and how many users, are kept as text: the frequent ones stay.
_KNOWN_MAX = 16_384
_UNFIT = re.compile(r"[%\\\x00-\x1f\x7f-\x9f]")
_APART = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_QUOTED = str.maketrans({'"': r"\"", "\\": r"\\"})
_EPOCH_DAY = date(1970, 1, 1).toordinal()
# What a void says behind its strings.
_NOTHING = (
    "prompt_tokens=0i,completion_tokens=0i,total_tokens=0i,cost_nano=0i,markup_nano=0i,cost=0.0,unpriced=0i"
    ",requests=0i,latency_ms=0i,untimed=1i"
)


def tag_text(text: str) -> str:
    """A text as the server holds it in a tag, and as a query asks for it."""
    return _UNFIT.sub(lambda found: quote(found[0], safe=""), text)


def text_of_tag(tag: str | None) -> str:
    """What `tag_text` was given. No tag is the empty text."""
    if not tag:
        return ""
    return unquote(tag, errors="strict") if "%" in tag else tag


def tags_of(point: Point, dedup: Dedup) -> dict[str, str]:
    """The tags of a point as the server holds them; an empty one says that there is none."""
    tags = {
        "organization": tag_text(point.organization),
        "model": tag_text(point.model),
        "provider": tag_text(point.provider),
        "source": tag_text(point.source),
    }
    return tags | {"request_id": tag_text(point.request_id)} if dedup == "tag" else tags


@lru_cache(_KNOWN_MAX)
def _series(measurement: str, *tags: tuple[str, str]) -> str:
    """A measurement with its tags, behind which fields come."""
    written = [f",{name}={tag_text(text).translate(_APART)}" for name, text in tags if text]
    return f"{measurement}{''.join(written)}"


@lru_cache(_KNOWN_MAX)
def _usage(organization: str, model: str, provider: str, source: str) -> str:
    tags = (("organization", organization), ("model", model), ("provider", provider), ("source", source))
    return _series(USAGE, *tags)


@lru_cache(_KNOWN_MAX)
def _text(text: str) -> str:
    """A string field's text between its quotes."""
    return text.translate(_QUOTED)


def _head(point: Point, dedup: Dedup) -> str:
    """The tags, and the fields that are strings."""
    id = point.request_id
    if "%" in id or "\\" in id or not id.isprintable():
        id = tag_text(id)
    series = _usage(point.organization, point.model, point.provider, point.source)
    if dedup == "tag":
        # A column of version 3 is a tag or a field, never both.
        opening = f"{series},request_id={id.translate(_APART)} "
    else:
        opening = f'{series} request_id="{id.translate(_QUOTED) if chr(34) in id else id}",'
    user = _text(point.user)
    user_id = user if point.user_id == point.user else _text(point.user_id)
    return f'{opening}user="{user}",user_id="{user_id}",day="{point.day}",'


def line_of(point: Point, dedup: Dedup) -> bytes:
    """A point that counts."""
    cost, markup, latency = point.cost_nano, point.markup_nano, point.latency_ms
    if cost is None:
        priced = "cost_nano=0i,markup_nano=0i,cost=0.0,unpriced=1i"
    else:
        # Dollars for people who look at it: as text, for sums are made of the integers.
        priced = f"cost_nano={cost}i,markup_nano={markup or 0}i,cost={cost}e-9,unpriced=0i"
    timed = "untimed=1i" if latency is None else f"latency_ms={latency}i,untimed=0i"
    time_ns = point.time_ns
    return (
        f"{_head(point, dedup)}prompt_tokens={point.prompt_tokens}i"
        f",completion_tokens={point.completion_tokens}i,total_tokens={point.total_tokens}i,{priced}"
        f",requests=1i,{timed},created_ns={time_ns}i,offset={point.offset}i,logged_ms={point.logged_ms}i"
        f" {stamp_ns(time_ns, point.request_id)}"
    ).encode()


def void_line_of(point: Point, dedup: Dedup) -> bytes:
    """A point that no longer counts: zeros over all that it said."""
    return (
        f"{_head(point, dedup)}{_NOTHING},created_ns={point.time_ns}i,offset={point.offset}i"
        f",logged_ms={point.logged_ms}i {stamp_ns(point.time_ns, point.request_id)}"
    ).encode()


def opening_line_of(opening: Opening) -> bytes:
    """An opening balance. One that was taken back has no requests, and zeros."""
    o = opening
    series = _series(OPENING, ("organization", o.organization), ("margin", o.margin))
    texts = f'row="{_text(o.row)}",user_id="{_text(o.user_id)}",provider="{_text(o.provider)}",day="{o.day}"'
    return (
        f"{series} {texts},requests={o.requests}i,prompt_tokens={o.prompt_tokens}i"
        f",completion_tokens={o.completion_tokens}i,total_tokens={o.total_tokens}i,cost_nano={o.cost_nano}i"
        f",markup_nano={o.markup_nano}i,unpriced={o.unpriced}i,offset={o.offset}i,logged_ms={o.logged_ms}i"
        f" {opening_ns(o)}"
    ).encode()


def opening_ns(opening: Opening) -> int:
    """The nanosecond of a balance: its day's midnight in UTC, and a place in the day by its row's hash."""
    row = f"{opening.organization}\0{opening.margin}\0{opening.row}"
    hashed = int.from_bytes(blake2b(row.encode(), digest_size=8).digest(), "big")
    return (date.fromisoformat(opening.day).toordinal() - _EPOCH_DAY) * DAY_NS + hashed % DAY_NS


def point_of_row(row: Mapping[str, Any]) -> Point | None:
    """A row of a query, a column for each tag and field, as its point. None: it is void."""
    if not row["requests"]:
        return None
    unpriced = bool(row["unpriced"])
    return Point(
        text_of_tag(row["request_id"]),
        int(row["created_ns"]),
        text_of_tag(row.get("organization")),
        text_of_tag(row.get("model")),
        text_of_tag(row.get("provider")),
        text_of_tag(row.get("source")),
        row.get("user") or "",
        row.get("user_id") or "",
        row["day"],
        int(row["prompt_tokens"]),
        int(row["completion_tokens"]),
        int(row["total_tokens"]),
        None if unpriced else int(row["cost_nano"]),
        None if unpriced else int(row["markup_nano"]),
        None if row["untimed"] else int(row["latency_ms"]),
        int(row["offset"]),
        int(row["logged_ms"]),
    )


def opening_of_row(row: Mapping[str, Any]) -> Opening:
    """A row of a query as its opening balance."""
    return Opening(
        text_of_tag(row.get("organization")),
        row["day"],
        text_of_tag(row.get("margin")),
        row.get("row") or "",
        row.get("user_id") or "",
        row.get("provider") or "",
        int(row["requests"]),
        int(row["prompt_tokens"]),
        int(row["completion_tokens"]),
        int(row["total_tokens"]),
        int(row["cost_nano"]),
        int(row["markup_nano"]),
        int(row["unpriced"]),
        int(row["offset"]),
        int(row["logged_ms"]),
    )
