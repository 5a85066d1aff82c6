"""What Amazon SES tells of an email: events of configuration sets, notifications of identities, and insights.

Pages, at docs.aws.amazon.com/ses/latest: dg "Contents of event data that Amazon SES publishes to Amazon SNS" and
"Amazon SNS notification contents for Amazon SES"; APIReference-V2 "GetMessageInsights"; and, of `isBotEvent`,
aws.amazon.com/about-aws/whats-new/2026/08/amazon-ses-automated-email-interactions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from mail.providers import reading, sns
from mail.providers.base import Question, Reading

# "Contents of event data": `eventType`, which is `notificationType` where an identity notifies, and the object that
# holds the event's own time. Reject and Rendering Failure have none: their time is when SNS got them. Bounce, Complaint
# and Subscription are told apart below.
_EVENTS: Mapping[str, tuple[EventKind, str]] = {
    "Send": (EventKind.QUEUED, "mail"),
    "Delivery": (EventKind.DELIVERED, "delivery"),
    "DeliveryDelay": (EventKind.DEFERRED, "deliveryDelay"),
    "Bounce": (EventKind.UNKNOWN, "bounce"),
    "Complaint": (EventKind.UNKNOWN, "complaint"),
    "Reject": (EventKind.REJECTED, "reject"),
    "Rendering Failure": (EventKind.REJECTED, "failure"),
    "Open": (EventKind.OPENED, "open"),
    "Click": (EventKind.CLICKED, "click"),
    "Subscription": (EventKind.UNKNOWN, "subscription"),
}
# Of an email to one recipient these happen once; the others are told apart by their second.
_ONCE: Final = frozenset({"Send", "Delivery", "Reject", "Rendering Failure"})
# What SES says of the topic itself, and of incoming mail, which is not ours.
_ABOUT_OTHER = frozenset({"AmazonSnsSubscriptionSucceeded", "Received"})
_VALIDATION: Final = "Successfully validated SNS topic for Amazon SES"

# "Bounce types": those of SES's own lists were never tried, the others were, and SES tells of them once it has ceased
# trying. Hence Transient is final where the recipient's part says "failed", and SOFT_BOUNCED without it.
_BOUNCES: Mapping[str, tuple[EventKind, FailureKind]] = {
    "Undetermined/Undetermined": (EventKind.SOFT_BOUNCED, FailureKind.OTHER),
    "Permanent/General": (EventKind.BOUNCED, FailureKind.OTHER),
    "Permanent/NoEmail": (EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
    "Permanent/Suppressed": (EventKind.REJECTED, FailureKind.SUPPRESSED),
    "Permanent/OnAccountSuppressionList": (EventKind.REJECTED, FailureKind.SUPPRESSED),
    "Permanent/OnTenantSuppressionList": (EventKind.REJECTED, FailureKind.SUPPRESSED),
    "Permanent/UnsubscribedRecipient": (EventKind.REJECTED, FailureKind.SUPPRESSED),
    # Auto Validation found that the address is not likely to exist.
    "Permanent/EmailValidationSuppressed": (EventKind.REJECTED, FailureKind.ADDRESS_UNKNOWN),
    "Transient/General": (EventKind.SOFT_BOUNCED, FailureKind.OTHER),
    "Transient/MailboxFull": (EventKind.SOFT_BOUNCED, FailureKind.MAILBOX_FULL),
    "Transient/MessageTooLarge": (EventKind.SOFT_BOUNCED, FailureKind.TOO_LARGE),
    "Transient/ContentRejected": (EventKind.SOFT_BOUNCED, FailureKind.SPAM),
    "Transient/AttachmentRejected": (EventKind.SOFT_BOUNCED, FailureKind.POLICY),
    "Transient/CustomTimeoutExceeded": (EventKind.SOFT_BOUNCED, FailureKind.UNREACHABLE),
}
_BOUNCE_TYPES: Mapping[str, EventKind] = {"permanent": EventKind.BOUNCED}  # other types: SOFT_BOUNCED
_BOUNCE_NAMES: Mapping[str, str] = {name.lower(): name for name in _BOUNCES}
_AUTO_REPLY: Final = "Transient/General"  # out-of-office answers stand under this name, without a delivery report

# RFC 3464 section 2.3.3: `action` of the delivery report, where it says otherwise than the bounce.
_ACTIONS: Mapping[str, EventKind] = {
    "delayed": EventKind.DEFERRED,
    "delivered": EventKind.AUTO_REPLIED,
    "relayed": EventKind.AUTO_REPLIED,
    "expanded": EventKind.AUTO_REPLIED,
}

# "Complaint types" (IANA, Messaging Abuse Reporting Format): who reports that it is no spam complains of nothing, and
# authentication and virus reports are made by machines. Other types: COMPLAINED.
_COMPLAINTS: Mapping[str, EventKind] = {
    "abuse": EventKind.COMPLAINED,
    "fraud": EventKind.COMPLAINED,
    "other": EventKind.COMPLAINED,
    "auth-failure": EventKind.UNKNOWN,
    "not-spam": EventKind.UNKNOWN,
    "virus": EventKind.UNKNOWN,
}
# "Complaint subtypes": the address complained before, so SES didn't try again.
_COMPLAINT_SUPPRESSIONS = frozenset({"OnAccountSuppressionList", "OnTenantSuppressionList"})

# "DeliveryDelay object": `delayType`. Others: FailureKind.OTHER.
_DELAYS: Mapping[str, FailureKind] = {
    "MailboxFull": FailureKind.MAILBOX_FULL,
    "SpamDetected": FailureKind.REPUTATION,  # much unsolicited mail came from our account
    "IPFailure": FailureKind.REPUTATION,
    "RecipientServerError": FailureKind.UNREACHABLE,
    "TransientCommunicationFailure": FailureKind.UNREACHABLE,
    "BYOIPHostNameLookupUnavailable": FailureKind.ACCOUNT,
}

# "InsightsEvent": Type, as the event that a notification would bring. Opens and clicks are left out: they don't say
# here whether a machine made them.
_INSIGHTS: Mapping[str, str] = {
    "SEND": "Send",
    "DELIVERY": "Delivery",
    "DELIVERY_DELAY": "DeliveryDelay",
    "BOUNCE": "Bounce",
    "COMPLAINT": "Complaint",
    "REJECT": "Reject",
    "RENDERING_FAILURE": "Rendering Failure",
}

_OUR_MESSAGE_ID: Final = re.compile(r"<([0-9a-f]{32})@", re.ASCII)


def read_message(message: str, published: datetime | None) -> Reading:
    """The event in an SNS message that was published then."""
    if message.startswith(_VALIDATION):
        return Reading()
    try:
        return reading.read_each([sns.json_message(message)], partial(_event, published=published))
    except reading.Malformed as malformed:
        return reading.not_readable(str(malformed))


def _event(fields: reading.Fields, published: datetime | None) -> Event | None:
    name = reading.text(fields, "eventType") or reading.text(fields, "notificationType")
    if not name:
        raise reading.Malformed("the event has no type")
    if name in _ABOUT_OTHER:
        return None
    mail = reading.nested(fields, "mail")
    message_id, provider_message_id = _our_id(mail), reading.text(mail, "messageId") or None
    if message_id is None and provider_message_id is None:
        raise reading.Malformed("the event names no message")
    kind, part = _EVENTS.get(name, (EventKind.UNKNOWN, ""))
    about = reading.nested(fields, part)
    own_time = about.get("timestamp")
    occurred_at = published if own_time is None and published else _time(own_time)
    detail, failure = name, None
    recipient = reading.text(about, "emailAddress") or _first(mail, "destination")
    match name:
        case "Bounce":
            bounced = _bounced_recipient(about)
            kind, detail, failure = _bounce(about, bounced)
            recipient = reading.text(bounced, "emailAddress") or recipient
        case "Complaint":
            kind, detail, failure = _complaint(about)
        case "DeliveryDelay":
            detail, failure = _delay(about)
        case "Reject":
            failure = Failure(FailureKind.CONTENT, reason=reading.text(about, "reason"))
        case "Rendering Failure":
            failure = Failure(FailureKind.CONTENT, reason=reading.text(about, "errorMessage"))
        case "Subscription":
            kind = _subscription(about)
        case _:
            pass
    machine = kind in {EventKind.OPENED, EventKind.CLICKED} and about.get("isBotEvent") == "Likely"
    if kind is EventKind.OPENED and reading.prefetched(reading.text(about, "userAgent")):
        machine = True
    # The same event may come by SNS message after SNS message (from a configuration set, an identity, or two topics)
    # and by asking, each time with another id or none: it is known by what it says.
    key = reading.dedupe_key(
        provider_message_id or str(message_id),
        name,
        None if name in _ONCE else occurred_at.replace(microsecond=0),
        detail if name == "Bounce" else "",
        reading.text(about, "link"),
        machine,
    )
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=recipient or None,
        machine=machine,
        failure=failure,
        detail=detail,
    )


def _time(value: object) -> datetime:
    """A notification's time is text, an insight's a number."""
    return reading.epoch_time(value) if isinstance(value, int | float) else reading.iso_time(value)


def _our_id(mail: reading.Fields) -> MessageId | None:
    """Our id from the tags, which events carry; else from our Message-ID among the headers, which notifications may."""
    tag = _first(reading.nested(mail, "tags"), reading.METADATA_KEY)
    if found := reading.our_id({reading.METADATA_KEY: tag}):
        return found
    listed = mail.get("headers")
    headers = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    named = [reading.text(each, "value") for each in headers if reading.text(each, "name").lower() == "message-id"]
    match = _OUR_MESSAGE_ID.match(named[0] if named else "")
    return MessageId(UUID(match[1])) if match else None


def _first(fields: reading.Fields, name: str) -> str:
    """The first text of a list; empty when there is none."""
    listed = fields.get(name)
    return reading.text({"first": listed[0]}, "first") if isinstance(listed, list) and listed else ""


def _bounced_recipient(bounce: reading.Fields) -> reading.Fields:
    """The recipient whose part decides. We write to one, and a forwarding may make several of it: one that failed."""
    listed = bounce.get("bouncedRecipients")
    recipients = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    failed = [each for each in recipients if reading.text(each, "action").lower() == "failed"]
    return next(iter(failed or recipients), {})


def _bounce(bounce: reading.Fields, recipient: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    """Type and subtype give the kind, and what the recipient's own server reported decides."""
    bounce_type, subtype = reading.text(bounce, "bounceType"), reading.text(bounce, "bounceSubType")
    given = "/".join(filter(None, (bounce_type, subtype)))
    name = _BOUNCE_NAMES.get(given.lower(), given)
    otherwise = _BOUNCE_TYPES.get(bounce_type.lower(), EventKind.SOFT_BOUNCED)
    kind, vendor = _BOUNCES.get(name, (otherwise, FailureKind.OTHER))
    detail = f"Bounce/{name}" if name else "Bounce"
    action, status = reading.text(recipient, "action").lower(), reading.text(recipient, "status")
    reply = reading.text(recipient, "diagnosticCode")
    failure = reading.refusal(reply, status=status, vendor=vendor)
    if kind is EventKind.REJECTED:
        return kind, detail, replace(failure, kind=vendor)
    if action in _ACTIONS:
        kind = _ACTIONS[action]
        return kind, detail, failure if kind is EventKind.DEFERRED else None
    if action == "failed" and bounce_type.lower() == "transient":
        return EventKind.BOUNCED, detail, failure
    if name == _AUTO_REPLY and not reply and (not status or status.startswith("2.")):
        return EventKind.AUTO_REPLIED, detail, None
    return reading.final(kind, failure), detail, failure


def _complaint(complaint: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    subtype, feedback = reading.text(complaint, "complaintSubType"), reading.text(complaint, "complaintFeedbackType")
    if subtype in _COMPLAINT_SUPPRESSIONS:
        return EventKind.REJECTED, f"Complaint/{subtype}", Failure(FailureKind.SUPPRESSED)
    kind = _COMPLAINTS.get(feedback.lower(), EventKind.COMPLAINED)
    return kind, f"Complaint/{feedback}" if feedback else "Complaint", None


def _delay(delay: reading.Fields) -> tuple[str, Failure | None]:
    delay_type = reading.text(delay, "delayType")
    listed = delay.get("delayedRecipients")
    recipients = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    recipient = next(iter(recipients), {})
    vendor = _DELAYS.get(delay_type, FailureKind.OTHER)
    failure = reading.refusal(
        reading.text(recipient, "diagnosticCode"), status=reading.text(recipient, "status"), vendor=vendor
    )
    return f"DeliveryDelay/{delay_type}" if delay_type else "DeliveryDelay", failure


def _subscription(subscription: reading.Fields) -> EventKind:
    """Of SES's own list management, which we don't use: an unsubscription of all, or of a topic."""
    wanted = reading.nested(subscription, "newTopicPreferences")
    topics = wanted.get("topicSubscriptionStatus")
    listed = [each for each in topics if isinstance(each, dict)] if isinstance(topics, list) else []
    left = any(each.get("subscriptionStatus") == "OptOut" for each in listed)
    return EventKind.UNSUBSCRIBED if wanted.get("unsubscribeAll") is True or left else EventKind.RESUBSCRIBED


def read_insights(insights: Sequence[object], question: Question) -> Reading:
    """The events of "GetMessageInsights", which tells of emails to one recipient."""
    recipients = [each for each in insights if isinstance(each, dict)]
    records = [record for each in recipients for record in _records(each, question)]
    return reading.read_each(records, partial(_event, published=None))


def _records(insight: reading.Fields, question: Question) -> list[dict[str, object]]:
    """What happened to one recipient, each as the event that a notification would bring."""
    events = insight.get("Events")
    mail = {
        "messageId": question.provider_message_id,
        "tags": {reading.METADATA_KEY: [str(question.message_id)]},
        "destination": [insight.get("Destination")],
    }
    records: list[dict[str, object]] = []
    for event in events if isinstance(events, list) else []:
        name = _INSIGHTS.get(reading.text(event, "Type")) if isinstance(event, dict) else None
        if name is None:
            continue
        details = reading.nested(event, "Details")
        bounce, complaint = reading.nested(details, "Bounce"), reading.nested(details, "Complaint")
        about: dict[str, object] = {
            "timestamp": event.get("Timestamp"),
            "bounceType": bounce.get("BounceType"),
            "bounceSubType": bounce.get("BounceSubType"),
            "bouncedRecipients": [{"diagnosticCode": bounce.get("DiagnosticCode")}],
            "complaintSubType": complaint.get("ComplaintSubType"),
            "complaintFeedbackType": complaint.get("ComplaintFeedbackType"),
        }
        part = _EVENTS[name][1]
        own = {**mail, **about} if part == "mail" else about
        records.append({"eventType": name, "mail": mail, part: own})
    return records
