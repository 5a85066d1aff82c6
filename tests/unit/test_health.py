"""What one event says about a patient's address."""

import pytest

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.health import EmailHealth, health_of

BY_FAILURE = {
    FailureKind.ADDRESS_UNKNOWN: EmailHealth.BOUNCED,
    FailureKind.DOMAIN_UNKNOWN: EmailHealth.BOUNCED,
    FailureKind.SUPPRESSED: EmailHealth.BOUNCED,
    FailureKind.MAILBOX_FULL: EmailHealth.SOFT_BOUNCED,
    FailureKind.UNREACHABLE: EmailHealth.SOFT_BOUNCED,
}
RETURNS = [EventKind.BOUNCED, EventKind.SOFT_BOUNCED, EventKind.REJECTED, EventKind.FAILED]


@pytest.mark.parametrize("kind", [EventKind.DELIVERED, EventKind.OPENED, EventKind.CLICKED])
def test_what_arrived_speaks_for_the_address(kind: EventKind) -> None:
    assert health_of(kind, None) is EmailHealth.GOOD


def test_a_complaint_is_remembered() -> None:
    assert health_of(EventKind.COMPLAINED, None) is EmailHealth.COMPLAINED


@pytest.mark.parametrize("failure", FailureKind)
@pytest.mark.parametrize("kind", RETURNS)
def test_a_return_speaks_against_the_address_only_where_the_address_is_at_fault(
    kind: EventKind, failure: FailureKind
) -> None:
    assert health_of(kind, Failure(failure)) is BY_FAILURE.get(failure)


@pytest.mark.parametrize("kind", RETURNS)
def test_a_return_without_a_reason_says_nothing_of_the_address(kind: EventKind) -> None:
    assert health_of(kind, None) is None


def test_nothing_else_says_anything_of_the_address() -> None:
    telling = {EventKind.DELIVERED, EventKind.OPENED, EventKind.CLICKED, EventKind.COMPLAINED, *RETURNS}
    for kind in set(EventKind) - telling:
        assert health_of(kind, Failure(FailureKind.ADDRESS_UNKNOWN)) is None
