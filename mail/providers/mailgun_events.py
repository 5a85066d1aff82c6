"""Mailgun: what its events mean, in webhooks of today, in those of before 2018, and in its logs.

Pages, at documentation.mailgun.com: "Webhook Payloads", "Event Types", "Open and Click Bot Detection" (user manual),
"Logs" and "Metrics" (API reference).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import parseaddr
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import forms, reading

_SMTP_CODE: Final = re.compile(r"[245]\d\d", re.ASCII)

# Event Types. A failure is told apart by its severity and reason, below.
_EVENTS: Mapping[str, EventKind] = {
    "accepted": EventKind.QUEUED,
    "rejected": EventKind.REJECTED,
    "delivered": EventKind.DELIVERED,
    "failed": EventKind.SOFT_BOUNCED,
    "opened": EventKind.OPENED,
    "unique_opened": EventKind.OPENED,
    "clicked": EventKind.CLICKED,
    "unique_clicked": EventKind.CLICKED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "complained": EventKind.COMPLAINED,
}

# Event Types: of mailing lists and address checks, which name no message.
_ABOUT_ACCOUNT = frozenset({"email_validation", "list_member_upload_error", "list_member_uploaded", "list_uploaded"})

# Event Types: `severity` of a failure. What is temporary is tried again for eight hours, and then fails for good.
_SEVERITIES: Mapping[str, EventKind] = {
    "permanent": EventKind.BOUNCED,
    "temporary": EventKind.DEFERRED,
}

# Webhook Payloads and Metrics ("failed"): `reason` of a failure; None where the reply must tell.
_REASONS: Mapping[str, FailureKind | None] = {
    "bounce": None,
    "generic": None,
    "hardfail": None,  # older webhooks
    "old": FailureKind.UNREACHABLE,  # eight hours are over
    "greylisted": FailureKind.POLICY,
    "espblock": FailureKind.REPUTATION,
    "suppress-bounce": FailureKind.SUPPRESSED,
    "suppress-complaint": FailureKind.SUPPRESSED,
    "suppress-unsubscribe": FailureKind.SUPPRESSED,
}

# `delivery-status.code` where it is Mailgun's own and no reply of the destination.
_CODES: Mapping[str, FailureKind] = {
    "498": FailureKind.UNREACHABLE,  # no MX
    "499": FailureKind.UNREACHABLE,  # no connection to an MX
    "602": FailureKind.UNREACHABLE,  # too old
    "605": FailureKind.SUPPRESSED,  # bounced before
    "606": FailureKind.SUPPRESSED,  # unsubscribed before
    "607": FailureKind.SUPPRESSED,  # complained before
    "680": FailureKind.UNREACHABLE,  # connection failed
}

# Open and Click Bot Detection: `client-info.bot`, and whether it is a machine that nobody stands behind. Gmail's
# proxy loads an image when somebody opens the email. Others: a machine.
_BOTS: Mapping[str, bool] = {"apple": True, "generic": True, "gmail": False}

# Older webhooks: `event`, where it has another name today.
_OLDER_EVENTS: Mapping[str, str] = {"dropped": "failed", "bounced": "failed"}


def parts(body: bytes) -> tuple[reading.Fields, reading.Fields]:
    """The proof and the event of a webhook: an object in JSON, or a form. Raises `Malformed` for broken JSON."""
    if not body.lstrip().startswith((b"{", b"[")):
        return _older(forms.fields(body))
    whole = reading.decode(body)
    if not isinstance(whole, dict):
        raise reading.Malformed("the body is not an object")
    return reading.nested(whole, "signature"), reading.nested(whole, "event-data")


def bare(message_id: str) -> str | None:
    """A message's id without its angle brackets: answers have them, events don't."""
    return message_id.strip("<> ") or None


def message_id(fields: reading.Fields) -> str | None:
    """Mailgun's id of the message that an event is of."""
    return bare(reading.text(reading.nested(reading.nested(fields, "message"), "headers"), "message-id"))


def event(fields: reading.Fields) -> Event | None:
    """One event; None for what is of no message. Raises `Malformed`."""
    name = reading.text(fields, "event")
    if not name:
        raise reading.Malformed("the event has no type")
    our_id = reading.our_id(_variables(fields))
    provider_message_id = message_id(fields)
    if our_id is None and provider_message_id is None:
        if name in _ABOUT_ACCOUNT:
            return None
        raise reading.Malformed("the event names no message")
    logged = fields.get("@timestamp")  # in a log; ISO 8601
    occurred_at = reading.iso_time(logged) if logged else reading.epoch_time(fields.get("timestamp"))
    kind, detail, failure = _outcome(name, fields)
    # The id is promised to be unique within a day; older webhooks have none.
    own = reading.text(fields, "id")
    key = reading.dedupe_key(str(our_id), provider_message_id, name, occurred_at, reading.text(fields, "url"))
    to = reading.text(reading.nested(reading.nested(fields, "message"), "headers"), "to")
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=own if 0 < len(own) <= 64 else key,
        message_id=our_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "recipient") or parseaddr(to)[1] or None,  # a rejection has no recipient
        machine=kind in {EventKind.OPENED, EventKind.CLICKED} and _by_machine(fields, kind),
        failure=failure,
        detail=detail,
    )


def _variables(fields: reading.Fields) -> reading.Fields:
    """Our variables: an object, or the JSON of one."""
    variables = fields.get("user-variables")
    if isinstance(variables, str):
        return reading.decode_object(variables.encode("utf-8", "replace"))
    return variables if isinstance(variables, dict) else {}


def _by_machine(fields: reading.Fields, kind: EventKind) -> bool:
    client = reading.nested(fields, "client-info")
    if bot := reading.text(client, "bot").lower():
        return _BOTS.get(bot, True)
    return kind is EventKind.OPENED and reading.prefetched(reading.text(client, "user-agent"))


def _outcome(name: str, fields: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    """Kind, detail and failure of an event by its name."""
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    match name:
        case "failed":
            return _failed(fields)
        case "rejected":
            reject = reading.nested(fields, "reject")
            reason = reading.text(reject, "reason") or reading.text(reject, "description")
            return kind, name, Failure(FailureKind.ACCOUNT, reason=reason or reading.text(fields, "reason"))
        case _:
            return kind, name, None


def _failed(fields: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    severity, reason = reading.text(fields, "severity"), reading.text(fields, "reason")
    detail = "/".join(("failed", *((severity,) if severity else ()), *((reason,) if reason in _REASONS else ())))
    status = reading.nested(fields, "delivery-status")
    code = reading.text(status, "code")
    vendor = _CODES.get(code) or _REASONS.get(reason)
    failure = _failure(status, code, vendor)
    if vendor is FailureKind.SUPPRESSED:
        # Never tried, so that what Mailgun says of it is no server's reply.
        return EventKind.REJECTED, detail, Failure(vendor, reason=failure.reason)
    kind = _SEVERITIES.get(severity, EventKind.SOFT_BOUNCED)
    if reading.nested(fields, "flags").get("is-delayed-bounce") is True:
        # It came back as an email, after the destination had taken it: nothing is tried again.
        if (failure.enhanced_code or "").startswith("2."):
            return EventKind.AUTO_REPLIED, detail, None
        if kind is EventKind.DEFERRED:
            kind = EventKind.SOFT_BOUNCED
    return reading.final(kind, failure), detail, failure


def _failure(status: reading.Fields, code: str, vendor: FailureKind | None) -> Failure:
    """The destination's refusal, in which Mailgun gives both codes and the words apart."""
    smtp_code = code if _SMTP_CODE.fullmatch(code) and code not in _CODES else ""
    enhanced = reading.text(status, "enhanced-code") or reading.text(status, "bounce-code")
    words = reading.text(status, "message") or reading.text(status, "description")
    failure = reading.refusal(words, status=enhanced or smtp_code, vendor=vendor)
    return replace(failure, smtp_code=int(smtp_code)) if smtp_code else failure


def _older(form: Sequence[tuple[str, str]]) -> tuple[reading.Fields, reading.Fields]:
    """The proof and the event in a webhook of before 2018, the event as today's say it.

    Our own variables stand among Mailgun's fields: after them where both have one name, and before the proof's.
    """
    last, first = dict(form), dict(reversed(form))
    name, code = first.get("event", ""), first.get("code", "")
    returned = name in _OLDER_EVENTS
    words = first.get("error") or first.get("notification") or first.get("description")
    today = {
        "event": _OLDER_EVENTS.get(name, name),
        "severity": "permanent" if returned else "",
        "reason": first.get("reason"),
        "timestamp": last.get("timestamp"),
        "recipient": first.get("recipient"),
        "url": first.get("url"),
        "message": {"headers": {"message-id": first.get("Message-Id") or first.get("message-id")}},
        "delivery-status": {"message": words, "enhanced-code" if "." in code else "code": code},
        "user-variables": {**_header_variables(first.get("message-headers", "")), **last},
        "client-info": {"user-agent": first.get("user-agent")},
    }
    return last, today


def _header_variables(headers: str) -> dict[str, object]:
    """Our variables in the X-Mailgun-Variables headers of an email, which older webhooks bring as a list in JSON."""
    try:
        pairs = reading.decode(headers.encode("utf-8", "replace")) if headers else []
    except reading.Malformed:
        return {}
    variables: dict[str, object] = {}
    for pair in pairs if isinstance(pairs, list) else []:
        match pair:
            case ["X-Mailgun-Variables", str(value)]:
                variables.update(reading.decode_object(value.encode("utf-8", "replace")))
            case _:
                pass
    return variables
