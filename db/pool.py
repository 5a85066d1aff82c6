"""Connections to Postgres, and the one way to work for a practice.

Three roles (see the migrations): `carepost_app` sees the practice that its transaction names and nothing without one;
`carepost_dispatcher` sees ids and times of due work in every practice; `carepost_inbox` can append webhooks and views,
and sees nothing. `carepost_eraser` empties what names a patient; a command alone works as it. By `carepost_finder`
Postgres finds patients for `patient_ids_like`, and nobody connects as it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import asyncpg
import structlog

from db.errors import UNREACHABLE, OutOfReach
from db.position import RUNNING, Horizon
from db.reading import ReadingPool
from mail.ids import PracticeId

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

_PRACTICE: Final = "set_config('carepost.practice_id', $1::uuid::text, true)::uuid AS practice_id"
TENANT: Final = f"WITH tenant AS MATERIALIZED (SELECT {_PRACTICE}) "
"""Begins a reading statement that names its own tenant, in one round trip. What follows must be
`SELECT ... FROM tenant CROSS JOIN LATERAL (SELECT ... LIMIT n or OFFSET 0)`: the LIMIT or OFFSET keeps
Postgres from reading a table before the tenant is set. The setting ends with the statement."""
TENANT_AND_RUNNING: Final = f"WITH tenant AS MATERIALIZED (SELECT {_PRACTICE}, {RUNNING} AS running) "
"""The same, and `tenant.running` (db.position): worked out once, it costs a row nothing."""

_CONNECT: Final = 5.0
"""Seconds; a host that takes no connection in this time takes none."""
_OVERTIME: Final = 5.0
"""Seconds beyond the statement's own time, after which Postgres is taken to be gone: a link that has gone silent would
hold a connection, and who waits for it, for as long as TCP tries again, a quarter of an hour."""
_PAUSE: Final = 0.5
_IDLE: Final = timedelta(seconds=30)
_log = structlog.get_logger("carepost.database")


@dataclass(frozen=True, slots=True)
class PoolSize:
    """Connections that a process holds at least and at most, for each role."""

    minimum: int = 1
    maximum: int = 10


class Database:
    """The pools of one process. Use as an async context manager; entering waits up to `patience` seconds for a Postgres
    that isn't up yet, and raises `OutOfReach` then. Postgres ends a transaction in which nothing happens for
    `idle_timeout`, so that a process that sleeps holds nobody up."""

    def __init__(
        self,
        url: str,
        size: PoolSize | None = None,
        *,
        statement_timeout_ms: int = 15_000,
        idle_timeout: timedelta = _IDLE,
        patience: float = 0,
    ) -> None:
        self._url = url
        self._patience = patience
        self._size = size or PoolSize()
        self._statement_timeout_ms = statement_timeout_ms
        self._idle_timeout_ms = int(idle_timeout.total_seconds() * 1000)

    async def __aenter__(self) -> Self:
        self.app: ReadingPool = await self._wait_for("carepost_app", self._size)
        self.horizon = Horizon(self.app)
        self.dispatcher: Pool = await self._open("carepost_dispatcher", PoolSize(0, 2))
        self.inbox: Pool = await self._open("carepost_inbox", PoolSize(0, 2))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.app.close()
        await self.dispatcher.close()
        await self.inbox.close()

    async def _wait_for(self, role: str, size: PoolSize) -> ReadingPool:
        give_up_at = time.monotonic() + self._patience
        said_at = 0.0
        while True:
            try:
                return await self._open(role, size)
            except UNREACHABLE as error:
                left = give_up_at - time.monotonic()
                if left <= 0:
                    if not self._patience:
                        raise
                    raise OutOfReach(
                        f"Postgres could not be reached for {self._patience:g} s: {type(error).__name__}."
                    ) from error
                if time.monotonic() - said_at >= 10:
                    said_at = time.monotonic()
                    _log.warning("postgres is out of reach; waiting", error=type(error).__name__, seconds=round(left))
            await asyncio.sleep(_PAUSE)

    async def _open(self, role: str, size: PoolSize) -> ReadingPool:
        pool = ReadingPool(
            self._url,
            min_size=size.minimum,
            max_size=size.maximum,
            # More than a process can write at once would wait all the same, in Postgres instead of here, where each
            # costs both of them a fifth more.
            most_reading=max(1, size.maximum // 2) if role == "carepost_app" else size.maximum,
            max_queries=50_000,
            max_inactive_connection_lifetime=300,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            loop=None,
            timeout=_CONNECT,
            command_timeout=self._statement_timeout_ms / 1000 + _OVERTIME,
            # Every setting of ours is local to its transaction and the role comes with the connection, so that a
            # released connection carries nothing over; the reset would be a round trip for nothing.
            reset=_reset,
            init=_moments_by_text,
            server_settings={
                "role": role,
                "statement_timeout": str(self._statement_timeout_ms),
                "idle_in_transaction_session_timeout": str(self._idle_timeout_ms),
                "application_name": role,
                "timezone": "UTC",
                "jit": "off",
                # A statement goes by the same index whatever its arguments are. Left to choose, Postgres may plan a
                # read anew each time, which for a list costs twice what reading it does; and of a practice younger than
                # its statistics it believes that there is nothing, so that any index will do.
                "plan_cache_mode": "force_generic_plan" if role == "carepost_app" else "auto",
                # A plan that was made while a table was empty reads all of it once it isn't.
                "enable_seqscan": "off" if role == "carepost_app" else "on",
            },
        )
        await pool
        return pool

    async def now(self) -> datetime:
        """Postgres' time: what is stored, or compared with what is, goes by it. A process's own clock may be wrong, and
        may be set while it runs."""
        at: datetime = await self.app.fetchval("SELECT clock_timestamp()")
        return at

    @asynccontextmanager
    async def tenant(self, practice_id: PracticeId) -> AsyncIterator[Connection]:
        """A transaction that works for one practice: sees and writes its rows and no others."""
        async with self.app.acquire() as connection:
            transaction = connection.transaction()
            try:
                await transaction.start()
                try:
                    await connection.execute("SELECT set_config('carepost.practice_id', $1, true)", str(practice_id))
                    yield connection
                except TimeoutError:
                    raise
                except BaseException:
                    await transaction.rollback()
                    raise
                await transaction.commit()
            except TimeoutError:
                await self.app.distrust(connection)
                raise

    @asynccontextmanager
    async def role(self, role: str, practice_id: PracticeId) -> AsyncIterator[Connection]:
        """The same by another of our roles, on a connection of its own: for what is seldom done."""
        pool = await self._open(role, PoolSize(0, 1))
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT set_config('carepost.practice_id', $1, true)", str(practice_id))
                yield connection
        finally:
            await pool.close()


async def _moments_by_text(connection: Connection) -> None:
    """Moments come as text: Python reads one in a fifth of the time in which asyncpg adds it up from a number, which
    for a list was more than all other columns together."""
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=datetime.isoformat, decoder=datetime.fromisoformat
    )


async def _reset(connection: Connection) -> None:
    """An open transaction ends here, whoever left it; asyncpg's own reset ends it too."""
    if connection.is_in_transaction():
        await connection.reset()
