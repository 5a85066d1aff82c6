"""Migrations: applied once and in order, by one runner at a time, or refused."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from carepost.embedded import EmbeddedServers
from db.errors import MigrationRefused, NotMigrated
from db.migrate import Migration, check_migrated, migrate, migrations
from tests.support import databases

NEXT = Migration(9001, "9001_add_a_table.sql", "CREATE TABLE added (practice_id uuid PRIMARY KEY)")


@pytest.fixture
async def empty(servers: EmbeddedServers) -> AsyncIterator[str]:
    """A database without any migration."""
    async with databases.fresh(servers.database_url, template="template1") as url:
        yield url


async def ask(url: str, query: str) -> list[object]:
    connection = await asyncpg.connect(url)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def check(url: str) -> str | None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET ROLE carepost_app")
        return await check_migrated(connection)
    finally:
        await connection.close()


def test_the_files_are_numbered_from_one_without_a_gap() -> None:
    known = migrations()
    assert [migration.number for migration in known] == list(range(1, len(known) + 1))
    assert known[0].name == "0001_create_the_house.sql"


async def test_an_empty_database_gets_every_migration_and_then_none(empty: str) -> None:
    known = migrations()
    assert await migrate(empty) == known
    assert await ask(empty, "SELECT name FROM migration ORDER BY number") == [entry.name for entry in known]
    applied_at = await ask(empty, "SELECT applied_at FROM migration ORDER BY number")
    assert await migrate(empty) == []
    assert await ask(empty, "SELECT applied_at FROM migration ORDER BY number") == applied_at
    await check(empty)


async def test_of_several_runners_at_once_one_applies_and_the_others_wait(empty: str) -> None:
    done = await asyncio.gather(*(migrate(empty) for _ in range(4)))
    assert sorted(len(applied) for applied in done) == [0, 0, 0, len(migrations())]


async def test_several_databases_of_one_cluster_migrate_at_once(servers: EmbeddedServers, empty: str) -> None:
    async with databases.fresh(servers.database_url, template="template1") as second:
        done = await asyncio.gather(migrate(empty), migrate(second))
    assert [len(applied) for applied in done] == [len(migrations())] * 2


async def test_a_new_file_is_applied_alone(empty: str) -> None:
    await migrate(empty)
    assert await migrate(empty, [*migrations(), NEXT]) == [NEXT]
    assert await ask(empty, "SELECT count(*) FROM added") == [0]


async def test_a_file_that_was_edited_after_it_was_applied_is_refused(empty: str) -> None:
    await migrate(empty)
    first, *rest = migrations()
    edited = replace(first, sql=first.sql + "-- edited\n")
    with pytest.raises(MigrationRefused, match=r"0001_create_the_house\.sql was edited after it was applied"):
        await migrate(empty, [edited, *rest, NEXT])
    assert await ask(empty, "SELECT to_regclass('added')") == [None]


async def test_the_way_lines_end_is_no_edit(empty: str) -> None:
    await migrate(empty)
    assert await migrate(empty, [replace(entry, sql=entry.sql.replace("\n", "\r\n")) for entry in migrations()]) == []


async def test_a_database_newer_than_the_program_is_refused(empty: str) -> None:
    await migrate(empty, [*migrations(), NEXT])
    with pytest.raises(MigrationRefused, match=r"newer than this program: it has 9001_add_a_table\.sql"):
        await migrate(empty)


async def test_a_program_works_with_a_newer_database_unless_that_needs_a_newer_program(empty: str) -> None:
    await migrate(empty, [*migrations(), NEXT])
    assert await check(empty) == NEXT.name
    needs = replace(NEXT, number=9002, name="9002_take_a_column_away.sql", sql="-- needs: 9001\nSELECT 1")
    await migrate(empty, [*migrations(), NEXT, needs])
    with pytest.raises(MigrationRefused, match=r"too new for this program, by 9002_take_a_column_away\.sql"):
        await check(empty)


async def test_a_history_kept_by_an_earlier_program_can_be_read_before_it_is_migrated(empty: str) -> None:
    await migrate(empty)
    connection = await asyncpg.connect(empty)
    await connection.execute("ALTER TABLE migration DROP COLUMN needs")
    await connection.close()
    assert await check(empty) is None
    assert await migrate(empty) == []


async def test_a_file_that_fails_leaves_nothing_and_may_be_mended(empty: str) -> None:
    broken = replace(NEXT, sql=NEXT.sql + "; SELECT 1 / 0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty, [*migrations(), broken])
    assert await ask(empty, "SELECT to_regclass('added')") == [None]
    assert await ask(empty, "SELECT max(number) FROM migration") == [len(migrations())]
    assert await migrate(empty, [*migrations(), NEXT]) == [NEXT]


async def test_a_program_that_finds_an_empty_database_says_what_to_run(empty: str) -> None:
    connection = await asyncpg.connect(empty)
    try:
        with pytest.raises(NotMigrated, match="carepost migrate"):
            await check_migrated(connection)
    finally:
        await connection.close()


async def test_a_program_that_finds_an_older_database_names_what_it_lacks(empty: str) -> None:
    await migrate(empty, migrations()[:1])
    with pytest.raises(NotMigrated, match="lacks 0002_"):
        await check(empty)


async def test_what_was_stored_before_the_second_migration_stays(empty: str) -> None:
    await migrate(empty, migrations()[:1])
    await ask(empty, "INSERT INTO practice (name, time_zone) VALUES ('Northgate', 'UTC') RETURNING id")
    await migrate(empty)
    assert await ask(empty, "SELECT name FROM practice") == ["Northgate"]


async def test_patients_from_before_the_search_had_an_index_are_found(empty: str) -> None:
    await migrate(empty, migrations()[:8])
    [practice_id] = await ask(empty, "INSERT INTO practice (name, time_zone) VALUES ('Northgate', 'UTC') RETURNING id")
    await ask(empty, f"INSERT INTO patient (practice_id, name, email) VALUES ('{practice_id}', 'Zoë', 'z@b.example')")
    await migrate(empty)
    tenant = f"SELECT set_config('carepost.practice_id', '{practice_id}', false)::uuid AS id OFFSET 0"
    for ids in ("unnest(patient_ids_like(t.id, 'OË', NULL, 5, 0))", "patients_like(t.id, 'OË', NULL, 5, 0)"):
        assert await ask(empty, f"SELECT count(*) FROM ({tenant}) t, {ids}") == [1]


async def test_an_owner_who_is_no_superuser_migrates(empty: str, servers: EmbeddedServers) -> None:
    await migrate(empty)  # makes the roles, which belong to the cluster
    owner, database = f"owner_{uuid4().hex}", f"test_{uuid4().hex}"
    admin = await asyncpg.connect(empty)
    try:
        roles = await admin.fetchval("SELECT string_agg(rolname, ', ') FROM pg_roles WHERE rolname ~ '^carepost_'")
        await admin.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE")
        await admin.execute(f"GRANT {roles} TO {owner} WITH ADMIN OPTION")
        await admin.execute(f"CREATE DATABASE {database} OWNER {owner}")
        url = databases.url_of(servers.database_url, database).replace("//postgres:", f"//{owner}:", 1)
        assert len(await migrate(url)) == len(migrations())
        assert await ask(url, "SELECT has_schema_privilege('carepost_finder', 'public', 'CREATE')") == [False]
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        await admin.execute(f"DROP ROLE IF EXISTS {owner}")
        await admin.close()
