"""When to leave a server alone: after several failures in a row that the next email would meet too, or when asked to.

No clock and no chance of its own; both are given. Times are seconds of a monotonic clock.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mail import retry

FAILURES: Final = 3
"""In a row, before the server is left alone."""
_LONGEST: Final = 300.0
_REGAIN: Final = 10


@dataclass(slots=True)
class Breaker:
    """What is known of one account's server. `until` is when it may be tried again; once that has passed and it
    `is_open`, by one message alone. `most` is how many it may have in its hands, None for the usual number."""

    until: float = 0.0
    most: int | None = None
    _usual: int = 0
    _failures: int = 0
    _answers: int = 0

    @property
    def is_open(self) -> bool:
        return self._failures >= FAILURES

    def failed(self, now: float, chance: float, *, over: bool = False) -> None:
        """One more failure; `chance` in [0, 1) spreads the delay over its upper half. A message for which it is
        `over` after 48 hours probes without a delay, so that the others that waited as long come to their end too."""
        if self.is_open and now < self.until:
            return  # of an attempt that began before
        self._failures += 1
        if self.is_open and not over:
            first = retry.FIRST_DELAY.total_seconds()
            delay = min(first * 2 ** min(self._failures - FAILURES, 20), _LONGEST)
            self.until = now + delay / 2 + delay / 2 * chance

    def answered(self) -> None:
        """The server did its work, whatever it said of the email."""
        self._failures = 0
        self._answers += 1
        if self.most is not None and self._answers % _REGAIN == 0:
            self.most = self.most + 1 if self.most + 1 < self._usual else None

    def asked_to_wait(self, now: float, pause: timedelta, usual: int) -> None:
        """The server asked us to wait: it gets half of what it had in its hands, and one more after every ten
        answers."""
        self.until = max(self.until, now + min(pause.total_seconds(), 3600))
        self._usual = usual
        self.most = max(1, (self.most or usual) // 2)
        self._answers = 0
