"""WebhookDelivery: what an ESP posted, and what came of it. Never its content, which is patients' data."""

from collections.abc import Sequence
from datetime import datetime

import strawberry

from api.graphql.context import Info
from api.graphql.enums import described
from api.graphql.ids import global_id, key_cursor, uuid_of
from api.graphql.types.account import SendingAccount
from api.graphql.types.connection import Connection, Node, edges_and_info
from db.deliveries import DeliveryFilter, DeliveryState, StoredDelivery

described(DeliveryState)


@strawberry.type(description="One POST of an ESP, kept to be read again; for ADMIN alone. Its content is not shown.")
class WebhookDelivery(Node):
    row: strawberry.Private[StoredDelivery]
    id: strawberry.ID = strawberry.field(description="Global id; opaque.")
    provider: str = strawberry.field(description="Name of the ESP, such as `sendgrid`.")
    received_at: datetime = strawberry.field(description="When it came.")
    state: DeliveryState = strawberry.field(description="What became of it.")
    applied_at: datetime | None = strawberry.field(description="When it was read last; null when it never was.")
    events: int = strawberry.field(description="Events that were read in it.")
    unmatched: int = strawberry.field(description="Those of them whose message was not known then.")
    error: str | None = strawberry.field(
        description="What could not be read, each event by its index, quoting nothing; null when all could."
    )
    size: int = strawberry.field(description="Bytes of its body.")

    @strawberry.field(description="The account that it reports about.")
    async def account(self, info: Info) -> SendingAccount:
        account = await info.context.load.account.load(self.row.account_id)
        assert account is not None
        return SendingAccount.of(account)

    @classmethod
    def of(cls, row: StoredDelivery) -> "WebhookDelivery":
        return cls(
            row=row,
            id=global_id("WebhookDelivery", row.id),
            provider=row.provider,
            received_at=row.received_at,
            state=row.state,
            applied_at=row.applied_at,
            events=row.events,
            unmatched=row.unmatched,
            error=row.error,
            size=row.size,
        )


@strawberry.type(description="A page of webhooks, newest first.")
class WebhookDeliveryConnection(Connection[WebhookDelivery]):
    @classmethod
    def from_rows(cls, rows: Sequence[StoredDelivery], first: int, after: str | None) -> "WebhookDeliveryConnection":
        edges, page_info = edges_and_info(rows, first, after, lambda row: key_cursor(row.id), WebhookDelivery.of)
        return cls(edges=edges, page_info=page_info)


@strawberry.input(description="Which webhooks a list holds; what is left out doesn't limit it.")
class WebhookDeliveryFilter:
    account_id: strawberry.ID | None = strawberry.field(default=None, description="Those of one sending account.")
    state: DeliveryState | None = strawberry.field(default=None, description="Those of which this became.")
    failed: bool | None = strawberry.field(
        default=None, description="True: those that could not be read, in whole or in part; false: the others."
    )
    from_: datetime | None = strawberry.field(default=None, name="from", description="Received then or later.")
    to: datetime | None = strawberry.field(default=None, description="Received before then.")

    def value(self) -> DeliveryFilter | None:
        """None when it asks for an account that can't be."""
        account_id = uuid_of("SendingAccount", self.account_id) if self.account_id else None
        if self.account_id and account_id is None:
            return None
        return DeliveryFilter(account_id, self.state, self.failed, self.from_, self.to)
