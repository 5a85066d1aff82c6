"""When to try again: exponential backoff with jitter, given up after 48 hours (RFC 5321 section 4.5.4.1)."""

from datetime import datetime, timedelta
from typing import Final

FIRST_DELAY: Final = timedelta(seconds=5)
LONGEST_DELAY: Final = timedelta(hours=1)
GIVE_UP_AFTER: Final = timedelta(hours=48)


def next_attempt(
    tries: int, first_due: datetime, now: datetime, chance: float, asked: timedelta | None = None
) -> datetime | None:
    """When an email that was tried so many times (from 1) is tried again; None when it's time to give up.

    `chance` in [0, 1) spreads the delay over its upper half; `asked` is what the server asked us to wait.
    """
    delay = min(FIRST_DELAY * 2 ** min(tries - 1, 20), LONGEST_DELAY)
    delay = delay / 2 + delay / 2 * chance
    if asked is not None:
        delay = max(delay, min(asked, LONGEST_DELAY * 6))
    due = now + delay
    return due if due <= first_due + GIVE_UP_AFTER else None


ASK_AGAIN: Final = (timedelta(hours=1), timedelta(hours=4), timedelta(days=1), timedelta(days=3))
LONGEST_ASKED: Final = timedelta(days=14)
"""A message of which nothing was heard for so long won't be answered any more."""


def ask_again(asks: int) -> timedelta:
    """How long after question number `asks` (from 1) about a message the next one is worth it."""
    return ASK_AGAIN[min(asks, len(ASK_AGAIN)) - 1]
