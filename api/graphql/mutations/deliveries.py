"""Reading webhooks again."""

import strawberry

from api.graphql.context import Info
from api.graphql.errors import ErrorCode, refuse
from api.graphql.ids import uuid_of
from api.graphql.mutations.payload import Payload
from api.graphql.roles import MaySeeWebhooks
from api.graphql.types.delivery import WebhookDelivery
from db.audit import record_deed
from db.deliveries import find_delivery
from db.inbox import put_back


@strawberry.input(description="A webhook to be read again.")
class ReplayWebhookDeliveryInput:
    delivery_id: strawberry.ID = strawberry.field(description="Which one.")


@strawberry.type(description="What replayWebhookDelivery answers.")
class ReplayWebhookDeliveryPayload(Payload):
    delivery: WebhookDelivery | None = strawberry.field(
        default=None, description="The webhook, PENDING until a worker has read it; null when refused."
    )


@strawberry.type
class DeliveryMutations:
    @strawberry.mutation(
        description="Has a stored webhook read again: what was missed is added, what was right stays as it is.",
        permission_classes=[MaySeeWebhooks],
    )
    async def replay_webhook_delivery(
        self, info: Info, input: ReplayWebhookDeliveryInput
    ) -> ReplayWebhookDeliveryPayload:
        context = info.context
        key = uuid_of("WebhookDelivery", input.delivery_id)
        found = False
        if key is not None:
            async with context.database.tenant(context.practice_id) as connection:
                found = await put_back(connection, context.practice_id, key)
                if found:
                    await record_deed(
                        connection,
                        context.practice_id,
                        context.principal.subject,
                        "replayWebhookDelivery",
                        "WebhookDelivery",
                        key,
                    )
        row = await find_delivery(context.database.app, context.practice_id, key) if found and key else None
        if row is None:
            refused = refuse("deliveryId", ErrorCode.NOT_FOUND, "There is no such webhook.")
            return ReplayWebhookDeliveryPayload(errors=list(refused.errors))
        await context.services.jobs.apply()
        return ReplayWebhookDeliveryPayload(errors=[], delivery=WebhookDelivery.of(row))
