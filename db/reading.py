"""A pool for which a reading statement costs no more than the statement.

asyncpg lends a connection by a queue, a proxy and a timer, and takes it back in a task of its own: twice the price of a
small statement. A statement by itself can't leave anything on a connection (every setting of ours is local to its
transaction, and the role comes with the connection), so here some connections stay at hand between statements.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

if TYPE_CHECKING:
    _Base = asyncpg.Pool[asyncpg.Record]
    _Lent = PoolConnectionProxy[asyncpg.Record]
else:
    _Base = asyncpg.Pool
    _Lent = PoolConnectionProxy


class ReadingPool(_Base):
    """`fetch`, `fetchrow` and `fetchval` take a connection at hand, or wait for one that another of them has, which is
    then handed over: `most_reading` of them run at once, and the other connections are for transactions. One that
    failed, or whose statement was cancelled, goes back to asyncpg, which sees to it; so does one that is at hand, or
    would be handed over, when a transaction needs it."""

    def __init__(self, *arguments: Any, most_reading: int, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._most = most_reading
        self._at_hand: list[_Lent] = []
        self._waiting = 0
        self._reading = 0
        """Connections that statements have now."""
        self._turns: deque[asyncio.Future[_Lent | None]] = deque()
        """Statements that wait while as many as may be are running."""

    async def fetch(self, query: str, *arguments: object, **options: Any) -> list[Any]:
        connection = await self._take()
        try:
            rows: list[Any] = await connection.fetch(query, *arguments, **options)
        except BaseException as error:
            await self._take_back(connection, error)
            raise
        await self._keep(connection)
        return rows

    async def fetchrow(self, query: str, *arguments: object, **options: Any) -> Any:
        connection = await self._take()
        try:
            row = await connection.fetchrow(query, *arguments, **options)
        except BaseException as error:
            await self._take_back(connection, error)
            raise
        await self._keep(connection)
        return row

    async def fetchval(self, query: str, *arguments: object, **options: Any) -> Any:
        connection = await self._take()
        try:
            value = await connection.fetchval(query, *arguments, **options)
        except BaseException as error:
            await self._take_back(connection, error)
            raise
        await self._keep(connection)
        return value

    async def close(self) -> None:
        while self._at_hand:
            await self.release(self._at_hand.pop())
        # A link that is silent never says that it ends; asyncpg has ended all by then.
        with suppress(TimeoutError):
            await super().close()

    async def distrust(self, connection: _Lent) -> None:
        """Ends a connection whose statement timed out here, well after Postgres' own time for it: its link leads
        nowhere. (asyncpg would ask Postgres to stop the statement and wait for it to say so, as long again.) The others
        were opened as early, so they are opened anew."""
        # A cancelled statement's is with asyncpg again when its time is up.
        with suppress(asyncpg.InterfaceError):
            connection.terminate()
        await self.expire_connections()
        while self._at_hand:
            other = self._at_hand.pop()
            with suppress(asyncpg.InterfaceError):
                other.terminate()
            await self._release(other)

    async def _take(self) -> _Lent:
        while self._reading == self._most:
            turn: asyncio.Future[_Lent | None] = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            try:
                handed = await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # called at the same moment
                    if (handed := turn.result()) is not None:
                        self._hand_over(handed)
                    else:
                        self._call_next(None)
                raise
            if handed is not None:
                return handed
        self._reading += 1
        try:
            while self._at_hand:
                connection = self._at_hand.pop()
                # One that broke is with asyncpg again, and its proxy tells nothing any more.
                with suppress(asyncpg.InterfaceError):
                    if not connection.is_closed():
                        return connection
                    await self.release(connection)
            return await self.acquire()
        except BaseException:
            self._make_room()
            raise

    async def _keep(self, connection: _Lent) -> None:
        """After a statement that went well."""
        if self._waiting or self.is_closing() or connection.is_in_transaction():
            await self._give_back(connection)
        else:
            self._hand_over(connection)

    async def _take_back(self, connection: _Lent, error: BaseException) -> None:
        """After a statement that failed or was cancelled."""
        # Until the link says something: when the time of a task that was cancelled is up, Python 3.11.2 tells that as
        # another cancellation.
        silent = True
        try:
            if not isinstance(error, TimeoutError):
                # Cancelled or refused here between its parsing and its execution, its time goes on running in
                # Postgres, and would end whatever comes next on this connection.
                with suppress(TimeoutError):
                    with suppress(
                        asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError
                    ):
                        await connection.execute("SELECT")
                    silent = False
        finally:
            if silent:
                await self.distrust(connection)
            await self._give_back(connection)

    async def _give_back(self, connection: _Lent) -> None:
        try:
            await self._release(connection)
        finally:
            self._make_room()

    async def _release(self, connection: _Lent) -> None:
        # asyncpg takes back by itself what has ended, which may be just now.
        with suppress(asyncpg.InternalClientError):
            await self.release(connection)

    def _hand_over(self, connection: _Lent) -> None:
        if not self._call_next(connection):
            self._reading -= 1
            self._at_hand.append(connection)

    def _make_room(self) -> None:
        """One fewer has a connection, which is with asyncpg again: the next one takes it there."""
        self._reading -= 1
        self._call_next(None)

    def _call_next(self, connection: _Lent | None) -> bool:
        """Whether anybody waited."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    async def _acquire(self, timeout: float | None) -> _Lent:
        """asyncpg's own way to lend one: to transactions, and where none is at hand."""
        self._waiting += 1
        try:
            if self._at_hand and self.get_idle_size() == 0:
                await self.release(self._at_hand.pop())
            lent: _Lent = await super()._acquire(timeout)  # type: ignore[misc]
            return lent
        finally:
            self._waiting -= 1
