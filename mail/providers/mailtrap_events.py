"""Mailtrap: what its events mean, in webhooks and in the log of a message.

Pages, at docs.mailtrap.io: "Webhooks" and "Email Logs" (developers); "Statuses and Events", "Bounce Categorization"
(email-api-smtp).
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import reading

# Statuses and Events, by the name that webhooks use; the log has an underscore for the blank. After a soft bounce and
# a suspension Mailtrap tries ten times more.
_EVENTS: Mapping[str, EventKind] = {
    "delivery": EventKind.DELIVERED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "spam": EventKind.COMPLAINED,
    "soft bounce": EventKind.DEFERRED,
    "bounce": EventKind.BOUNCED,
    "suspension": EventKind.DEFERRED,
    "reject": EventKind.REJECTED,
}
_REFUSED_BY_MAILTRAP = frozenset({"suspension", "reject"})
_REFUSED_BY_DESTINATION = frozenset({"soft bounce", "bounce"})

# Bounce Categorization; None where it covers several of our kinds and the reply must tell.
_BOUNCES: Mapping[str, FailureKind | None] = {
    "badrecipient": FailureKind.ADDRESS_UNKNOWN,
    "badsender": FailureKind.ACCOUNT,
    "block": FailureKind.REPUTATION,
    "content": FailureKind.SPAM,
    "dnsfail": FailureKind.DOMAIN_UNKNOWN,
    "generalfail": None,
    "greylisting": FailureKind.POLICY,
    "other": None,
    "overquota": FailureKind.MAILBOX_FULL,
    "relayfail": FailureKind.POLICY,
    "serverfail": FailureKind.UNREACHABLE,
    "serverpolicy": FailureKind.POLICY,
    "spam": FailureKind.SPAM,
    "spam_gmail": FailureKind.REPUTATION,
    "timeout": FailureKind.UNREACHABLE,
    "transientfail": None,
    "verifyfail": None,
}

# Webhooks: how the `reason` of a suspension or rejection begins. Others are the account's: its domain isn't verified,
# its plan is used up.
_SUPPRESSED: Final = "recipient in suppression list"

# Webhooks: events of an Enterprise account, which name no message.
_ABOUT_ACCOUNT: Final = "activity_log."


def as_posted(logged: reading.Fields) -> dict[str, object]:
    """An event of a message's log as a webhook would bring it."""
    details = reading.nested(logged, "details")
    return {
        "event": reading.text(logged, "event_type").replace("_", " "),
        "created_at": logged.get("created_at"),
        "reason": details.get("reject_reason"),
        "response": details.get("email_service_provider_response"),
        "response_code": details.get("email_service_provider_status"),
        "bounce_category": details.get("bounce_category"),
        "url": details.get("click_url"),
    }


def posted(body: bytes) -> Sequence[object]:
    """The events of a webhook in either payload format; raises `Malformed`."""
    try:
        whole = reading.decode(body)
    except reading.Malformed:
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [_line(line) for line in lines]
    if not isinstance(whole, dict):
        raise reading.Malformed("the body is not an object")
    events = whole.get("events", [whole] if "event" in whole else None)
    if not isinstance(events, list):
        raise reading.Malformed("the body has no list of events")
    return events


def _line(line: bytes) -> object:
    """A line of JSON Lines; None, which is no event, for a broken one."""
    try:
        return reading.decode(line)
    except reading.Malformed:
        return None


def event(fields: reading.Fields) -> Event | None:
    """One event; None for what is of no message. Raises `Malformed`."""
    name = reading.text(fields, "event")
    if not name:
        raise reading.Malformed("the event has no type")
    message_id = reading.our_id(reading.nested(fields, "custom_variables"))
    provider_message_id = reading.text(fields, "message_id") or None
    if message_id is None and provider_message_id is None:
        if name.startswith(_ABOUT_ACCOUNT):
            return None
        raise reading.Malformed("the event names no message")
    logged = fields.get("created_at")
    occurred_at = reading.iso_time(logged) if logged else reading.epoch_time(fields.get("timestamp"))
    kind, failure = _outcome(name, fields)
    # A log gives no ids, so that an event told there has what it says as its key.
    own = reading.text(fields, "event_id")
    key = reading.dedupe_key(str(message_id), provider_message_id, name, occurred_at, reading.text(fields, "url"))
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=own if 0 < len(own) <= 64 else key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "email") or None,
        machine=kind is EventKind.OPENED and reading.prefetched(reading.text(fields, "user_agent")),
        failure=failure,
        detail=_detail(name, fields),
    )


def _detail(name: str, fields: reading.Fields) -> str:
    category = reading.text(fields, "bounce_category")
    return f"{name}/{category}" if category.lower() in _BOUNCES else name


def _outcome(name: str, fields: reading.Fields) -> tuple[EventKind, Failure | None]:
    """Kind and failure of an event by its name."""
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    if name in _REFUSED_BY_MAILTRAP:
        reason = reading.text(fields, "reason")
        suppressed = reason.lower().startswith(_SUPPRESSED)
        return kind, Failure(FailureKind.SUPPRESSED if suppressed else FailureKind.ACCOUNT, reason=reason)
    if name in _REFUSED_BY_DESTINATION:
        vendor = _BOUNCES.get(reading.text(fields, "bounce_category").lower())
        response, code = reading.text(fields, "response"), reading.text(fields, "response_code")
        return kind, reading.refusal(response, status=code, vendor=vendor)
    return kind, None
