"""Patients found by part of a name or address: by whichever way, the same ones in the same order."""

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.patients import list_patients, update_patient
from db.pool import Database, PoolSize
from db.practices import Practice
from tests.support.plans import Recorder, blocks_read
from tests.support.practice import make_patient, make_practice

WAYS = {
    "in order": (1 << 30, 1),
    "by keys": (0, 1 << 30),
    "by keys that the one looked at hasn't": (1, 1 << 30),
    "by keys, then in order": (0, 0),
    "as it is": (200, 5000),
}
"""The function's `near` and `few`."""
BY_LOOKING_AT_EACH = """SELECT id FROM patient WHERE practice_id = $1
AND (strpos(lower(name), lower($2)) > 0 OR strpos(lower(email), lower($2)) > 0)
AND ($4::uuid IS NULL OR (lower(name), id) > (SELECT lower(name), id FROM patient WHERE practice_id = $1 AND id = $4))
ORDER BY lower(name), id LIMIT $3"""

letters = st.one_of(
    st.sampled_from("aAbnBN '\"\\%_&|!():*<>-.1@éÉüßıİσςΣ🙂e\u0301"),
    st.characters(exclude_categories=["Cs", "Cc"]),
)
words = st.text(letters, min_size=1, max_size=12)
people = st.lists(st.tuples(words, words), min_size=1, max_size=30)


def each_way(found: list[UUID]) -> dict[str, Sequence[UUID]]:
    return dict.fromkeys(WAYS, found)


async def by_each_way(
    connection: asyncpg.Connection, practice_id: UUID, search: str, most: int, after: UUID | None
) -> dict[str, Sequence[UUID]]:
    return {
        way: [
            row["id"]
            for row in await connection.fetch(
                "SELECT unnest(patient_ids_like($1, $2, $3, $4, $5, $6)) AS id",
                practice_id,
                search,
                after,
                most,
                *limits,
            )
        ]
        for way, limits in WAYS.items()
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(people, st.data())
async def test_every_way_finds_whom_looking_at_each_patient_finds(
    database: Database, practice: Practice, some: list[tuple[str, str]], data: st.DataObject
) -> None:
    there = [part for person in some for part in person]
    pieces = [
        part[start:end] for part in there for start in range(len(part)) for end in range(start + 1, len(part) + 1)
    ]
    searches = data.draw(st.lists(st.one_of(st.sampled_from(pieces), words), min_size=2, max_size=4))
    searches += [search.swapcase() for search in searches]
    most = data.draw(st.integers(1, 6))
    async with database.app.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT set_config('carepost.practice_id', $1, true)", str(practice.id))
        await connection.executemany(
            "INSERT INTO patient (practice_id, name, email) VALUES ($1, $2, $3)",
            [(practice.id, *person) for person in some],
        )
        for search in searches:
            after = None
            while True:
                rows = await connection.fetch(BY_LOOKING_AT_EACH, practice.id, search, most, after)
                found = [row["id"] for row in rows]
                assert await by_each_way(connection, practice.id, search, most, after) == each_way(found)
                if len(found) < most:
                    break
                after = found[-1]
        nobody = await by_each_way(connection, practice.id, "a", most, uuid4())
        assert nobody == each_way([])
        await transaction.rollback()


async def test_a_patient_is_found_by_what_they_are_called_now(database: Database, practice: Practice) -> None:
    patient = await make_patient(database, practice, "old@mail.example", "Old Name")
    async with database.tenant(practice.id) as connection:
        await update_patient(
            connection, practice.id, patient.id, name="New One", email="new@mail.example", open_tracking=None
        )
        for search, found in {"old": [], "new one": [patient.id], "NEW@": [patient.id]}.items():
            ways = await by_each_way(connection, practice.id, search, 5, None)
            assert ways == each_way(found), search


async def test_a_search_gives_nobody_of_another_practice(
    database: Database, database_url: str, practice: Practice
) -> None:
    other = await make_practice(database_url, "Southgate")
    theirs = await make_patient(database, other, name="Zoë Elsewhere")
    async with database.tenant(practice.id) as connection:
        for asked in (practice.id, other.id):
            assert await by_each_way(connection, asked, "zoë", 5, None) == each_way([])
    async with database.tenant(other.id) as connection:
        assert await by_each_way(connection, other.id, "zoë", 5, None) == each_way([theirs.id])
    async with database.app.acquire() as connection:
        assert await by_each_way(connection, other.id, "zoë", 5, None) == each_way([])


async def test_the_finder_sees_no_more_of_a_patient_than_a_search_compares(
    database: Database, practice: Practice
) -> None:
    await make_patient(database, practice)
    async with database.role("carepost_finder", practice.id) as connection:
        assert await connection.fetchval("SELECT lower_name FROM patient") == "pat example"
        for statement in ("SELECT open_tracking FROM patient", "UPDATE patient SET name = ''", "SELECT FROM message"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute(statement)


async def fill(database_url: str, practices: Mapping[Practice, int]) -> None:
    """So many patients each; afterwards an index alone tells of them all."""
    owner = await asyncpg.connect(database_url)
    # Which pages need no look a vacuum says, once for all practices: of rows whose commits are on the disk alone.
    await owner.execute("SET synchronous_commit = on")
    await owner.execute("ALTER TABLE patient NO FORCE ROW LEVEL SECURITY, SET (autovacuum_enabled = off)")
    for practice, count in practices.items():
        await owner.execute(
            "INSERT INTO patient (practice_id, name, email) "
            "SELECT $1, 'Pat ' || md5(n::text), md5('e' || n) || '@mail.example' FROM generate_series(1, $2::int) n",
            practice.id,
            count,
        )
    await owner.execute("ALTER TABLE patient FORCE ROW LEVEL SECURITY")
    await owner.execute("VACUUM ANALYZE patient")
    assert await owner.fetchval(
        "SELECT relallvisible = relpages AND relpages > 100 FROM pg_class WHERE relname = 'patient'"
    )
    await owner.close()


async def blocks(single: Database, practice: Practice, search: str) -> int:
    """What a search reads, by the one connection of a database."""
    recorder = Recorder(single.app)
    await list_patients(recorder, practice.id, search, 26, None)  # type: ignore[arg-type]
    return await blocks_read(single.app, recorder)


async def test_a_search_reads_as_little_in_a_practice_of_many_as_in_one_of_few(database_url: str) -> None:
    few, many = await make_practice(database_url, "Few"), await make_practice(database_url, "Many")
    await fill(database_url, {few: 400, many: 6000})
    async with Database(database_url, PoolSize(1, 1)) as single:
        await blocks(single, few, "pat")  # a connection's first search reads the catalogue too
        for search in ("nobody at all", "zq", "ß", "pat", "a", "mail.example", "nobody.at.all@mail.example"):
            assert await blocks(single, many, search) <= 1.5 * await blocks(single, few, search), search


async def test_a_search_leaves_out_letters_that_everybody_has(database_url: str) -> None:
    practice = await make_practice(database_url, "Many")
    await fill(database_url, {practice: 6000})
    async with Database(database_url, PoolSize(1, 1)) as single:
        await blocks(single, practice, "pat")
        # The first begins as all addresses do behind their @; of the second nobody has anything.
        assert await blocks(single, practice, "maizzz") <= await blocks(single, practice, "yyyzzz")
