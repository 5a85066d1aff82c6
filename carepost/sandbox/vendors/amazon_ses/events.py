"""Happenings in the words of Amazon SES: what it publishes, and what GetMessageInsights tells.

Sources: AWS, Amazon SES developer guide, "Contents of event data that Amazon SES publishes to Amazon SNS" and "Bounce
types"; API v2 reference, "InsightsEvent".
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from carepost.sandbox.message import (
    DESTINATION_IP,
    PATIENT_IP,
    SENDING_IP,
    Body,
    Happened,
    SandboxEvent,
    SandboxMessage,
)
from carepost.sandbox.outcomes import Cause, Happening
from carepost.sandbox.vendors.base import iso

ACCOUNT_ID: Final = "123456789012"

# `eventType`, as a configuration set's destination matches it and as GetMessageInsights names it.
TYPES: Mapping[str, str] = {
    "Send": "SEND",
    "Delivery": "DELIVERY",
    "Bounce": "BOUNCE",
    "Complaint": "COMPLAINT",
    "Reject": "REJECT",
    "Open": "OPEN",
    "Click": "CLICK",
    "Rendering Failure": "RENDERING_FAILURE",
    "DeliveryDelay": "DELIVERY_DELAY",
    "Subscription": "SUBSCRIPTION",
}

# "Bounce types": bounceType and bounceSubType.
_BOUNCES: Mapping[Cause, tuple[str, str]] = {
    Cause.UNKNOWN_USER: ("Permanent", "General"),
    Cause.MAILBOX_FULL: ("Transient", "MailboxFull"),
    Cause.REPUTATION: ("Transient", "General"),
}
_SUPPRESSED: Final = ("Permanent", "OnAccountSuppressionList")
_SUPPRESSED_CODE: Final = (
    "Amazon SES did not send the message to this address because it is on the suppression list for your account."
)


def new_id() -> str:
    """A MessageId: hexadecimal digits in groups, and a counter."""
    return f"0100{uuid.uuid4().hex[:12]}-{uuid.uuid4()!s}-000000"


def tell(message: SandboxMessage, happened: Happened) -> Sequence[Body]:
    """The events; an unsubscription is one only where SES manages the lists, which it doesn't here."""
    at = iso(happened.at)
    match happened.step.happening:
        case Happening.PROCESSED:
            return [_event(message, "Send", "send", {})]
        case Happening.DROPPED:
            code = {"action": "failed", "status": "5.1.1", "diagnosticCode": _SUPPRESSED_CODE}
            bounced = _bounce(happened, _SUPPRESSED, code)
            return [_event(message, "Send", "send", {}), _event(message, "Bounce", "bounce", bounced)]
        case Happening.DELIVERED:
            delivery = {
                "timestamp": at,
                "processingTimeMillis": int((happened.at - message.accepted_at) * 1000),
                "recipients": [happened.email],
                "smtpResponse": happened.reply,
                "remoteMtaIp": DESTINATION_IP,
                "reportingMTA": "a8-50.smtp-out.amazonses.com",
            }
            return [_event(message, "Delivery", "delivery", delivery)]
        case Happening.DEFERRED:
            delay = {
                "timestamp": at,
                "delayType": "General",
                "expirationTime": iso(message.accepted_at + 12 * 3600),
                "reportingMTA": "a8-50.smtp-out.amazonses.com",
                "delayedRecipients": [
                    {
                        "emailAddress": happened.email,
                        "status": happened.enhanced,
                        "diagnosticCode": f"smtp; {happened.reply}",
                    }
                ],
            }
            return [_event(message, "DeliveryDelay", "deliveryDelay", delay)]
        case Happening.BOUNCED if happened.step.cause:
            code = {"action": "failed", "status": happened.enhanced, "diagnosticCode": f"smtp; {happened.reply}"}
            return [_event(message, "Bounce", "bounce", _bounce(happened, _BOUNCES[happened.step.cause], code))]
        case Happening.AUTO_REPLIED:
            # An out-of-office note is a bounce too, without a report's fields: "Bounce types", Transient/General.
            return [_event(message, "Bounce", "bounce", _bounce(happened, ("Transient", "General"), {}))]
        case Happening.COMPLAINED:
            complaint = {
                "complainedRecipients": [{"emailAddress": happened.email}],
                "timestamp": at,
                "feedbackId": new_id(),
                "complaintSubType": None,
                "userAgent": "Amazon SES Mailbox Simulator",
                "complaintFeedbackType": "abuse",
                "arrivalDate": at,
            }
            return [_event(message, "Complaint", "complaint", complaint)]
        case Happening.OPENED:
            opened = {"timestamp": at, "ipAddress": PATIENT_IP, "userAgent": happened.user_agent}
            return [_event(message, "Open", "open", opened)]
        case _:
            return []


def _bounce(happened: Happened, kind: tuple[str, str], code: Mapping[str, str]) -> Mapping[str, object]:
    bounce_type, sub_type = kind
    return {
        "feedbackId": new_id(),
        "bounceType": bounce_type,
        "bounceSubType": sub_type,
        "bouncedRecipients": [{"emailAddress": happened.email, **code}],
        "timestamp": iso(happened.at),
        "reportingMTA": "dns; a8-50.smtp-out.amazonses.com",
    }


def _event(message: SandboxMessage, kind: str, name: str, what: Mapping[str, object]) -> Body:
    letter = message.letter
    name_of_set = letter.extra["configuration_set"]
    tags = {"ses:source-ip": SENDING_IP, "ses:from-domain": letter.sender.rpartition("@")[2], **letter.metadata}
    tags |= {"ses:configuration-set": name_of_set, "ses:operation": "SendEmail", "ses:caller-identity": "sandbox"}
    headers = [{"name": each, "value": value} for each, value in letter.headers.items()]
    mail: dict[str, Any] = {
        "timestamp": iso(message.accepted_at),
        "source": letter.sender,
        "sourceArn": f"arn:aws:ses:us-east-1:{ACCOUNT_ID}:identity/{letter.sender}",
        "sendingAccountId": ACCOUNT_ID,
        "messageId": message.id,
        "destination": letter.extra["to"],
        "headersTruncated": False,
        "headers": headers,
        "commonHeaders": {"subject": letter.subject, "to": letter.extra["to"], "messageId": message.id},
        "tags": {each: [value] for each, value in tags.items()},
    }
    return {"eventType": kind, "mail": mail, name: what}


def insight(event: SandboxEvent) -> Mapping[str, object]:
    """An entry of Insights: its time as a number, and a bounce with its diagnostic code alone."""
    kind = TYPES[event.body["eventType"]]
    details: dict[str, object] = {}
    if kind == "BOUNCE":
        bounce = event.body["bounce"]
        details["Bounce"] = {
            "BounceType": bounce["bounceType"].upper(),
            "BounceSubType": bounce["bounceSubType"],
            "DiagnosticCode": bounce["bouncedRecipients"][0].get("diagnosticCode", ""),
        }
    if kind == "COMPLAINT":
        details["Complaint"] = {"ComplaintSubType": None, "ComplaintFeedbackType": "abuse"}
    return {"Timestamp": round(event.at, 3), "Type": kind, **({"Details": details} if details else {})}
