"""A pooled connection carries nothing over: no tenant, no role, no open transaction, whatever happened on it."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from db.errors import UNREACHABLE
from db.pool import Database, PoolSize
from db.practices import Practice, find_practice
from tests.faults.proxy import Proxy
from tests.support.practice import make_patient

STATE = """SELECT current_setting('carepost.practice_id', true) AS tenant, current_user AS role,
  pg_current_xact_id_if_assigned() IS NOT NULL AS writes,
  current_setting('search_path') AS path, (SELECT count(*) FROM patient) AS seen, pg_backend_pid() AS pid"""


@pytest.fixture
async def single(database_url: str) -> AsyncIterator[Database]:
    """A database with one connection, which all that happens happens on."""
    async with Database(database_url, PoolSize(1, 1), statement_timeout_ms=500) as database:
        yield database


async def deed_read(database: Database, practice: Practice) -> None:
    assert await find_practice(database.app, practice.id) == practice


async def deed_failing_read(database: Database, practice: Practice) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await database.app.fetch(
            "WITH tenant AS MATERIALIZED (SELECT set_config('carepost.practice_id', $1::uuid::text, true)) "
            "SELECT 1 / 0 FROM tenant",
            practice.id,
        )


async def deed_refused_text(database: Database, practice: Practice) -> None:
    with pytest.raises(asyncpg.PostgresSyntaxError):
        await database.app.fetchval("SELECT FROM WHERE")


async def deed_timeout(database: Database, practice: Practice) -> None:
    with pytest.raises(asyncpg.QueryCanceledError):
        await database.app.fetchrow("SELECT pg_sleep(5)")


async def deed_cancelled_read(database: Database, practice: Practice) -> None:
    reading = asyncio.create_task(
        database.app.fetch("SELECT set_config('carepost.practice_id', 'x', true), pg_sleep(5)")
    )
    await asyncio.sleep(0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def deed_transaction(database: Database, practice: Practice) -> None:
    await make_patient(database, practice)


async def deed_failing_transaction(database: Database, practice: Practice) -> None:
    async def fail() -> None:
        async with database.tenant(practice.id) as connection:
            await connection.execute("SET LOCAL search_path TO pg_catalog")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def deed_cancelled_transaction(database: Database, practice: Practice) -> None:
    async def write() -> None:
        async with database.tenant(practice.id) as connection:
            await connection.execute("SELECT pg_sleep(5)")

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.1)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def deed_left_open(database: Database, practice: Practice) -> None:
    """Nobody does this."""
    await database.app.fetch("BEGIN")


async def deed_left_open_with_a_tenant(database: Database, practice: Practice) -> None:
    """Nor this."""
    async with database.app.acquire() as connection:
        await connection.execute("BEGIN")
        await connection.execute("SELECT set_config('carepost.practice_id', $1, true)", str(practice.id))


async def deed_refused_argument(database: Database, practice: Practice) -> None:
    """Postgres has parsed the statement and hears no more of it."""
    with pytest.raises(asyncpg.DataError):
        await database.app.fetch("SELECT $1::integer", "no integer")


async def deed_cancelled_when_parsed(database: Database, practice: Practice) -> None:
    usual = asyncpg.Connection._get_statement

    async def parse(*arguments: Any, **more: Any) -> None:
        await usual(*arguments, **more)
        raise asyncio.CancelledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncpg.Connection, "_get_statement", parse)
        with pytest.raises(asyncio.CancelledError):
            await database.app.fetch("SELECT 'never executed'")


DEEDS: list[Callable[[Database, Practice], Awaitable[None]]] = [
    deed_read,
    deed_failing_read,
    deed_refused_text,
    deed_timeout,
    deed_cancelled_read,
    deed_transaction,
    deed_failing_transaction,
    deed_cancelled_transaction,
    deed_left_open,
    deed_left_open_with_a_tenant,
    deed_refused_argument,
    deed_cancelled_when_parsed,
]


@pytest.mark.parametrize("deed", [deed_refused_argument, deed_cancelled_when_parsed])
async def test_the_time_of_a_statement_that_is_not_executed_ends_no_other(
    database_url: str, practice: Practice, deed: Any
) -> None:
    async with Database(database_url, PoolSize(1, 1), statement_timeout_ms=500) as short:
        await deed(short, practice)
        await asyncio.sleep(0.7)
        assert await short.app.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("deed", DEEDS, ids=[deed.__name__[5:] for deed in DEEDS])
async def test_nothing_is_carried_over(single: Database, database: Database, practice: Practice, deed: Any) -> None:
    await make_patient(database, practice)
    before = dict(await single.app.fetchrow(STATE))
    assert (before["tenant"] or "", before["role"], before["writes"], before["seen"]) == (
        "",
        "carepost_app",
        False,
        0,
    )
    await deed(single, practice)
    for _ in range(2):
        after = dict(await single.app.fetchrow(STATE))
        assert (after["tenant"] or "") == ""
        assert {**after, "pid": 0, "tenant": ""} == {**before, "pid": 0, "tenant": ""}
        async with single.app.acquire() as connection:
            assert (await connection.fetchval("SELECT count(*) FROM patient"), connection.is_in_transaction()) == (
                0,
                False,
            )


async def test_a_connection_at_hand_is_lent_to_whoever_needs_one(single: Database, practice: Practice) -> None:
    async with asyncio.timeout(5):
        await deed_read(single, practice)
        await deed_transaction(single, practice)
        await deed_read(single, practice)


async def test_reads_and_transactions_share_few_connections(database_url: str, practice: Practice) -> None:
    async with Database(database_url, PoolSize(1, 4)) as database, asyncio.timeout(20):
        for _ in range(5):
            await asyncio.gather(
                *(deed_read(database, practice) for _ in range(20)),
                *(deed_transaction(database, practice) for _ in range(10)),
            )
        pids = await asyncio.gather(*(database.app.fetchval("SELECT pg_backend_pid()") for _ in range(20)))
        assert len(set(pids)) <= 4


@pytest.mark.parametrize("seed", range(6))
async def test_whoever_waits_for_a_connection_gets_one_whatever_becomes_of_the_others(
    database_url: str, practice: Practice, owner: asyncpg.Connection, seed: int
) -> None:
    rng = random.Random(seed)
    most = (3, 4, 6)[seed % 3]
    name = urlsplit(database_url).path[1:]
    one_by_one = asyncio.Lock()

    async def read(database: Database) -> None:
        await database.app.fetch("SELECT pg_sleep($1)", rng.random() / 100)

    async def fail(database: Database) -> None:
        await database.app.fetchval("SELECT 1 / $1::int", 0)

    async def lose(database: Database) -> None:
        async with one_by_one:
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = $1 "
                "AND application_name = 'carepost_app' ORDER BY pid LIMIT 1 OFFSET $2) one",
                name,
                rng.randrange(most),
            )

    async def write(database: Database) -> None:
        async with database.tenant(practice.id) as connection:
            await connection.fetch("SELECT pg_sleep($1)", rng.random() / 100)

    async def give_up(database: Database) -> None:
        async with asyncio.timeout(rng.random() / 20):
            await database.app.fetch("SELECT pg_sleep(0.02)")

    expected = (asyncpg.DivisionByZeroError, *UNREACHABLE, TimeoutError)
    deeds = [read] * 8 + [write] * rng.choice((0, 4)) + [fail, give_up, give_up] + [lose] * rng.choice((0, 1))
    async with Database(database_url, PoolSize(1, most)) as database, asyncio.timeout(30):
        for _ in range(5):
            errors = await asyncio.gather(*(rng.choice(deeds)(database) for _ in range(40)), return_exceptions=True)
            assert [error for error in errors if error and not isinstance(error, expected)] == []
        await asyncio.gather(*(read(database) for _ in range(20)), *(write(database) for _ in range(5)))
        told = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'carepost_app' AND datname = $1"
        assert await owner.fetchval(told, name) <= most


@pytest.mark.parametrize("deed", [deed_read, deed_failing_read])
async def test_a_turn_that_comes_as_its_statement_is_cancelled_is_passed_on(
    single: Database, practice: Practice, monkeypatch: pytest.MonkeyPatch, deed: Any
) -> None:
    pool = single.app
    call_next = pool._call_next

    def cancel_who_is_called(connection: Any) -> bool:
        called = call_next(connection)
        cancelled.cancel()
        return called

    monkeypatch.setattr(pool, "_call_next", cancel_who_is_called)
    async with asyncio.timeout(5):
        first = asyncio.create_task(deed(single, practice))
        await asyncio.sleep(0)
        cancelled, last = [asyncio.create_task(deed_read(single, practice)) for _ in range(2)]
        await asyncio.gather(first, last)
        assert cancelled.cancelled() or (await asyncio.wait({cancelled}))[0].pop().cancelled()


async def test_a_connection_that_was_cut_is_replaced(single: Database, database: Database, practice: Practice) -> None:
    pid = await single.app.fetchval("SELECT pg_backend_pid()")
    owner = await asyncpg.connect(single._url)
    await owner.execute("SELECT pg_terminate_backend($1)", pid)
    await owner.close()
    await asyncio.sleep(0.1)
    await deed_read(single, practice)
    assert await single.app.fetchval("SELECT pg_backend_pid()") != pid


@asynccontextmanager
async def linked(database_url: str, statement_timeout_ms: int) -> AsyncIterator[tuple[Proxy, Database]]:
    """A database by a link that can be lost."""
    socket = f"{parse_qs(urlsplit(database_url).query)['host'][0]}/.s.PGSQL.5432"
    async with Proxy("postgres", [socket]) as link:
        through = f"postgresql://postgres:x@127.0.0.1:{link.port}{urlsplit(database_url).path}"
        async with Database(through, PoolSize(1, 8), statement_timeout_ms=statement_timeout_ms) as database:
            yield link, database


@pytest.mark.parametrize("first", [deed_read, make_patient])
async def test_links_that_lead_nowhere_cost_one_statement_its_time_and_the_others_nothing(
    database_url: str, practice: Practice, monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    monkeypatch.setattr("db.pool._OVERTIME", 0.5)
    async with linked(database_url, 3000) as (link, database):
        await asyncio.gather(*(database.app.fetch("SELECT pg_sleep(0.1)") for _ in range(4)))
        assert link.lose() == 4
        with pytest.raises(UNREACHABLE):
            await first(database, practice)
        for _ in range(5):
            await deed_read(database, practice)
            await make_patient(database, practice)


async def test_a_pool_whose_links_lead_nowhere_closes(
    database_url: str, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.pool._OVERTIME", 0.2)
    async with linked(database_url, 300) as (link, database):
        await asyncio.gather(*(make_patient(database, practice) for _ in range(3)))
        assert link.lose() >= 1


async def test_who_goes_away_while_the_links_lead_nowhere_leaves_none_of_them(
    database_url: str, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.pool._OVERTIME", 0.5)
    async with linked(database_url, 500) as (link, database):
        await asyncio.gather(*(database.app.fetch("SELECT pg_sleep(0.1)") for _ in range(4)))
        assert link.lose() == 4
        reading = asyncio.create_task(database.app.fetch("SELECT 1"))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        opened = link.opened
        for _ in range(5):
            await deed_read(database, practice)
        assert link.opened > opened
