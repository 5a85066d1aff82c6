"""Nobody sees another practice's row: Postgres itself refuses, whatever the statement."""

import asyncio
import importlib
import inspect
import pkgutil
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from uuid import UUID

import asyncpg
import pytest

import db
from db import (
    account_health,
    accounts,
    deliveries,
    event_pages,
    lists,
    messages,
    patients,
    practices,
    report,
    revocations,
)
from db.changes import read_changes
from db.deliveries import DeliveryFilter
from db.messages import MessageFilter
from db.pool import Database, Pool, PoolSize
from tests.integration.db.houses import BEFORE_EVERYTHING, House, key_of, now, tables
from tests.support.databases import OWN_SEALER

ROLES = ["carepost_app", "carepost_dispatcher", "carepost_inbox", "carepost_finder"]


@asynccontextmanager
async def working_for(database: Database, practice_id: UUID | None) -> AsyncIterator[asyncpg.Connection]:
    """A transaction as the application's role, for a practice or none, that is rolled back."""
    async with database.app.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            if practice_id:
                await connection.execute("SELECT set_config('carepost.practice_id', $1, true)", str(practice_id))
            yield connection
        finally:
            await transaction.rollback()


async def test_every_table_forces_row_level_security_and_is_keyed_by_practice(
    owner: asyncpg.Connection, database: Database
) -> None:
    for table in await tables(owner):
        found = await owner.fetchrow(
            "SELECT relkind IN ('r', 'p') AS plain, relrowsecurity AS enabled, relforcerowsecurity AS forced, "
            "(SELECT count(*) FROM pg_policy WHERE polrelid = c.oid AND polpermissive AND "
            "(SELECT oid FROM pg_roles WHERE rolname = 'carepost_app') = ANY(polroles)) AS policies "
            "FROM pg_class c WHERE oid = $1::regclass",
            table,
        )
        assert found is not None
        assert tuple(found) == (True, True, True, 1), table
        keys = await owner.fetch(
            "SELECT a.attname, a.attnotnull FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
            "AND a.attnum = i.indkey[0] WHERE i.indrelid = $1::regclass AND i.indisunique",
            table,
        )
        assert keys, table
        assert {tuple(key) for key in keys} == {(key_of(table), True)}, table


async def test_no_role_reaches_a_partition_past_its_table(owner: asyncpg.Connection, database: Database) -> None:
    partitions = await owner.fetch("SELECT oid FROM pg_class WHERE relispartition AND relkind = 'r'")
    assert len(partitions) >= 13
    for role in ROLES:
        reached = await owner.fetch(
            "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' "
            "AND has_table_privilege($1, oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')",
            role,
        )
        assert reached == []


async def test_the_roles_own_nothing_and_can_do_nothing_by_themselves(
    owner: asyncpg.Connection, database: Database
) -> None:
    for role in ROLES:
        found = await owner.fetchrow(
            "SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, (SELECT count(*) FROM pg_class "
            "WHERE relowner = r.oid), (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) "
            "FROM pg_roles r WHERE rolname = $1",
            role,
        )
        assert found is not None
        assert tuple(found) == (False, False, False, False, False, 0, 0)


async def test_without_a_practice_nothing_is_seen_in_any_table(
    owner: asyncpg.Connection, database: Database, house: House, other: House
) -> None:
    async with working_for(database, None) as connection:
        for table in await tables(owner):
            assert await owner.fetchval(f"SELECT count(DISTINCT {key_of(table)}) FROM {table}") == 2, table
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_with_a_practice_its_own_rows_are_seen_and_no_others(
    owner: asyncpg.Connection, database: Database, house: House, other: House
) -> None:
    async with working_for(database, house.practice.id) as connection:
        for table in await tables(owner):
            rows = await connection.fetch(f"SELECT DISTINCT {key_of(table)} FROM {table}")
            assert [row[0] for row in rows] == [house.practice.id], table


@pytest.mark.parametrize("as_other", [False, True], ids=["for no practice", "for another practice"])
async def test_no_row_of_a_practice_is_written_but_for_that_practice(
    owner: asyncpg.Connection, database: Database, house: House, other: House, as_other: bool
) -> None:
    for table in await tables(owner):
        row = await owner.fetchval(
            f"SELECT to_jsonb(t)::text FROM {table} t WHERE {key_of(table)} = $1", house.practice.id
        )
        columns = await owner.fetchval(
            "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute "
            "WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
            table,
        )
        async with working_for(database, other.practice.id if as_other else None) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(
                    f"INSERT INTO {table} ({columns}) "
                    f"SELECT {columns} FROM jsonb_populate_record(NULL::{table}, $1::text::jsonb)",
                    row,
                )


@pytest.mark.parametrize("as_other", [False, True], ids=["for no practice", "for another practice"])
async def test_no_row_of_a_practice_is_changed_or_removed_but_for_that_practice(
    owner: asyncpg.Connection, database: Database, house: House, other: House, as_other: bool
) -> None:
    for table in await tables(owner):
        column = key_of(table)
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
            async with working_for(database, other.practice.id if as_other else None) as connection:
                try:
                    done = await connection.execute(f"{statement} WHERE {column} = $1", house.practice.id)
                except asyncpg.InsufficientPrivilegeError:
                    continue
                assert done.endswith(" 0"), statement


async def test_a_row_is_not_moved_into_another_practice(database: Database, house: House, other: House) -> None:
    for table in ("patient", "message", "sending_account", "attempt", "webhook_delivery"):
        async with working_for(database, house.practice.id) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"UPDATE {table} SET practice_id = $1", other.practice.id)


async def test_evidence_and_the_audit_trail_are_only_appended(database: Database, house: House) -> None:
    for statement in (
        "UPDATE message_event SET detail = 'x'",
        "DELETE FROM message_event",
        "TRUNCATE message_event",
        "UPDATE audit_entry SET subject = 'x'",
        "DELETE FROM audit_entry",
        "INSERT INTO view_entry SELECT * FROM view_entry",
        "UPDATE view_entry SET subject = 'x'",
        "DELETE FROM view_entry",
        "TRUNCATE view_entry",
        "UPDATE revocation SET issued_before = now()",
        "DELETE FROM revocation",
        "TRUNCATE audit_entry",
        "DELETE FROM message",
        "DELETE FROM patient",
        "ALTER TABLE message DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON message",
        "CREATE TABLE escape (id int)",
        "SELECT create_event_partitions(now())",
        "INSERT INTO practice (name, time_zone) VALUES ('x', 'UTC')",
    ):
        async with working_for(database, house.practice.id) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_nothing_points_into_another_practice(database: Database, house: House, other: House) -> None:
    for table, column, foreign in (
        ("message", "patient_id", other.patient.id),
        ("message", "account_id", other.account.id),
        ("message", "resend_of", other.message_id),
        ("attempt", "message_id", other.message_id),
        ("webhook_delivery", "account_id", other.account.id),
    ):
        async with working_for(database, house.practice.id) as connection:
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                await connection.execute(f"UPDATE {table} SET {column} = $1", foreign)
    for table, column, foreign in (
        ("message_event", "message_id", other.message_id),
        ("parked_event", "delivery_id", other.delivery_id),
    ):
        async with working_for(database, house.practice.id) as connection:
            row = await connection.fetchval(
                f"SELECT (to_jsonb(t) || jsonb_build_object('{column}', $1::text, 'dedupe_key', 'x'))::text "
                f"FROM {table} t",
                str(foreign),
            )
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                await connection.execute(
                    f"INSERT INTO {table} SELECT * FROM jsonb_populate_record(NULL::{table}, $1::text::jsonb)", row
                )


async def test_the_dispatcher_is_granted_ids_and_times_and_nothing_else(
    owner: asyncpg.Connection, database: Database
) -> None:
    rows = await owner.fetch(
        "SELECT table_name, column_name, privilege_type FROM information_schema.column_privileges "
        "WHERE grantee = 'carepost_dispatcher'"
    )
    assert sorted((row["table_name"], row["column_name"], row["privilege_type"]) for row in rows) == [
        ("message", "account_id", "SELECT"),
        ("message", "due_at", "SELECT"),
        ("message", "id", "SELECT"),
        ("message", "practice_id", "SELECT"),
        ("parked_event", "account_id", "SELECT"),
        ("parked_event", "practice_id", "SELECT"),
        ("parked_event", "received_at", "SELECT"),
        # Of accounts also how their ESP treats them, which is summed up by provider: numbers, times and yes or no.
        ("sending_account", "asked", "SELECT"),
        ("sending_account", "asking_refused_at", "SELECT"),
        ("sending_account", "credentials_expire_at", "SELECT"),
        ("sending_account", "credentials_ok", "SELECT"),
        ("sending_account", "credentials_refused_at", "SELECT"),
        ("sending_account", "id", "SELECT"),
        ("sending_account", "last_event_at", "SELECT"),
        ("sending_account", "look_at", "SELECT"),
        ("sending_account", "not_told", "SELECT"),
        ("sending_account", "practice_id", "SELECT"),
        ("sending_account", "provider", "SELECT"),
        ("sending_account", "signature_failed_at", "SELECT"),
        ("sending_account", "told", "SELECT"),
        ("webhook_delivery", "confirm_at", "SELECT"),
        ("webhook_delivery", "error", "SELECT"),
        ("webhook_delivery", "id", "SELECT"),
        ("webhook_delivery", "practice_id", "SELECT"),
        ("webhook_delivery", "provider", "SELECT"),
        ("webhook_delivery", "readers", "SELECT"),
        ("webhook_delivery", "received_at", "SELECT"),
        ("webhook_delivery", "state", "SELECT"),
    ]


async def test_the_dispatcher_sees_what_is_due_in_every_practice_and_no_content(
    database: Database, house: House, other: House
) -> None:
    both = {house.practice.id, other.practice.id}
    for table in ("message", "webhook_delivery", "parked_event"):
        rows = await database.dispatcher.fetch(f"SELECT practice_id FROM {table}")
        assert {row["practice_id"] for row in rows} == both
    for statement in (
        "SELECT subject FROM message",
        "SELECT recipient FROM message",
        "SELECT body FROM message",
        "SELECT * FROM message",
        "SELECT message FROM message",
        "SELECT body FROM webhook_delivery",
        "SELECT headers FROM webhook_delivery",
        "SELECT detail FROM parked_event",
        "SELECT count(*) FROM message WHERE subject LIKE '%x%'",
        "SELECT id FROM patient",
        "SELECT id FROM practice",
        "SELECT credentials FROM sending_account",
        "SELECT webhook_secrets FROM sending_account",
        "SELECT name FROM sending_account",
        "SELECT from_email FROM sending_account",
        "SELECT credentials_refusal FROM sending_account",
        "UPDATE sending_account SET look_at = now()",
        "SELECT message_id FROM message_event",
        "SELECT id FROM audit_entry",
        "SELECT id FROM view_entry",
        "SELECT message_id FROM attempt",
        "UPDATE message SET due_at = now()",
        "DELETE FROM parked_event",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.dispatcher.execute(statement)


async def test_the_dispatcher_sees_nothing_that_is_done(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    await owner.execute("UPDATE message SET due_at = NULL")
    await owner.execute("UPDATE webhook_delivery SET state = 'applied'")
    assert await database.dispatcher.fetchval("SELECT count(*) FROM message") == 0
    assert await database.dispatcher.fetchval("SELECT count(*) FROM webhook_delivery") == 0


class TestAConnectionOfThePool:
    """There is one, so that each test reads on the connection that something happened to before."""

    @pytest.fixture
    async def single(self, database_url: str) -> AsyncIterator[Database]:
        async with Database(database_url, PoolSize(1, 1)) as database:
            yield database

    async def assert_clean(self, database: Database, backend: int) -> None:
        async with database.app.acquire() as connection:
            assert connection.get_server_pid() == backend
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT current_setting('carepost.practice_id', true)") in {None, ""}
            assert await connection.fetchval("SELECT current_user") == "carepost_app"
            assert await connection.fetchval("SELECT count(*) FROM message") == 0
            assert await connection.fetchval("SELECT count(*) FROM practice") == 0

    async def test_keeps_no_practice_after_a_transaction(self, single: Database, house: House) -> None:
        async with single.tenant(house.practice.id) as connection:
            backend = connection.get_server_pid()
            assert await connection.fetchval("SELECT count(*) FROM message") == 1
        await self.assert_clean(single, backend)

    async def fail(self, database: Database, house: House, statement: str) -> int:
        """Runs a statement in a transaction that ends in an error; gives the connection's backend."""
        backend = 0
        try:
            async with database.tenant(house.practice.id) as connection:
                backend = connection.get_server_pid()
                await connection.execute(statement)
                raise LookupError
        except (LookupError, asyncpg.PostgresError):
            return backend

    async def test_keeps_no_practice_after_an_error_of_the_program(self, single: Database, house: House) -> None:
        await self.assert_clean(single, await self.fail(single, house, "SELECT 1"))

    async def test_keeps_no_practice_after_a_statement_that_failed(self, single: Database, house: House) -> None:
        await self.assert_clean(single, await self.fail(single, house, "SELECT 1 / 0"))

    async def test_keeps_no_practice_after_a_statement_that_took_too_long(
        self, database_url: str, house: House
    ) -> None:
        async with Database(database_url, PoolSize(1, 1), statement_timeout_ms=50) as single:
            await self.assert_clean(single, await self.fail(single, house, "SELECT pg_sleep(30)"))

    async def test_keeps_no_practice_after_its_task_was_cancelled(
        self, single: Database, house: House, owner: asyncpg.Connection
    ) -> None:
        async def work() -> None:
            async with single.tenant(house.practice.id) as connection:
                await connection.execute("SELECT pg_sleep(30)")

        async with single.app.acquire() as connection:
            backend = connection.get_server_pid()
        task = asyncio.create_task(work())
        async with asyncio.timeout(10):
            while not await owner.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", backend
            ):
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.assert_clean(single, backend)

    async def test_keeps_no_practice_after_a_read_that_named_its_own(self, single: Database, house: House) -> None:
        async with single.app.acquire() as connection:
            backend = connection.get_server_pid()
        assert await messages.find_messages(single.app, house.practice.id, [house.message_id])
        await self.assert_clean(single, backend)

    async def test_keeps_no_practice_after_a_read_that_failed(self, single: Database, house: House) -> None:
        async with single.app.acquire() as connection:
            backend = connection.get_server_pid()
        with pytest.raises(asyncpg.PostgresError):
            await single.app.fetch(messages.TENANT + "SELECT 1 / 0 FROM tenant", house.practice.id)
        await self.assert_clean(single, backend)


PLANS = {
    "as planned": {},
    "no nested loop": {"enable_nestloop": "off"},
    "nested loops only": {"enable_hashjoin": "off", "enable_mergejoin": "off"},
    "merge joins only": {"enable_hashjoin": "off", "enable_nestloop": "off"},
    "no index": {"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off"},
    "no sequential scan": {"enable_seqscan": "off"},
    "no memory of results": {"enable_memoize": "off", "enable_material": "off", "enable_hashagg": "off"},
    "generic plans": {"plan_cache_mode": "force_generic_plan"},
    "in parallel": {"debug_parallel_query": "on", "parallel_setup_cost": "0", "min_parallel_table_scan_size": "0"},
    "as written": {"join_collapse_limit": "1", "from_collapse_limit": "1"},
}


@asynccontextmanager
async def planning(url: str, settings: dict[str, str]) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(
        url, min_size=1, max_size=1, server_settings={"role": "carepost_app", "timezone": "UTC", **settings}
    ) as pool:
        yield pool


async def read_everything(pool: Pool, practice_id: UUID, house: House) -> dict[str, set[UUID]]:
    """What each single-statement read finds for a practice when asked for the rows of a house: ids, by the name of
    the function."""
    everything = MessageFilter()
    start, end = BEFORE_EVERYTHING, now()
    patient, account, message, delivery = house.patient.id, house.account.id, house.message_id, house.delivery_id
    asked = (pool, practice_id)
    found = await messages.find_messages(*asked, [message])
    bodies = await messages.find_bodies(pool, OWN_SEALER, practice_id, [message])
    page = await messages.page_of_messages(*asked, MessageFilter(patient_id=patient), 10, None, start)
    by_patient = await messages.pages_by_patient(*asked, [patient], everything, 10, None, start)
    changed = await read_changes(*asked, 0, 100_000, message_ids=[message])
    stored = await event_pages.page_of_events(*asked, [message], 10, None)
    single = await event_pages.find_event(*asked, message, "attempt_deferred")
    kept = await deliveries.page_of_deliveries(*asked, DeliveryFilter(), 10, None)
    kept_one = await deliveries.find_delivery(*asked, delivery)
    secrets = await accounts.find_webhook_secrets(pool, OWN_SEALER, practice_id, account, "sendgrid")
    counts = await account_health.count_for_health(*asked, [account], start, end)
    counted = await report.count_by_status(*asked, start, end, start)
    practice = await practices.find_practice(*asked)
    columns = tuple(lists.COLUMN)
    wide = await lists.list_messages(*asked, MessageFilter(patient_id=patient), 10, None, start, columns)
    tab = await lists.list_messages_of(*asked, patient, everything, 10, None, start, columns)
    listed = [
        [row["id"] for row in await patients.list_patients(*asked, search, 10, None)]
        for search in ("", "pat of", house.patient.email)
    ]
    return {
        "list_messages": {row["id"] for row in wide.rows} & {message},
        "list_messages_of": {row["id"] for row in (tab.rows if tab else ())} & {message},
        "list_patients": {patient} & set.intersection(*map(set, listed)),
        "find_messages": set(found),
        "find_bodies": set(bodies),
        "find_statuses": set(await messages.find_statuses(*asked, [message], start)),
        "page_of_deliveries": {entry.id for entry in kept} & {delivery},
        "find_delivery": {kept_one.id} if kept_one else set(),
        "page_of_messages": {entry.id for entry in page.messages} & {message},
        "pages_by_patient": {entry.id for entry in by_patient[patient].messages} & {message},
        "read_changes": {change.message.id for change in changed.changes},
        "page_of_events": {entry.message_id for entry in stored[message]},
        "find_event": {single.message_id} if single else set(),
        "find_webhook_secrets": {account} if secrets == [f"secret of {house.practice.name}"] else set(),
        "count_for_health": {account} if counts[account].parked == 1 else set(),
        "count_by_status": {practice_id} if sum(counted.values()) else set(),
        "find_practice": {practice.id} if practice else set(),
        "list_revocations": {practice_id} if await revocations.list_revocations(*asked) else set(),
        "list_accounts": {entry.id for entry in await accounts.list_accounts(*asked)} & {account},
        "find_accounts": set(await accounts.find_accounts(*asked, [account])),
        "find_patients": set(await patients.find_patients(*asked, [patient])),
    }


def single_statement_reads() -> set[str]:
    """The functions of the store that name their own tenant."""

    def of(module: ModuleType) -> set[str]:
        functions = inspect.getmembers(module, inspect.iscoroutinefunction)
        own = ((name, function) for name, function in functions if function.__module__ == module.__name__)
        return {
            name for name, function in own if re.search(r"TENANT\w*\s*\+|_statement\(", inspect.getsource(function))
        }

    modules = [importlib.import_module(f"db.{each.name}") for each in pkgutil.iter_modules(db.__path__)]
    return set().union(*(of(module) for module in modules))


async def fill(owner: asyncpg.Connection, *houses: House) -> None:
    """Many rows, and statistics that tell the planner so."""
    for house in houses:
        await owner.execute(
            "INSERT INTO message (practice_id, id, patient_id, account_id, account_kind, recipient, subject, body, "
            "track_opens, queued_at, verdict) SELECT $1, uuid_at(now() - n * interval '1 hour'), $2, $3, 'esp', 'r', "
            "'s', '', true, now(), 'sent' FROM generate_series(1, 2000) n",
            house.practice.id,
            house.patient.id,
            house.account.id,
        )
        await owner.execute(
            "INSERT INTO message_event (practice_id, message_id, dedupe_key, kind, verdict, occurred_at, source) "
            "SELECT practice_id, id, 'x', 'accepted', 'sent', now(), 'attempt' FROM message WHERE subject = 's' "
            "AND practice_id = $1",
            house.practice.id,
        )
        await owner.execute(
            "INSERT INTO patient (practice_id, name, email) SELECT $1, 'z' || n, 'z' FROM generate_series(1, 999) n",
            house.practice.id,
        )
    await owner.execute("ANALYZE")


async def test_no_plan_lets_a_read_see_another_practice_or_miss_its_own(
    database_url: str, owner: asyncpg.Connection, house: House, other: House
) -> None:
    await fill(owner, house, other)
    m, p, a, practice = house.message_id, house.patient.id, house.account.id, house.practice.id
    found = {
        house.delivery_id: "page_of_deliveries find_delivery",
        m: "list_messages list_messages_of "
        "find_messages find_statuses find_bodies page_of_messages pages_by_patient read_changes page_of_events "
        "find_event",
        a: "find_webhook_secrets count_for_health list_accounts find_accounts",
        p: "find_patients list_patients",
        practice: "count_by_status find_practice list_revocations",
    }
    own = {name: {row} for row, names in found.items() for name in names.split()}
    assert set(own) == single_statement_reads()
    # These have no argument of another practice: they tell about the one they are asked for.
    foreign = {name: {practice} if ids == {practice} else set() for name, ids in own.items()}
    for plan, settings in PLANS.items():
        async with planning(database_url, settings) as pool:
            assert await read_everything(pool, practice, house) == own, plan
            assert await read_everything(pool, practice, other) == foreign, plan
            assert await pool.fetchval("SELECT count(*) FROM message") == 0, plan


async def test_a_read_for_a_practice_that_does_not_exist_finds_nothing(database: Database, house: House) -> None:
    nobody = UUID(int=0)
    assert {name: ids for name, ids in (await read_everything(database.app, nobody, house)).items() if ids} == {}
