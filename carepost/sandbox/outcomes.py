"""What becomes of an email, decided by its address: one row per local part at sandbox.example.

Addresses elsewhere get a seeded random mix. Seconds here are those of `FULL_SECONDS`; the sandbox scales
them. An event's time is the truth: only its POST comes late, out of order or twice.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

DOMAIN = "sandbox.example"
FULL_SECONDS = 20.0
"""Within so many seconds everything about an email has happened and been posted."""

_DISORDER = 0.3  # of emails: one event is posted after the one that followed it
_REPEATED = 0.1  # of events: posted a second time


@dataclass(frozen=True, slots=True)
class Step:
    """One event in the life of an email, `after` so many seconds (from, to) from the one before.

    `{email}` in a field's text is the recipient; `may_repeat` steps happen once or twice.
    """

    event: str
    after: tuple[float, float]
    fields: Mapping[str, str | int | bool] = field(default_factory=dict)
    may_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A step at its time, and the times at which it is posted; all in seconds from acceptance."""

    step: Step
    at: float
    posts: tuple[float, ...]


def _bounce(kind: str, classification: str, status: str, reason: str, after: tuple[float, float] = (0.5, 2.5)) -> Step:
    # Types and classifications: Twilio, "Event Webhook Reference"; `blocked` is what it calls a soft bounce.
    fields = {"type": kind, "bounce_classification": classification, "status": status, "reason": reason}
    return Step("bounce", after, fields)


_UNKNOWN_USER = "550 5.1.1 <{email}>: no such user here"
_PROCESSED = Step("processed", (0.1, 0.8))
_DELIVERED = Step("delivered", (0.5, 2.5), {"response": "250 2.0.0 OK queued as 4Xz1Lk2vQz"})
_DEFERRED = Step(
    "deferred", (0.5, 2.5), {"response": "451 4.7.1 greylisted, come back in a few minutes"}, may_repeat=True
)
_OPENED = Step("open", (3.0, 7.0), {"sg_machine_open": False})
_MACHINE_OPENED = Step("open", (0.5, 2.0), {"sg_machine_open": True})

OUTCOMES: Mapping[str, Sequence[Step]] = {
    "delivered": (_PROCESSED, _DELIVERED),
    "opened": (_PROCESSED, _DELIVERED, _OPENED),
    "machine-open": (_PROCESSED, _DELIVERED, _MACHINE_OPENED),
    "bounced": (_PROCESSED, _bounce("bounce", "Invalid Address", "5.1.1", _UNKNOWN_USER)),
    "full": (_PROCESSED, _bounce("bounce", "Mailbox Unavailable", "5.2.2", "552 5.2.2 <{email}>: mailbox full")),
    "soft": (
        _PROCESSED,
        _bounce("blocked", "Reputation", "4.7.1", "451 4.7.1 refused for now: too much spam from your network"),
    ),
    # A suppressed address is never tried, so nothing is processed.
    "suppressed": (Step("dropped", (0.1, 0.8), {"reason": "Bounced Address"}),),
    "deferred": (_PROCESSED, _DEFERRED, _DELIVERED),
    "late-bounce": (_PROCESSED, _DELIVERED, _bounce("bounce", "Invalid Address", "5.1.1", _UNKNOWN_USER, (4.0, 8.0))),
    "complained": (_PROCESSED, _DELIVERED, Step("spamreport", (3.0, 7.0))),
    "unsubscribed": (_PROCESSED, _DELIVERED, Step("unsubscribe", (3.0, 7.0))),
    "silent": (_PROCESSED,),
}

# Other addresses, in per cent. A mailbox that doesn't exist doesn't exist for the next email either: the
# address decides first, then (None) each email for itself.
_BY_ADDRESS: Mapping[str | None, float] = {None: 95, "bounced": 3, "suppressed": 1, "silent": 1}
_BY_EMAIL: Mapping[str, float] = {
    "opened": 52,
    "delivered": 31,
    "machine-open": 7,
    "deferred": 4,
    "soft": 2,
    "full": 1.5,
    "late-bounce": 1,
    "complained": 0.5,
    "unsubscribed": 1,
}


def outcome(email: str, seed: str, ordinal: int) -> str:
    """The name of the outcome of the `ordinal`th email, in the table's words.

    An unknown local part at sandbox.example falls under the mix too.
    """
    local, _, domain = email.lower().rpartition("@")
    name = local.partition("+")[0]
    if domain == DOMAIN and name in OUTCOMES:
        return name
    return _draw(_BY_ADDRESS, f"{seed}/{email.lower()}") or _draw(_BY_EMAIL, f"{seed}/{email.lower()}/{ordinal}")


def plan(name: str, rng: random.Random, *, open_tracking: bool) -> Sequence[Occurrence]:
    """When each event of an outcome happens and is posted, all within `FULL_SECONDS`."""
    at = 0.0
    happened: list[tuple[Step, float]] = []
    for step in OUTCOMES[name]:
        if step.event == "open" and not open_tracking:
            continue
        for _ in range(rng.randint(1, 2) if step.may_repeat else 1):
            at += rng.uniform(*step.after)
            happened.append((step, at))
    posted = [at + rng.uniform(0.05, 1.0) for _, at in happened]
    if len(posted) > 1 and rng.random() < _DISORDER:
        late = rng.randrange(len(posted) - 1)
        posted[late] = posted[late + 1] + rng.uniform(0.3, 1.0)
    return [
        Occurrence(step, at, (first, first + rng.uniform(0.3, 3.0)) if rng.random() < _REPEATED else (first,))
        for (step, at), first in zip(happened, posted, strict=True)
    ]


def _draw(weights: Mapping[T, float], seed: str) -> T:
    rng = random.Random(seed)  # noqa: S311
    return rng.choices(list(weights), list(weights.values()))[0]
