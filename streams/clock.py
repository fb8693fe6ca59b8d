"""The only module that reads the clock.

Log times are wall-clock milliseconds (Kafka's unit); durations come from `monotonic_s`. Both are passed
to whoever needs them, so that a test can give its own.
"""

import time
from collections.abc import Callable

Clock = Callable[[], int]


def now_ms() -> int:
    """Wall-clock time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """For durations and deadlines: never goes back."""
    return time.monotonic()
