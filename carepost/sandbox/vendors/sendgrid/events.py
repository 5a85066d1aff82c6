"""Happenings in SendGrid's words. Source: Twilio, "Event Webhook Reference"."""

import base64
import secrets
from collections.abc import Mapping, Sequence

from carepost.sandbox.message import PATIENT_IP, SENDING_IP, Body, Happened, SandboxMessage
from carepost.sandbox.outcomes import Cause, Happening

# `event`. An auto-reply is none of SendGrid's events.
_EVENTS: Mapping[Happening, str | None] = {
    Happening.PROCESSED: "processed",
    Happening.DROPPED: "dropped",
    Happening.DEFERRED: "deferred",
    Happening.DELIVERED: "delivered",
    Happening.BOUNCED: "bounce",
    Happening.AUTO_REPLIED: None,
    Happening.OPENED: "open",
    Happening.COMPLAINED: "spamreport",
    Happening.UNSUBSCRIBED: "unsubscribe",
}

# `type` and `bounce_classification` of a bounce; `blocked` is what it calls a soft bounce.
_BOUNCES: Mapping[Cause, tuple[str, str]] = {
    Cause.UNKNOWN_USER: ("bounce", "Invalid Address"),
    Cause.MAILBOX_FULL: ("bounce", "Mailbox Unavailable"),
    Cause.REPUTATION: ("blocked", "Reputation"),
}

_ENGAGEMENT = frozenset({"open", "spamreport", "unsubscribe"})
_CONTACTS_A_SERVER = frozenset({"deferred", "delivered", "bounce"})


def new_id() -> str:
    """An X-Message-Id: 22 characters without a dot, for `sg_message_id` goes on after one."""
    return secrets.token_urlsafe(16)


def tell(message: SandboxMessage, happened: Happened) -> Sequence[Body]:
    """The event, if SendGrid has one. A timestamp is when it happened, whenever it is posted."""
    event = _EVENTS[happened.step.happening]
    if event is None:
        return []
    sent_at = f"{int(message.accepted_at):X}"
    return [
        {
            **message.letter.metadata,
            "email": message.letter.recipient,
            "timestamp": int(happened.at),
            "event": event,
            "sg_event_id": _event_id(event, happened.number, message),
            "sg_message_id": f"{message.id}.recvd-7d9f6c4b5-sandbox-1-{sent_at}-2.{message.place}",
            **_fields(event, message, happened),
        }
    ]


def _event_id(event: str, number: int, message: SandboxMessage) -> str:
    """Those of deliveries can be decoded, those of people's acts can't; consumers must take both."""
    if event in _ENGAGEMENT:
        return secrets.token_urlsafe(16)
    return base64.urlsafe_b64encode(f"{event}-{number}-0-{message.id}-{message.place}".encode()).rstrip(b"=").decode()


def _fields(event: str, message: SandboxMessage, happened: Happened) -> Mapping[str, object]:
    fields: dict[str, object] = {}
    if event not in _ENGAGEMENT:
        # Only what happens on the way to the mailbox knows the Message-ID.
        fields["smtp-id"] = message.letter.header("Message-ID") or f"<{message.id}@geopod-ismtpd-0>"
    if event in _CONTACTS_A_SERVER:
        fields |= {"ip": SENDING_IP, "tls": 1, "cert_err": 0}
    if event in {"deferred", "delivered"}:
        fields["response"] = happened.reply
    if event == "deferred":
        fields["attempt"] = str(happened.attempt)
    if happened.step.cause:
        kind, classification = _BOUNCES[happened.step.cause]
        fields |= {"type": kind, "bounce_classification": classification}
        fields |= {"status": happened.enhanced, "reason": happened.reply}
    if event == "dropped":
        fields["reason"] = "Bounced Address"
    if event == "open":
        fields |= {"sg_machine_open": happened.step.machine, "sg_content_type": "html"}
    if event in {"open", "unsubscribe"}:
        fields |= {"useragent": happened.user_agent, "ip": PATIENT_IP}
    return fields
