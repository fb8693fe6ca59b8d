"""The walk over a list that moves: nothing is missed, and it ends."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streams import times
from streams.settings import Settings
from streams.sync.intake import Intake
from streams.sync.listing import Cursor, Walk, after, begun, decoded, encoded, read_list
from streams.sync.provider import ProviderError
from tests.sync.house import NOW_MS, House

MINUTE_MS = 60_000
OVERLAP_MS = 60 * MINUTE_MS


class List:
    """A list in memory that grows after each page. It gives no more than `page_max`, whatever is asked."""

    def __init__(self, growth: Sequence[tuple[int, int]], by_arrival: bool, page_max: int) -> None:
        self.growth = list(growth)
        self.by_arrival = by_arrival
        self.page_max = page_max
        self.list_name = "a list"
        self.every_ms = MINUTE_MS
        self.now_ms = NOW_MS - 30 * 24 * 60 * MINUTE_MS
        self.entries: list[tuple[int, str]] = []  # in the order of arrival

    def arrive(self, count: int, late_minutes: int) -> None:
        """Calls that are dated up to an hour ago, and come in now."""
        for number in range(count):
            self.now_ms += self.every_ms
            dated_ms = self.now_ms - late_minutes * MINUTE_MS * (number % 3) // 2
            self.entries.append((dated_ms, f"gen-{len(self.entries)}"))

    async def page(self, offset: int, limit: int) -> list[msgspec.Raw]:
        shown = self.entries[::-1] if self.by_arrival else sorted(self.entries, reverse=True)
        page = shown[offset : offset + min(limit, self.page_max)]
        if self.growth:
            self.arrive(*self.growth.pop())
        return [_entry(*entry) for entry in page]


def _entry(dated_ms: int, id: str) -> msgspec.Raw:
    created_at = times.text_of(dated_ms * times.MS_NS)
    return msgspec.Raw(
        msgspec.json.encode({"id": id, "model": "m", "created_at": created_at, "total_cost": 0.5})
    )


async def _run(house: House, list_: List, sync_max: int) -> bool:
    how = Settings(sync_max=sync_max, sync_overlap_s=OVERLAP_MS / 1000)
    provider: Any = list_
    return await read_list("acme", provider, house, Intake("acme", house, list_.now_ms), how, list_.now_ms)


async def _walk(house: House, list_: List, sync_max: int) -> None:
    for _ in range(200):
        if not await _run(house, list_, sync_max):
            return
    raise AssertionError("the walk does not end")


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    backlog=st.integers(0, 120),
    growth=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 60)), max_size=30),
    between=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), max_size=4),
    sync_max=st.integers(14, 90),
    page_max=st.integers(14, 100),
    by_arrival=st.booleans(),
)
async def test_nothing_is_missed(backlog, growth, between, sync_max, page_max, by_arrival):
    """Whatever comes in while a list is read, late or not, in runs of any length: all of it is read."""
    list_ = List(growth, by_arrival, page_max)
    list_.arrive(backlog, 60)
    house = House()
    for arriving in (*between, (0, 0)):
        list_.arrive(*arriving)
        await _walk(house, list_, sync_max)
    # What came in while a walk was under way is the next one's.
    list_.growth.clear()
    await _walk(house, list_, sync_max)
    assert set(house.known) == {id for _, id in list_.entries}
    assert len(house.published) == len(list_.entries)


async def test_a_read_list_is_not_read_again():
    """When nothing has come in, the next run reads the overlap only and publishes nothing."""
    list_ = List([], by_arrival=False, page_max=100)
    list_.every_ms = 7_000
    list_.arrive(3000, 0)
    house = House()
    assert not await _run(house, list_, 5000)
    assert len(house.published) == 3000
    asked = []
    whole = list_.page

    async def page(offset: int, limit: int) -> list[msgspec.Raw]:
        asked.append(offset)
        return await whole(offset, limit)

    list_.page = page  # type: ignore[method-assign]
    assert not await _run(house, list_, 5000)
    # An hour is 514 calls: six pages have some of it, the seventh has none.
    assert asked == [0, 100, 200, 300, 400, 500, 600]
    assert len(house.published) == 3000


async def test_a_cut_run_goes_on_where_it_was():
    """With a limit of 1000 a run, 2350 take three runs, and no page is read twice."""
    list_ = List([], by_arrival=False, page_max=100)
    list_.arrive(2350, 0)
    house, cut = House(), []
    for count in (1000, 2000, 2350):
        cut.append(await _run(house, list_, 1000))
        assert len(house.known) == count
    assert cut == [True, True, False]


async def test_another_list_is_read_from_its_front():
    """Another key or provider has another list: what was read of the one before says nothing of it."""
    list_, house = List([], by_arrival=False, page_max=100), House()
    list_.arrive(50, 0)
    assert not await _run(house, list_, 1000)
    other = List([], by_arrival=False, page_max=100)
    other.list_name, other.now_ms = "another", list_.now_ms - 30 * OVERLAP_MS
    other.entries = [(other.now_ms - number * OVERLAP_MS, f"gen-other-{number}") for number in range(250)]
    assert not await _run(house, other, 1000)
    assert len(house.known) == 300


async def test_a_list_without_pages_ends():
    """One that answers every offset with its first page is a failure, and not read for ever."""
    list_ = List([], by_arrival=False, page_max=100)
    list_.arrive(250, 0)
    whole = list_.page
    list_.page = lambda _, limit: whole(0, limit)  # type: ignore[method-assign]
    house = House()
    with pytest.raises(ProviderError, match="has no pages"):
        await _run(house, list_, 1000)
    assert len(house.known) == 100


async def test_a_page_that_comes_again_is_no_end():
    """As many come in as a page has, and the next page has the same entries: the walk goes on."""
    list_ = List([(0, 0), (100, 0), (0, 0)], by_arrival=False, page_max=100)
    list_.arrive(250, 0)
    house = House()
    while await _run(house, list_, 1000):
        pass
    assert len(house.known) >= 250


def test_a_future_date_does_not_stop_the_next_walk_short():
    """An entry dated next year moves the mark no further than now."""
    cursor = after(begun(Cursor(), OVERLAP_MS), [NOW_MS + 10**10, NOW_MS - 5], NOW_MS)
    cursor = after(cursor, [], NOW_MS)
    assert cursor == Cursor(read_ms=NOW_MS)


def test_a_walk_ends_at_a_page_of_old_ones_only():
    """One late entry among old ones, or one without a date, does not decide alone."""
    until_ms = NOW_MS - OVERLAP_MS
    cursor = Cursor(NOW_MS, Walk(100, NOW_MS + 1, until_ms))
    further = Cursor(NOW_MS, Walk(102, NOW_MS + 1, until_ms))
    assert after(cursor, [until_ms, until_ms - 1], NOW_MS) == further
    assert after(cursor, [None, None], NOW_MS) == further
    assert after(cursor, [until_ms - 1, None], NOW_MS) == Cursor(read_ms=NOW_MS + 1)


def test_a_walk_keeps_its_end():
    """A walk cut by its run's limit goes as far as it was meant to; one that is to go further begins anew."""
    deep = Cursor(NOW_MS, Walk(100, NOW_MS, until_ms=NOW_MS - 24 * OVERLAP_MS))
    assert begun(deep, OVERLAP_MS) == begun(deep, 24 * OVERLAP_MS) == deep
    assert begun(deep, 25 * OVERLAP_MS).walk == Walk(until_ms=NOW_MS - 25 * OVERLAP_MS)
    first = Cursor(None, Walk(100, NOW_MS))
    assert begun(first, OVERLAP_MS) == first


@given(st.binary(max_size=40))
def test_a_cursor_that_cannot_be_read_is_none(kept):
    """A lost or broken cursor means that the list is read again, never a failure."""
    assert isinstance(decoded(kept), Cursor)


def test_a_cursor_is_kept_as_it_is():
    """What is kept comes back."""
    cursor = Cursor(5, Walk(7, 9))
    assert decoded(encoded(cursor)) == cursor
