"""Histories of messages made up by hypothesis, and what they come to: in Python, from the set of events alone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from db.messages import Message
from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.health import EmailHealth, health_of
from mail.status import Verdict

QUEUED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)

# Few times and few failures, so that there are many ties to decide.
_times = st.integers(-2, 4).map(lambda minutes: QUEUED_AT + timedelta(minutes=minutes))
_failures = st.one_of(
    st.none(),
    st.builds(
        Failure,
        st.sampled_from(FailureKind),
        st.sampled_from([None, 452, 550]),
        st.sampled_from([None, "5.1.1"]),
        st.sampled_from(["", "first", "second"]),
    ),
)
histories = st.lists(
    st.builds(
        Event,
        kind=st.sampled_from(EventKind),
        occurred_at=_times,
        dedupe_key=st.text("aZ0-é😀", min_size=1, max_size=3),
        machine=st.booleans(),
        failure=_failures,
        detail=st.sampled_from(["", "bounce/blocked"]),
    ),
    unique_by=lambda event: event.dedupe_key,
    max_size=10,
)


def summed_up(message: Message, events: Sequence[Event]) -> Message:
    """What a queued message comes to by a set of events."""

    def first(*verdicts: Verdict) -> datetime | None:
        return min((event.occurred_at for event in events if event.verdict in verdicts), default=None)

    def any_of(kind: EventKind) -> bool:
        return any(event.kind is kind for event in events)

    sent_at = first(*(verdict for verdict in Verdict if verdict >= Verdict.SENT))
    failures = sorted(
        (event for event in events if event.failure),
        key=lambda event: (-event.verdict, QUEUED_AT - event.occurred_at, event.dedupe_key),
    )
    return replace(
        message,
        verdict=max((event.verdict for event in events), default=Verdict.QUEUED),
        cancelled_at=first(Verdict.CANCELLED),
        failed_at=first(Verdict.FAILED),
        sent_at=max(sent_at, message.queued_at) if sent_at else None,
        soft_returned_at=first(Verdict.RETURNED_SOFT),
        delivered_at=first(Verdict.DELIVERED),
        opened_at=first(Verdict.OPENED),
        returned_at=first(Verdict.RETURNED),
        attempt_failed=any_of(EventKind.ATTEMPT_DEFERRED),
        ambiguous=any_of(EventKind.ATTEMPT_AMBIGUOUS),
        deferred=any_of(EventKind.DEFERRED),
        machine_opened=any(event.machine for event in events),
        complained=any_of(EventKind.COMPLAINED),
        unsubscribed=any_of(EventKind.UNSUBSCRIBED),
        failure=failures[0].failure if failures else None,
    )


def health_after(events: Sequence[Event]) -> EmailHealth:
    """The health of an address after a set of events: the latest that says something, and of several at one time the
    worst."""
    order = list(EmailHealth)
    said = [
        (event.occurred_at, order.index(health))
        for event in events
        if not event.machine and (health := health_of(event.kind, event.failure))
    ]
    return order[max(said)[1]] if said else EmailHealth.UNKNOWN
