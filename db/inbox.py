"""The inbox: webhooks exactly as they came, kept for replay, and their way to being applied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from db.errors import SealBroken
from db.ids import uuid_floor
from db.pool import Connection, Pool
from db.sealing import Sealer
from mail.ids import AccountId, DeliveryId, PracticeId

BODY: Final = "webhook_delivery.body"
_COLUMNS: Final = (
    "d.id, d.account_id, d.provider, d.received_at, d.headers, d.body, d.applied_at IS NOT NULL AS again, d.error"
)
# Of one batch, in bytes: what is held in memory at once. A single body may be larger.
_ENOUGH: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST of an ESP, verified when it came; `body` is the raw bytes, None when its seal doesn't open.
    `again` says that it was read before, `error` what couldn't be read then."""

    id: DeliveryId
    account_id: AccountId
    provider: str
    received_at: datetime
    headers: Mapping[str, str]
    body: bytes | None
    again: bool = False
    error: str | None = None


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
        [sealer.seal(delivery.body, BODY, delivery.practice_id, delivery.id) for delivery in deliveries],
        [delivery.token for delivery in deliveries],
    )


async def find_practices_with_pending(dispatcher: Pool) -> Sequence[PracticeId]:
    """Practices with webhooks to apply, the one that waits longest first."""
    # Steps from practice to practice through the index, however long their backlogs are.
    rows = await dispatcher.fetch(
        """
        WITH RECURSIVE waiting AS (
            (SELECT practice_id, received_at FROM webhook_delivery WHERE state = 'pending'
             ORDER BY practice_id, received_at LIMIT 1)
            UNION ALL
            SELECT following.* FROM waiting CROSS JOIN LATERAL (
                SELECT practice_id, received_at FROM webhook_delivery
                WHERE state = 'pending' AND practice_id > waiting.practice_id
                ORDER BY practice_id, received_at LIMIT 1) following
        )
        SELECT practice_id FROM waiting ORDER BY received_at
        """
    )
    return [row["practice_id"] for row in rows]


async def take_pending(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, limit: int
) -> Sequence[Delivery]:
    """The oldest pending webhooks that no other worker has, locked until the transaction ends; at most `limit`, and
    no more than fit into a batch."""
    rows = await connection.fetch(
        "WITH picked AS MATERIALIZED (SELECT ctid AS at, id, received_at, octet_length(body) AS size "
        "FROM webhook_delivery WHERE practice_id = $1 AND state = 'pending' ORDER BY received_at LIMIT $2 "
        "FOR UPDATE SKIP LOCKED), "
        "measured AS (SELECT at, sum(size) OVER (ORDER BY received_at, id) - size AS before FROM picked) "
        f"SELECT {_COLUMNS} FROM measured n JOIN webhook_delivery d ON d.practice_id = $1 AND d.ctid = n.at "
        f"WHERE n.before < {_ENOUGH} ORDER BY d.received_at, d.id",
        practice_id,
        limit,
    )
    return [open_delivery(sealer, practice_id, row) for row in rows]


class Only(Enum):
    """Which stored webhooks are read again, besides all."""

    FAILED = "failed"
    """Those that could not be read, in whole or in part."""
    UNMATCHED = "unmatched"
    """Those with an event whose message was not known."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Which stored webhooks are meant; None asks for no limit. `received_to` is exclusive. Pending ones never are."""

    provider: str | None = None
    account_id: UUID | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None
    only: Only | None = None


_WANTED: Final = (
    "d.practice_id = $1 AND d.state <> 'pending' AND ($2::text IS NULL OR d.provider = $2) "
    "AND ($3::uuid IS NULL OR d.account_id = $3) AND ($4::timestamptz IS NULL OR d.received_at >= $4) "
    "AND ($5::timestamptz IS NULL OR d.received_at < $5) "
    "AND ($6::text IS NULL OR CASE $6 WHEN 'failed' THEN d.error IS NOT NULL ELSE d.unmatched > 0 END)"
)


def _asked(practice_id: PracticeId, wanted: Stored) -> tuple[object, ...]:
    return (
        practice_id,
        wanted.provider,
        wanted.account_id,
        wanted.received_from,
        wanted.received_to,
        wanted.only.value if wanted.only else None,
    )


async def count_stored(
    connection: Connection, practice_id: PracticeId, wanted: Stored, after: UUID | None = None
) -> int:
    """How many webhooks are meant, after the one with the id `after`."""
    count: int = await connection.fetchval(
        f"SELECT count(*) FROM webhook_delivery d WHERE {_WANTED} AND d.id > $7",
        *_asked(practice_id, wanted),
        after or UUID(int=0),
    )
    return count


async def take_stored(
    connection: Connection,
    sealer: Sealer,
    practice_id: PracticeId,
    wanted: Stored,
    after: UUID | None,
    limit: int,
) -> Sequence[Delivery]:
    """A page of webhooks that were read before, in the order of their ids, locked until the transaction ends; at most
    `limit`, and no more than fit into a batch."""
    rows = await connection.fetch(
        "WITH picked AS MATERIALIZED (SELECT practice_id, id, octet_length(body) AS size FROM webhook_delivery d "
        f"WHERE {_WANTED} AND d.id > $7 ORDER BY d.id LIMIT $8 FOR NO KEY UPDATE), "
        "measured AS (SELECT practice_id, id, sum(size) OVER (ORDER BY id) - size AS before FROM picked) "
        f"SELECT {_COLUMNS} FROM measured n JOIN webhook_delivery d USING (practice_id, id) WHERE n.before < {_ENOUGH} "
        "ORDER BY d.id",
        *_asked(practice_id, wanted),
        after or UUID(int=0),
        limit,
    )
    return [open_delivery(sealer, practice_id, row) for row in rows]


async def find_practices_with_unreadable(dispatcher: Pool, reader: int) -> Sequence[PracticeId]:
    """Practices with webhooks that couldn't be read, in whole or in part, and that this reader hasn't tried."""
    rows = await dispatcher.fetch(
        "SELECT DISTINCT practice_id FROM webhook_delivery "
        "WHERE readers <> '{}' AND state <> 'pending' AND NOT readers @> ARRAY[$1::integer]",
        reader,
    )
    return [row["practice_id"] for row in rows]


async def put_back_unreadable(connection: Connection, practice_id: PracticeId, reader: int, limit: int) -> int:
    """Has webhooks read again that couldn't be read, and that this reader hasn't tried; returns how many."""
    done = await connection.execute(
        "UPDATE webhook_delivery d SET state = 'pending' FROM (SELECT id FROM webhook_delivery WHERE practice_id = $1 "
        "AND readers <> '{}' AND state <> 'pending' AND NOT readers @> ARRAY[$2::integer] ORDER BY received_at "
        "LIMIT $3 FOR UPDATE SKIP LOCKED) n WHERE d.practice_id = $1 AND d.id = n.id",
        practice_id,
        reader,
        limit,
    )
    return int(done.rpartition(" ")[2])


async def put_back(connection: Connection, practice_id: PracticeId, delivery_id: UUID) -> bool:
    """Has one webhook read again; False when the practice has none such."""
    done = await connection.execute(
        "UPDATE webhook_delivery SET state = 'pending' WHERE practice_id = $1 AND id = $2", practice_id, delivery_id
    )
    return not done.endswith(" 0")


async def find_practices_with_old(dispatcher: Pool, before: datetime) -> Sequence[PracticeId]:
    """Practices with webhooks that came before a time; those of a first handful, so ask again."""
    rows = await dispatcher.fetch(
        "SELECT DISTINCT practice_id FROM (SELECT practice_id FROM webhook_delivery WHERE received_at < $1 "
        "AND state <> 'pending' LIMIT 10000) old",
        before,
    )
    return [row["practice_id"] for row in rows]


async def remove_old(connection: Connection, practice_id: PracticeId, before: datetime, limit: int) -> int:
    """Removes webhooks that came before a time, at most `limit`; returns how many. Those still to be read stay, and
    those of which an event is parked."""
    done = await connection.execute(
        "DELETE FROM webhook_delivery d USING (SELECT o.id FROM webhook_delivery o WHERE o.practice_id = $1 "
        "AND o.id < $3 AND o.received_at < $2 AND o.state <> 'pending' AND o.confirm_at IS NULL "
        "AND NOT EXISTS (SELECT FROM parked_event e WHERE e.practice_id = $1 AND e.delivery_id = o.id) "
        "ORDER BY o.id LIMIT $4 FOR UPDATE SKIP LOCKED) old "
        "WHERE d.practice_id = $1 AND d.id = old.id",
        practice_id,
        before,
        uuid_floor(before),
        limit,
    )
    return int(done.rpartition(" ")[2])


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of reading one webhook; `error` names what couldn't be read, quoting nothing."""

    id: DeliveryId
    events: int
    unmatched: int
    error: str | None
    readable: bool


async def mark_applied(
    connection: Connection, practice_id: PracticeId, applied: Sequence[Applied], reader: int = 0
) -> None:
    """Notes what came of reading webhooks, and who read them. Those of which the same was noted stay as they are."""
    await connection.execute(
        "UPDATE webhook_delivery d SET state = n.state, applied_at = now(), events = n.events, "
        "unmatched = n.unmatched, error = n.error, "
        "readers = CASE WHEN n.error IS NULL THEN '{}' WHEN d.readers @> ARRAY[$7::integer] THEN d.readers "
        "ELSE d.readers || $7::integer END "
        "FROM (SELECT id, events, unmatched, error, CASE WHEN readable THEN 'applied'::delivery_state "
        "ELSE 'unreadable'::delivery_state END AS state FROM unnest($2::uuid[], $3::integer[], $4::integer[], "
        "$5::text[], $6::boolean[]) AS n(id, events, unmatched, error, readable)) n "
        "WHERE d.practice_id = $1 AND d.id = n.id AND (n.error IS NOT NULL "
        "OR (d.state, d.events, d.unmatched, d.error) IS DISTINCT FROM (n.state, n.events, n.unmatched, n.error))",
        practice_id,
        [entry.id for entry in applied],
        [entry.events for entry in applied],
        [entry.unmatched for entry in applied],
        [entry.error for entry in applied],
        [entry.readable for entry in applied],
        reader,
    )


async def keep_mark(connection: Connection, practice_id: PracticeId, ids: Sequence[UUID]) -> None:
    """Leaves what was noted of webhooks that were put back, read again, and read better before."""
    await connection.execute(
        "UPDATE webhook_delivery SET state = 'applied' WHERE practice_id = $1 AND id = ANY($2::uuid[]) "
        "AND state = 'pending'",
        practice_id,
        ids,
    )


async def touch_accounts(connection: Connection, practice_id: PracticeId, seen: Mapping[UUID, datetime]) -> None:
    """Notes the time of each account's last webhook with an event, in the order of their ids."""
    # One by one: a statement that locks rows and then updates them can wait for itself in a circle, with others that
    # do the same, where foreign keys hold the row too.
    for account_id in sorted(seen):
        await connection.execute(
            "UPDATE sending_account SET last_event_at = $3 "
            "WHERE practice_id = $1 AND id = $2 AND (last_event_at IS NULL OR last_event_at < $3)",
            practice_id,
            account_id,
            seen[account_id],
        )


def open_delivery(sealer: Sealer, practice_id: PracticeId, row: asyncpg.Record) -> Delivery:
    try:
        body = sealer.open(row["body"], BODY, practice_id, row["id"])
    except SealBroken:
        body = None
    return Delivery(
        id=row["id"],
        account_id=row["account_id"],
        provider=row["provider"],
        received_at=row["received_at"],
        headers=orjson.loads(row["headers"]),
        body=body,
        again=row.get("again", False),
        error=row.get("error"),
    )
