"""Mandrill: what its events mean, in webhooks and in the history of a message.

Pages: mailchimp.com/developer/transactional, "Webhooks" (docs) and "Messages" (API); mandrill.zendesk.com, "Message
Event Webhook Format", "Sync Event Webhook Format" and "About Bounces".
"""

from collections.abc import Iterator, Mapping
from typing import Final

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import reading

# Webhooks, "Event types": `event`. After a bounce, hard or soft, Mandrill stops attempting delivery ("About Bounces").
_EVENTS: Mapping[str, EventKind] = {
    "send": EventKind.ACCEPTED,
    "delivered": EventKind.DELIVERED,
    "deferral": EventKind.DEFERRED,
    "hard_bounce": EventKind.BOUNCED,
    "soft_bounce": EventKind.BOUNCED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "spam": EventKind.COMPLAINED,
    "unsub": EventKind.UNSUBSCRIBED,
    "reject": EventKind.REJECTED,
}
_BOUNCES = frozenset({"hard_bounce", "soft_bounce"})

# "Sync Event Webhook Format", `type`: a list of addresses changed, of which no email is named; and incoming mail.
_ABOUT_ACCOUNT = frozenset({"allowlist", "blacklist", "denylist", "inbound", "whitelist"})

# "Message Event Webhook Format": `msg.bgtools_code`, the class of a bounce. Those below are replies of a machine, or of
# a person by way of one, and no bounces.
_REPLIES: Mapping[str, EventKind] = {
    "60": EventKind.AUTO_REPLIED,
    "80": EventKind.RESUBSCRIBED,
    "90": EventKind.UNSUBSCRIBED,
    "100": EventKind.AUTO_REPLIED,  # a challenge
}
_TRANSIENT: Final = "70"  # a warning that came back as an email: whoever sent it may go on trying
# None, and other classes: the reply must tell.
_CLASSES: Mapping[str, FailureKind | None] = {
    "10": FailureKind.ADDRESS_UNKNOWN,  # bad_mailbox
    "20": None,  # general soft bounce
    "21": FailureKind.DOMAIN_UNKNOWN,  # invalid_domain
    "22": FailureKind.MAILBOX_FULL,  # mailbox_full
    "23": FailureKind.TOO_LARGE,
    "30": FailureKind.ADDRESS_UNKNOWN,
    "40": None,  # general
    "50": FailureKind.REPUTATION,
    "51": FailureKind.REPUTATION,
    "52": FailureKind.SPAM,
    "53": FailureKind.POLICY,  # an attachment
    "54": FailureKind.POLICY,  # relaying denied
    _TRANSIENT: None,
}

# Messages, "Send new message": `reject_reason`; the same words in `reject.reason` of a message. Others: OTHER.
_REJECTIONS: Mapping[str, FailureKind] = {
    "hard-bounce": FailureKind.SUPPRESSED,
    "soft-bounce": FailureKind.SUPPRESSED,
    "spam": FailureKind.SUPPRESSED,
    "unsub": FailureKind.SUPPRESSED,
    "custom": FailureKind.SUPPRESSED,  # put on the list by hand
    "invalid": FailureKind.ADDRESS_UNKNOWN,
    "invalid-sender": FailureKind.ACCOUNT,
    "test-mode-limit": FailureKind.ACCOUNT,
    "rule": FailureKind.ACCOUNT,  # a rule of the account
    "unsigned": FailureKind.AUTHENTICATION,  # the From domain lacks SPF and DKIM
}

# Messages, "Get message info": `smtp_events[].type`, the message's state as a result of the event, and `state`, as the
# event that a webhook would bring.
_SMTP_EVENTS: Mapping[str, str] = {
    "sent": "send",
    "deferred": "deferral",
    "bounced": "hard_bounce",
    "soft-bounced": "soft_bounce",
}
_STATES: Mapping[str, str] = {"bounced": "hard_bounce", "soft-bounced": "soft_bounce", "rejected": "reject"}
_ROBOT: Final = "robot"


def rejection(reason: str) -> Failure:
    """Why Mandrill never tried, by its word for it."""
    return Failure(_REJECTIONS.get(reason.lower(), FailureKind.OTHER), reason=reason or "Mandrill gave no reason")


def event(fields: reading.Fields) -> Event | None:
    """One event; None for what is of no message. Raises `Malformed`."""
    name = reading.text(fields, "event") or reading.text(fields, "type")
    if not name:
        raise reading.Malformed("the event has no type")
    if name in _ABOUT_ACCOUNT:
        return None
    msg = reading.nested(fields, "msg")
    our_id = reading.our_id(reading.nested(msg, "metadata"))
    provider_message_id = reading.text(fields, "_id") or reading.text(msg, "_id") or None
    if our_id is None and provider_message_id is None:
        raise reading.Malformed("the event names no message")
    occurred_at = reading.epoch_time(fields.get("ts"))
    kind, detail, failure = _outcome(name, msg)
    # There is no event id. Two opens within one second become one: no loss, neither says more than the other.
    key = reading.dedupe_key(str(our_id), provider_message_id, name, occurred_at, reading.text(fields, "url"))
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=key,
        message_id=our_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(msg, "email") or None,
        machine=kind in {EventKind.OPENED, EventKind.CLICKED} and _by_machine(fields, kind),
        failure=failure,
        detail=detail,
    )


def history(info: reading.Fields) -> Iterator[object]:
    """What became of a message, as the events that webhooks would bring.

    `smtp_events` (the last three) hold the replies of the recipient's server, so that a 2yz there is its word that it
    took the email. A bounce that stands in none of them is given the time of the last, and a rejection that of the
    email, which was never tried.
    """
    smtp_events = _objects(info, "smtp_events")
    told = set()
    for each in smtp_events:
        name = _SMTP_EVENTS.get(reading.text(each, "type"), reading.text(each, "type"))
        if name == "send" and reading.text(each, "diag").startswith("2"):
            name = "delivered"
        told.add(name)
        yield _as_posted(info, name, each.get("ts"), diag=each.get("diag"))
    for each in _objects(info, "opens_detail"):
        yield _as_posted(info, "open", each.get("ts"), user_agent=each.get("ua"))
    for each in _objects(info, "clicks_detail"):
        yield _as_posted(info, "click", each.get("ts"), user_agent=each.get("ua"), url=each.get("url"))
    state = _STATES.get(reading.text(info, "state"))
    if state and state not in told:
        last = smtp_events[-1].get("ts") if smtp_events and state in _BOUNCES else info.get("ts")
        yield _as_posted(info, state, last, diag=info.get("diag"))


def _objects(fields: reading.Fields, name: str) -> list[reading.Fields]:
    """The objects in a field that is a list."""
    value = fields.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _as_posted(
    info: reading.Fields, name: str, at: object, *, diag: object = None, **more: object
) -> dict[str, object]:
    copied = ("email", "metadata", "bgtools_code", "bounce_description", "reject")
    msg = {field: info.get(field) for field in copied}
    return {"event": name, "_id": info.get("_id"), "ts": at, "msg": {**msg, "diag": diag}, **more}


def _by_machine(fields: reading.Fields, kind: EventKind) -> bool:
    if reading.text(reading.nested(fields, "user_agent_parsed"), "type").lower() == _ROBOT:
        return True
    return kind is EventKind.OPENED and reading.prefetched(reading.text(fields, "user_agent"))


def _outcome(name: str, msg: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    """Kind, detail and failure of an event by its name."""
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    match name:
        case "hard_bounce" | "soft_bounce":
            code, description = reading.text(msg, "bgtools_code"), reading.text(msg, "bounce_description")
            detail = f"{name}/{description}" if description else name
            if code in _REPLIES:
                return _REPLIES[code], detail, None
            failure = reading.refusal(reading.text(msg, "diag"), vendor=_CLASSES.get(code))
            if code == _TRANSIENT:
                kind = reading.final(EventKind.SOFT_BOUNCED, failure)
            return kind, detail, failure
        case "deferral":
            return kind, name, reading.refusal(reading.text(msg, "diag") or _last_reply(msg))
        case "reject":
            reason = reading.text(reading.nested(msg, "reject"), "reason")
            return kind, f"reject/{reason}" if reason in _REJECTIONS else name, rejection(reason)
        case _:
            return kind, name, None


def _last_reply(msg: reading.Fields) -> str:
    """The last reply of the recipient's server that a webhook quotes."""
    replies = [reading.text(each, "diag") for each in _objects(msg, "smtp_events")]
    return replies[-1] if replies else ""
