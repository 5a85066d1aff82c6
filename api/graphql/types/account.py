"""SendingAccount: how a practice sends, and how well it is heard."""

from datetime import datetime

import strawberry

from api.addresses import webhook_url
from api.graphql.context import Info
from api.graphql.enums import described
from api.graphql.ids import global_id
from api.graphql.types.connection import Node
from db.accounts import Account
from mail.providers import PROVIDERS
from mail.status import AccountKind

described(AccountKind)


@strawberry.type(description="Whether an account hears of what it sent.")
class AccountHealth:
    last_event_at: datetime | None = strawberry.field(description="When the ESP last posted an event; null when never.")
    signature_failures: int = strawberry.field(
        description="Webhooks refused since the last good setting of the secret: wrong signature or password."
    )
    unconfirmed: int = strawberry.field(
        description="Messages of the last 30 days without any answer in the time in which answers come."
    )
    unreadable: int = strawberry.field(
        description="Webhooks kept whose content could not be read, in whole or in part."
    )
    parked: int = strawberry.field(description="Events kept that match no message yet.")


@strawberry.type(description="What this account's ESP can tell; false means that silence there is normal.")
class AccountCapabilities:
    delivery: bool = strawberry.field(description="Reports deliveries and bounces.")
    opens: bool = strawberry.field(description="Reports opens.")
    machine_opens: bool = strawberry.field(description="Tells opens by machines from opens by people.")
    tracking_switch: bool = strawberry.field(description="Open tracking can be turned off for one message.")


@strawberry.type(description="How a practice sends: through an ESP, its Gmail, or its own mail server.")
class SendingAccount(Node):
    row: strawberry.Private[Account]
    id: strawberry.ID = strawberry.field(description="Global id; opaque.")
    kind: AccountKind = strawberry.field(description="How it sends.")
    provider: str | None = strawberry.field(description="Name of the ESP, such as `sendgrid`; null for other kinds.")
    name: str = strawberry.field(description="As staff choose it.")
    from_address: str = strawberry.field(description="The address emails come from.")
    from_name: str = strawberry.field(description="The name emails come from; may be empty.")
    reply_to: str | None = strawberry.field(description="Where answers go, if not to the From address.")
    is_default: bool = strawberry.field(description="Taken when a message names no account.")
    tracked: bool = strawberry.field(
        description="Whether anything beyond Sent can be known: true for ESPs, false for Gmail and SMTP."
    )

    @strawberry.field(description="What can be known through this account.")
    def capabilities(self) -> AccountCapabilities:
        esp = PROVIDERS.get(self.row.provider or "")
        if esp is None:
            return AccountCapabilities(delivery=False, opens=False, machine_opens=False, tracking_switch=False)
        return AccountCapabilities(
            delivery=esp.capabilities.delivery,
            opens=esp.capabilities.opens,
            machine_opens=esp.capabilities.machine_opens,
            tracking_switch=esp.capabilities.tracking_switch,
        )

    @strawberry.field(
        description="Where the ESP posts its events; null for Gmail and SMTP. Where the ESP signs in with a password, "
        "that is shown once, by createSendingAccount and rotateWebhookSecret."
    )
    def webhook_url(self, info: Info) -> str | None:
        if self.row.provider is None:
            return None
        return webhook_url(
            info.context.services.config.public_url, self.row.provider, info.context.practice_id, self.row.id
        )

    @strawberry.field(description="Whether it hears of what it sent.")
    async def health(self, info: Info) -> AccountHealth:
        counts = await info.context.load.health.load(self.row.id)
        return AccountHealth(
            last_event_at=self.row.last_event_at,
            signature_failures=self.row.signature_failures,
            unconfirmed=counts.unconfirmed if self.row.kind.tracked else 0,
            unreadable=counts.unreadable,
            parked=counts.parked,
        )

    @classmethod
    def of(cls, row: Account) -> "SendingAccount":
        return cls(
            row=row,
            id=global_id("SendingAccount", row.id),
            kind=row.kind,
            provider=row.provider,
            name=row.name,
            from_address=row.sender.email,
            from_name=row.sender.name,
            reply_to=row.reply_to.email if row.reply_to else None,
            is_default=row.is_default,
            tracked=row.kind.tracked,
        )
