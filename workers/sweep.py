"""The sweeper: finishes everything that no job finished, so that Valkey may lose what it likes.

A round sends what is due, applies what is pending, and joins what was parked. Rounds are at most `interval` apart.
At times a round also does what is no hurry: it joins what was parked long ago, has this program read what an earlier
one couldn't, and removes what is past its time.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from db.events import create_partitions
from db.outbox import Due, find_due
from db.pool import Database
from workers.apply import Applier
from workers.retention import remove_old
from workers.send import Sender

_RECENTLY: Final = timedelta(hours=1)
"""For how long each round looks for the message of a parked event; later ones are looked at at times."""
_BATCH: Final = 500
_AT_ONCE: Final = 16
_log = structlog.get_logger("carepost.sweep")


class Sweeper:
    """One a worker process; several at once do no harm."""

    def __init__(
        self,
        database: Database,
        sender: Sender,
        applier: Applier,
        interval: timedelta,
        *,
        retention: timedelta | None = None,
        at_times: timedelta = timedelta(minutes=15),
    ) -> None:
        self._database = database
        self._sender = sender
        self._applier = applier
        self._interval = interval
        self._retention = retention
        self._at_times = at_times
        self._next_time = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Rounds until `stop`, which begins nothing new and lets what is in hand finish; a round that fails is logged
        and followed by the next."""
        while not stop.is_set():
            try:
                await self.sweep(stop)
            except Exception as error:
                _log.warning("a sweep failed; the next one follows", error=type(error).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._interval.total_seconds())

    async def sweep(self, stop: asyncio.Event) -> None:
        """One round."""
        await self._applier.apply_pending()
        await self._applier.join_parked(datetime.now(UTC) - _RECENTLY)
        await self._send_due(stop)
        await create_partitions(self._database.dispatcher)
        if time.monotonic() >= self._next_time and not stop.is_set():
            await self._do_what_is_no_hurry(stop)
            self._next_time = time.monotonic() + self._at_times.total_seconds()

    async def _do_what_is_no_hurry(self, stop: asyncio.Event) -> None:
        await self._applier.join_parked()
        if count := await self._applier.put_back_unreadable(stop):
            _log.info("webhooks that an earlier program could not read were read again", webhooks=count)
        if self._retention is not None:
            await remove_old(self._database, datetime.now(UTC) - self._retention, stop)

    async def _send_due(self, stop: asyncio.Event) -> None:
        tried: set[Due] = set()
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def send(due: Due) -> None:
            async with at_once:
                if stop.is_set():
                    return
                try:
                    await self._sender.send(due.practice_id, due.message_id)
                except Exception as error:
                    _log.exception(
                        "a message could not be sent", message=str(due.message_id), error=type(error).__name__
                    )

        while not stop.is_set():
            # What is still due after we tried it is in another worker's hands, or was put off by seconds.
            fresh = [due for due in await find_due(self._database.dispatcher, _BATCH) if due not in tried]
            if not fresh:
                return
            tried.update(fresh)
            async with asyncio.TaskGroup() as group:
                for due in fresh:
                    group.create_task(send(due))
