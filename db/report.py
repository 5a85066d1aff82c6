"""The delivery report: how many messages stand at each status."""

from datetime import datetime

from db.ids import uuid_floor
from db.pool import TENANT, Pool
from mail.ids import PracticeId
from mail.status import MessageStatus


async def count_by_status(
    pool: Pool, practice_id: PracticeId, start: datetime, end: datetime, first_tracked: datetime
) -> dict[MessageStatus, int]:
    """Messages queued from `start` until before `end`, counted by status; statuses without any are left out."""
    rows = await pool.fetch(
        TENANT + "SELECT c.* FROM tenant CROSS JOIN LATERAL (SELECT "
        "status_of(m.verdict, message_limit(m.account_kind, coalesce(m.sent_at, m.queued_at), $4)) AS status, "
        "count(*) AS count FROM message m WHERE m.practice_id = tenant.practice_id AND m.id >= $2 AND m.id < $3 "
        "GROUP BY 1 OFFSET 0) c",
        practice_id,
        uuid_floor(start),
        uuid_floor(end),
        first_tracked,
    )
    return {MessageStatus(row["status"]): row["count"] for row in rows}
