"""Advice: what is wrong with a sending account and what to do, from what is noted and counted of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from mail.providers.base import Provider

EXPIRES_SOON: Final = timedelta(days=14)
CONFIRMED_WITHIN: Final = timedelta(days=3)
"""SNS: "The token is valid for 3 days". After that the ESP has to be told to send another."""


class Severity(Enum):
    """How much a piece of advice matters."""

    OK = "ok"
    """Nothing is wrong."""
    NOTE = "note"
    """Worth knowing; nothing has to be done."""
    WARNING = "warning"
    """Something is, or soon will be, worse than it could be."""
    PROBLEM = "problem"
    """Emails don't go out, or what became of them isn't heard, until somebody does something."""


class AdviceCode(Enum):
    """What a piece of advice is about; stable for programs."""

    OK = "ok"
    """Nothing is wrong that we know of."""
    KEY_REFUSED = "key_refused"
    """The ESP, or the mail server, refuses the account's credentials."""
    KEY_EXPIRED = "key_expired"
    """The ESP said that the key ends, and that time has passed."""
    KEY_EXPIRES_SOON = "key_expires_soon"
    """The key ends within 14 days."""
    SIGNATURES_REFUSED = "signatures_refused"
    """Webhooks come whose signature or password doesn't hold, and none that holds since."""
    SOME_SIGNATURES_REFUSED = "some_signatures_refused"
    """Webhooks were refused for their signature or password; others came since and hold."""
    SUBSCRIPTION_UNCONFIRMED = "subscription_unconfirmed"
    """The ESP asked to confirm the webhook's subscription, and that hasn't succeeded yet."""
    WEBHOOK_NEVER_HEARD = "webhook_never_heard"
    """Messages were sent, and the ESP has never posted an event."""
    WEBHOOKS_MISSED = "webhooks_missed"
    """Asking the ESP brought what no webhook had brought."""
    NOT_CONFIRMED = "not_confirmed"
    """Messages have had no answer in the time in which answers come."""
    ASKING_REFUSED = "asking_refused"
    """The ESP refuses to be asked what became of messages."""
    UNREADABLE = "unreadable"
    """Webhooks came that couldn't be read."""
    PARKED = "parked"
    """Events came that match no message."""


@dataclass(frozen=True, slots=True)
class Advice:
    """`text` says what is wrong, `next_step` what to do; empty where there is nothing to do."""

    code: AdviceCode
    severity: Severity
    text: str
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What is noted of an account.

    `key_refused_at` and `refusal` stem from sends, `key_ok`, `key_text` and `key_expires_at` from the check at
    `key_checked_at`. `told_at` is when asking last brought what no webhook had brought.
    """

    last_event_at: datetime | None = None
    signature_failures: int = 0
    signature_failed_at: datetime | None = None
    webhook_confirmed_at: datetime | None = None
    key_refused_at: datetime | None = None
    refusal: str | None = None
    key_checked_at: datetime | None = None
    key_ok: bool | None = None
    key_text: str | None = None
    key_expires_at: datetime | None = None
    asking_refused_at: datetime | None = None
    told_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of an account: sent messages without any answer in the time in which answers come, webhooks that could
    not be read, events that match no message, webhook subscriptions that wait for their confirmation, and messages sent
    more than an hour ago of the last 30 days that wait for an answer."""

    unconfirmed: int
    unreadable: int
    parked: int
    unconfirmed_subscriptions: int
    waiting: int


def advise(esp: Provider | None, notes: Notes, counts: Counts, now: datetime) -> Sequence[Advice]:
    """What is wrong and what to do, the worst first; OK alone when nothing is. `esp` is None for Gmail and SMTP."""
    found = [*_key(esp, notes, now), *(_hearing(esp, notes, counts) if esp else ())]
    order = list(reversed(Severity))
    return sorted(found, key=lambda advice: order.index(advice.severity)) or [
        Advice(AdviceCode.OK, Severity.OK, "Nothing is wrong that we know of.")
    ]


def _key(esp: Provider | None, notes: Notes, now: datetime) -> Iterator[Advice]:
    who = esp.label if esp else "The mail server"
    if notes.key_refused_at is not None:
        said = f" It said: {notes.refusal}" if notes.refusal else ""
        yield Advice(
            AdviceCode.KEY_REFUSED,
            Severity.PROBLEM,
            f"{who} refuses this account, so emails don't go out.{said}",
            f"Look at the key and at the account {f'at {who}' if esp else 'at the mail server'}, and enter credentials "
            "that it takes.",
        )
    elif notes.key_ok is False:
        yield Advice(
            AdviceCode.KEY_REFUSED,
            Severity.PROBLEM,
            notes.key_text or f"{who} refuses the key.",
            f"Make a new key at {who} and enter it.",
        )
    if notes.key_expires_at is None:
        return
    day = f"{notes.key_expires_at:%-d %B %Y}"
    if notes.key_expires_at <= now:
        yield Advice(
            AdviceCode.KEY_EXPIRED,
            Severity.PROBLEM,
            f"The key of {who} ended on {day}.",
            f"Make a new key at {who} and enter it.",
        )
    elif notes.key_expires_at - now <= EXPIRES_SOON:
        yield Advice(
            AdviceCode.KEY_EXPIRES_SOON,
            Severity.WARNING,
            f"The key of {who} ends on {day}; after that no email goes out.",
            f"Make a new key at {who} and enter it before that day.",
        )


def _hearing(esp: Provider, notes: Notes, counts: Counts) -> Iterator[Advice]:
    yield from _signatures(esp, notes)
    if counts.unconfirmed_subscriptions:
        yield Advice(
            AdviceCode.SUBSCRIPTION_UNCONFIRMED,
            Severity.WARNING if notes.webhook_confirmed_at else Severity.PROBLEM,
            f"{esp.label} asked to confirm the webhook's subscription, and that has not succeeded yet. It is tried "
            "again for three days.",
            f"If this stays, have {esp.label} request the confirmation again.",
        )
    never_heard = notes.last_event_at is None and (counts.waiting > 0 or notes.told_at is not None)
    if never_heard and not notes.signature_failures:
        yield Advice(
            AdviceCode.WEBHOOK_NEVER_HEARD,
            Severity.PROBLEM,
            f"Messages were sent, and {esp.label} has never posted an event to the webhook.",
            f"Enter the webhook's address at {esp.label}, with all the events that the set-up steps name.",
        )
    if notes.told_at is not None and notes.last_event_at is not None and notes.told_at > notes.last_event_at:
        yield Advice(
            AdviceCode.WEBHOOKS_MISSED,
            Severity.WARNING,
            f"Asking {esp.label} brought answers that no webhook had brought, and no webhook has come since.",
            f"See at {esp.label} whether the webhook is still on, and whether its posts fail.",
        )
    if counts.unconfirmed and esp.capabilities.delivery and not never_heard:
        one = counts.unconfirmed == 1
        yield Advice(
            AdviceCode.NOT_CONFIRMED,
            Severity.WARNING,
            f"{counts.unconfirmed} {'message has' if one else 'messages have'} had no answer in the time in which "
            "answers come. That alone doesn't mean that they did not arrive.",
            f"If there are many, see at {esp.label} whether the webhook is on for all events.",
        )
    if notes.asking_refused_at is not None:
        needs = esp.capabilities.asking.needs if esp.capabilities.asking else ""
        yield Advice(
            AdviceCode.ASKING_REFUSED,
            Severity.WARNING,
            f"{esp.label} refuses to be asked what became of messages, so webhooks that got lost stay lost.",
            f"Asking needs this: {needs}" if needs else f"Give the key the permission to read messages at {esp.label}.",
        )
    if counts.unreadable:
        yield Advice(
            AdviceCode.UNREADABLE,
            Severity.WARNING,
            f"{counts.unreadable} of {esp.label}'s webhooks could not be read, in whole or in part. They are kept.",
            "Upgrade Carepost and read them again: carepost replay.",
        )
    if counts.parked:
        yield Advice(
            AdviceCode.PARKED,
            Severity.NOTE,
            f"{counts.parked} events match no message of this account: tests, or emails that others send through "
            f"the same {esp.label} account. They are kept.",
        )


def _signatures(esp: Provider, notes: Notes) -> Iterator[Advice]:
    failed = notes.signature_failed_at
    if not notes.signature_failures or failed is None:
        return
    times = "once" if notes.signature_failures == 1 else f"{notes.signature_failures} times"
    what = "password" if esp.generates_webhook_secret else "signature"
    if notes.last_event_at is not None and notes.last_event_at >= failed:
        yield Advice(
            AdviceCode.SOME_SIGNATURES_REFUSED,
            Severity.NOTE,
            f"Webhooks were refused for their {what} {times}; those that came since are right.",
        )
        return
    repair = (
        f"Enter the webhook's address at {esp.label} anew: rotateWebhookSecret shows it with its password."
        if esp.generates_webhook_secret
        else f"Copy the verification key from {esp.label} and enter it: rotateWebhookSecret. If it is right, see that "
        "PUBLIC_URL is the address that was entered there."
    )
    yield Advice(
        AdviceCode.SIGNATURES_REFUSED,
        Severity.PROBLEM,
        f"{esp.label}'s webhooks are refused, {times} so far: their {what} doesn't hold.",
        repair,
    )
