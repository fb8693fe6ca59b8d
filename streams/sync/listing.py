"""Strategy (a): a list route, newest first, read a page at a time until there are no more.

The list moves while it is read. What comes in at the front pushes the rest to later places, so from one
page to the next, and from one run to the next, an entry may be met twice and never be skipped. (A list from
which entries are taken out in front of the reading place can hide some: /activity is what tells then.)

A *walk* goes from the front down to what earlier walks have read. It may take several runs: each fetches
`sync_max` at most, and the next goes on at the same place. The run after the end of a walk begins a new one,
which reads what came in at the front meanwhile. A walk that began when the newest entry was dated
T has read all that was in the list then; what was not in it yet, and is dated before T, is late by `overlap`
at most. So the next walk goes down to T - overlap, and there to the first page that has nothing younger: it
does not matter whether a late entry stands by its own date or by when it came.

    cursor = begun(Cursor(), overlap_ms)            # a walk from the front
    cursor = after(cursor, times_of_page, now_ms)   # a page was read and published
    cursor.walk is None                             # that was the last of this walk

What comes in between two runs must be less than half of `sync_max`, or a walk that takes several runs gains
nothing on the list: each first meets again what it was pushed back by. A run that hits the limit says so.
"""

from collections.abc import Sequence

import msgspec

from streams import times
from streams.generation import Generation
from streams.settings import Settings
from streams.sync.intake import Intake
from streams.sync.interface import State
from streams.sync.provider import Provider, ProviderError

PAGE_MAX = 100
FAR = 1_000_000_000  # behind the end of every list


class Walk(msgspec.Struct, frozen=True):
    """A walk under way: `offset` is where its next page begins, or began before others came in front."""

    offset: int = 0
    newest_ms: int | None = None  # of the first page, when the walk began
    until_ms: int | None = None  # it ends at a page of which all is dated before; None: at the list's end


class Cursor(msgspec.Struct, frozen=True):
    """How far the list `of` that name is read: all that is dated to `read_ms` - overlap, and of the walk."""

    read_ms: int | None = None
    walk: Walk | None = None
    of: str = ""


_decoder = msgspec.json.Decoder(Cursor)


def decoded(kept: bytes) -> Cursor:
    """A cursor as it was kept. One that can't be read is none: then the list is read again."""
    try:
        return _decoder.decode(kept)
    except msgspec.MsgspecError:
        return Cursor()


def encoded(cursor: Cursor) -> bytes:
    """A cursor to be kept."""
    return msgspec.json.encode(cursor)


def begun(cursor: Cursor, overlap_ms: int) -> Cursor:
    """With a walk under way: the one that there is, or a new one from the front.

    A walk keeps to where it was meant to end. When more is asked for, it begins anew.
    """
    until_ms = None if cursor.read_ms is None else cursor.read_ms - overlap_ms
    walk = cursor.walk
    if walk is not None and (walk.until_ms is None or (until_ms is not None and until_ms >= walk.until_ms)):
        return cursor
    return msgspec.structs.replace(cursor, walk=Walk(until_ms=until_ms))


def after(cursor: Cursor, dated_ms: Sequence[int | None], now_ms: int) -> Cursor:
    """After a page: its entries' dates, None where there is none. An empty page is the list's end."""
    walk = cursor.walk or Walk()
    newest_ms = max((at for at in dated_ms if at is not None), default=None)
    if walk.offset == 0 and newest_ms is not None:
        # An entry dated in the future must not make the next walk stop short.
        walk = msgspec.structs.replace(walk, newest_ms=min(newest_ms, now_ms))
    is_read = newest_ms is not None and walk.until_ms is not None and newest_ms < walk.until_ms
    if not dated_ms or is_read:
        read_ms = cursor.read_ms if walk.newest_ms is None else walk.newest_ms
        return msgspec.structs.replace(cursor, read_ms=read_ms, walk=None)
    walk = msgspec.structs.replace(walk, offset=walk.offset + len(dated_ms))
    return msgspec.structs.replace(cursor, walk=walk)


def _dated_ms(event: Generation | None) -> int | None:
    return None if event is None or event.created_ns is None else event.created_ns // times.MS_NS


async def read_list(
    organization: str, provider: Provider, state: State, intake: Intake, settings: Settings, now_ms: int
) -> bool:
    """Read the list for one run. True: the limit was hit, and the next run goes on from there."""
    cursor = decoded(await state.cursor(organization))
    if cursor.of != provider.list_name:
        cursor = Cursor(of=provider.list_name)  # another account's list, of which nothing has been read
    cursor = begun(cursor, int(settings.sync_overlap_s * 1000))
    left = settings.sync_max
    before: Sequence[msgspec.Raw] = ()
    while cursor.walk is not None:
        if left <= 0:
            return True
        entries = await provider.page(cursor.walk.offset, min(PAGE_MAX, left))
        if entries and entries == before and await provider.page(FAR, 1):
            raise ProviderError("answer", "the provider's list has no pages: its offset changes nothing")
        events = [intake.read(entry) for entry in entries]
        await intake.settle(event for event in events if event is not None)
        cursor = after(cursor, [_dated_ms(event) for event in events], now_ms)
        left, before = left - len(entries), entries
        # Last: a run that ends here reads the page again, and none is skipped.
        await state.keep_cursor(organization, encoded(cursor))
    return False
