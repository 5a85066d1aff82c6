"""Applies the inbox: settles stored webhooks batch by batch, joins what was parked, and reads again what an earlier
program could not read.

One transaction holds a batch: the events, the statuses and the mark on the webhook, so that each webhook is applied
exactly once however often it is tried.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from db import inbox
from db.parked import find_practices_with_parked, join_parked
from db.pool import Database
from db.sealing import Sealer
from mail.ids import PracticeId
from workers.jobs import Jobs
from workers.reader import fingerprint
from workers.settle import Settled, settle

BATCH: Final = 500
_log = structlog.get_logger("carepost.apply")


class Applier:
    """Works the inbox off, in any number of processes at once. `reader` is which program reads."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        jobs: Jobs,
        wants_confirmation: Callable[[], None] = lambda: None,
        *,
        reader: int | None = None,
        batch: int = BATCH,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._jobs = jobs
        self._wants_confirmation = wants_confirmation
        self._reader = fingerprint(sealer) if reader is None else reader
        self._batch = batch

    async def apply_pending(self) -> int:
        """Applies what is pending in every practice and isn't in another worker's hands; returns how many webhooks."""
        total = 0
        while True:
            applied = 0
            for practice_id in await inbox.find_practices_with_pending(self._database.dispatcher):
                try:
                    applied += await self._apply_practice(practice_id)
                except Exception:
                    _log.exception("the inbox of a practice could not be applied", practice=str(practice_id))
            if not applied:
                return total
            total += applied

    async def join_parked(self, since: datetime | None = None) -> None:
        """Moves parked events whose message has appeared; those parked `since` a time, or all."""
        for practice_id in await find_practices_with_parked(self._database.dispatcher, since):
            while True:
                async with self._database.tenant(practice_id) as connection:
                    changed = await join_parked(connection, practice_id, since=since)
                if not changed:
                    break
                await self._jobs.announce(practice_id)

    async def put_back_unreadable(self, stop: asyncio.Event | None = None) -> int:
        """Has this program read what an earlier one couldn't, in whole or in part; returns how many webhooks."""
        total = 0
        for practice_id in await inbox.find_practices_with_unreadable(self._database.dispatcher, self._reader):
            while stop is None or not stop.is_set():
                async with self._database.tenant(practice_id) as connection:
                    count = await inbox.put_back_unreadable(connection, practice_id, self._reader, self._batch)
                if not count:
                    break
                total += count
                await self._apply_practice(practice_id)
        return total

    async def _apply_practice(self, practice_id: PracticeId) -> int:
        try:
            settled = await self._apply_batch(practice_id, self._batch)
        except Exception:
            _log.exception("a batch could not be applied; going one by one", practice=str(practice_id))
            settled = await self._apply_batch(practice_id, 1)
        changed = set(settled.messages)
        if waiting := [entry.id for entry in settled.applied if entry.unmatched]:
            # Their message may have got its id from the ESP after we had looked for it; now that they are committed,
            # we see that id, or whoever commits it sees them.
            async with self._database.tenant(practice_id) as connection:
                changed |= await join_parked(connection, practice_id, deliveries=waiting)
        if changed or settled.applied:
            # Also when no message changed: what is unreadable or parked shows in the health of the account.
            await self._jobs.announce(practice_id)
        if settled.wants_confirmation:
            self._wants_confirmation()
        return len(settled.applied)

    async def _apply_batch(self, practice_id: PracticeId, limit: int) -> Settled:
        async with self._database.tenant(practice_id) as connection:
            deliveries = await inbox.take_pending(connection, self._sealer, practice_id, limit)
            return await settle(connection, practice_id, deliveries, self._reader)
