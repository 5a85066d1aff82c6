"""Replay: reads stored webhooks again with this program, adds what was missed, and leaves what was right.

By pages in the order in which they came, each in a transaction of its own, so that it holds little in memory, may be
stopped anywhere and carried on. A dry run does the same and rolls each page back.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from db import inbox
from db.inbox import Stored
from db.messages import find_statuses
from db.pool import Connection, Database
from db.sealing import Sealer
from mail.ids import PracticeId
from mail.status import MessageStatus
from workers.jobs import Jobs
from workers.reader import fingerprint
from workers.settle import settle

PAGE: Final = 200


@dataclass(slots=True)
class Report:
    """What a replay did, or would do: `changes` counts messages by the status that they had and have. `unreadable` are
    webhooks that this program can't read either, in whole or in part."""

    read: int = 0
    added: int = 0
    matched_now: int = 0
    unreadable: int = 0
    changes: Counter[tuple[MessageStatus, MessageStatus]] = field(default_factory=Counter)

    def add(self, other: "Report") -> None:
        self.read += other.read
        self.added += other.added
        self.matched_now += other.matched_now
        self.unreadable += other.unreadable
        self.changes += other.changes


@dataclass(frozen=True, slots=True)
class Page:
    """One page, done: `last` is the id of its last webhook, from which to carry on."""

    last: UUID
    received_at: datetime
    report: Report


class Replayer:
    """Replays webhooks of one practice after the other. With `dry_run` nothing is written."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        jobs: Jobs | None,
        *,
        dry_run: bool = False,
        page: int = PAGE,
        reader: int | None = None,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._jobs = jobs
        self._dry_run = dry_run
        self._page = page
        self._reader = fingerprint(sealer) if reader is None else reader

    async def count(self, practice_id: PracticeId, wanted: Stored, after: UUID | None = None) -> int:
        """How many webhooks there are to read."""
        async with self._database.tenant(practice_id) as connection:
            return await inbox.count_stored(connection, practice_id, wanted, after)

    async def replay(
        self, practice_id: PracticeId, wanted: Stored, first_tracked: datetime, after: UUID | None = None
    ) -> AsyncGenerator[Page, None]:
        """Reads the webhooks after the one with the id `after`; a page is committed, and announced, when it is given.

        Webhooks that are put back or come in meanwhile are the workers'. `first_tracked` is mail.status.tracked_from.
        """
        while True:
            page = await self._read_page(practice_id, wanted, first_tracked, after)
            if page is None:
                return
            if page.report.added and self._jobs is not None and not self._dry_run:
                await self._jobs.announce(practice_id)
            yield page
            after = page.last

    async def _read_page(
        self, practice_id: PracticeId, wanted: Stored, first_tracked: datetime, after: UUID | None
    ) -> Page | None:
        try:
            async with self._database.tenant(practice_id) as connection:
                deliveries = await inbox.take_stored(connection, self._sealer, practice_id, wanted, after, self._page)
                if not deliveries:
                    return None
                settled = await settle(connection, practice_id, deliveries, self._reader)
                report = Report(
                    read=len(deliveries),
                    added=settled.added,
                    matched_now=settled.matched_now,
                    unreadable=sum(entry.error is not None for entry in settled.applied),
                )
                if settled.messages:
                    report.changes = await self._changes(connection, practice_id, settled.messages, first_tracked)
                page = Page(deliveries[-1].id, deliveries[-1].received_at, report)
                if self._dry_run:
                    raise _RolledBack
        except _RolledBack:
            pass
        return page

    async def _changes(
        self, connection: Connection, practice_id: PracticeId, messages: Collection[UUID], first_tracked: datetime
    ) -> Counter[tuple[MessageStatus, MessageStatus]]:
        """How many messages went from which status to which; another connection still sees what they were."""
        ids = sorted(messages)
        after = await find_statuses(connection, practice_id, ids, first_tracked)
        before = await find_statuses(self._database.app, practice_id, ids, first_tracked)
        return Counter((before[each], after[each]) for each in ids if before[each] is not after[each])


class _RolledBack(Exception):
    """Ends a transaction of which nothing may stay."""
