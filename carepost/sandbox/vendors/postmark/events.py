"""Happenings in Postmark's words: what it posts, and what it tells who asks.

Sources: Postmark, developer/webhooks (a page each), developer/api/bounce-api ("Bounce types"),
developer/api/messages-api ("Outbound message details").
"""

import zlib
from collections.abc import Mapping, Sequence

from carepost.sandbox.message import DESTINATION_IP, PATIENT_IP, Body, Happened, SandboxEvent, SandboxMessage
from carepost.sandbox.outcomes import Cause, Happening
from carepost.sandbox.vendors.base import iso
from carepost.sandbox.vendors.postmark.submission import STREAM

SERVER_ID = 23

# bounce-api: Type, TypeCode, Name, whether the address is inactive from now on.
_BOUNCES: Mapping[Cause | Happening, tuple[str, int, str, bool]] = {
    Cause.UNKNOWN_USER: ("HardBounce", 1, "Hard bounce", True),
    Cause.MAILBOX_FULL: ("SoftBounce", 4096, "Soft bounce", False),
    Cause.REPUTATION: ("Blocked", 100006, "ISP block", False),
    Happening.DEFERRED: ("Transient", 2, "Message delayed", False),
    Happening.AUTO_REPLIED: ("AutoResponder", 64, "Auto responder", False),
}
_COMPLAINT = ("SpamComplaint", 100001, "Spam complaint", True)

# messages-api: Type of an entry of MessageEvents.
_HISTORY: Mapping[str, str] = {
    "Delivery": "Delivered",
    "Bounce": "Bounced",
    "SpamComplaint": "Bounced",
    "Open": "Opened",
    "SubscriptionChange": "SubscriptionChanged",
}


def tell(message: SandboxMessage, happened: Happened) -> Sequence[Body]:
    """The records that a webhook brings; Postmark has none for what it has begun with."""
    at = iso(happened.at, 7)
    common = {
        "ServerID": SERVER_ID,
        "MessageStream": STREAM,
        "MessageID": message.id,
        "Tag": message.letter.extra["Tag"],
        "Metadata": message.letter.metadata,
    }
    match happened.step.happening:
        case Happening.DELIVERED:
            details = {"DeliveredAt": at, "Recipient": happened.email, "Details": f"Test {happened.reply}"}
            return [{"RecordType": "Delivery", **common, **details}]
        case Happening.BOUNCED | Happening.DEFERRED | Happening.AUTO_REPLIED as happening:
            kind = _BOUNCES[happened.step.cause or happening]
            return [{"RecordType": "Bounce", **common, **_bounce(message, happened, kind)}]
        case Happening.COMPLAINED:
            change = _suppression(happened, "SpamComplaint")
            complaint = {"RecordType": "SpamComplaint", **common, **_bounce(message, happened, _COMPLAINT)}
            return [complaint, {"RecordType": "SubscriptionChange", **common, **change}]
        case Happening.UNSUBSCRIBED:
            return [{"RecordType": "SubscriptionChange", **common, **_suppression(happened, "ManualSuppression")}]
        case Happening.OPENED:
            return [{"RecordType": "Open", **common, **_open(happened)}]
        case Happening.PROCESSED | Happening.DROPPED:
            return []


def _bounce(message: SandboxMessage, happened: Happened, kind: tuple[str, int, str, bool]) -> Mapping[str, object]:
    name, code, label, inactive = kind
    return {
        # Unique to a bounce, and a number.
        "ID": zlib.crc32(f"{message.id}/{happened.number}".encode()),
        "Type": name,
        "TypeCode": code,
        "Name": label,
        "Description": label,
        "Details": f"smtp;{happened.reply}" if happened.reply else "I am out of the office until Monday.",
        "Email": happened.email,
        "From": message.letter.sender,
        "BouncedAt": iso(happened.at, 7),
        "DumpAvailable": True,
        "Inactive": inactive,
        "CanActivate": name != "SpamComplaint",
        "Subject": message.letter.subject,
    }


def _suppression(happened: Happened, reason: str) -> Mapping[str, object]:
    return {
        "ChangedAt": iso(happened.at, 7),
        "Recipient": happened.email,
        "Origin": "Recipient",
        "SuppressSending": True,
        "SuppressionReason": reason,
    }


def _open(happened: Happened) -> Mapping[str, object]:
    # Nothing but the user agent tells a machine's open from a person's.
    return {
        "FirstOpen": True,
        "Client": {"Name": "", "Company": "", "Family": ""},
        "OS": {"Name": "", "Company": "", "Family": ""},
        "Platform": "Unknown",
        "UserAgent": happened.user_agent,
        "Geo": {"IP": PATIENT_IP, "City": "", "Country": "", "CountryISOCode": "", "Coords": ""},
        "Recipient": happened.email,
        "ReceivedAt": iso(happened.at, 7),
    }


def history(event: SandboxEvent) -> Mapping[str, object]:
    """An entry of MessageEvents."""
    record, body = event.body["RecordType"], event.body
    entry = {"Recipient": body.get("Recipient") or body.get("Email"), "ReceivedAt": iso(event.at, 7)}
    match record:
        case "Delivery":
            server = {"DestinationServer": "mx.sandbox.example", "DestinationIP": DESTINATION_IP}
            details: Mapping[str, object] = {"DeliveryMessage": body["Details"], **server}
        case "Bounce" if body["Type"] == "Transient":
            return {**entry, "Type": "Transient", "Details": {"DeliveryMessage": body["Details"]}}
        case "Bounce" | "SpamComplaint":
            details = {"Summary": body["Details"], "BounceID": str(body["ID"])}
        case "SubscriptionChange":
            details = {"Origin": body["Origin"], "SuppressSending": str(body["SuppressSending"])}
        case _:
            details = {"Summary": f"Email opened with {body['UserAgent']}"}
    return {**entry, "Type": _HISTORY[record], "Details": details}
