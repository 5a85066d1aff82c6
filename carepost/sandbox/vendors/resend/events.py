"""Happenings in Resend's words. Source: Resend, docs/webhooks/event-types and its page for each event."""

from collections.abc import Mapping, Sequence
from typing import Any

from carepost.sandbox.message import Body, Happened, SandboxEvent, SandboxMessage
from carepost.sandbox.outcomes import Cause, Happening
from carepost.sandbox.vendors.base import iso

# `type`; there is none for an unsubscription from one email, nor for an auto-reply.
_EVENTS: Mapping[Happening, str | None] = {
    Happening.PROCESSED: "email.sent",
    Happening.DROPPED: "email.suppressed",
    Happening.DEFERRED: "email.delivery_delayed",
    Happening.DELIVERED: "email.delivered",
    Happening.BOUNCED: "email.bounced",
    Happening.AUTO_REPLIED: None,
    Happening.OPENED: "email.opened",
    Happening.COMPLAINED: "email.complained",
    Happening.UNSUBSCRIBED: None,
}

# docs/dashboard/emails/email-bounces: `type` and `subType`, which are Amazon's.
_BOUNCES: Mapping[Cause, tuple[str, str]] = {
    Cause.UNKNOWN_USER: ("Permanent", "General"),
    Cause.MAILBOX_FULL: ("Transient", "MailboxFull"),
    Cause.REPUTATION: ("Transient", "General"),
}


def tell(message: SandboxMessage, happened: Happened) -> Sequence[Body]:
    """The event, if Resend has one. `created_at` outside is the event's time, inside `data` the email's.

    An open says nothing of what loaded the images: a machine's looks like a person's.
    """
    kind = _EVENTS[happened.step.happening]
    if kind is None:
        return []
    letter = message.letter
    data: dict[str, Any] = {
        "created_at": moment(message.accepted_at),
        "email_id": message.id,
        "from": letter.extra["from"],
        "to": letter.extra["to"],
        "subject": letter.subject,
        "tags": letter.metadata,
    }
    if happened.step.cause:
        bounce, sub_type = _BOUNCES[happened.step.cause]
        code = f"smtp; {happened.reply}"
        why = "The recipient's email provider sent a bounce message."
        data["bounce"] = {"message": why, "type": bounce, "subType": sub_type, "diagnosticCode": [code]}
    elif kind == "email.suppressed":
        why = "Resend has suppressed sending to this address because it is on the account-level suppression list."
        data["suppressed"] = {"message": why, "type": "OnAccountSuppressionList"}
    return [{"type": kind, "created_at": iso(happened.at), "data": data}]


def last_event(events: Sequence[SandboxEvent]) -> str:
    """`last_event` of a retrieved email: the name of its newest event, without the prefix."""
    return str(events[-1].body["type"]).removeprefix("email.") if events else "queued"


def moment(at: float) -> str:
    """Epoch seconds as Resend writes an email's time."""
    return f"{iso(at, 6).removesuffix('Z')}+00:00"
