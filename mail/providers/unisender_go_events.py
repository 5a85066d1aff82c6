"""Unisender Go: what its events mean. The pages are those of `unisender_go`."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import reading

# Webhook call, `status`.
_STATUSES: Mapping[str, EventKind] = {
    "accepted": EventKind.QUEUED,
    "sent": EventKind.QUEUED,  # on its way to the destination
    "delivered": EventKind.DELIVERED,
    "opened": EventKind.OPENED,
    "clicked": EventKind.CLICKED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "subscribed": EventKind.RESUBSCRIBED,
    "spam": EventKind.COMPLAINED,
    "soft_bounced": EventKind.DEFERRED,  # tried again for 24 or 48 hours; then it is a hard one
    "hard_bounced": EventKind.BOUNCED,
}
# Webhook call, `delivery_info.delivery_status`, of a refusal. None where the destination's words must tell.
_REFUSALS: Mapping[str, FailureKind | None] = {
    "err_user_unknown": FailureKind.ADDRESS_UNKNOWN,
    "err_user_inactive": FailureKind.ADDRESS_UNKNOWN,
    "err_mailbox_discarded": FailureKind.ADDRESS_UNKNOWN,
    "err_dest_invalid": FailureKind.ADDRESS_UNKNOWN,
    "err_domain_inactive": FailureKind.DOMAIN_UNKNOWN,
    "err_no_dns": FailureKind.DOMAIN_UNKNOWN,
    "err_mailbox_full": FailureKind.MAILBOX_FULL,
    "err_spam_rejected": FailureKind.SPAM,
    "err_blacklisted": FailureKind.REPUTATION,
    "err_too_large": FailureKind.TOO_LARGE,
    "err_destination_misconfigured": FailureKind.UNREACHABLE,
    "err_no_smtp": FailureKind.UNREACHABLE,
    "err_giveup": FailureKind.UNREACHABLE,
    "err_src_invalid": FailureKind.ACCOUNT,
    "err_delivery_failed": None,
    "err_will_retry": None,
    "err_resend": None,
    "err_retry_letter": None,
    "err_unknown": None,
}
# The same, of an email that was never sent to its destination.
_NEVER_TRIED: Mapping[str, FailureKind] = {
    "err_unsubscribed": FailureKind.SUPPRESSED,
    "err_unreachable": FailureKind.SUPPRESSED,
    "err_not_available": FailureKind.SUPPRESSED,
    "err_skip_letter": FailureKind.SUPPRESSED,
    "skip_dup_unreachable": FailureKind.SUPPRESSED,
    "skip_dup_temp_unreachable": FailureKind.SUPPRESSED,
    "skip_dup_mailbox_full": FailureKind.MAILBOX_FULL,
    "err_spam_skipped": FailureKind.SPAM,
    "err_spam_removed": FailureKind.SPAM,
    "err_lost": FailureKind.OTHER,
    "err_internal": FailureKind.OTHER,
    "not_sent": FailureKind.OTHER,
}
_ABOUT_NO_MESSAGE: Final = "transactional_spam_block"
_WITHOUT_ZONE: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?", re.ASCII)


def elements(posted: object) -> Iterator[object]:
    """The events of each user; or the one event that a webhook for single events posts, flat."""
    if not isinstance(posted, dict) or "events_by_user" not in posted:
        yield posted
        return
    users = posted["events_by_user"]
    for user in users if isinstance(users, list) else [users]:
        events = user.get("events") if isinstance(user, dict) else None
        yield from events if isinstance(events, list) else [None]


def event(fields: reading.Fields) -> Event | None:
    if reading.text(fields, "event_name") == _ABOUT_NO_MESSAGE:
        return None
    data = reading.nested(fields, "event_data") or fields
    status = reading.text(data, "status")
    if not status:
        raise reading.Malformed("the event has no status")
    message_id = reading.our_id(reading.nested(data, "metadata"))
    provider_message_id = reading.text(data, "job_id") or None
    if message_id is None and provider_message_id is None:
        raise reading.Malformed("the event names no message")
    info = reading.nested(data, "delivery_info")
    delivery_status = reading.text(info, "delivery_status")
    kind, failure = _outcome(status, delivery_status, info)
    occurred_at = _time(data.get("event_time"))
    # Nothing that Unisender Go sends names an event, and the ID header changes with each attempt.
    key = reading.dedupe_key(
        str(message_id), provider_message_id, status, delivery_status, occurred_at, reading.text(data, "url")
    )
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(data, "email") or None,
        machine=kind is EventKind.OPENED and reading.prefetched(reading.text(info, "user_agent")),
        failure=failure,
        detail=f"{status}/{delivery_status}" if delivery_status else status,
    )


def _time(value: object) -> datetime:
    """UTC, which it doesn't say."""
    without_zone = isinstance(value, str) and _WITHOUT_ZONE.fullmatch(value.strip())
    return reading.iso_time(f"{without_zone[0]}Z" if without_zone else value)


def _outcome(status: str, delivery_status: str, info: reading.Fields) -> tuple[EventKind, Failure | None]:
    kind = _STATUSES.get(status, EventKind.UNKNOWN)
    if kind not in {EventKind.BOUNCED, EventKind.DEFERRED}:
        return kind, None
    said = reading.text(info, "destination_response")
    if delivery_status in _NEVER_TRIED:
        failure = Failure(_NEVER_TRIED[delivery_status], reason=said or delivery_status)
        return EventKind.REJECTED if kind is EventKind.BOUNCED else kind, failure
    return kind, reading.refusal(said, vendor=_REFUSALS.get(delivery_status))
