"""Mailjet: what its events mean, in webhooks and in the history of a message. The pages are those of `mailjet`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from mail.providers import reading
from mail.providers.base import Question

# "Webhooks": `event`. Sent means that the destination's server accepted the email. A bounce is told apart below.
_EVENTS: Mapping[str, EventKind] = {
    "sent": EventKind.DELIVERED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "bounce": EventKind.SOFT_BOUNCED,
    "blocked": EventKind.REJECTED,
    "spam": EventKind.COMPLAINED,
    "unsub": EventKind.UNSUBSCRIBED,
}
# Messagehistory: EventType, where it is another name for the same.
_ALIASES: Mapping[str, str] = {
    "opened": "open",
    "clicked": "click",
    "bounced": "bounce",
    "hardbounced": "bounce",
    "softbounced": "bounce",
    "unsubscribed": "unsub",
}
# "Possible values for errors": `error`. It says more than a reply that says little, and of a block all there is.
_ERRORS: Mapping[str, FailureKind] = {
    "user unknown": FailureKind.ADDRESS_UNKNOWN,
    "mailbox inactive": FailureKind.ADDRESS_UNKNOWN,
    "quota exceeded": FailureKind.MAILBOX_FULL,
    "blacklisted": FailureKind.SUPPRESSED,
    "spam reporter": FailureKind.SUPPRESSED,
    "invalid domain": FailureKind.DOMAIN_UNKNOWN,
    "no mail host": FailureKind.DOMAIN_UNKNOWN,
    "relay/access denied": FailureKind.POLICY,
    "greylisted": FailureKind.POLICY,
    "typofix": FailureKind.DOMAIN_UNKNOWN,
    "bad or empty template": FailureKind.CONTENT,
    "error in template language": FailureKind.CONTENT,
    "sender blocked": FailureKind.REPUTATION,
    "content blocked": FailureKind.SPAM,
    "policy issue": FailureKind.POLICY,
    "system issue": FailureKind.UNREACHABLE,
    "protocol issue": FailureKind.UNREACHABLE,
    "connection issue": FailureKind.UNREACHABLE,
    "preblocked": FailureKind.SUPPRESSED,
    "spam preblocked": FailureKind.SPAM,
    "duplicate in campaign": FailureKind.OTHER,
}
# The same page: `error_related_to`, for errors that we don't know.
_RELATED: Mapping[str, FailureKind] = {
    "recipient": FailureKind.ADDRESS_UNKNOWN,
    "domain": FailureKind.DOMAIN_UNKNOWN,
    "content": FailureKind.CONTENT,
    "spam": FailureKind.SPAM,
    "system": FailureKind.UNREACHABLE,
    "mailjet": FailureKind.SUPPRESSED,
}
_RETRIED: Final = "greylisted"  # "Delivery will be re-attempted"; of the other temporary ones the page doesn't say so


def mailjet_id(fields: reading.Fields) -> str | None:
    """A MessageID, a number beyond what a float holds, as text. It is 0 where nothing was sent (sandbox mode)."""
    message_id = reading.text(fields, "MessageID") or reading.text(fields, "mj_message_id")
    return message_id if message_id.strip("0") else None


def posted(entry: reading.Fields, question: Question) -> reading.Fields:
    """An entry of a message's history as a webhook would bring it; it may not say whether a bounce is final."""
    told = reading.text(entry, "EventType").lower()
    return {
        "event": _ALIASES.get(told, told),
        "time": entry.get("EventAt"),
        "MessageID": question.provider_message_id,
        "CustomID": str(question.message_id),
        "email": question.recipient,
        "agent": entry.get("Useragent"),
        "error": entry.get("State"),
        "comment": entry.get("Comment"),
        "hard_bounce": told == "hardbounced",
    }


def event(fields: reading.Fields) -> Event | None:
    name = reading.text(fields, "event")
    if not name:
        raise reading.Malformed("the event has no type")
    message_id, provider_message_id = _our_id(fields), mailjet_id(fields)
    if message_id is None and provider_message_id is None:
        raise reading.Malformed("the event names no message")
    kind, detail, failure = _outcome(name, fields)
    occurred_at = reading.epoch_time(fields.get("time"))
    machine = kind is EventKind.OPENED and reading.prefetched(reading.text(fields, "agent"))
    # Events have no id. Two opens within one second become one, unless one is a machine's: no loss, since neither
    # says more than the other. Our id comes first, for we may ask without knowing Mailjet's.
    named = str(message_id) if message_id else provider_message_id
    key = reading.dedupe_key(named, name, occurred_at, machine, reading.text(fields, "url"))
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "email") or None,
        machine=machine,
        failure=failure,
        detail=detail,
    )


def _outcome(name: str, fields: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    """Kind, detail and failure of an event by its name."""
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    if name not in {"bounce", "blocked"}:
        return kind, name, None
    error, comment = reading.text(fields, "error"), reading.text(fields, "comment")
    vendor = _ERRORS.get(error.lower(), _RELATED.get(reading.text(fields, "error_related_to"), FailureKind.OTHER))
    failure = reading.refusal(comment or error, vendor=vendor)
    detail = f"{name}/{error}" if error else name
    if name == "blocked":
        return kind, detail, replace(failure, kind=vendor)
    if fields.get("hard_bounce") is True or fields.get("blocked") is True:
        return EventKind.BOUNCED, detail, failure
    if error.lower() == _RETRIED:
        return EventKind.DEFERRED, detail, failure
    return reading.final(kind, failure), detail, failure


def _our_id(fields: reading.Fields) -> MessageId | None:
    """Our id in the payload of the event, or as the CustomID."""
    payload = fields.get("Payload")
    carried = reading.decode_object(payload.encode("utf-8", "replace")) if isinstance(payload, str) else {}
    return reading.our_id(carried) or reading.our_id({reading.METADATA_KEY: fields.get("CustomID")})
