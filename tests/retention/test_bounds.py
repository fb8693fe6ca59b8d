"""What the settings of retention can't be."""

import pytest

from genledger.roles.cleanup_audit import Seen, alarm_of
from streams.errors import SettingError
from streams.settings import RETENTION_DAYS_MAX, load


@pytest.mark.parametrize(
    ("env", "value", "why"),
    [
        ("CLEANUP_RETENTION_DAYS", "6", "at least 7"),
        ("CLEANUP_RETENTION_DAYS", "36501", "at most 36500.*CLEANUP_ENABLED"),
        ("CLEANUP_RETENTION_DAYS", "9" * 30, "at most 36500"),
        ("GENLEDGER_CLEANUP_SHARE", "nan", "more than 0"),
        ("GENLEDGER_CLEANUP_SHARE", "1.1", "at most 1"),
        ("GENLEDGER_CLEANUP_AT", "24:00", "a time of day"),
        ("GENLEDGER_USAGE_KEPT_DAYS", "119", "at least 120"),
        ("GENLEDGER_USAGE_KEPT_DAYS", "36531", "at most 36530"),
    ],
)
def test_days_and_shares_that_nobody_can_reckon_with_are_refused(env: str, value: str, why: str) -> None:
    """At the start, with what to do: not by an alarm that ends the process, nor by a run that never rests."""
    with pytest.raises(SettingError, match=f"{env} must be {why}"):
        load({env: value})


def test_the_most_days_can_be_reckoned_with() -> None:
    """A hundred years ago has a date."""
    found = load({"CLEANUP_RETENTION_DAYS": str(RETENTION_DAYS_MAX)})
    assert alarm_of(Seen(None, 5, "2020-01-01", 5, 0), 1_795_217_400, found) == ""
