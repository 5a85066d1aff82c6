"""What changed since a point in time: the thread by which a subscription resumes without a gap.

Why reading on from a position misses nothing is said in db.position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from db.messages import COLUMNS, Message, message_from
from db.pool import TENANT_AND_RUNNING, Pool
from db.position import TIMELINE, Position
from mail.ids import PracticeId


@dataclass(frozen=True, slots=True)
class Change:
    """A message, and the transaction that changed it last."""

    message: Message
    transaction: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Messages that changed, oldest change first.

    `more` is where the next page begins, None on the last one. `latest` is beyond which nothing can have been read:
    what ran then may change anything yet. Over several pages the first one's counts.
    """

    changes: Sequence[Change]
    latest: Position
    more: int | None

    @property
    def end(self) -> int:
        """One beyond the last change, which is visible and so on disk; 0 if there is none."""
        return self.changes[-1].transaction + 1 if self.changes else 0


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
    transaction. Numbers that no transaction had so far came with a dump of another cluster, and tell nothing."""
    rows = await pool.fetch(
        TENANT_AND_RUNNING + f"SELECT m.*, {TIMELINE} AS timeline, tenant.running "
        "FROM tenant LEFT JOIN LATERAL ("
        f"SELECT {COLUMNS}, m.changed_xid::text::bigint AS transaction FROM message m "
        "WHERE m.practice_id = tenant.practice_id AND m.changed_xid >= $2::text::xid8 "
        "AND m.changed_xid < pg_snapshot_xmax(pg_current_snapshot()) "
        "AND ($4::uuid IS NULL OR m.patient_id = $4) AND ($5::uuid[] IS NULL OR m.id = ANY($5)) "
        "ORDER BY m.changed_xid FETCH FIRST $3 ROWS WITH TIES) m ON true",
        practice_id,
        str(since),
        limit,
        patient_id,
        message_ids,
    )
    changes = [Change(message_from(row), row["transaction"]) for row in rows if row["id"] is not None]
    latest = Position(rows[0]["timeline"], rows[0]["running"])
    return Changes(changes, latest, changes[-1].transaction + 1 if len(changes) >= limit else None)


class Reading:
    """Reading on from a position, page by page: `begin` is where the next one begins, None at the end."""

    __slots__ = ("_end", "_latest", "_since", "begin")

    def __init__(self, since: Position) -> None:
        self._since = since
        self._latest: Position | None = None
        self._end = since.transaction
        self.begin: int | None = since.transaction

    def takes(self, page: Changes) -> bool:
        """Whether a page goes on in the history in which the reading began."""
        if not self._since.leads_to(page.latest):
            return False
        self._latest = self._latest or page.latest
        self._end = max(self._end, page.end)
        self.begin = page.more
        return True

    @property
    def position(self) -> Position:
        """Where to resume once all pages are read."""
        assert self._latest is not None
        return self._since._replace(transaction=min(self._end, self._latest.transaction))
