"""MessageEvent: one piece of evidence about a message, in one vocabulary for all who report it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import assert_never

from mail.failure import Failure
from mail.ids import MessageId
from mail.status import Verdict


class EventKind(Enum):
    """What happened, as the ESP, a poll of it, or our own attempt reported it."""

    QUEUED = "queued"
    """The ESP took the email into its queue."""
    ACCEPTED = "accepted"
    """An email server (our ESP, or the practice's own) accepted the email."""
    DEFERRED = "deferred"
    """The destination put it off; the ESP will try again."""
    DELIVERED = "delivered"
    """The destination email server confirmed that it took the email."""
    OPENED = "opened"
    """An image in the email was loaded."""
    CLICKED = "clicked"
    """A link in the email was followed."""
    BOUNCED = "bounced"
    """The destination refused it for good, or the ESP gave up."""
    SOFT_BOUNCED = "soft_bounced"
    """The destination refused it and the ESP doesn't say that this is final."""
    REJECTED = "rejected"
    """The ESP never tried: the address is suppressed, or the email was dropped."""
    COMPLAINED = "complained"
    """The patient marked the email as spam, so it did arrive."""
    UNSUBSCRIBED = "unsubscribed"
    """The patient unsubscribed by the email, so it did arrive."""
    RESUBSCRIBED = "resubscribed"
    """The patient took an unsubscription back; says nothing of one email."""
    AUTO_REPLIED = "auto_replied"
    """An out-of-office or other automatic answer came; no statement about delivery."""
    ATTEMPT_DEFERRED = "attempt_deferred"
    """Our own attempt was put off, by a refusal that may pass or a connection that failed."""
    ATTEMPT_AMBIGUOUS = "attempt_ambiguous"
    """Our connection ended after the email was handed over and before an answer came."""
    FAILED = "failed"
    """Our ESP or the practice's own server refused the email for good; nobody accepted it."""
    CANCELLED = "cancelled"
    """Staff withdrew the email before it was sent."""
    UNKNOWN = "unknown"
    """An event type that this version doesn't know; kept, counted, changes nothing."""


class EventSource(Enum):
    """How a piece of evidence came to us."""

    WEBHOOK = "webhook"
    """The ESP posted it."""
    POLL = "poll"
    """We asked the ESP."""
    REPLAY = "replay"
    """Read again from a stored webhook."""
    ATTEMPT = "attempt"
    """Our own attempt to send, or staff's own action, says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One piece of evidence.

    `dedupe_key` is stable over repeats of the same event and unique within a message: the ESP's own
    event id where it has one. `message_id` is our id as it came back in the ESP's metadata,
    `provider_message_id` the ESP's; at least one is there, or the event can never be matched.
    `occurred_at` is the event's own time, not the time of the email. `detail` is the vendor's name
    for it ("bounce/blocked"), for people to read. IP addresses and user agents are not kept.
    `place` is its index in the body it was read from, where several can stand; it is no part of what it says.
    """

    kind: EventKind
    occurred_at: datetime
    dedupe_key: str
    message_id: MessageId | None = None
    provider_message_id: str | None = None
    recipient: str | None = None
    machine: bool = False
    failure: Failure | None = None
    detail: str = ""
    place: int | None = field(default=None, compare=False)

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.kind, machine=self.machine)


def verdict_of(kind: EventKind, *, machine: bool = False) -> Verdict:
    """What one event says of its message. An event that says nothing has the lowest verdict, so that
    it changes nothing; so has an open or click by a machine."""
    match kind:
        case EventKind.OPENED | EventKind.CLICKED:
            return Verdict.QUEUED if machine else Verdict.OPENED
        case EventKind.DELIVERED | EventKind.COMPLAINED | EventKind.UNSUBSCRIBED:
            return Verdict.DELIVERED
        case EventKind.BOUNCED | EventKind.REJECTED:
            return Verdict.RETURNED
        case EventKind.SOFT_BOUNCED:
            return Verdict.RETURNED_SOFT
        case EventKind.QUEUED | EventKind.ACCEPTED | EventKind.DEFERRED:
            return Verdict.SENT
        case EventKind.FAILED:
            return Verdict.FAILED
        case EventKind.CANCELLED:
            return Verdict.CANCELLED
        case (
            EventKind.AUTO_REPLIED
            | EventKind.RESUBSCRIBED
            | EventKind.ATTEMPT_DEFERRED
            | EventKind.ATTEMPT_AMBIGUOUS
            | EventKind.UNKNOWN
        ):
            return Verdict.QUEUED
    assert_never(kind)
