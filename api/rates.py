"""Rates: a token bucket for each key, in this process, as the time at which it will be full again (GCRA).

A float a key, and nothing to refill: a flood costs a look into a dictionary.
"""

import time
from collections.abc import Hashable
from hashlib import blake2b
from typing import Final

_BURST: Final = 5.0
"""Seconds' worth of requests that may come at once."""
_KEPT: Final = 20_000


class Rates:
    """At most `a_second` on the whole for each key; 0 sets no limit."""

    def __init__(self, a_second: float) -> None:
        self._interval = 1 / a_second if a_second > 0 else 0.0
        self._burst = max(_BURST, self._interval)
        self._full_at: dict[Hashable, float] = {}

    def take(self, key: Hashable) -> float:
        """0 when it may come, else in how many seconds the next one may."""
        if not self._interval:
            return 0.0
        now = time.monotonic()
        full_at = max(self._full_at.get(key, now), now) + self._interval
        if full_at - now > self._burst:
            return full_at - now - self._burst
        if len(self._full_at) >= _KEPT and key not in self._full_at:
            self._forget(now)
        self._full_at[key] = full_at
        return 0.0

    def _forget(self, now: float) -> None:
        """Drops the buckets that are full; where none is, those that were begun first."""
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        for key in list(self._full_at)[: max(0, len(self._full_at) - _KEPT // 2)]:
            del self._full_at[key]


def token_key(authorization: bytes) -> bytes:
    """The key of a token, however its header is written; of a fixed length, and not the token."""
    return blake2b(authorization.rpartition(b" ")[2], digest_size=16).digest()
