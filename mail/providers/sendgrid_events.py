"""SendGrid: what its events mean. The pages are those of `sendgrid`."""

from collections.abc import Mapping

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import reading

# Event Webhook Reference: `event`. A bounce is told apart by its type, below.
_EVENTS: Mapping[str, EventKind] = {
    "processed": EventKind.QUEUED,
    "deferred": EventKind.DEFERRED,
    "delivered": EventKind.DELIVERED,
    "bounce": EventKind.BOUNCED,
    "dropped": EventKind.REJECTED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "spamreport": EventKind.COMPLAINED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "group_unsubscribe": EventKind.UNSUBSCRIBED,
    "group_resubscribe": EventKind.RESUBSCRIBED,
}
# An event of the whole account, which names no message.
_ABOUT_ACCOUNT = frozenset({"account_status_change"})
# Event Webhook Reference and glossary "Blocks": `type` of a bounce. A block is a refusal of this email by a
# deny list or filter, or a deferral that went on for 72 hours. SendGrid calls it temporary and goes on
# sending to the address, so it is final only where the destination's code says so. Types that we don't know
# are read as blocked.
_BOUNCES: Mapping[str, EventKind] = {
    "": EventKind.BOUNCED,  # older accounts: bounces only, untyped
    "bounce": EventKind.BOUNCED,
    "expired": EventKind.BOUNCED,
    "blocked": EventKind.SOFT_BOUNCED,
}
# Bounces API, "classifications"; None where it covers several of our kinds and the reply must tell.
_CLASSIFICATIONS: Mapping[str, FailureKind | None] = {
    "invalid address": FailureKind.ADDRESS_UNKNOWN,
    "technical": FailureKind.UNREACHABLE,
    "technical failure": FailureKind.UNREACHABLE,
    "content": FailureKind.SPAM,
    "reputation": FailureKind.REPUTATION,
    "frequency or volume too high": FailureKind.REPUTATION,
    "mailbox unavailable": None,
    "unclassified": None,
}
# Event Webhook Reference: `reason` of a drop. Others: FailureKind.OTHER.
_DROPS: Mapping[str, FailureKind] = {
    "bounced address": FailureKind.SUPPRESSED,
    "unsubscribed address": FailureKind.SUPPRESSED,
    "spam reporting address": FailureKind.SUPPRESSED,
    "invalid": FailureKind.ADDRESS_UNKNOWN,
    "spam content": FailureKind.SPAM,
    "invalid smtpapi header": FailureKind.CONTENT,
    "recipient list over package quota": FailureKind.ACCOUNT,
}


def before_dot(message_id: str) -> str | None:
    """Events name an email by its X-Message-Id, a dot, and which of SendGrid's servers filtered it."""
    return message_id.partition(".")[0] or None


def event(fields: reading.Fields) -> Event | None:
    name = reading.text(fields, "event")
    if not name:
        raise reading.Malformed("the event has no type")
    message_id = reading.our_id(fields)
    provider_message_id = before_dot(reading.text(fields, "sg_message_id"))
    if message_id is None and provider_message_id is None:
        if name in _ABOUT_ACCOUNT:
            return None
        raise reading.Malformed("the event names no message")
    kind, detail, failure = _outcome(name, fields)
    occurred_at = reading.epoch_time(fields.get("timestamp"))
    machine = kind is EventKind.OPENED and fields.get("sg_machine_open") in (True, "true")
    # sg_event_id may change from one delivery of an event to the next (sendgrid-nodejs #1435), so the key is
    # what the event says. Two opens within one second become one, unless one is a machine's: no loss, since
    # neither says more than the other.
    key = reading.dedupe_key(
        str(message_id),
        provider_message_id,
        detail,
        occurred_at,
        machine,
        reading.text(fields, "url"),
        reading.text(fields, "attempt"),
        reading.text(fields, "asm_group_id"),
    )
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "email") or None,
        machine=machine,
        failure=failure,
        detail=detail,
    )


def _outcome(name: str, fields: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    """Kind, detail and failure of an event by its name."""
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    reason, status = reading.text(fields, "reason"), reading.text(fields, "status")
    match name:
        case "bounce":
            bounce = reading.text(fields, "type")
            vendor = _CLASSIFICATIONS.get(reading.text(fields, "bounce_classification").lower())
            failure = reading.refusal(reason, status=status, vendor=vendor)
            kind = reading.final(_BOUNCES.get(bounce, EventKind.SOFT_BOUNCED), failure)
            return kind, f"bounce/{bounce}" if bounce else name, failure
        case "dropped":
            failure = Failure(_DROPS.get(reason.lower(), FailureKind.OTHER), reason=reason)
            return kind, f"dropped/{reason}" if reason.lower() in _DROPS else name, failure
        case "deferred":
            return kind, name, reading.refusal(reading.text(fields, "response") or reason, status=status)
        case _:
            return kind, name, None
