"""The sweeper: finishes everything that no job finished, so that Valkey may lose what it likes.

A round has sent what is due, applies what is pending, and joins what was parked. Rounds are at most `interval` apart.
At times a round also does what is no hurry: it joins what was parked long ago, has this program read what an earlier
one couldn't, and removes what is past its time.
"""

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Final

import structlog

from db.events import create_partitions
from db.pool import Database
from workers.apply import Applier
from workers.lanes import Lanes
from workers.retention import remove_old

_RECENTLY: Final = timedelta(hours=1)
"""For how long each round looks for the message of a parked event; later ones are looked at at times."""
_log = structlog.get_logger("carepost.sweep")


class Sweeper:
    """One a worker process; several at once do no harm."""

    def __init__(
        self,
        database: Database,
        lanes: Lanes,
        applier: Applier,
        interval: timedelta,
        *,
        retention: timedelta | None = None,
        at_times: timedelta = timedelta(minutes=15),
    ) -> None:
        self._database = database
        self._lanes = lanes
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
        await self._applier.join_parked(await self._database.now() - _RECENTLY)
        await self._lanes.look()
        await create_partitions(self._database.dispatcher)
        if time.monotonic() >= self._next_time and not stop.is_set():
            await self._do_what_is_no_hurry(stop)
            self._next_time = time.monotonic() + self._at_times.total_seconds()

    async def _do_what_is_no_hurry(self, stop: asyncio.Event) -> None:
        await self._applier.join_parked()
        if count := await self._applier.put_back_unreadable(stop):
            _log.info("webhooks that an earlier program could not read were read again", webhooks=count)
        if self._retention is not None:
            await remove_old(self._database, await self._database.now() - self._retention, stop)
