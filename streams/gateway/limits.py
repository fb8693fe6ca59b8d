"""How many requests a second one caller may make: a token bucket for each key, secret and open service.

    Limits(rate_per_s=1000, burst=2000).take("key_abc")        # a Refusal: 429, with Retry-After

Callers are named by what let them in, so there are no more buckets than keys and secrets.
"""

from collections.abc import Callable

from streams.clock import monotonic_s
from streams.gateway.answers import Refusal


class Limits:
    """The buckets."""

    def __init__(self, rate_per_s: float, burst: int, clock_s: Callable[[], float] = monotonic_s) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._clock_s = clock_s
        self._buckets: dict[str, tuple[float, float]] = {}  # what was left, and when

    def take(self, caller: str) -> None:
        """One request of a caller; refused when there have been too many."""
        now_s = self._clock_s()
        left, then_s = self._buckets.get(caller, (self._burst, now_s))
        left = min(self._burst, left + (now_s - then_s) * self._rate_per_s)
        if left < 1:
            # Asking in vain costs nothing: whoever waits as told is served.
            self._buckets[caller] = (left, now_s)
            message = f"more than {self._rate_per_s:g} requests a second: come back after Retry-After"
            wait_s = (1 - left) / self._rate_per_s
            raise Refusal(429, "rate_limited", message, retry_after_s=wait_s, close=False)
        self._buckets[caller] = (left - 1, now_s)
