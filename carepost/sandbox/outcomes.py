"""What becomes of an email, decided by its address: one row per local part at sandbox.example.

Addresses elsewhere get a seeded random mix. Seconds here are those of `FULL_SECONDS`; the sandbox scales
them. An event's time is the truth: only its POST comes late, out of order, twice or never. The words are nobody's
own: each vendor has a table that says what it makes of a happening.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

T = TypeVar("T")

DOMAIN = "sandbox.example"
FULL_SECONDS = 20.0
"""Within so many seconds everything about an email has happened and been posted."""

_DISORDER = 0.3  # of emails: one event is posted after the one that followed it
_REPEATED = 0.1  # of events: posted a second time


class Happening(Enum):
    """What can happen to an email that was accepted."""

    PROCESSED = "processed"
    """The ESP has begun with it."""
    DROPPED = "dropped"
    """The ESP never tried: it suppresses the address."""
    DEFERRED = "deferred"
    """The destination put it off; the ESP tries again."""
    DELIVERED = "delivered"
    """The destination took it."""
    BOUNCED = "bounced"
    """The destination refused it, at once or later."""
    AUTO_REPLIED = "auto-replied"
    """An out-of-office note came back."""
    OPENED = "opened"
    """An image in it was loaded."""
    COMPLAINED = "complained"
    """The patient called it spam."""
    UNSUBSCRIBED = "unsubscribed"
    """The patient wants no more."""


class Cause(Enum):
    """Why it bounced."""

    UNKNOWN_USER = "unknown user"
    """The mailbox does not exist: for good."""
    MAILBOX_FULL = "mailbox full"
    """The mailbox is full, and the ESP has given up."""
    REPUTATION = "reputation"
    """The destination refuses the sender for now."""


@dataclass(frozen=True, slots=True)
class Step:
    """One event in the life of an email, `after` so many seconds (from, to) from the one before.

    `reply` is the destination's, with `{email}` for the recipient; `machine` opens are a mail proxy's; `may_repeat`
    steps happen once or twice.
    """

    happening: Happening
    after: tuple[float, float]
    reply: str = ""
    cause: Cause | None = None
    machine: bool = False
    may_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A step at its time, and the times at which it is posted; all in seconds from acceptance."""

    step: Step
    at: float
    posts: tuple[float, ...]


def _bounce(cause: Cause, reply: str, after: tuple[float, float] = (0.5, 2.5)) -> Step:
    return Step(Happening.BOUNCED, after, reply, cause)


_UNKNOWN_USER = "550 5.1.1 <{email}>: no such user here"
_PROCESSED = Step(Happening.PROCESSED, (0.1, 0.8))
_DELIVERED = Step(Happening.DELIVERED, (0.5, 2.5), "250 2.0.0 OK queued as 4Xz1Lk2vQz")
_DEFERRED = Step(Happening.DEFERRED, (0.5, 2.5), "451 4.7.1 greylisted, come back in a few minutes", may_repeat=True)
_OPENED = Step(Happening.OPENED, (3.0, 7.0))
_MACHINE_OPENED = Step(Happening.OPENED, (0.5, 2.0), machine=True)

OUTCOMES: Mapping[str, Sequence[Step]] = {
    "delivered": (_PROCESSED, _DELIVERED),
    "opened": (_PROCESSED, _DELIVERED, _OPENED),
    "machine-open": (_PROCESSED, _DELIVERED, _MACHINE_OPENED),
    "bounced": (_PROCESSED, _bounce(Cause.UNKNOWN_USER, _UNKNOWN_USER)),
    "full": (_PROCESSED, _bounce(Cause.MAILBOX_FULL, "552 5.2.2 <{email}>: mailbox full")),
    "soft": (_PROCESSED, _bounce(Cause.REPUTATION, "451 4.7.1 refused for now: too much spam from your network")),
    # A suppressed address is never tried, so nothing is processed.
    "suppressed": (Step(Happening.DROPPED, (0.1, 0.8)),),
    "deferred": (_PROCESSED, _DEFERRED, _DELIVERED),
    "late-bounce": (_PROCESSED, _DELIVERED, _bounce(Cause.UNKNOWN_USER, _UNKNOWN_USER, (4.0, 8.0))),
    "auto-reply": (_PROCESSED, _DELIVERED, Step(Happening.AUTO_REPLIED, (1.0, 3.0))),
    "complained": (_PROCESSED, _DELIVERED, Step(Happening.COMPLAINED, (3.0, 7.0))),
    "unsubscribed": (_PROCESSED, _DELIVERED, Step(Happening.UNSUBSCRIBED, (3.0, 7.0))),
    "silent": (_PROCESSED,),
    "missed": (_PROCESSED, _DELIVERED),
}

LOST = frozenset({"missed"})
"""What happens to these is never posted: only who asks the ESP finds out."""

# Other addresses, in per cent. A mailbox that doesn't exist doesn't exist for the next email either: the
# address decides first, then (None) each email for itself.
_BY_ADDRESS: Mapping[str | None, float] = {None: 95, "bounced": 3, "suppressed": 1, "silent": 1}
_BY_EMAIL: Mapping[str, float] = {
    "opened": 51,
    "delivered": 31,
    "machine-open": 7,
    "deferred": 4,
    "soft": 2,
    "full": 1.5,
    "late-bounce": 1,
    "auto-reply": 0.5,
    "complained": 0.5,
    "unsubscribed": 1,
    "missed": 0.5,
}


def outcome(email: str, seed: str, ordinal: int) -> str:
    """The name of the outcome of the `ordinal`th email, in the table's words.

    An unknown local part at sandbox.example falls under the mix too.
    """
    return named(email) or (
        _draw(_BY_ADDRESS, f"{seed}/{email.lower()}") or _draw(_BY_EMAIL, f"{seed}/{email.lower()}/{ordinal}")
    )


def named(email: str) -> str | None:
    """The outcome that an address at sandbox.example names."""
    local, _, domain = email.lower().rpartition("@")
    name = local.partition("+")[0]
    return name if domain == DOMAIN and name in OUTCOMES else None


def plan(
    name: str, rng: random.Random, *, open_tracking: bool, repeat: bool = False, shuffle: bool = False
) -> Sequence[Occurrence]:
    """When each event of an outcome happens and is posted, all within `FULL_SECONDS`.

    `repeat` posts every event twice, `shuffle` the last first.
    """
    at = 0.0
    happened: list[tuple[Step, float]] = []
    for step in OUTCOMES[name]:
        if step.happening is Happening.OPENED and not open_tracking:
            continue
        for _ in range(rng.randint(1, 2) if step.may_repeat else 1):
            at += rng.uniform(*step.after)
            happened.append((step, at))
    posted = [at + rng.uniform(0.05, 1.0) for _, at in happened]
    if shuffle:
        posted = [at + 0.5 * place for place, _ in enumerate(happened)][::-1]
    elif len(posted) > 1 and rng.random() < _DISORDER:
        late = rng.randrange(len(posted) - 1)
        posted[late] = posted[late + 1] + rng.uniform(0.3, 1.0)
    return [
        Occurrence(step, at, (first, first + rng.uniform(0.3, 3.0)) if repeat or rng.random() < _REPEATED else (first,))
        for (step, at), first in zip(happened, posted, strict=True)
    ]


def _draw(weights: Mapping[T, float], seed: str) -> T:
    rng = random.Random(seed)  # noqa: S311
    return rng.choices(list(weights), list(weights.values()))[0]
