"""So many requests a second for each client, in bursts of some seconds' worth."""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from time import monotonic

BURST_S = 5.0
MAX_CLIENTS = 10_000
"""Remembered; the one longest silent is forgotten first."""


class RateLimit:
    """A bucket of tokens for each client."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = monotonic) -> None:
        """Allow `rate` requests a second."""
        self.rate, self._clock = rate, clock
        self._burst = max(1.0, rate * BURST_S)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> int:
        """Count a request.

        Returns:
            0 if it may go on, else after how many whole seconds the next one may.
        """
        now = self._clock()
        tokens, then = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self.rate)
        wait_s = 0 if tokens >= 1 else max(1, ceil((1 - tokens) / self.rate))
        self._buckets[client] = (tokens if wait_s else tokens - 1), now
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return wait_s
