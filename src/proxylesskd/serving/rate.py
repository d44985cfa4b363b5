"""How often a client may ask: a bucket of tokens for each, and no more buckets than fit."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class Rate:
    """A bucket for each client, which holds ``burst`` tokens and gains ``each_second``; a request takes one.

    Args:
        each_second: tokens that come back, above 0.
        burst: tokens of a full bucket, at least 1.
        clients: buckets that are remembered; of more, the ones unused for longest are forgotten, which fills them.
        clock: seconds that only grow.
    """

    def __init__(
        self, each_second: float, burst: int, *, clients: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.each_second, self.burst, self.clients, self._clock = each_second, burst, clients, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> tokens, when

    def wait(self, client: str) -> float:
        """Take a token and return 0, or return in how many seconds there will be one."""
        now = self._clock()
        tokens, then = self._buckets.pop(client, (float(self.burst), now))
        tokens = min(float(self.burst), tokens + (now - then) * self.each_second)
        taken = tokens >= 1
        self._buckets[client] = (tokens - taken, now)
        while len(self._buckets) > self.clients:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - tokens) / self.each_second
