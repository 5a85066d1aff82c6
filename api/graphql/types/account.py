"""SendingAccount: how a practice sends, and how well it is heard."""

import strawberry

from api.addresses import webhook_url
from api.graphql.context import Info
from api.graphql.enums import described
from api.graphql.ids import global_id
from api.graphql.roles import MaySetUp
from api.graphql.types.account_health import AccountHealth
from api.graphql.types.connection import Node
from api.graphql.types.provider import AccountCapabilities, set_up_steps
from db.accounts import Account
from mail.providers import PROVIDERS
from mail.status import AccountKind

described(AccountKind)


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
        return AccountCapabilities.of(esp.capabilities if esp else None)

    @strawberry.field(
        description="Where the ESP posts its events; null for Gmail and SMTP. Where the ESP signs in with a password, "
        "that is shown once, by createSendingAccount and rotateWebhookSecret."
    )
    def webhook_url(self, info: Info) -> str | None:
        return _webhook_url(self.row, info)

    @strawberry.field(
        description="What to do at the ESP, in order, with the webhook's URL; its password is not shown again. For an "
        "ADMIN alone; empty for Gmail and SMTP.",
        permission_classes=[MaySetUp],
    )
    def set_up_steps(self, info: Info) -> list[str] | None:
        esp = PROVIDERS.get(self.row.provider or "")
        return list(set_up_steps(esp, _webhook_url(self.row, info)))

    @strawberry.field(description="Whether its key is taken, whether it hears of what it sent, and what to do.")
    async def health(self, info: Info) -> AccountHealth:
        return AccountHealth.of(self.row, await info.context.load.health.load(self.row.id))

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


def _webhook_url(row: Account, info: Info) -> str | None:
    """Without a password."""
    if row.provider is None:
        return None
    return webhook_url(info.context.services.config.public_url, row.provider, info.context.practice_id, row.id)
