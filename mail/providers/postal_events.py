"""Postal: what its events mean, in webhooks and in a message's deliveries. The pages are those of `postal`."""

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Final
from uuid import UUID

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from mail.providers import reading
from mail.providers.base import Question

# developer/webhooks: `event`.
_EVENTS: Mapping[str, EventKind] = {
    "MessageSent": EventKind.DELIVERED,
    "MessageDelayed": EventKind.DEFERRED,
    "MessageDeliveryFailed": EventKind.BOUNCED,  # "will not be retried"
    "MessageHeld": EventKind.QUEUED,  # waits for a person, unless the address is suppressed: see below
    "MessageBounced": EventKind.BOUNCED,
    "MessageLinkClicked": EventKind.CLICKED,
    "MessageLoaded": EventKind.OPENED,
    "HoldCancelled": EventKind.REJECTED,  # told in deliveries alone: "The message is not delivered"
}
_ABOUT_SERVER = frozenset({"DomainDNSError", "SendLimitApproaching", "SendLimitExceeded"})
# messages/deliveries: `status`, as the event that a webhook would bring.
_STATUSES: Mapping[str, str] = {
    "Sent": "MessageSent",
    "SoftFail": "MessageDelayed",
    "HardFail": "MessageDeliveryFailed",
    "Held": "MessageHeld",
    "Bounced": "MessageBounced",
}
_SUPPRESSED: Final = re.compile(r"Recipient \(.*\) is on the suppression list")
# `details` of a failure, by its beginning. Postal never tried the first four; of the last two the destination's reply
# says more, where there is one.
_DETAILS: Mapping[str, tuple[EventKind, FailureKind | None]] = {
    "Message's domain no longer exist": (EventKind.REJECTED, FailureKind.ACCOUNT),
    "Message doesn't have an RCPT to": (EventKind.REJECTED, FailureKind.CONTENT),
    "Message is likely spam": (EventKind.REJECTED, FailureKind.SPAM),
    "Raw message has been removed": (EventKind.REJECTED, FailureKind.OTHER),
    "Maximum number of delivery attempts": (EventKind.BOUNCED, FailureKind.UNREACHABLE),
    "No SMTP servers were available": (EventKind.DEFERRED, FailureKind.UNREACHABLE),
}
# other/auto-responders-and-bounces: whatever comes to the return path and quotes our headers is called a bounce, and
# only its subject tells what it is.
_RETURNED: Final = re.compile(
    r"undeliver|returned|fail|could ?n[o']t be delivered|rejected|unzustellbar", re.IGNORECASE
)
_NOTICES: tuple[tuple[re.Pattern[str], EventKind], ...] = (
    (
        re.compile(
            r"out of (the )?office|auto(matic|mated)?[ -]?(reply|response)|vacation|abwesen|automatische antwort"
            r"|r[ée]ponse automatique|respuesta autom[áa]tica|risposta automatica|automatisch antwoord",
            re.IGNORECASE,
        ),
        EventKind.AUTO_REPLIED,
    ),
    (re.compile(r"\bdelay|still being retried|warning: (could not|message)", re.IGNORECASE), EventKind.DEFERRED),
)
_BOUNCE_MESSAGE: Final = re.compile(r"<msg:(\d{1,18})>")
_OUR_MESSAGE_ID: Final = re.compile(r"<?([0-9a-f]{32})@.*")


def provider_id(message: reading.Fields) -> str | None:
    """How a message is named: its number, which counts within one mail server and is what the API asks for, and its
    token, which makes it this server's."""
    number, token = reading.text(message, "id"), reading.text(message, "token")
    return f"{number}-{token}" if number and token else None


def _our_id(message: reading.Fields) -> MessageId | None:
    """Our id: the tag, or our Message-ID where Postal held the email before it looked for a tag."""
    for found in (reading.text(message, "tag"), _OUR_MESSAGE_ID.fullmatch(reading.text(message, "message_id"))):
        try:
            ours = UUID(found if isinstance(found, str) else found[1] if found else "")
        except ValueError:
            continue
        if ours.version == 7:
            return MessageId(ours)
    return None


def event(fields: reading.Fields) -> Event | None:
    name, payload = reading.text(fields, "event"), reading.nested(fields, "payload")
    if not name:
        raise reading.Malformed("the event has no type")
    message = reading.nested(payload, "message") or reading.nested(payload, "original_message")
    if name in _ABOUT_SERVER or reading.text(message, "direction") == "incoming":
        return None
    bounce = reading.nested(payload, "bounce")
    at = next((part["timestamp"] for part in (payload, bounce, fields) if "timestamp" in part), None)
    told = {**payload, "subject": bounce.get("subject"), "about": message.get("subject"), "bounce": bounce.get("id")}
    event = _made(name, told, at, _our_id(message), provider_id(message), reading.text(message, "to"))
    # An open or click has no id of its own; the request's uuid is the same at every attempt.
    uuid = reading.text(fields, "uuid") if name not in _STATUSES.values() else ""
    return replace(event, dedupe_key=reading.dedupe_key("uuid", uuid)) if uuid else event


def told(delivery: reading.Fields, question: Question) -> Event:
    status = reading.text(delivery, "status")
    if not status:
        raise reading.Malformed("the event has no type")
    bounce = _BOUNCE_MESSAGE.search(reading.text(delivery, "details"))
    fields = {**delivery, "bounce": int(bounce[1]) if bounce else None}
    ids = question.message_id, question.provider_message_id, question.recipient
    return _made(_STATUSES.get(status, status), fields, delivery.get("timestamp"), *ids)


def _made(
    name: str, fields: reading.Fields, at: object, ours: MessageId | None, theirs: str | None, recipient: str
) -> Event:
    if ours is None and theirs is None:
        raise reading.Malformed("the event names no message")
    occurred_at = reading.epoch_time(at)
    # One attempt has the same time in a webhook, as Ruby writes a float, and in the API, as MySQL rounds it.
    exact = str(Decimal(str(at).strip()).quantize(Decimal("0.000001"), ROUND_HALF_UP))
    bounce, url = reading.text(fields, "bounce"), reading.text(fields, "url")
    kind, failure = _outcome(name, fields)
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=reading.dedupe_key(theirs or str(ours), name, bounce or exact, url),
        message_id=ours,
        provider_message_id=theirs,
        recipient=recipient or None,
        machine=kind is EventKind.OPENED and reading.prefetched(reading.text(fields, "user_agent")),
        failure=failure,
        detail=name,
    )


def _outcome(name: str, fields: reading.Fields) -> tuple[EventKind, Failure | None]:
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    details, output = reading.text(fields, "details"), reading.text(fields, "output")
    match name:
        case "MessageHeld" if _SUPPRESSED.match(details):
            return EventKind.REJECTED, Failure(FailureKind.SUPPRESSED, reason=details)
        case "MessageHeld" | "HoldCancelled":
            return kind, Failure(FailureKind.ACCOUNT, reason=details)
        case "MessageDelayed" | "MessageDeliveryFailed":
            known = (row for start, row in _DETAILS.items() if details.startswith(start))
            said, vendor = next(known, (kind, None))
            if said is EventKind.REJECTED and vendor is not None:
                return said, Failure(vendor, reason=details)
            return kind, reading.refusal(output or details, vendor=vendor)
        case "MessageBounced":
            return _bounce(reading.text(fields, "subject"), reading.text(fields, "about"), details)
        case _:
            return kind, None


def _bounce(subject: str, about: str, details: str) -> tuple[EventKind, Failure | None]:
    """What came back, by its subject without that of our email."""
    own = subject.replace(about, "") if about else subject
    if not _RETURNED.search(own):
        for pattern, kind in _NOTICES:
            if pattern.search(own):
                return kind, None
    return EventKind.BOUNCED, reading.refusal(own.strip() or details)
