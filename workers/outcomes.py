"""Writes what came of attempts, each as soon as it can be: those that end while others are written by one transaction.
A worker that is killed leaves what it hasn't written as emails that may have been sent.

While Postgres is away or too busy they are kept and tried again: an email whose outcome is forgotten is sent once more.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from db import outbox
from db.account_health import clear_refusal, note_refusal
from db.errors import BUSY, UNREACHABLE
from db.outbox import AttemptOutcome, Ending
from db.pool import Connection, Database
from mail.ids import PracticeId
from workers.jobs import Jobs

_AT_MOST: Final = 100
_PAUSE: Final = 0.2
_KEPT: Final = 600.0
"""Seconds that an outcome is tried again. Its lease may end before: until another attempt begins, it still holds."""
_log = structlog.get_logger("carepost.send")


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that ended. `refusal` is what the ESP or server said when it refused the account itself, whatever the
    email. `written` is called in any case once the outcome is stored or lost."""

    ending: Ending
    refusal: str | None
    written: Callable[[], None]


class Outcomes:
    """Takes outcomes as they come; one writer a practice at a time."""

    def __init__(self, database: Database, jobs: Jobs) -> None:
        self._database = database
        self._jobs = jobs
        self._waiting: dict[PracticeId, list[Ended]] = {}
        self._writers: set[asyncio.Task[None]] = set()
        self._stuck: set[PracticeId] = set()

    def add(self, ended: Ended) -> None:
        """Has an outcome written."""
        practice_id = ended.ending.claim.practice_id
        waiting = self._waiting.get(practice_id)
        if waiting is not None:
            waiting.append(ended)
            return
        self._waiting[practice_id] = [ended]
        writer = asyncio.create_task(self._write_all(practice_id))
        self._writers.add(writer)
        writer.add_done_callback(self._writers.discard)

    @property
    def stuck(self) -> bool:
        """Whether outcomes wait for Postgres: what is claimed meanwhile would be sent, and nobody could note it."""
        return bool(self._stuck)

    async def drain(self) -> None:
        """Returns once all that was added is written; when cancelled, what isn't is lost."""
        try:
            while self._writers:
                await asyncio.wait(self._writers)
        finally:
            for writer in self._writers:
                writer.cancel()

    async def _write_all(self, practice_id: PracticeId) -> None:
        while self._waiting[practice_id]:
            batch = self._waiting[practice_id][:_AT_MOST]
            del self._waiting[practice_id][:_AT_MOST]
            if not await self._write_patiently(practice_id, batch) and len(batch) > 1:
                for ended in batch:  # one that can't be written keeps no other from it
                    await self._write_patiently(practice_id, [ended])
            for ended in batch:
                ended.written()
        del self._waiting[practice_id]

    async def _write_patiently(self, practice_id: PracticeId, batch: Sequence[Ended]) -> bool:
        """Writes a batch, as soon as Postgres is there; False when it can't be written."""
        give_up_at = time.monotonic() + _KEPT
        try:
            while True:
                try:
                    await self._write(practice_id, batch)
                    return True
                except (*UNREACHABLE, *BUSY) as error:
                    if isinstance(error, BUSY) and len(batch) > 1:
                        return False  # one of them alone may be what it waits for
                    if time.monotonic() > give_up_at:
                        _log.exception("outcomes were given up", count=len(batch), error=type(error).__name__)
                        return False
                    if practice_id not in self._stuck:
                        self._stuck.add(practice_id)
                        _log.warning("outcomes wait for postgres", count=len(batch), error=type(error).__name__)
                await asyncio.sleep(_PAUSE)
        except Exception as error:
            # Their leases end, and the next attempts note that these came to no known end.
            _log.exception("outcomes could not be written", count=len(batch), error=type(error).__name__)
            return False
        finally:
            self._stuck.discard(practice_id)

    async def _write(self, practice_id: PracticeId, batch: Sequence[Ended]) -> None:
        async with self._database.tenant(practice_id) as connection:
            endings = [ended.ending for ended in batch]
            kept = await outbox.finish_all(connection, practice_id, endings)
            for ended in batch:
                if _token(ended.ending) in kept:
                    await _note_account(connection, ended)
        for ending in endings:
            if _token(ending) not in kept:
                _log.warning(
                    "the attempt was closed before; outcome discarded",
                    message=str(ending.claim.message_id),
                    attempt=ending.claim.number,
                )
        if kept:
            await self._jobs.announce(practice_id)


def _token(ending: Ending) -> tuple[object, int]:
    return ending.claim.message_id, ending.claim.number


async def _note_account(connection: Connection, ended: Ended) -> None:
    """Notes on the account that it is refused, or that it no longer is."""
    claim = ended.ending.claim
    if ended.refusal is not None:
        await note_refusal(connection, claim.practice_id, claim.account_id, ended.refusal, claim.started_at)
    elif ended.ending.outcome is AttemptOutcome.ACCEPTED and claim.account_refused:
        await clear_refusal(connection, claim.practice_id, claim.account_id)
