"""Resend: what its events mean. The pages are those of `resend`."""

from collections.abc import Mapping
from dataclasses import replace
from email.utils import parseaddr
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import reading

# webhooks/event-types: `type`.
_EVENTS: Mapping[str, EventKind] = {
    "email.scheduled": EventKind.QUEUED,
    "email.sent": EventKind.QUEUED,  # "Resend will attempt to deliver"
    "email.delivered": EventKind.DELIVERED,
    "email.delivery_delayed": EventKind.DEFERRED,
    "email.bounced": EventKind.BOUNCED,  # by its type, below
    "email.suppressed": EventKind.REJECTED,
    "email.failed": EventKind.REJECTED,  # taken by the API, then not sent
    "email.opened": EventKind.OPENED,
    "email.clicked": EventKind.CLICKED,
    "email.complained": EventKind.COMPLAINED,
}
# Events that are about no email of ours; some carry the id of another's.
_ABOUT_OTHERS: Final = ("email.received", "contact.", "domain.", "suppression.", "inbox.")
# webhooks/emails/bounced: `bounce.type` and `bounce.subType`, which are Amazon SES's. An automatic reply is among the
# Transient ones, so these are final only where the destination's code says so.
_BOUNCES: Mapping[tuple[str, str], tuple[EventKind, FailureKind | None]] = {
    ("Permanent", "General"): (EventKind.BOUNCED, None),
    ("Permanent", "NoEmail"): (EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
    ("Permanent", "Suppressed"): (EventKind.REJECTED, FailureKind.SUPPRESSED),
    ("Permanent", "OnAccountSuppressionList"): (EventKind.REJECTED, FailureKind.SUPPRESSED),
    ("Transient", "General"): (EventKind.SOFT_BOUNCED, None),
    ("Transient", "MailboxFull"): (EventKind.SOFT_BOUNCED, FailureKind.MAILBOX_FULL),
    ("Transient", "MessageTooLarge"): (EventKind.SOFT_BOUNCED, FailureKind.TOO_LARGE),
    ("Transient", "ContentRejected"): (EventKind.SOFT_BOUNCED, FailureKind.SPAM),
    ("Transient", "AttachmentRejected"): (EventKind.SOFT_BOUNCED, FailureKind.POLICY),
    ("Undetermined", "Undetermined"): (EventKind.SOFT_BOUNCED, None),
}
_BOUNCE_TYPES: Mapping[str, EventKind] = {
    "": EventKind.BOUNCED,  # "permanently rejected the email"
    "Permanent": EventKind.BOUNCED,
    "Transient": EventKind.SOFT_BOUNCED,
    "Undetermined": EventKind.SOFT_BOUNCED,
}
# webhooks/emails/failed: what stands in `failed.reason`; the page names the causes in words.
_REASONS: tuple[tuple[str, FailureKind], ...] = (
    ("quota", FailureKind.ACCOUNT),
    ("api_key", FailureKind.ACCOUNT),
    ("domain", FailureKind.ACCOUNT),
    ("recipient", FailureKind.ADDRESS_UNKNOWN),
)


def event(fields: reading.Fields, event_id: str | None) -> Event | None:
    name, data = reading.text(fields, "type"), reading.nested(fields, "data")
    if not name:
        raise reading.Malformed("the event has no type")
    if name.startswith(_ABOUT_OTHERS):
        return None
    message_id, provider_message_id = reading.our_id(_tags(data)), reading.text(data, "email_id") or None
    if message_id is None and provider_message_id is None:
        raise reading.Malformed("the event names no message")
    click = reading.nested(data, "click")
    # `data.created_at` is when the email was made.
    occurred_at = reading.iso_time(click.get("timestamp", fields.get("created_at")))
    kind, failure = outcome(name, data)
    link = reading.text(click, "link")
    key = reading.dedupe_key(str(message_id), provider_message_id, name, occurred_at, link)
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=event_id or key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=_recipient(data.get("to")),
        failure=failure,
        detail=_detail(name, data),
    )


def _tags(data: reading.Fields) -> reading.Fields:
    """Tags come back as an object; older webhooks had them as they were sent."""
    tags = data.get("tags")
    if isinstance(tags, list):
        return {reading.text(tag, "name"): tag.get("value") for tag in tags if isinstance(tag, dict)}
    return reading.nested(data, "tags")


def _recipient(to: object) -> str | None:
    first = to[0] if isinstance(to, list) and to else to
    mailbox = reading.text({"to": first}, "to")
    return parseaddr(mailbox)[1] or mailbox or None


def _detail(name: str, data: reading.Fields) -> str:
    bounce = reading.nested(data, "bounce")
    said = (reading.text(bounce, part) for part in ("type", "subType"))
    return "/".join(part for part in (name, *said) if part)


def outcome(name: str, data: reading.Fields) -> tuple[EventKind, Failure | None]:
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    match name:
        case "email.bounced":
            return _bounce(reading.nested(data, "bounce"))
        case "email.suppressed":
            reason = reading.text(reading.nested(data, "suppressed"), "message")
            return kind, Failure(FailureKind.SUPPRESSED, reason=reason)
        case "email.failed":
            reason = reading.text(reading.nested(data, "failed"), "reason")
            named = (failure for word, failure in _REASONS if word in reason.lower())
            return kind, Failure(next(named, FailureKind.OTHER), reason=reason)
        case _:
            return kind, None


def _bounce(bounce: reading.Fields) -> tuple[EventKind, Failure]:
    named = reading.text(bounce, "type"), reading.text(bounce, "subType")
    kind, vendor = _BOUNCES.get(named, (_BOUNCE_TYPES.get(named[0], EventKind.SOFT_BOUNCED), None))
    codes = bounce.get("diagnosticCode")
    code = reading.text({"code": codes[0] if isinstance(codes, list) and codes else codes}, "code")
    failure = reading.refusal(code or reading.text(bounce, "message"), vendor=vendor)
    if kind is EventKind.REJECTED and vendor is not None:
        return kind, replace(failure, kind=vendor)
    return reading.final(kind, failure), failure
