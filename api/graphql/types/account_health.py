"""AccountHealth: whether an account hears of what it sent, and what to do when it doesn't."""

from datetime import UTC, datetime

import strawberry

from api.graphql.enums import described
from db.accounts import Account
from mail.advice import Advice as AdviceValue
from mail.advice import AdviceCode, Counts, Severity, advise
from mail.providers import PROVIDERS

described(AdviceCode)
described(Severity)


@strawberry.type(description="What is wrong with an account, and what to do.")
class Advice:
    code: AdviceCode = strawberry.field(description="What it is about; stable for programs.")
    severity: Severity = strawberry.field(description="How much it matters.")
    text: str = strawberry.field(description="What is wrong, for people.")
    next_step: str = strawberry.field(description="What to do; empty where there is nothing to do.")

    @classmethod
    def of(cls, value: AdviceValue) -> "Advice":
        return cls(code=value.code, severity=value.severity, text=value.text, next_step=value.next_step)


@strawberry.type(description="Whether an account's key is taken and whether it hears of what it sent.")
class AccountHealth:
    advice: list[Advice] = strawberry.field(
        description="What is wrong and what to do, the worst first; OK alone when nothing is."
    )
    last_event_at: datetime | None = strawberry.field(description="When the ESP last posted an event; null when never.")
    signature_failures: int = strawberry.field(
        description="Webhooks refused since the last good setting of the secret: wrong signature or password."
    )
    signature_failed_at: datetime | None = strawberry.field(
        description="When the last webhook was refused; null when none was since the last setting of the secret."
    )
    unconfirmed: int = strawberry.field(
        description="Messages of the last 30 days without any answer in the time in which answers come."
    )
    unreadable: int = strawberry.field(
        description="Webhooks kept whose content could not be read, in whole or in part."
    )
    parked: int = strawberry.field(description="Events kept that match no message yet.")
    unconfirmed_subscriptions: int = strawberry.field(
        description="Webhook subscriptions that wait for their confirmation, which Carepost makes by itself."
    )
    webhook_confirmed_at: datetime | None = strawberry.field(
        description="When the webhook's subscription was last confirmed; null where the ESP never asked for it."
    )
    credentials_refused_at: datetime | None = strawberry.field(
        description="Since when sends are refused for the account's key; null when they aren't."
    )
    credentials_refusal: str | None = strawberry.field(description="What the ESP or mail server said to that.")
    credentials_checked_at: datetime | None = strawberry.field(
        description="When the key was last checked at the ESP, which happens daily; null where that isn't possible."
    )
    credentials_ok: bool | None = strawberry.field(
        description="Whether the ESP took the key at that check; null when it didn't tell."
    )
    credentials_expire_at: datetime | None = strawberry.field(description="When the key ends, where the ESP says so.")
    asking_refused_at: datetime | None = strawberry.field(
        description="When the ESP refused to be asked what became of messages; null when it doesn't."
    )
    told_at: datetime | None = strawberry.field(
        description="When asking the ESP last brought what no webhook had brought; null when never."
    )

    @classmethod
    def of(cls, row: Account, counts: Counts) -> "AccountHealth":
        notes = row.notes
        advice = advise(PROVIDERS.get(row.provider or ""), notes, counts, datetime.now(UTC))
        return cls(
            advice=[Advice.of(each) for each in advice],
            last_event_at=notes.last_event_at,
            signature_failures=notes.signature_failures,
            signature_failed_at=notes.signature_failed_at,
            unconfirmed=counts.unconfirmed,
            unreadable=counts.unreadable,
            parked=counts.parked,
            unconfirmed_subscriptions=counts.unconfirmed_subscriptions,
            webhook_confirmed_at=notes.webhook_confirmed_at,
            credentials_refused_at=notes.key_refused_at,
            credentials_refusal=notes.refusal,
            credentials_checked_at=notes.key_checked_at,
            credentials_ok=notes.key_ok,
            credentials_expire_at=notes.key_expires_at,
            asking_refused_at=notes.asking_refused_at,
            told_at=notes.told_at,
        )
