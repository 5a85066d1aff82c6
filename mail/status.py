"""The status of a message: the greatest verdict of its events, under a ceiling. Nothing else.

Verdicts stand in one order, and the status is a maximum over them; so events may come twice, late and
in any order, and the same set of events gives the same status. Postgres has the same order as the enum
`verdict` and applies it by `GREATEST`.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum, IntEnum
from functools import lru_cache
from typing import assert_never
from zoneinfo import ZoneInfo


class Verdict(IntEnum):
    """What evidence says of a message, in the order in which it wins."""

    QUEUED = 0
    """Nothing yet, or nothing that counts."""
    CANCELLED = 1
    """Withdrawn by staff before it was sent."""
    FAILED = 2
    """Refused for good by our ESP or the practice's own server; nobody accepted it."""
    SENT = 3
    """Accepted by our email server; or put off by the destination, which will be tried again."""
    RETURNED_SOFT = 4
    """Came back, and nobody says that this is final; a delivery or an open outranks it."""
    DELIVERED = 5
    """The destination confirmed it."""
    OPENED = 6
    """Opened or clicked by a person, as far as can be known."""
    RETURNED = 7
    """Came back for good. Outranks all: opens are faked by scanners, and a patient who was not
    reached must be called."""

    @property
    def sql_name(self) -> str:
        """The label of the Postgres enum `verdict`."""
        return self.name.lower()


class MessageStatus(Enum):
    """What the page and the API show."""

    QUEUED = "queued"
    """Accepted by Carepost, not yet by a mail server (or scheduled for later)."""
    CANCELLED = "cancelled"
    """Withdrawn before it was sent."""
    FAILED = "failed"
    """Our ESP, or the practice's own server, refused it for good: nobody accepted it."""
    SENT = "sent"
    """Accepted by our email server (or the practice's own, when sending by Gmail or SMTP)."""
    DELIVERED = "delivered"
    """The destination email server confirmed that the message was delivered."""
    OPENED = "opened"
    """The message was confirmed opened."""
    NOT_DELIVERED = "not_delivered"
    """The destination email server confirmed that it was not delivered, or the ESP gave up, or never
    tried a suppressed address."""

    @property
    def label(self) -> str:
        """The words the page shows."""
        return _LABELS[self]


_LABELS = {
    MessageStatus.QUEUED: "Queued",
    MessageStatus.CANCELLED: "Cancelled",
    MessageStatus.FAILED: "Not sent",
    MessageStatus.SENT: "Sent",
    MessageStatus.DELIVERED: "Delivered",
    MessageStatus.OPENED: "Opened",
    MessageStatus.NOT_DELIVERED: "Not delivered",
}


class AccountKind(Enum):
    """How a practice sends."""

    ESP = "esp"
    """Through an email service provider that reports what became of each email."""
    GMAIL = "gmail"
    """Through the practice's own Gmail or Google Workspace; nothing comes back."""
    SMTP = "smtp"
    """Through the practice's own mail server; nothing comes back."""

    @property
    def tracked(self) -> bool:
        """Whether anything beyond Sent can be known of its messages."""
        return self is AccountKind.ESP


DEFAULT_TRACKING_START = date(2019, 7, 23)


@lru_cache(1024)
def tracked_from(tracking_start: date, zone: ZoneInfo) -> datetime:
    """The first instant that is tracked: midnight after `tracking_start` in the practice's zone.

    Messages sent *on* that day are not tracked. Where midnight comes twice it is the first, unless the clock
    goes back into the day itself; where it doesn't exist, it is what the earlier offset makes of it (PEP 495).
    """
    midnight = datetime.combine(tracking_start + timedelta(days=1), time(), zone)
    first, again = (midnight.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    before = (again - timedelta(microseconds=1)).astimezone(zone)
    return max(first, again) if before.date() <= tracking_start else first


def ceiling(kind: AccountKind, sent_at: datetime, first_tracked: datetime) -> Verdict:
    """The greatest verdict that may show: `SENT` where nothing more can be known, else no limit.

    `sent_at` is when the message was sent, or was queued as long as it hasn't been; `first_tracked` comes
    from `tracked_from`.
    """
    return Verdict.RETURNED if kind.tracked and sent_at >= first_tracked else Verdict.SENT


CLOCK_TOLERANCE = timedelta(minutes=5)


def believed_at(occurred_at: datetime, received_at: datetime) -> datetime:
    """The time that an event counts with: its own, unless it lies in the future of when we learned of it.

    Nobody can tell of what hasn't happened, so a clock that is wrong by more than `CLOCK_TOLERANCE` is not believed:
    it happened when we learned of it at the latest. The evidence keeps the time that was reported. An event that
    comes twice counts with the smaller of its two times, so that the order in which they come makes no difference.
    """
    return received_at if occurred_at > received_at + CLOCK_TOLERANCE else occurred_at


def status_of(verdict: Verdict, limit: Verdict = Verdict.RETURNED) -> MessageStatus:
    """The status that a verdict shows as, under a ceiling."""
    shown = min(verdict, limit)
    match shown:
        case Verdict.QUEUED:
            return MessageStatus.QUEUED
        case Verdict.CANCELLED:
            return MessageStatus.CANCELLED
        case Verdict.FAILED:
            return MessageStatus.FAILED
        case Verdict.SENT:
            return MessageStatus.SENT
        case Verdict.DELIVERED:
            return MessageStatus.DELIVERED
        case Verdict.OPENED:
            return MessageStatus.OPENED
        case Verdict.RETURNED | Verdict.RETURNED_SOFT:
            return MessageStatus.NOT_DELIVERED
    assert_never(shown)


def status(verdicts: Iterable[Verdict], limit: Verdict = Verdict.RETURNED) -> MessageStatus:
    """The rule: the greatest verdict, under a ceiling. No evidence at all is QUEUED."""
    return status_of(max(verdicts, default=Verdict.QUEUED), limit)
