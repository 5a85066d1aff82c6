"""What SparkPost's events mean, as its webhooks and its Events API bring them.

Pages: developers.sparkpost.com api/webhooks and api/events (event types); support.sparkpost.com "Bounce Classification
Codes", "SparkPost Event Definitions", "Preparing for Async Suppressions", "Apple Mail Privacy Protection".
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import reading

# api/webhooks: `type`.
_EVENTS: Mapping[str, EventKind] = {
    "injection": EventKind.QUEUED,
    "delivery": EventKind.DELIVERED,
    "delay": EventKind.DEFERRED,
    "bounce": EventKind.BOUNCED,  # by its class, below
    "out_of_band": EventKind.BOUNCED,  # by its class, below
    "spam_complaint": EventKind.COMPLAINED,
    "policy_rejection": EventKind.REJECTED,
    "generation_failure": EventKind.REJECTED,
    "generation_rejection": EventKind.REJECTED,
    "open": EventKind.OPENED,
    "initial_open": EventKind.OPENED,  # the image at the top
    "amp_open": EventKind.OPENED,
    "amp_initial_open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "amp_click": EventKind.CLICKED,
    "list_unsubscribe": EventKind.UNSUBSCRIBED,
    "link_unsubscribe": EventKind.UNSUBSCRIBED,
}
_OPENS: Final = frozenset({"open", "initial_open", "amp_open", "amp_initial_open"})

# api/webhooks: what stands in `msys` and is about no email of ours.
_ABOUT_OTHERS: Final = frozenset({"relay_event", "relay_message", "ab_test_event", "ingest_event"})

# "Bounce Classification Codes": all of them. SparkPost calls Hard final, and Soft, Block and Undetermined
# mostly temporary. None where it covers several of our kinds and the reply must tell.
_CLASSES: Mapping[str, tuple[EventKind, FailureKind | None]] = {
    "1": (EventKind.SOFT_BOUNCED, None),  # Undetermined
    "10": (EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),  # Invalid Recipient
    "20": (EventKind.SOFT_BOUNCED, None),  # Soft Bounce
    "21": (EventKind.SOFT_BOUNCED, FailureKind.DOMAIN_UNKNOWN),  # DNS Failure
    "22": (EventKind.SOFT_BOUNCED, FailureKind.MAILBOX_FULL),  # Mailbox Full
    "23": (EventKind.SOFT_BOUNCED, FailureKind.TOO_LARGE),  # Too Large
    "24": (EventKind.SOFT_BOUNCED, FailureKind.UNREACHABLE),  # Timeout
    "25": (EventKind.REJECTED, FailureKind.POLICY),  # Admin Failure: SparkPost's own configured policies
    "30": (EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),  # Generic Bounce: No RCPT
    "40": (EventKind.SOFT_BOUNCED, None),  # Generic Bounce
    "50": (EventKind.SOFT_BOUNCED, FailureKind.POLICY),  # Mail Block
    "51": (EventKind.SOFT_BOUNCED, FailureKind.REPUTATION),  # Spam Block: a known spam source
    "52": (EventKind.SOFT_BOUNCED, FailureKind.SPAM),  # Spam Content
    "53": (EventKind.SOFT_BOUNCED, FailureKind.POLICY),  # Prohibited Attachment
    "54": (EventKind.SOFT_BOUNCED, FailureKind.UNREACHABLE),  # Relaying Denied
    "60": (EventKind.AUTO_REPLIED, None),  # Auto-Reply
    "70": (EventKind.SOFT_BOUNCED, None),  # Transient Failure
    "80": (EventKind.RESUBSCRIBED, None),  # Subscribe
    "90": (EventKind.UNSUBSCRIBED, None),  # Unsubscribe
    "100": (EventKind.AUTO_REPLIED, None),  # Challenge-Response
}

# The reasons of "Preparing for Async Suppressions" all say so: "... suppressed due to customer policy".
_SUPPRESSED: Final = "suppressed"


def posted(element: reading.Fields) -> Event | None:
    """One element of a webhook; an empty one is SparkPost's test."""
    msys = element.get("msys")
    if not isinstance(msys, dict):
        raise reading.Malformed("the event has no msys object")
    named = [name for name in msys if name not in _ABOUT_OTHERS]
    return event(reading.nested(msys, named[0])) if named else None


def event(fields: reading.Fields) -> Event:
    """One event, as both a webhook and the Events API have it, under the same id."""
    name = reading.text(fields, "type")
    if not name:
        raise reading.Malformed("the event has no type")
    message_id = reading.our_id(reading.nested(fields, "rcpt_meta"))
    provider_message_id = reading.text(fields, "transmission_id") or None
    if message_id is None and provider_message_id is None:
        raise reading.Malformed("the event names no message")
    occurred_at = _time(fields.get("timestamp"))
    kind, failure = _outcome(name, fields)
    bounce_class = reading.text(fields, "bounce_class")
    link = reading.text(fields, "target_link_url")
    key = reading.dedupe_key(str(message_id), provider_message_id, name, occurred_at, bounce_class, link)
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=reading.text(fields, "event_id")[:128] or key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "raw_rcpt_to") or reading.text(fields, "rcpt_to") or None,
        machine=name in _OPENS and _by_machine(fields),
        failure=failure,
        detail=f"{name}/{bounce_class}" if bounce_class else name,
    )


def _time(value: object) -> datetime:
    """Seconds as text in a webhook, ISO 8601 in the Events API."""
    return reading.iso_time(value) if isinstance(value, str) and "-" in value[1:] else reading.epoch_time(value)


def _by_machine(fields: reading.Fields) -> bool:
    """`is_prefetched` is Apple's loading of every image in advance; `is_proxy` is Gmail's, which loads them when
    somebody opens the email."""
    return reading.nested(fields, "user_agent_parsed").get("is_prefetched") in (True, "true") or reading.prefetched(
        reading.text(fields, "user_agent")
    )


def _outcome(name: str, fields: reading.Fields) -> tuple[EventKind, Failure | None]:
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    match name:
        case "bounce" | "out_of_band":
            return _bounce(name, fields)
        case "policy_rejection" | "generation_rejection":
            return kind, _failure(fields, FailureKind.POLICY)
        case "generation_failure":
            return kind, _failure(fields, FailureKind.CONTENT)
        case "delay":
            return kind, _failure(fields, _CLASSES.get(reading.text(fields, "bounce_class"), (kind, None))[1])
        case _:
            return kind, None


def _bounce(name: str, fields: reading.Fields) -> tuple[EventKind, Failure | None]:
    kind, vendor = _CLASSES.get(reading.text(fields, "bounce_class"), (EventKind.SOFT_BOUNCED, None))
    if kind not in {EventKind.SOFT_BOUNCED, EventKind.BOUNCED, EventKind.REJECTED}:
        return kind, None
    failure = _failure(fields, vendor)
    if failure.kind is FailureKind.SUPPRESSED:
        return EventKind.REJECTED, failure
    if name == "bounce" and kind is EventKind.SOFT_BOUNCED:
        # "Remote MTA has permanently rejected a message", or SparkPost gave up; what may pass is a delay.
        return EventKind.BOUNCED, failure
    return reading.final(kind, failure), failure


def _failure(fields: reading.Fields, vendor: FailureKind | None) -> Failure:
    reason = reading.text(fields, "raw_reason") or reading.text(fields, "reason")
    failure = reading.refusal(reason, status=reading.text(fields, "error_code"), vendor=vendor)
    if _SUPPRESSED in reason.lower():
        return replace(failure, kind=FailureKind.SUPPRESSED)
    return failure
