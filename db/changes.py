"""What changed since a point in time: the thread by which a subscription resumes without a gap.

A position is the oldest transaction that was still running when it was taken (`pg_snapshot_xmin`). Everything
before it was visible then; so whatever wasn't carries that transaction's number or a later one, and reading on from
there may repeat a change but can't miss one, in whatever order transactions commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from db.messages import COLUMNS, POSITION, Message, message_from
from db.pool import TENANT, Pool
from mail.ids import PracticeId


@dataclass(frozen=True, slots=True)
class Change:
    """A message, and the transaction that changed it last."""

    message: Message
    transaction: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Messages that changed, oldest change first.

    `position` is where to resume once all of this read is done; `more` is where its next page begins, None on
    the last one. Over several pages the first one's position counts.
    """

    changes: Sequence[Change]
    position: int
    more: int | None


async def current_position(pool: Pool) -> int:
    """Where reading on from now begins."""
    position: int = await pool.fetchval(f"SELECT {POSITION}")
    return position


async def newest_position(pool: Pool) -> int:
    """No position taken so far is greater; one that is came from another cluster."""
    position: int = await pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    return position


async def read_changes(
    pool: Pool,
    practice_id: PracticeId,
    since: int,
    limit: int,
    *,
    patient_id: UUID | None = None,
    message_ids: Sequence[UUID] | None = None,
) -> Changes:
    """Messages changed by transaction `since` or a later one, at most `limit` and those that share the last one's
    transaction."""
    rows = await pool.fetch(
        TENANT + f"SELECT m.*, {POSITION} "
        "FROM tenant LEFT JOIN LATERAL ("
        f"SELECT {COLUMNS}, m.changed_xid::text::bigint AS transaction FROM message m "
        "WHERE m.practice_id = tenant.practice_id AND m.changed_xid >= $2::text::xid8 "
        "AND ($4::uuid IS NULL OR m.patient_id = $4) AND ($5::uuid[] IS NULL OR m.id = ANY($5)) "
        "ORDER BY m.changed_xid FETCH FIRST $3 ROWS WITH TIES) m ON true",
        practice_id,
        str(since),
        limit,
        patient_id,
        message_ids,
    )
    changes = [Change(message_from(row), row["transaction"]) for row in rows if row["id"] is not None]
    more = changes[-1].transaction + 1 if len(changes) >= limit else None
    return Changes(changes, rows[0]["position"], more)
