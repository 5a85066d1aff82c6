"""What became of the demo practice's past emails: the lives that an email can have, each a row of evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mail.event import EventKind, EventSource
from mail.failure import Failure, FailureKind, failure_from_reply


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of evidence, `after` so many seconds since the message was queued."""

    kind: EventKind
    after: float
    failure: Failure | None = None
    machine: bool = False
    detail: str = ""
    source: EventSource = EventSource.WEBHOOK


def _esp(*steps: Step) -> Sequence[Step]:
    return (Step(EventKind.ACCEPTED, 0.8, source=EventSource.ATTEMPT), *steps)


def _bounce(reply: str, after: float = 9, kind: FailureKind | None = None, *, soft: bool = False) -> Step:
    event = EventKind.SOFT_BOUNCED if soft else EventKind.BOUNCED
    return Step(event, after, failure_from_reply(reply, kind=kind), detail="bounce")


_DELIVERED: Final = Step(EventKind.DELIVERED, 6, detail="delivered")
_OPENED: Final = Step(EventKind.OPENED, 5400, detail="open")

# What became of past emails through the ESP, and how often (in parts).
ESP_LIVES: Final[Sequence[tuple[int, Sequence[Step]]]] = (
    (34, _esp(_DELIVERED)),
    (46, _esp(_DELIVERED, _OPENED)),
    (8, _esp(_DELIVERED, Step(EventKind.OPENED, 8, machine=True, detail="open (machine)"))),
    (3, _esp(Step(EventKind.DEFERRED, 30, detail="deferred"), Step(EventKind.DELIVERED, 1900, detail="delivered"))),
    (3, _esp(_bounce("550 5.1.1 The email account that you tried to reach does not exist"))),
    (2, _esp(_bounce("550 5.1.2 Host unknown: no MX"))),
    (2, _esp(_bounce("452 4.2.2 The recipient's mailbox is full", soft=True))),
    (1, _esp(_bounce("554 5.7.1 Message refused as spam"))),
    (1, _esp(_bounce("550 5.7.1 Client host [192.0.2.25] blocked using a block list", soft=True))),
    (1, _esp(_bounce("550 5.7.26 Unauthenticated email is not accepted due to the domain's DMARC policy"))),
    (1, _esp(_bounce("552 5.3.4 Message too big for system"))),
    (
        1,
        _esp(Step(EventKind.REJECTED, 2, Failure(FailureKind.SUPPRESSED, reason="Bounced Address"), detail="dropped")),
    ),
    (1, _esp(_DELIVERED, _bounce("550 5.1.1 Mailbox was closed", 86_000))),
    (1, _esp(_DELIVERED, _OPENED, _bounce("550 5.1.1 Mailbox was closed", 86_000))),
    (1, _esp(_DELIVERED, Step(EventKind.COMPLAINED, 9000, detail="spamreport"))),
    (1, _esp(_DELIVERED, _OPENED, Step(EventKind.UNSUBSCRIBED, 9000, detail="unsubscribe"))),
    (1, _esp(_DELIVERED, Step(EventKind.UNSUBSCRIBED, 9000, detail="unsubscribe"))),
    (1, _esp(Step(EventKind.AUTO_REPLIED, 40, detail="out of office"), _DELIVERED)),
    (2, _esp()),
    (1, _esp(Step(EventKind.DEFERRED, 60, detail="deferred"))),
    (
        1,
        (
            Step(EventKind.ATTEMPT_AMBIGUOUS, 31, detail="the connection ended", source=EventSource.ATTEMPT),
            Step(EventKind.ACCEPTED, 38, source=EventSource.ATTEMPT),
        ),
    ),
    (
        1,
        (
            Step(
                EventKind.FAILED,
                1,
                Failure(FailureKind.ACCOUNT, reason="The from address does not match a verified Sender Identity."),
                detail="refused for good",
                source=EventSource.ATTEMPT,
            ),
        ),
    ),
    (1, (Step(EventKind.CANCELLED, 25, detail="withdrawn by staff", source=EventSource.ATTEMPT),)),
)
OWN_SERVER_LIFE: Final[Sequence[Step]] = (
    Step(EventKind.ACCEPTED, 0.6, detail="250 2.0.0 Ok: queued", source=EventSource.ATTEMPT),
)
