"""The rate of one caller, by a clock of the test's own."""

import pytest

from streams.gateway.answers import Refusal
from streams.gateway.limits import Limits


def taken(limits: Limits, caller: str, times: int) -> int:
    """How many of so many requests are let through."""
    passed = 0
    for _ in range(times):
        try:
            limits.take(caller)
        except Refusal as refusal:
            assert refusal.status == 429
        else:
            passed += 1
    return passed


def test_a_bucket_fills_at_its_rate_up_to_its_burst() -> None:
    """After a pause the burst may come at once; then it is so many a second."""
    now_s = [0.0]
    limits = Limits(10.0, 5, lambda: now_s[0])
    assert taken(limits, "a", 20) == 5
    now_s[0] += 0.2
    assert taken(limits, "a", 20) == 2
    now_s[0] += 1000.0
    assert taken(limits, "a", 20) == 5


def test_callers_do_not_share() -> None:
    """One caller's haste is not another's."""
    limits = Limits(1.0, 3, lambda: 0.0)
    assert [taken(limits, caller, 5) for caller in ("a", "b", "")] == [3, 3, 3]


@pytest.mark.parametrize(("rate_per_s", "wait_s"), [(0.1, "10"), (0.3, "4"), (1000.0, "1")])
def test_retry_after_is_when_there_is_room(rate_per_s: float, wait_s: str) -> None:
    """Who waits as he is told is served, and asking in vain meanwhile costs nothing."""
    now_s = [0.0]
    limits = Limits(rate_per_s, 1, lambda: now_s[0])
    limits.take("a")
    for _ in range(3):
        with pytest.raises(Refusal) as caught:
            limits.take("a")
        assert caught.value.headers["Retry-After"] == wait_s
    now_s[0] += float(wait_s)
    limits.take("a")
