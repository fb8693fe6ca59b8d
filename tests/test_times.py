"""Times, zones and days."""

import pytest

from streams.times import day_of, nanoseconds_of, zone_of


@pytest.mark.parametrize("name", ["localtime", "posixrules", "right/UTC"])
def test_a_zone_that_only_this_machine_has(name: str) -> None:
    """A timezone means the same on every machine: the system's own names are refused."""
    with pytest.raises(ValueError, match="timezone"):
        zone_of(name)


def test_a_transition_inside_a_quarter_hour() -> None:
    """St. John's put its clocks back at 00:01 until 2011: from then on it was yesterday again."""
    assert day_of(nanoseconds_of("2010-11-07T02:35:00Z"), "America/St_Johns") == "2010-11-06"
