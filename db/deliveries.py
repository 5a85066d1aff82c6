"""Stored webhooks as an administrator sees them: what came of each, and never its content."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final
from uuid import UUID

import asyncpg

from db.pool import TENANT, Pool
from mail.ids import AccountId, DeliveryId, PracticeId

_SEAL_BYTES: Final = 33
"""What sealing adds to a body: db/sealing.py."""
_COLUMNS: Final = (
    f"id, account_id, provider, received_at, state, applied_at, events, unmatched, error, octet_length(body) - "
    f"{_SEAL_BYTES} AS size"
)


class DeliveryState(Enum):
    """What became of one webhook."""

    PENDING = "pending"
    """Stored, and about to be read (again)."""
    APPLIED = "applied"
    """Read; what could not be read in it is named by its error."""
    UNREADABLE = "unreadable"
    """Nothing in it could be read; kept, and read again after an upgrade."""


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """One webhook; `size` is that of its body in bytes."""

    id: DeliveryId
    account_id: AccountId
    provider: str
    received_at: datetime
    state: DeliveryState
    applied_at: datetime | None
    events: int
    unmatched: int
    error: str | None
    size: int


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which webhooks a list holds; None asks for no limit. `received_to` is exclusive; `failed` asks for those that
    could not be read, in whole or in part, or for the others."""

    account_id: UUID | None = None
    state: DeliveryState | None = None
    failed: bool | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None


async def page_of_deliveries(
    pool: Pool, practice_id: PracticeId, wanted: DeliveryFilter, limit: int, after: UUID | None
) -> Sequence[StoredDelivery]:
    """The practice's webhooks, newest first, after the one with the id `after`."""
    rows = await pool.fetch(
        TENANT + f"SELECT d.* FROM tenant CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM webhook_delivery "
        "WHERE practice_id = tenant.practice_id AND ($3::uuid IS NULL OR id < $3) "
        "AND ($4::uuid IS NULL OR account_id = $4) AND ($5::delivery_state IS NULL OR state = $5) "
        "AND ($6::boolean IS NULL OR (error IS NOT NULL) = $6) "
        "AND ($7::timestamptz IS NULL OR received_at >= $7) AND ($8::timestamptz IS NULL OR received_at < $8) "
        "ORDER BY id DESC LIMIT $2) d",
        practice_id,
        limit,
        after,
        wanted.account_id,
        wanted.state.value if wanted.state else None,
        wanted.failed,
        wanted.received_from,
        wanted.received_to,
    )
    return [_stored(row) for row in rows]


async def find_delivery(pool: Pool, practice_id: PracticeId, delivery_id: UUID) -> StoredDelivery | None:
    row = await pool.fetchrow(
        TENANT + f"SELECT d.* FROM tenant CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM webhook_delivery "
        "WHERE practice_id = tenant.practice_id AND id = $2 LIMIT 1) d",
        practice_id,
        delivery_id,
    )
    return _stored(row) if row else None


def _stored(row: asyncpg.Record) -> StoredDelivery:
    return StoredDelivery(**(dict(row) | {"state": DeliveryState(row["state"])}))
