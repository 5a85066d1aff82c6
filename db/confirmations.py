"""Webhook subscriptions that want to be confirmed: noted when the webhook is applied, done after."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from db.inbox import Delivery, open_delivery
from db.pool import Connection, Pool
from db.sealing import Sealer
from mail.ids import PracticeId


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """The right to confirm the subscription that a webhook asks for, until the lease ends. `number` is the try's,
    `began_at` its time."""

    delivery: Delivery
    number: int
    began_at: datetime


async def want_confirmation(connection: Connection, practice_id: PracticeId, ids: Sequence[UUID]) -> None:
    """Notes that webhooks want their subscription confirmed; once, however often they are read."""
    if ids:
        await connection.execute(
            "UPDATE webhook_delivery SET confirm_at = now(), confirmations = 0 "
            "WHERE practice_id = $1 AND id = ANY($2::uuid[]) AND confirmations IS NULL",
            practice_id,
            list(ids),
        )


async def find_practices_to_confirm(dispatcher: Pool) -> Sequence[PracticeId]:
    rows = await dispatcher.fetch("SELECT DISTINCT practice_id FROM webhook_delivery WHERE confirm_at <= now()")
    return [row["practice_id"] for row in rows]


async def claim_confirmation(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, lease: timedelta
) -> Unconfirmed | None:
    """Claims a webhook whose subscription is to be confirmed; None when there is none that nobody else has."""
    row = await connection.fetchrow(
        "UPDATE webhook_delivery SET confirm_at = now() + $2, confirmations = confirmations + 1 "
        "WHERE practice_id = $1 AND id = "
        "(SELECT id FROM webhook_delivery WHERE practice_id = $1 AND confirm_at <= now() ORDER BY confirm_at LIMIT 1 "
        "FOR NO KEY UPDATE SKIP LOCKED) "
        "RETURNING id, account_id, provider, received_at, headers, body, confirmations, now() AS began_at",
        practice_id,
        lease,
    )
    if row is None:
        return None
    return Unconfirmed(open_delivery(sealer, practice_id, row), row["confirmations"], row["began_at"])


async def confirmed(connection: Connection, practice_id: PracticeId, delivery: Delivery) -> None:
    """Notes that a subscription was confirmed, on the webhook and on its account."""
    await connection.execute(
        "UPDATE webhook_delivery SET confirm_at = NULL, confirmed_at = now() WHERE practice_id = $1 AND id = $2",
        practice_id,
        delivery.id,
    )
    await connection.execute(
        "UPDATE sending_account SET webhook_confirmed_at = now() WHERE practice_id = $1 AND id = $2",
        practice_id,
        delivery.account_id,
    )


async def not_confirmed(
    connection: Connection, practice_id: PracticeId, delivery: Delivery, due_at: datetime | None
) -> None:
    """Notes when to try again; None when it is given up."""
    await connection.execute(
        "UPDATE webhook_delivery SET confirm_at = $3 WHERE practice_id = $1 AND id = $2",
        practice_id,
        delivery.id,
        due_at,
    )
