"""Jobs: their names, how they are enqueued, and the notice that something changed.

Everything that crosses Valkey is here, and it is ids alone. Valkey holds only the hurry: a job or notice that is lost
costs a sweeper's round and nothing else, so nothing here raises when it is down.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import orjson
import redis.asyncio
import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from mail.ids import AccountId, PracticeId

SEND: Final = "send"
APPLY: Final = "apply"
QUEUE: Final = "carepost:jobs"
CHANGES: Final = "carepost:changes"

_COALESCE: Final = 0.02
_PATIENCE: Final = 1.0
_SILENCE: Final = 5.0
"""Seconds. Valkey answers within milliseconds; what says nothing for so long is a connection that leads nowhere."""
_log = structlog.get_logger("carepost.jobs")


LOST: Final = (RedisError, OSError, RuntimeError)
"""What the client raises where Valkey is away or goes away. A RuntimeError is one because uvloop says so of a
connection that ended just before it was written to."""


def connect(url: str) -> ArqRedis:
    """A client that connects when it is first used, and again whenever it has to. Jobs are JSON, not pickles."""
    pool = redis.asyncio.ConnectionPool.from_url(url, socket_connect_timeout=_PATIENCE, socket_timeout=_SILENCE)
    return ArqRedis(pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads, default_queue_name=QUEUE)


class Jobs:
    """Wakes workers up. With `enabled` False every call does nothing, as when Valkey is gone."""

    def __init__(self, client: ArqRedis, *, enabled: bool = True) -> None:
        self._client = client
        self._enabled = enabled
        self._quiet_until = 0.0
        self._apply_slot = 0

    async def send(self, practice_id: PracticeId, account_id: AccountId, at: datetime | None = None) -> None:
        """Has an account's due messages sent, however many, now or at the time given when that is within the hour;
        later ones are the sweeper's."""
        if at is not None and at > datetime.now(UTC) + timedelta(hours=1):
            return
        await self._enqueue(SEND, str(practice_id), str(account_id), defer_until=at)

    async def apply(self) -> None:
        """Has the inbox applied. Calls within 20 ms share a job, which starts after the last of them."""
        slot = int(time.time() / _COALESCE) + 1
        if slot == self._apply_slot:
            return  # this process has asked for that job already, and it hasn't started
        self._apply_slot = slot
        starts_at = datetime.fromtimestamp(slot * _COALESCE, UTC)
        await self._enqueue(APPLY, job_id=f"{APPLY}:{slot}", defer_until=starts_at)

    async def announce(self, practice_id: PracticeId) -> None:
        """Tells every API process that messages of a practice changed; after the commit."""
        await self._try(lambda: self._client.publish(CHANGES, str(practice_id)))

    async def _enqueue(
        self, name: str, *ids: str, job_id: str | None = None, defer_until: datetime | None = None
    ) -> None:
        # None for an answer means that a job of this id waits already: it will see what we have committed.
        await self._try(lambda: self._client.enqueue_job(name, *ids, _job_id=job_id, _defer_until=defer_until))

    async def _try(self, call: Callable[[], Awaitable[object]]) -> None:
        """Waits a second at most, and after a failure doesn't try again for one."""
        if not self._enabled or time.monotonic() < self._quiet_until:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await call()
        except LOST as error:
            self._quiet_until = time.monotonic() + _PATIENCE
            _log.warning("valkey is out of reach; the sweeper takes over", error=type(error).__name__)


async def listen(client: ArqRedis, on_ready: Callable[[], None]) -> AsyncIterator[PracticeId]:
    """The practices in which messages change, as they are announced; `on_ready` is called once none is missed from
    then on. Raises one of `LOST` when the connection ends."""
    async with client.pubsub() as subscription:
        await subscription.subscribe(CHANGES)
        asked = False
        while True:
            item = await subscription.get_message(timeout=_SILENCE)
            if item is None:
                # Nothing changes, or the connection leads nowhere: the answer to a PING tells.
                if asked:
                    raise redis.exceptions.TimeoutError("no answer to PING")
                await subscription.ping()
                asked = True
                continue
            asked = False
            if item["type"] == "subscribe":
                on_ready()
            elif item["type"] == "message":
                yield PracticeId(UUID(item["data"].decode()))
