"""Group commit: what waits is stored by one statement and one commit, and each is answered after its own commit.

Nothing waits while nothing is being committed, so that an idle system answers as soon as it can; the busier it is,
the more share a commit.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg
import structlog

from db import inbox
from db.inbox import NewDelivery
from db.pool import Database
from db.sealing import Sealer

_AT_ONCE: Final = 2
"""Commits under way: while one waits for the disk, the next is on its way."""
_BATCH: Final = 256
_BATCH_BYTES: Final = 8 << 20
_WAITING: Final = 4096
_WAITING_BYTES: Final = 64 << 20
_log = structlog.get_logger("carepost.webhooks")


class Overloaded(Exception):
    """More waits to be stored than is kept in memory: the ESP has to come again."""


class GroupCommit:
    """The way into the inbox. `wake_up` is called after commits, and nobody waits for it."""

    def __init__(self, database: Database, sealer: Sealer, wake_up: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._sealer = sealer
        self._wake_up = wake_up
        self._waiting: deque[tuple[NewDelivery, asyncio.Future[None]]] = deque()
        self._bytes = 0
        self._committing = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def store(self, delivery: NewDelivery) -> None:
        """Returns once it is committed. Raises `Overloaded`, and what Postgres raised."""
        if len(self._waiting) >= _WAITING or self._bytes + len(delivery.body) > _WAITING_BYTES:
            raise Overloaded
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, stored))
        self._bytes += len(delivery.body)
        if self._committing < _AT_ONCE:
            self._committing += 1
            self._start(self._commit_what_waits())
        await stored

    async def close(self) -> None:
        """Waits for what is under way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit_what_waits(self) -> None:
        try:
            while self._waiting:
                batch = self._take()
                if batch:
                    await self._commit(batch)
                    self._start(self._wake_up())
        finally:
            self._committing -= 1

    def _take(self) -> list[tuple[NewDelivery, asyncio.Future[None]]]:
        """The next batch; those whose sender has been answered already are left out."""
        batch: list[tuple[NewDelivery, asyncio.Future[None]]] = []
        size = 0
        while self._waiting and len(batch) < _BATCH and size < _BATCH_BYTES:
            delivery, stored = self._waiting.popleft()
            self._bytes -= len(delivery.body)
            if not stored.done():
                batch.append((delivery, stored))
                size += len(delivery.body)
        return batch

    async def _commit(self, batch: list[tuple[NewDelivery, asyncio.Future[None]]]) -> None:
        """Stores a batch, and one by one where Postgres refuses one of them."""
        try:
            await inbox.store_deliveries(self._database.inbox, self._sealer, [delivery for delivery, _ in batch])
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            if len(batch) > 1:
                _log.warning("a batch of webhooks was refused; going one by one", error=type(error).__name__)
                for entry in batch:
                    await self._commit([entry])
                return
            _settle(batch, error)
        except Exception as error:  # noqa: BLE001 - handed to those who wait
            _settle(batch, error)
        else:
            _settle(batch, None)


def _settle(batch: list[tuple[NewDelivery, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, stored in batch:
        if stored.done():
            continue
        if error is None:
            stored.set_result(None)
        else:
            stored.set_exception(error)
