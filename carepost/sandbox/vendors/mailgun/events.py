"""Happenings in Mailgun's words: an event as webhooks, the Events API and the Logs API bring it.

Source: Mailgun, user manual "Event structure" (events, reasons, delivery status, client info).
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from carepost.sandbox.message import DESTINATION_IP, PATIENT_IP, SENDING_IP, Body, Happened, SandboxMessage
from carepost.sandbox.outcomes import Cause, Happening
from carepost.sandbox.vendors.mailgun.submission import DOMAIN

# `event` and its log-level; there is none for an auto-reply. A deferral is a failure with the severity "temporary".
_EVENTS: Mapping[Happening, tuple[str, str] | None] = {
    Happening.PROCESSED: ("accepted", "info"),
    Happening.DROPPED: ("failed", "error"),
    Happening.DEFERRED: ("failed", "warn"),
    Happening.DELIVERED: ("delivered", "info"),
    Happening.BOUNCED: ("failed", "error"),
    Happening.AUTO_REPLIED: None,
    Happening.OPENED: ("opened", "info"),
    Happening.COMPLAINED: ("complained", "warn"),
    Happening.UNSUBSCRIBED: ("unsubscribed", "warn"),
}

# `reason` of a permanent failure.
_REASONS: Mapping[Cause, str] = {
    Cause.UNKNOWN_USER: "bounce",
    Cause.MAILBOX_FULL: "generic",
    Cause.REPUTATION: "espblock",
}
_SUPPRESSED = {
    "attempt-no": 0,
    "code": 605,
    "description": "Not delivering to previously bounced address",
    "message": "",
    "session-seconds": 0,
}


def tell(message: SandboxMessage, happened: Happened) -> Sequence[Body]:
    """The event, if Mailgun has one."""
    kind = _EVENTS[happened.step.happening]
    if kind is None:
        return []
    event, level = kind
    letter = message.letter
    body: dict[str, Any] = {
        "id": _id(message, happened.number),
        "timestamp": round(happened.at, 6),
        "log-level": level,
        "event": event,
        "message": {
            "headers": {
                "to": letter.extra["to"],
                "message-id": message.id,
                "from": letter.sender,
                "subject": letter.subject,
            },
            "attachments": [],
            "size": sum(len(content) for _, content in letter.content),
        },
        "recipient": happened.email,
        "recipient-domain": happened.email.rpartition("@")[2],
        "user-variables": letter.metadata,
        "tags": [],
        "campaigns": [],
        "storage": {"key": _id(message, -1), "url": f"https://storage.api.mailgun.net/v3/domains/{DOMAIN}/messages/x"},
        "flags": _flags(),
    }
    if happened.step.happening in {Happening.DELIVERED, Happening.DEFERRED, Happening.BOUNCED, Happening.DROPPED}:
        sender = {"sending-ip": SENDING_IP, "sender": letter.sender, "transport": "smtp"}
        body["envelope"] = {**sender, "targets": happened.email}
        body["delivery-status"] = _delivery_status(happened)
    match happened.step.happening:
        case Happening.DROPPED:
            body |= {"severity": "permanent", "reason": "suppress-bounce"}
        case Happening.DEFERRED:
            body |= {"severity": "temporary", "reason": "generic"}
        case Happening.BOUNCED if happened.step.cause:
            body |= {"severity": "permanent", "reason": _REASONS[happened.step.cause]}
        case Happening.OPENED | Happening.UNSUBSCRIBED:
            body |= {"ip": PATIENT_IP, "client-info": _client(happened)}
            body["geolocation"] = {"country": "GB", "region": "ENG", "city": "London"}
        case _:
            pass
    return [body]


def _id(message: SandboxMessage, number: int) -> str:
    digest = hashlib.sha256(f"{message.id}/{message.place}/{number}".encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def _flags() -> Mapping[str, bool]:
    off = ("is-routed", "is-system-test", "is-test-mode", "is-big")
    return {**dict.fromkeys(off, False), "is-authenticated": True}


def _delivery_status(happened: Happened) -> Mapping[str, object]:
    if happened.step.happening is Happening.DROPPED:
        return _SUPPRESSED
    status: dict[str, object] = {
        "attempt-no": happened.attempt,
        "certificate-verified": True,
        "code": happened.code,
        "description": "",
        "enhanced-code": happened.enhanced,
        "message": happened.reply,
        "mx-host": "mx.sandbox.example",
        "session-seconds": 0.43,
        "tls": True,
        "utf8": True,
    }
    if happened.step.happening is Happening.DEFERRED:
        status["retry-seconds"] = 600
    return status


def _client(happened: Happened) -> Mapping[str, object]:
    return {
        "bot": "apple" if happened.step.machine else "",
        "client-name": "unknown",
        "client-os": "unknown",
        "client-type": "unknown",
        "device-type": "unknown",
        "user-agent": happened.user_agent,
    }


def logged(body: Body) -> Body:
    """The same event in the Logs API: its time is a text there, and the account and the domain stand beside it."""
    moment = datetime.fromtimestamp(body["timestamp"], UTC)
    entry = {name: value for name, value in body.items() if name != "timestamp"}
    return {
        **entry,
        "@timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        "account": {"id": "5a4d5a4d5a4d5a4d5a4d5a4d"},
        "domain": {"name": DOMAIN},
        "destination": DESTINATION_IP,
    }
