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


async def store_delivery(
    connection: Connection,
    sealer: Sealer,
    practice_id: PracticeId,
    delivery_id: DeliveryId,
    account_id: AccountId,
    provider: str,
    headers: Mapping[str, str],
    body: bytes,
) -> None:
    """Keeps a verified webhook; once committed, the ESP may be answered."""
    await connection.execute(
        "INSERT INTO webhook_delivery (practice_id, id, account_id, provider, headers, body) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        practice_id,
        delivery_id,
        account_id,
        provider,
        orjson.dumps(dict(headers)).decode(),
        sealer.seal(body, _BODY, practice_id, delivery_id),
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
    return [_delivery(sealer, practice_id, row) for row in rows]


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


def _delivery(sealer: Sealer, practice_id: PracticeId, row: asyncpg.Record) -> Delivery:
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
