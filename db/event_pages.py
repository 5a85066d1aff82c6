"""Evidence as it is read: a message's, in the order in which it happened."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from db.messages import failure_from
from db.pool import TENANT, Pool
from mail.event import EventKind, EventSource
from mail.failure import Failure
from mail.ids import MessageId, PracticeId
from mail.status import Verdict

_COLUMNS: Final = (
    "message_id, dedupe_key, kind, occurred_at, received_at, source, machine, detail, failure_kind, "
    "failure_smtp_code, failure_enhanced_code, failure_reason"
)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One piece of evidence as it is shown."""

    message_id: MessageId
    dedupe_key: str
    kind: EventKind
    occurred_at: datetime
    received_at: datetime
    source: EventSource
    machine: bool
    detail: str
    failure: Failure | None


async def page_of_events(
    pool: Pool,
    practice_id: PracticeId,
    message_ids: Sequence[UUID],
    limit: int,
    after: tuple[datetime, str] | None,
    ceiling: Verdict = Verdict.RETURNED,
) -> dict[UUID, list[StoredEvent]]:
    """The evidence of each message in the order in which it happened, after the event (time, key) `after`.

    Evidence above the ceiling is left out; so is a machine's, which says that the email arrived.
    """
    rows = await pool.fetch(
        TENANT + "SELECT e.* FROM tenant CROSS JOIN unnest($2::uuid[]) AS wanted(message_id) CROSS JOIN LATERAL ("
        f"SELECT {_COLUMNS} FROM message_event "
        "WHERE practice_id = tenant.practice_id AND message_id = wanted.message_id "
        "AND ($4::timestamptz IS NULL OR (occurred_at, dedupe_key) > ($4, $5)) "
        "AND verdict <= $6::verdict AND (NOT machine OR $6::verdict = 'returned') "
        "ORDER BY occurred_at, dedupe_key LIMIT $3) e",
        practice_id,
        message_ids,
        limit,
        after[0] if after else None,
        after[1] if after else None,
        ceiling.sql_name,
    )
    pages: dict[UUID, list[StoredEvent]] = {message_id: [] for message_id in message_ids}
    for row in rows:
        pages[row["message_id"]].append(_stored(row))
    return pages


async def find_event(pool: Pool, practice_id: PracticeId, message_id: UUID, dedupe_key: str) -> StoredEvent | None:
    row = await pool.fetchrow(
        TENANT + f"SELECT e.* FROM tenant CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM message_event "
        "WHERE practice_id = tenant.practice_id AND message_id = $2 AND dedupe_key = $3 LIMIT 1) e",
        practice_id,
        message_id,
        dedupe_key,
    )
    return _stored(row) if row else None


def _stored(row: asyncpg.Record) -> StoredEvent:
    return StoredEvent(
        message_id=row["message_id"],
        dedupe_key=row["dedupe_key"],
        kind=EventKind(row["kind"]),
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        source=EventSource(row["source"]),
        machine=row["machine"],
        detail=row["detail"],
        failure=failure_from(row),
    )
