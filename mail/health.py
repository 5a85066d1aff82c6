"""Health of a patient's address: what the last telling event said about the address itself."""

from enum import Enum

from mail.event import EventKind
from mail.failure import Failure, FailureKind


class EmailHealth(Enum):
    """Whether emails reach a patient's address, as the latest evidence has it."""

    UNKNOWN = "unknown"
    """No evidence yet, or the address was changed since."""
    GOOD = "good"
    """The last email was delivered."""
    SOFT_BOUNCED = "soft_bounced"
    """The last email came back for a reason that may pass."""
    BOUNCED = "bounced"
    """The address does not exist, or the ESP no longer writes to it."""
    COMPLAINED = "complained"
    """The patient marked an email as spam."""


# Failures that are no fault of the address leave its health as it was.
_BY_FAILURE: dict[FailureKind, EmailHealth] = {
    FailureKind.ADDRESS_UNKNOWN: EmailHealth.BOUNCED,
    FailureKind.DOMAIN_UNKNOWN: EmailHealth.BOUNCED,
    FailureKind.SUPPRESSED: EmailHealth.BOUNCED,
    FailureKind.MAILBOX_FULL: EmailHealth.SOFT_BOUNCED,
    FailureKind.UNREACHABLE: EmailHealth.SOFT_BOUNCED,
}


def health_of(kind: EventKind, failure: Failure | None) -> EmailHealth | None:
    """What one event says about the address; None when it says nothing."""
    match kind:
        case EventKind.DELIVERED | EventKind.OPENED | EventKind.CLICKED:
            return EmailHealth.GOOD
        case EventKind.COMPLAINED:
            return EmailHealth.COMPLAINED
        case EventKind.BOUNCED | EventKind.SOFT_BOUNCED | EventKind.REJECTED | EventKind.FAILED:
            return _BY_FAILURE.get(failure.kind) if failure else None
        case _:
            return None
