"""Cursors over a Postgres that crashes, or whose place another one takes: a change may be told twice, none is missed,
and who can't be told everything is told so."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx2

from db.migrate import migrate
from db.pool import Database
from mail.event import EventKind
from mail.ids import MessageId
from tests.faults import house
from tests.faults.house import House
from tests.faults.process import PATIENCE
from tests.faults.servers import Servers
from tests.integration.api.evidence import Evidence, make_messages
from tests.integration.api.sockets import CHANGED, LiveClient
from tests.support.practice import make_account, make_patient, make_practice
from tests.support.stack import GraphQLClient, token_for, until
from workers import jobs
from workers.jobs import Jobs

_LIST = "{ messages(first: 10) { liveCursor nodes { id status } } }"
# Numbers of transactions that leave nothing on disk: a procedure of many transactions is one round trip.
_BURN = "DO $$ BEGIN FOR i IN 1..500 LOOP PERFORM pg_current_xact_id(); ROLLBACK; END LOOP; END $$"
_NEWEST = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS transaction"


@dataclass(frozen=True, slots=True)
class Tab:
    """Somebody at a Messages tab with one message, and who tells what becomes of that."""

    home: House
    message: MessageId
    socket: LiveClient
    hurry: Jobs

    async def happens(self, kind: EventKind) -> None:
        async with Database(self.home.direct_url) as database:
            await Evidence(database, self.hurry).of(self.home.practice, self.message, kind)

    async def cursor(self) -> str:
        """Of the list as it is read now."""
        found: str = (await self.home.client(_LIST))["messages"]["liveCursor"]
        return found

    async def told(self, operation: str) -> str:
        """The status that a subscription tells next."""
        status: str = (await self.socket.change(operation, PATIENCE))["message"]["status"]
        return status

    async def refused(self, operation: str) -> str:
        """The code of the error with which a subscription ends."""
        answer = await self.socket.answer(operation, PATIENCE)
        code: str = answer["payload"]["errors"][0]["extensions"]["code"]
        return code


async def newest(home: House) -> int:
    """The number that the next transaction gets."""
    [row] = await home.ask(_NEWEST)
    number: int = row["transaction"]
    return number


@asynccontextmanager
async def opened(servers: Servers) -> AsyncIterator[Tab]:
    async with house.empty(servers, apis=1, workers=0) as home, AsyncExitStack() as stack:
        await migrate(home.direct_url)
        home.practice = await make_practice(home.direct_url, "Northgate Practice")
        async with Database(home.direct_url) as database:
            patient = await make_patient(database, home.practice)
            account = await make_account(database, home.practice)
            [message] = await make_messages(database, home.practice, patient, account, 1)
        home.apis[0].start()
        await home.ready()
        token = token_for(home.practice)
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=home.url, timeout=15, trust_env=False))
        home.client = GraphQLClient(http, token)
        hurry = jobs.connect(servers.redis_url)
        stack.push_async_callback(hurry.aclose, close_connection_pool=True)
        socket = await stack.enter_async_context(LiveClient(home.api_urls[0], token))
        yield Tab(home, message, socket, Jobs(hurry))


async def until_postgres_answers(home: House) -> None:
    async def look() -> bool:
        try:
            return bool(await home.ask("SELECT 1"))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False

    await until(look, PATIENCE)


@asynccontextmanager
async def lost_numbers(home: House) -> AsyncIterator[int]:
    """Gives out numbers of which nothing reaches the disk by itself, as the process that writes the log stands still.
    In the end that is killed, upon which Postgres ends all others and recovers. Yields the number that came next."""
    [writer] = await home.ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
    witness, ended = await asyncpg.connect(home.direct_url), asyncio.Event()
    witness.add_termination_listener(lambda _: ended.set())
    os.kill(writer["pid"], signal.SIGSTOP)
    try:
        await home.ask(_BURN)
        yield await newest(home)
    finally:
        os.kill(writer["pid"], signal.SIGKILL)
    # Until it has seen that, it answers as before.
    async with asyncio.timeout(PATIENCE):
        await ended.wait()
    await until_postgres_answers(home)


async def test_a_change_is_told_whose_transaction_has_a_number_that_was_given_before_a_crash(
    durable_servers: Servers,
) -> None:
    async with opened(durable_servers) as tab:
        async with lost_numbers(tab.home) as given:
            pass
        assert await newest(tab.home) < given
        async with lost_numbers(tab.home):
            since = await tab.cursor()
            open_since = await tab.socket.watch()
        await tab.happens(EventKind.DELIVERED)
        assert await tab.told(open_since) == "DELIVERED"
        await tab.home.ask(_BURN)
        assert await tab.told(await tab.socket.start(CHANGED, since=since)) == "DELIVERED"


def copy(data: Path, to: Path) -> None:
    """What a replica has that hears nothing from now on, of a server that doesn't run. Of a file it keeps the owner."""
    shutil.copytree(data, to)
    for path in (data, *data.rglob("*")):
        owner = path.stat()
        os.chown(to / path.relative_to(data), owner.st_uid, owner.st_gid)
    (to / "standby.signal").touch()


async def test_who_follows_is_told_to_read_anew_when_a_replica_that_lacks_changes_takes_over(
    durable_servers: Servers, tmp_path: Path
) -> None:
    async with opened(durable_servers) as tab:
        [setting] = await tab.home.ask("SELECT current_setting('data_directory') AS folder")
        data, replica = Path(setting["folder"]), tmp_path / "replica"
        await tab.home.order("postgres crash")
        copy(data, replica)
        await tab.home.order("postgres start")
        await until_postgres_answers(tab.home)
        await tab.happens(EventKind.ACCEPTED)
        since = await tab.cursor()
        open_since = await tab.socket.watch()
        await tab.home.order("postgres crash")
        shutil.rmtree(data)
        replica.rename(data)
        await tab.home.order("postgres start")
        await until_postgres_answers(tab.home)
        [promoted] = await tab.home.ask("SELECT pg_promote() AS done")
        assert promoted["done"]
        await tab.home.ask(_BURN)  # beyond every number that the lost server gave
        assert await tab.refused(open_since) == "CURSOR_EXPIRED"
        assert await tab.refused(await tab.socket.start(CHANGED, since=since)) == "CURSOR_EXPIRED"
        again = await tab.cursor()
        await tab.happens(EventKind.DELIVERED)
        assert await tab.told(await tab.socket.start(CHANGED, since=again)) == "DELIVERED"
