"""Brevo: what its events mean, in webhooks and in the activity report. The pages are those of `brevo`."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from mail.providers import reading

CUSTOM: Final = "X-Mailin-custom"
_LATEST_SECONDS: Final = 100_000_000_000  # a greater ts_epoch is in milliseconds
# Transactional webhooks: `event`. "What is a bounce?": a soft bounce comes once Brevo has given up, 36 hours after
# the first deferral. An error is called an error and nothing more, so it is not known to be final.
_EVENTS: Mapping[str, EventKind] = {
    "request": EventKind.QUEUED,  # also before "blocked" and "error", so it is no acceptance by anybody else
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DEFERRED,
    "soft_bounce": EventKind.BOUNCED,
    "hard_bounce": EventKind.BOUNCED,
    "invalid_email": EventKind.BOUNCED,
    "blocked": EventKind.REJECTED,
    "error": EventKind.SOFT_BOUNCED,
    "opened": EventKind.OPENED,
    "proxy_open": EventKind.OPENED,  # by a mail privacy proxy, such as Apple's
    "click": EventKind.CLICKED,
    "spam": EventKind.COMPLAINED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
}
_MACHINES = frozenset({"proxy_open"})
# Other names of the same events: of the first open, of older webhooks, and `event` of the activity report.
_ALIASES: Mapping[str, str] = {
    "sent": "request",
    "complaint": "spam",
    "unique_opened": "opened",
    "unique_proxy_open": "proxy_open",
    "unsubscribed": "unsubscribe",
    "requests": "request",
    "hardBounces": "hard_bounce",
    "softBounces": "soft_bounce",
    "invalid": "invalid_email",
    "clicks": "click",
    "loadedByProxy": "proxy_open",
}
# What these events say where the destination's words say little; None: Brevo says nothing either.
_FAILURES: Mapping[str, FailureKind | None] = {
    "deferred": None,
    "soft_bounce": None,
    "hard_bounce": None,  # the address is unknown or the server refuses us: "What is a bounce?"
    "invalid_email": FailureKind.ADDRESS_UNKNOWN,
    "blocked": FailureKind.SUPPRESSED,
    "error": None,
}
# Brevo's own words in `reason`.
_REASONS: Mapping[str, FailureKind] = {
    "unable to find mx": FailureKind.DOMAIN_UNKNOWN,
    "sender you used": FailureKind.ACCOUNT,
}
# Events of contacts, of a marketing webhook: they name no message.
_ABOUT_CONTACT = frozenset({"list_addition", "contact_updated", "contact_deleted"})


def bare(message_id: str) -> str | None:
    """Brevo's id of a message without the angle brackets, which answers have and webhooks may lack."""
    return message_id.strip("<>") or None


def event(fields: reading.Fields) -> Event | None:
    name = reading.text(fields, "event")
    if not name:
        raise reading.Malformed("the event has no type")
    if name in _ABOUT_CONTACT:
        return None
    message_id = _our_id(fields)
    provider_message_id = bare(reading.text(fields, "message-id"))
    if message_id is None and provider_message_id is None:
        raise reading.Malformed("the event names no message")
    return event_at(fields, _time(fields), message_id, provider_message_id)


def event_at(
    fields: reading.Fields, occurred_at: datetime, message_id: MessageId | None, provider_message_id: str | None
) -> Event:
    detail = reading.text(fields, "event")
    name = _ALIASES.get(detail, detail)
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    failure = _failure(name, reading.text(fields, "reason")) if name in _FAILURES else None
    # Events have no id, and the report's times may lack the webhook's milliseconds. Opens within one second become
    # one: no loss, since neither says more than the other.
    key = reading.dedupe_key(
        provider_message_id or str(message_id), name, occurred_at.replace(microsecond=0), reading.text(fields, "link")
    )
    return Event(
        kind=reading.final(kind, failure) if failure else kind,
        occurred_at=occurred_at,
        dedupe_key=key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "email") or None,
        machine=name in _MACHINES,
        failure=failure,
        detail=detail,
    )


def _failure(name: str, reason: str) -> Failure:
    own = next((_REASONS[words] for words in _REASONS if words in reason.lower()), None)
    failure = reading.refusal(reason, vendor=own or _FAILURES[name])
    if name == "blocked":
        return replace(failure, kind=FailureKind.SUPPRESSED)
    return failure


def _our_id(fields: reading.Fields) -> MessageId | None:
    custom = fields.get(CUSTOM)
    return reading.our_id(reading.decode_object(custom.encode("utf-8", "replace"))) if isinstance(custom, str) else None


def _time(fields: reading.Fields) -> datetime:
    """ts_epoch is in milliseconds, though the page's samples show seconds. The others are in seconds, in UTC by the
    page and in the account's time zone by what django-anymail saw, so they stand in only where ts_epoch is missing."""
    epoch = fields.get("ts_epoch")
    if isinstance(epoch, str) and epoch.isascii() and epoch.isdigit() and len(epoch) <= 15:
        epoch = int(epoch)
    if isinstance(epoch, int) and _LATEST_SECONDS < epoch < _LATEST_SECONDS * 10_000:
        return reading.epoch_time(epoch / 1000)
    times = (epoch, fields.get("ts_event"), fields.get("ts"))
    return reading.epoch_time(next((time for time in times if time is not None), None))
