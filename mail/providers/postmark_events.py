"""Postmark: what its records mean, in webhooks and in the history of a message. The pages are those of `postmark`."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import reading

_ANY: Final = "*"
# developer/webhooks: RecordType, and the field that holds its time. Bounce and SubscriptionChange are told
# apart below.
_RECORDS: Mapping[str, tuple[EventKind, str]] = {
    "Delivery": (EventKind.DELIVERED, "DeliveredAt"),
    "Bounce": (EventKind.UNKNOWN, "BouncedAt"),
    "SpamComplaint": (EventKind.COMPLAINED, "BouncedAt"),
    "Open": (EventKind.OPENED, "ReceivedAt"),
    "Click": (EventKind.CLICKED, "ReceivedAt"),
    "SubscriptionChange": (EventKind.UNKNOWN, "ChangedAt"),
}
_TIMES: Final = ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt")
# bounce-api, "Bounce types". The second column counts where the destination's reply says little, and always
# for REJECTED, since no destination was asked. SOFT_BOUNCED becomes final by the destination's own 5yz code, and
# (as an unknown type does) when Postmark has made the address inactive.
_BOUNCES: Mapping[str, tuple[EventKind, FailureKind | None]] = {
    "HardBounce": (EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
    "Transient": (EventKind.DEFERRED, FailureKind.UNREACHABLE),  # "message delayed"
    "Unsubscribe": (EventKind.UNSUBSCRIBED, None),
    "Subscribe": (EventKind.RESUBSCRIBED, None),
    "AutoResponder": (EventKind.AUTO_REPLIED, None),
    "AddressChange": (EventKind.AUTO_REPLIED, None),
    "DnsError": (EventKind.SOFT_BOUNCED, FailureKind.UNREACHABLE),  # called temporary; nothing says it is retried
    "SpamNotification": (EventKind.SOFT_BOUNCED, FailureKind.SPAM),
    "OpenRelayTest": (EventKind.AUTO_REPLIED, None),  # a stranger's test, no statement about our email
    "Unknown": (EventKind.SOFT_BOUNCED, FailureKind.OTHER),  # came back, and Postmark can't tell why
    "SoftBounce": (EventKind.BOUNCED, FailureKind.OTHER),  # reported once it has ceased trying (article 1159)
    "VirusNotification": (EventKind.SOFT_BOUNCED, FailureKind.POLICY),
    "ChallengeVerification": (EventKind.AUTO_REPLIED, None),
    "BadEmailAddress": (EventKind.REJECTED, FailureKind.ADDRESS_UNKNOWN),
    "SpamComplaint": (EventKind.COMPLAINED, None),
    "ManuallyDeactivated": (EventKind.REJECTED, FailureKind.SUPPRESSED),
    "Unconfirmed": (EventKind.REJECTED, FailureKind.SUPPRESSED),
    "Blocked": (EventKind.SOFT_BOUNCED, FailureKind.REPUTATION),
    "SMTPApiError": (EventKind.REJECTED, FailureKind.CONTENT),
    "InboundError": (EventKind.UNKNOWN, None),  # of incoming mail, which is not ours
    "DMARCPolicy": (EventKind.REJECTED, FailureKind.AUTHENTICATION),
    "TemplateRenderingFailed": (EventKind.REJECTED, FailureKind.CONTENT),
}
# subscription-change-webhook: SuppressionReason and Origin. A manual suppression by the recipient is an
# unsubscription; by the customer or Postmark it says nothing of an email.
_SUPPRESSIONS: Mapping[tuple[str, str], EventKind] = {
    ("HardBounce", _ANY): EventKind.BOUNCED,
    ("SpamComplaint", _ANY): EventKind.COMPLAINED,
    ("ManualSuppression", "Recipient"): EventKind.UNSUBSCRIBED,
    ("ManualSuppression", "Customer"): EventKind.UNKNOWN,
    ("ManualSuppression", "Admin"): EventKind.UNKNOWN,
}
# messages-api, "Outbound message details": Type of MessageEvents, as the record that a webhook would bring. Bounces are
# read from the bounces themselves, which say more.
_HISTORY: Mapping[str, str] = {"Delivered": "Delivery", "Opened": "Open", "LinkClicked": "Click"}


def as_record(event: Mapping[str, object]) -> dict[str, object] | None:
    """An entry of a message's history as the record that a webhook would bring; None for what says nothing here."""
    record = _HISTORY.get(reading.text(event, "Type"))
    if record is None:
        return None
    return {"RecordType": record, "Recipient": event.get("Recipient"), _RECORDS[record][1]: event.get("ReceivedAt")}


def event(fields: reading.Fields) -> Event | None:
    record = reading.text(fields, "RecordType")
    if not record:
        raise reading.Malformed("the event has no type")
    message_id = reading.our_id(reading.nested(fields, "Metadata"))
    provider_message_id = reading.text(fields, "MessageID") or None
    if message_id is None and provider_message_id is None:
        if record == "SubscriptionChange":
            return None  # an address was suppressed or reactivated by hand; no email caused it
        raise reading.Malformed("the event names no message")
    kind, time_field = _RECORDS.get(record, (EventKind.UNKNOWN, ""))
    occurred_at = reading.iso_time(_time(fields, time_field))
    detail, failure = record, None
    if record == "Bounce":
        kind, detail, failure = _bounce(fields)
    elif record == "SubscriptionChange":
        kind, detail, failure = _subscription_change(fields)
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=_key(fields, record, occurred_at),
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "Recipient") or reading.text(fields, "Email") or None,
        machine=kind is EventKind.OPENED and reading.prefetched(reading.text(fields, "UserAgent")),
        failure=failure,
        detail=detail,
    )


def _time(fields: reading.Fields, name: str) -> object:
    return fields.get(name) if name else next((fields[time] for time in _TIMES if time in fields), None)


def _bounce(fields: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    bounce = reading.text(fields, "Type")
    kind, vendor = _BOUNCES.get(bounce, (EventKind.UNKNOWN, FailureKind.OTHER))
    detail = f"Bounce/{bounce}" if bounce else "Bounce"
    if vendor is None:
        return kind, detail, None
    failure = reading.refusal(
        reading.text(fields, "Details") or reading.text(fields, "Description"),
        vendor=vendor,
    )
    if kind is EventKind.REJECTED:
        return kind, detail, replace(failure, kind=vendor)
    if kind in {EventKind.SOFT_BOUNCED, EventKind.UNKNOWN} and fields.get("Inactive") is True:
        return EventKind.BOUNCED, detail, failure
    return reading.final(kind, failure), detail, failure


def _subscription_change(fields: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    if fields.get("SuppressSending") is False:
        return EventKind.RESUBSCRIBED, "SubscriptionChange/Reactivated", None
    reason = reading.text(fields, "SuppressionReason")
    by_origin = _SUPPRESSIONS.get((reason, reading.text(fields, "Origin")), EventKind.UNKNOWN)
    kind = _SUPPRESSIONS.get((reason, _ANY), by_origin)
    failure = Failure(FailureKind.ADDRESS_UNKNOWN) if kind is EventKind.BOUNCED else None
    return kind, f"SubscriptionChange/{reason}" if reason else "SubscriptionChange", failure


def _key(fields: reading.Fields, record: str, occurred_at: datetime) -> str:
    """Bounces and complaints have an id, the same over retries; a complaint is the bounce of that id. Other
    records have none and are told apart by what they say; their times are to the microsecond."""
    number = fields.get("ID")
    if record in {"Bounce", "SpamComplaint"} and isinstance(number, int) and not isinstance(number, bool):
        return f"bounce-{number}"
    link, first, suppress = reading.text(fields, "OriginalLink"), fields.get("FirstOpen"), fields.get("SuppressSending")
    return reading.dedupe_key(
        reading.text(fields, "MessageID"),
        str(reading.our_id(reading.nested(fields, "Metadata"))),
        record,
        occurred_at,
        link,
        first is True,
        suppress is True,
    )
