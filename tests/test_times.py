"""Times, zones and days."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import times
from streams.times import day_of, nanoseconds_of, zone_of

DAYS = st.sampled_from(("2026-11-20", "2024-02-29", "2026-02-29", "2000-01-01", "2199-12-31", "1999-12-31"))
BETWEEN, ENDS = (
    st.sampled_from("Tt -"),
    st.sampled_from(("Z", "z", "", ".5Z", ".999Z", ".99Z", ".1234Z", ".+12Z")),
)
TWO_DIGITS = st.sampled_from(("00", "07", "19", "23", "24", "59", "60"))


def read(way: Callable[[str], int], text: str) -> int | None:
    """None where the way refuses it."""
    try:
        return way(text)
    except ValueError:
        return None


@pytest.mark.parametrize("name", ["localtime", "posixrules", "right/UTC"])
def test_a_zone_that_only_this_machine_has(name: str) -> None:
    """A timezone means the same on every machine: the system's own names are refused."""
    with pytest.raises(ValueError, match="timezone"):
        zone_of(name)


def test_a_transition_inside_a_quarter_hour() -> None:
    """St. John's put its clocks back at 00:01 until 2011: from then on it was yesterday again."""
    assert day_of(nanoseconds_of("2010-11-07T02:35:00Z"), "America/St_Johns") == "2010-11-06"


@given(DAYS, BETWEEN, TWO_DIGITS, TWO_DIGITS, TWO_DIGITS, ENDS)
def test_a_time_is_the_same_by_the_short_way(
    day: str, between: str, hour: str, minute: str, second: str, end: str
) -> None:
    """Whichever way a text takes, it is the same instant, or it is refused."""
    text = f"{day}{between}{hour}:{minute}:{second}{end}"
    assert read(nanoseconds_of, text) == read(times._nanoseconds_of, text)
