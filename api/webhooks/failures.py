"""Webhooks that were refused, counted on their account: at once for the first, and then once a second at most.

A flood of them costs an addition each, and one row update a second for each account that is flooded.
"""

import asyncio
from collections import Counter
from typing import Final

import structlog

from db.account_health import count_signature_failures
from db.pool import Database
from mail.ids import AccountId, PracticeId
from workers.jobs import Jobs

_PAUSE: Final = 1.0
_log = structlog.get_logger("carepost.webhooks")


class SignatureFailures:
    """Of one process. It works while there is something to write; `close` writes what is left."""

    def __init__(self, database: Database, jobs: Jobs) -> None:
        self._database = database
        self._jobs = jobs
        self._counts: Counter[tuple[PracticeId, AccountId]] = Counter()
        self._writing: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def note(self, practice_id: PracticeId, account_id: AccountId) -> None:
        """Counts one, of an account that exists."""
        self._counts[practice_id, account_id] += 1
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(), name="signature failures")

    async def close(self) -> None:
        """When the process ends."""
        self._closing.set()
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._counts:
            # Of what comes while this is written, some may come before the end is told: it has a round of its own.
            is_last = self._closing.is_set()
            counts, self._counts = self._counts, Counter()
            for (practice_id, account_id), count in counts.items():
                try:
                    async with self._database.tenant(practice_id) as connection:
                        await count_signature_failures(connection, practice_id, account_id, count)
                except Exception as error:  # noqa: BLE001 - the database is away; they are counted when it is back
                    _log.warning("refused webhooks could not be counted yet", error=type(error).__name__)
                    self._counts[practice_id, account_id] += count
                else:
                    await self._jobs.announce(practice_id)
            if is_last:
                return
            await self._pause()

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._closing.wait(), _PAUSE)
        except TimeoutError:
            return
