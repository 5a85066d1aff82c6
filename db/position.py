"""Points in the history of a practice's messages, at which reading on may begin: what a live cursor stands for.

A message carries the number of the transaction that changed it last. A position is the first number whose changes may
not have been visible when it was taken: the oldest transaction then still running (`pg_snapshot_xmin`), or an earlier
one. Reading on from there may repeat a change and can't miss one, in whatever order transactions commit.

A crash of Postgres hands out again those numbers of which nothing reached the disk, so a position must not lie beyond
what is there. Two things are: a visible change, whose commit was waited for, and what the log was written out after
(`Horizon`). A server that takes another's place may lack changes that were visible there. It begins a new timeline, and
so every position names its own.
"""

import time
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Pool = asyncpg.Pool

_FRESH: Final = 0.5
"""Seconds for which a horizon serves. What changed in them may be told again to who reads on from a list."""

TIMELINE: Final = (
    "(SELECT CASE WHEN pg_is_in_recovery() THEN '00000000' "
    "ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END)"
)
RUNNING: Final = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
"""The oldest transaction that ran when the snapshot of the statement was taken, or the next one."""
# The message is nothing to anybody: what counts is that the log is on disk up to it, and with it, whatever a
# transaction that had ended before this snapshot left there, if only that it was rolled back.
_ADVANCE: Final = (
    f"SELECT {TIMELINE} AS timeline, {RUNNING} AS transaction, pg_logical_emit_message(false, 'carepost', '', true)"
)


class Position(NamedTuple):
    """`timeline` as Postgres writes it: eight hexadecimal digits."""

    timeline: str
    transaction: int

    def leads_to(self, later: "Position") -> bool:
        """Whether all that happened in between can be read; else one of them is of another history."""
        return self.timeline == later.timeline and self.transaction <= later.transaction

    def at_most(self, running: int) -> "Position":
        """The same, or that of the oldest running transaction where that is earlier."""
        return self if self.transaction <= running else self._replace(transaction=running)


class Horizon:
    """How far the history of the whole cluster is visible and on disk, found out when it is asked for."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: Position | None = None
        self._until = 0.0

    async def reached(self) -> Position:
        """Of now, or a little earlier: where everybody who reads later can go on."""
        now = time.monotonic()
        if self._known is None or now >= self._until:
            self._until = now + _FRESH
            self._known = await self.advance()
        return self._known

    async def advance(self) -> Position:
        """Of now."""
        [row] = await self._pool.fetch(_ADVANCE)
        return Position(row["timeline"], row["transaction"])

    def forget(self) -> None:
        """Another server may have taken the place of the one that was asked."""
        self._known = None
