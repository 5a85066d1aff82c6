"""Whatever finds or ties rows together begins with the practice, so that a practice can be taken as a whole."""

import asyncpg

from db.pool import Database
from tests.integration.db.houses import key_of, tables

ACROSS_PRACTICES = {
    "webhook_delivery_received_idx",  # retention, by age
    "webhook_delivery_confirm_idx",  # which subscriptions are to be confirmed next
    "patient_keys_idx",  # its keys have the practice within
}


async def test_every_key_begins_with_the_practice(owner: asyncpg.Connection, database: Database) -> None:
    for table in await tables(owner):
        keys = await owner.fetch(
            "SELECT (SELECT attname FROM pg_attribute WHERE attrelid = conrelid "
            "AND attnum = conkey[1]) AS first FROM pg_constraint "
            "WHERE conrelid = $1::regclass AND contype IN ('p', 'u')",
            table,
        )
        assert {key["first"] for key in keys} == {key_of(table)}, table


async def test_every_foreign_key_pairs_the_practice_with_itself(owner: asyncpg.Connection, database: Database) -> None:
    keys = await owner.fetch(
        "SELECT conname, "
        "(SELECT attname FROM pg_attribute WHERE attrelid = conrelid AND attnum = conkey[1]) AS own, "
        "(SELECT attname FROM pg_attribute WHERE attrelid = confrelid AND attnum = confkey[1]) AS other, "
        "confrelid::regclass::text AS target FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 "
        "AND connamespace = 'public'::regnamespace"
    )
    assert len(keys) >= 11
    for key in keys:
        assert (key["own"], key["other"]) == ("practice_id", key_of(key["target"])), key["conname"]


async def test_the_indexes_that_do_not_begin_with_the_practice_are_known(
    owner: asyncpg.Connection, database: Database
) -> None:
    found = await owner.fetch(
        "SELECT i.indexrelid::regclass::text AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
        "LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
        "WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition AND c.relname <> 'migration' "
        "AND a.attname IS DISTINCT FROM CASE c.relname WHEN 'practice' THEN 'id' ELSE 'practice_id' END"
    )
    assert {row["name"] for row in found} == ACROSS_PRACTICES
