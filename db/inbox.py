"""The inbox: webhooks exactly as they came, kept for replay, and their way to being applied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from db.errors import SealBroken
from db.pool import Connection, Pool
from db.sealing import Sealer
from mail.ids import AccountId, DeliveryId, PracticeId

_BODY = "webhook_delivery.body"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST of an ESP, verified when it came; `body` is the raw bytes, None when its seal doesn't open."""

    id: DeliveryId
    account_id: AccountId
    provider: str
    received_at: datetime
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A verified webhook that is to be kept; `headers` are those needed to read it again. What comes with a `token`
    that the account has taken before is not stored."""

    practice_id: PracticeId
    id: DeliveryId
    account_id: AccountId
    provider: str
    headers: Mapping[str, str]
    body: bytes
    token: str | None = None


async def store_deliveries(pool: Pool, sealer: Sealer, deliveries: Sequence[NewDelivery]) -> None:
    """Keeps verified webhooks of any practices, as `carepost_inbox`; once this returns, the ESPs may be answered."""
    await pool.execute(
        "INSERT INTO webhook_delivery (practice_id, id, account_id, provider, headers, body, token) "
        "SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::jsonb[], $6::bytea[], $7::text[]) "
        "ON CONFLICT DO NOTHING",
        [delivery.practice_id for delivery in deliveries],
        [delivery.id for delivery in deliveries],
        [delivery.account_id for delivery in deliveries],
        [delivery.provider for delivery in deliveries],
        [orjson.dumps(dict(delivery.headers)).decode() for delivery in deliveries],
        [sealer.seal(delivery.body, _BODY, delivery.practice_id, delivery.id) for delivery in deliveries],
        [delivery.token for delivery in deliveries],
    )


async def find_practices_with_pending(dispatcher: Pool) -> Sequence[PracticeId]:
    """Practices with webhooks to apply, the one that waits longest first."""
    rows = await dispatcher.fetch(
        "SELECT practice_id FROM webhook_delivery WHERE state = 'pending' "
        "GROUP BY practice_id ORDER BY min(received_at)"
    )
    return [row["practice_id"] for row in rows]


async def take_pending(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, limit: int
) -> Sequence[Delivery]:
    """The oldest pending webhooks that no other worker has, locked until the transaction ends."""
    rows = await connection.fetch(
        "SELECT id, account_id, provider, received_at, headers, body FROM webhook_delivery "
        "WHERE practice_id = $1 AND state = 'pending' ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        practice_id,
        limit,
    )
    return [open_delivery(sealer, practice_id, row) for row in rows]


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of reading one webhook; `error` names what couldn't be read, quoting nothing."""

    id: DeliveryId
    events: int
    unmatched: int
    error: str | None
    readable: bool


async def mark_applied(connection: Connection, practice_id: PracticeId, applied: Sequence[Applied]) -> None:
    await connection.execute(
        "UPDATE webhook_delivery d SET state = CASE WHEN n.readable THEN 'applied'::delivery_state "
        "ELSE 'unreadable'::delivery_state END, applied_at = now(), events = n.events, unmatched = n.unmatched, "
        "error = n.error FROM unnest($2::uuid[], $3::integer[], $4::integer[], $5::text[], $6::boolean[]) "
        "AS n(id, events, unmatched, error, readable) WHERE d.practice_id = $1 AND d.id = n.id",
        practice_id,
        [entry.id for entry in applied],
        [entry.events for entry in applied],
        [entry.unmatched for entry in applied],
        [entry.error for entry in applied],
        [entry.readable for entry in applied],
    )


async def touch_accounts(connection: Connection, practice_id: PracticeId, seen: Mapping[UUID, datetime]) -> None:
    """Notes the time of each account's last webhook with an event."""
    await connection.execute(
        "UPDATE sending_account a SET last_event_at = GREATEST(a.last_event_at, n.at) FROM (SELECT * FROM "
        "unnest($2::uuid[], $3::timestamptz[]) AS n(id, at) ORDER BY id) n WHERE a.practice_id = $1 AND a.id = n.id",
        practice_id,
        sorted(seen),
        [seen[account_id] for account_id in sorted(seen)],
    )


def open_delivery(sealer: Sealer, practice_id: PracticeId, row: asyncpg.Record) -> Delivery:
    try:
        body = sealer.open(row["body"], _BODY, practice_id, row["id"])
    except SealBroken:
        body = None
    return Delivery(
        id=row["id"],
        account_id=row["account_id"],
        provider=row["provider"],
        received_at=row["received_at"],
        headers=orjson.loads(row["headers"]),
        body=body,
    )
