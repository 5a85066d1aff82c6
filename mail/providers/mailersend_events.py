"""MailerSend: what its events mean, in webhooks of both versions and in the state of a message. The pages are
those of `mailersend`.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from mail.providers import reading
from mail.providers.base import Question

TEST: Final = "webhook.test"
_WITHOUT_ZONE: Final = len("2020-06-04 12:00:00")
# "Webhooks": `type` without "activity." and "_unique", which is the first open or click reported once more.
_EVENTS: Mapping[str, EventKind] = {
    "sent": EventKind.ACCEPTED,
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DEFERRED,
    "soft_bounced": EventKind.SOFT_BOUNCED,
    "hard_bounced": EventKind.BOUNCED,
    "suppressed": EventKind.REJECTED,
    "opened": EventKind.OPENED,
    "clicked": EventKind.CLICKED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "spam_complaint": EventKind.COMPLAINED,
    "spam_complaints": EventKind.COMPLAINED,
    "survey_opened": EventKind.OPENED,
    "survey_submitted": EventKind.CLICKED,
}
# What these events say where the destination's words say little; None: MailerSend says nothing either.
_FAILURES: Mapping[str, FailureKind | None] = {
    "deferred": None,
    "soft_bounced": None,
    "hard_bounced": None,
    "suppressed": FailureKind.SUPPRESSED,
}
# In webhooks of version 2 `meta` says why, in version 1 (until December 2026) `morph`.
_REASONS: Final = ("bounce_reason", "suppression_reason", "reject_reason", "readable_reason", "reason")
# Events of the account, its other products and its plans, which name no message.
_ABOUT_ACCOUNT = frozenset(
    {
        TEST,
        "sender_identity.verified",
        "maintenance.start",
        "maintenance.end",
        "inbound.message",
        "inbound_forward.failed",
        "inbound_message.rejected",
        "email_single.verified",
        "email_list.verified",
        "bulk_email.completed",
        "recipient.on_hold_added",
        "recipient.on_hold_removed",
    }
)
# "Messages": `status` of a message's email; others are the events' names. Webhooks of version 1 call an email rejected
# after a soft and after a hard bounce, so it is not known to be final.
_EMAIL_STATUSES: Mapping[str, EventKind] = {
    **_EVENTS,
    "queued": EventKind.QUEUED,
    "rejected": EventKind.SOFT_BOUNCED,
}


def event(fields: reading.Fields) -> Event | None:
    detail = reading.text(fields, "type") or reading.text(fields, "object")
    if not detail:
        raise reading.Malformed("the event has no type")
    if detail in _ABOUT_ACCOUNT:
        return None
    data = reading.nested(fields, "data")
    email = reading.nested(data, "email")  # version 1; in version 2 it is the recipient's address, or missing
    message_id = _our_id(data.get("tags") or email.get("tags"))
    provider_message_id = (
        reading.text(data, "message_id") or reading.text(reading.nested(email, "message"), "id") or None
    )
    if message_id is None and provider_message_id is None:
        raise reading.Malformed("the event names no message")
    name = detail.removeprefix("activity.").removesuffix("_unique")
    # Version 1 has the event's time in `data` and the webhook's beside it.
    occurred_at = _time(data.get("created_at") or fields.get("created_at"))
    meta = reading.nested(data, "meta") or reading.nested(data, "morph")
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    failure = _failure(name, meta) if name in _FAILURES else None
    activity = reading.text(data, "id")
    key = reading.dedupe_key(
        provider_message_id or str(message_id), name, activity or occurred_at, "" if activity else _url(meta)
    )
    return Event(
        kind=reading.final(kind, failure) if failure else kind,
        occurred_at=occurred_at,
        dedupe_key=key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=_recipient(data, email),
        machine=kind is EventKind.OPENED and reading.prefetched(reading.text(meta, "user_agent")),
        failure=failure,
        detail=detail,
    )


def _failure(name: str, meta: reading.Fields) -> Failure:
    reason = next((text for field in _REASONS if (text := reading.text(meta, field))), "")
    failure = reading.refusal(reason, status=reading.text(meta, "bounce_code"), vendor=_FAILURES[name])
    if name == "suppressed":
        return replace(failure, kind=FailureKind.SUPPRESSED)
    return failure


def _recipient(data: reading.Fields, email: reading.Fields) -> str | None:
    named = reading.text(data, "recipient") or reading.text(data, "email")
    return named or reading.text(reading.nested(email, "recipient"), "email") or None


def _url(meta: reading.Fields) -> str:
    return reading.text(meta, "url")


def _our_id(tags: object) -> MessageId | None:
    """Our id among the tags of an email."""
    listed = tags if isinstance(tags, list) else []
    return next((ours for tag in listed if (ours := reading.our_id({reading.METADATA_KEY: tag}))), None)


def _time(value: object) -> datetime:
    """A time in ISO 8601; page "Activity": where it has no zone it is UTC."""
    return reading.iso_time(f"{value}Z" if isinstance(value, str) and len(value) == _WITHOUT_ZONE else value)


def state(email: reading.Fields, question: Question) -> Event:
    """What the state of a message's one email says; its time is that of its last change. It has no id of an event."""
    status = reading.text(email, "status")
    if not status:
        raise reading.Malformed("the email has no status")
    return Event(
        kind=_EMAIL_STATUSES.get(status, EventKind.UNKNOWN),
        occurred_at=_time(email.get("updated_at") or email.get("created_at")),
        dedupe_key=reading.dedupe_key(question.provider_message_id, "status", status),
        message_id=question.message_id,
        provider_message_id=question.provider_message_id,
        recipient=question.recipient,
        detail=f"status/{status}",
    )
