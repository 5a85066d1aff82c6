"""What Scaleway Transactional Email tells of an email: by the events of a webhook, and by the email itself.

Pages, at scaleway.com/en: docs/transactional-email/reference-content/webhook-events-payloads, docs/transactional-email
"Concepts" (event types, flags), developers/api/transactional-email "Email".
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import reading, sns
from mail.providers.base import Question, Reading

OUR_ID: Final = "X-Carepost-Message-ID"
"""The header under which our id goes out and comes back: Scaleway has no metadata."""

# "Webhook event type"; the failure counts where the destination's reply says little. `email_spam` may come of Scaleway,
# of the destination or of the recipient, and is told apart below. `email_canceled` is a status of the API alone.
_EVENTS: Mapping[str, tuple[EventKind, FailureKind | None]] = {
    "unknown_type": (EventKind.UNKNOWN, None),
    "email_queued": (EventKind.QUEUED, None),
    "email_deferred": (EventKind.DEFERRED, FailureKind.OTHER),
    "email_delivered": (EventKind.DELIVERED, None),
    "email_dropped": (EventKind.BOUNCED, FailureKind.OTHER),
    "email_mailbox_not_found": (EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
    "email_spam": (EventKind.SOFT_BOUNCED, FailureKind.SPAM),
    "email_blocklisted": (EventKind.REJECTED, FailureKind.SUPPRESSED),
    "email_canceled": (EventKind.REJECTED, FailureKind.ACCOUNT),
}
# An address was put on the block list; the email that caused it has an event of its own.
_ABOUT_ADDRESS = frozenset({"blocklist_created"})

# "Email": `flags` of one that failed, as the event that a webhook would bring; the first that is there counts, and
# without one it was dropped.
_FLAGS: Sequence[tuple[str, str]] = (
    ("blocklisted", "email_blocklisted"),
    ("mailbox_not_found", "email_mailbox_not_found"),
    ("spam", "email_spam"),
)


def read_message(message: str, published: datetime | None) -> Reading:
    """The event in a message of Topics and Events; it has a time of its own."""
    try:
        return reading.read_each([sns.json_message(message)], _event)
    except reading.Malformed as malformed:
        return reading.not_readable(str(malformed))


def _event(fields: reading.Fields) -> Event | None:
    name = reading.text(fields, "type")
    if not name:
        raise reading.Malformed("the event has no type")
    message_id = reading.our_id({reading.METADATA_KEY: _header(fields, OUR_ID)})
    provider_message_id = reading.text(fields, "email_id") or None  # which email_blocklisted lacks
    if message_id is None and provider_message_id is None:
        if name in _ABOUT_ADDRESS:
            return None
        raise reading.Malformed("the event names no message")
    kind, vendor = _EVENTS.get(name, (EventKind.UNKNOWN, None))
    failure, detail = _reply(fields, vendor), name
    if name == "email_spam":
        kind, failure = _spam(kind, failure)
    if name == "email_blocklisted" and (why := reading.text(fields, "blocklist_type")):
        detail = f"{name}/{why}"
    # Event ids come with webhooks alone: what happened to an email once, or at one try, is known by that.
    key = reading.dedupe_key(
        str(message_id) if message_id else provider_message_id,
        name,
        reading.text(fields, "email_try_count") if name == "email_deferred" else "",
    )
    return Event(
        kind=kind,
        occurred_at=reading.iso_time(fields.get("created_at")),
        dedupe_key=key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "email_to") or None,
        failure=failure,
        detail=detail,
    )


def _reply(fields: reading.Fields, vendor: FailureKind | None) -> Failure | None:
    """The destination's reply; where no destination was asked, the block list's reason and Scaleway's own kind."""
    if vendor is None:
        return None
    if vendor in {FailureKind.SUPPRESSED, FailureKind.ACCOUNT}:
        return Failure(vendor, reason=reading.text(fields, "blocklist_reason") or reading.text(fields, "email_error"))
    reply = reading.text(fields, "email_response_message") or reading.text(fields, "email_error")
    return reading.refusal(reply, status=reading.text(fields, "email_response_code"), vendor=vendor)


def _spam(kind: EventKind, failure: Failure | None) -> tuple[EventKind, Failure | None]:
    """What the destination took and somebody called spam is a complaint; what it refused for good is a bounce."""
    if failure is None or (failure.smtp_code or 0) // 100 == 2:
        return EventKind.COMPLAINED, None
    return reading.final(kind, failure), failure


def _header(fields: reading.Fields, name: str) -> str:
    listed = fields.get("email_headers")
    headers = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return next(
        (reading.text(each, "value") for each in headers if reading.text(each, "key").lower() == name.lower()), ""
    )


def read_email(email: reading.Fields, question: Question) -> Reading:
    """The events of "Get an email"."""
    return reading.read_each(_records(email, question), _event)


def _records(email: reading.Fields, question: Question) -> list[dict[str, object]]:
    """What became of an email, by its status, its flags and its last three tries, as the events of a webhook."""
    listed, flags = email.get("last_tries"), email.get("flags")
    tries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    tries.sort(key=lambda each: each["rank"] if isinstance(each.get("rank"), int) else 0)
    last: reading.Fields = tries[-1] if tries else {}
    status = reading.text(email, "status")
    outcome = {"sent": "email_delivered", "canceled": "email_canceled"}.get(status, "")
    if status == "failed":
        named = flags if isinstance(flags, list) else []
        outcome = next((event for flag, event in _FLAGS if flag in named), "email_dropped")
    common = {
        "email_id": question.provider_message_id,
        "email_to": email.get("rcpt_to") or email.get("mail_rcpt"),
        "email_headers": [{"key": OUR_ID, "value": str(question.message_id)}],
    }
    records = [
        {**common, **_tried(each), "type": "email_deferred", "created_at": each.get("tried_at")}
        for each in (tries[:-1] if outcome else tries)
    ]
    if outcome:
        at = last.get("tried_at") or email.get("updated_at")
        said = {"email_error": email.get("status_details"), **_tried(last)}
        records.append({**common, **said, "type": outcome, "created_at": at})
    return records


def _tried(attempt: reading.Fields) -> dict[str, object]:
    return {
        "email_try_count": attempt.get("rank"),
        "email_response_code": attempt.get("code"),
        "email_response_message": attempt.get("message"),
    }
