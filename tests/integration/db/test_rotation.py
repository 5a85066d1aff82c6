"""A new secret key: everything is sealed anew by it, in batches, and the old one is needed no more."""

from uuid import UUID

import asyncpg
import pytest

from carepost.config import Settings
from carepost.rotate import UNOPENED, run_rotate
from db.accounts import find_webhook_secrets, read_credentials
from db.messages import find_bodies
from db.pool import Database
from db.rotation import SEALED, count_to_seal, seal_anew
from db.sealing import Sealer
from tests.integration.db.houses import House
from tests.support.databases import OWN_KEY as OLD
from tests.support.practice import make_message

NEW = "a new secret key of the tests, long enough to be taken"


def settings(url: str, *keys: str) -> Settings:
    return Settings(database_url=url, secret_key=keys)


async def test_everything_sealed_is_sealed_anew_and_opens_without_the_old_key(
    database: Database, database_url: str, house: House, other: House, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(450):
        await make_message(database, house.practice, house.patient, house.account, text="Please call us.")
    assert await run_rotate(settings(database_url, NEW, OLD), dry_run=True) == 0
    assert "458 values are sealed by another key than the first." in capfd.readouterr().err
    assert await run_rotate(settings(database_url, NEW, OLD)) == 0
    assert "458 values were sealed anew; all are sealed by the first key." in capfd.readouterr().err
    fresh = Sealer([NEW])
    for each in (house, other):
        async with database.tenant(each.practice.id) as connection:
            assert await read_credentials(connection, fresh, each.practice.id, each.account.id)
            ids = [row["id"] for row in await connection.fetch("SELECT id FROM message")]
            assert [await count_to_seal(connection, fresh, each.practice.id, column) for column in SEALED] == [0] * 4
            [sealed] = await connection.fetch("SELECT id, body FROM webhook_delivery")
            assert fresh.open(sealed["body"], "webhook_delivery.body", each.practice.id, sealed["id"]) == b"[]"
        bodies = await find_bodies(database.app, fresh, each.practice.id, ids)
        assert {body.text for body in bodies.values()} == {"Please call us."}
        secrets = await find_webhook_secrets(database.app, fresh, each.practice.id, each.account.id, "sendgrid")
        assert secrets == [f"secret of {each.practice.name}"]
    assert await run_rotate(settings(database_url, NEW)) == 0
    assert "0 values were sealed anew. All are sealed by the one key there is." in capfd.readouterr().err


async def test_every_sealed_column_of_the_database_is_among_them(owner: asyncpg.Connection, database: Database) -> None:
    columns = await owner.fetch(
        "SELECT table_name || '.' || column_name AS name FROM information_schema.columns c "
        "WHERE table_schema = 'public' AND data_type = 'bytea' AND table_name <> 'migration'"
    )
    assert {row["name"] for row in columns} == set(SEALED)


async def test_a_rotation_that_was_stopped_goes_on_where_it_stopped(database: Database, house: House) -> None:
    sealer, practice_id = Sealer([NEW, OLD]), house.practice.id
    for _ in range(5):
        await make_message(database, house.practice, house.patient, house.account)
    counts = []
    for _ in range(3):
        async with database.tenant(practice_id) as connection:
            batch = await seal_anew(connection, sealer, practice_id, "message.body", UUID(int=0), 2)
            left = await count_to_seal(connection, sealer, practice_id, "message.body")
        counts.append((batch.sealed, batch.broken, left))
    assert counts == [(2, 0, 4), (2, 0, 2), (2, 0, 0)]


async def test_what_no_key_opens_is_left_and_told(
    database: Database, database_url: str, house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await run_rotate(settings(database_url, NEW)) == UNOPENED
    assert "4 values were left: no key of CAREPOST_SECRET_KEY opens them" in capfd.readouterr().err
    async with database.tenant(house.practice.id) as connection:
        assert await read_credentials(connection, Sealer([OLD]), house.practice.id, house.account.id)


async def test_a_copy_of_every_table_shows_no_secret_and_no_body(
    database: Database, database_url: str, owner: asyncpg.Connection, house: House, tmp_path: object
) -> None:
    await make_message(database, house.practice, house.patient, house.account, text="CANARY-BODY of an email")
    async with database.tenant(house.practice.id) as connection:
        await connection.execute(
            "UPDATE sending_account SET credentials = $2, webhook_secrets = $3 WHERE id = $1",
            house.account.id,
            Sealer([OLD]).seal(b'{"api_key": "CANARY-KEY"}', SEALED[0], house.practice.id, house.account.id),
            Sealer([OLD]).seal(b'["CANARY-SECRET"]', SEALED[1], house.practice.id, house.account.id),
        )
    copied = b""
    for table in await owner.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    ):
        parts: list[bytes] = []

        async def keep(data: bytes, parts: list[bytes] = parts) -> None:
            parts.append(data)

        await owner.copy_from_table(table["relname"], output=keep)
        copied += b"".join(parts)
    assert f"Pat of {house.practice.name}".encode() in copied
    for secret in (b"CANARY", b"secret of", OLD.encode()):
        assert secret not in copied
        assert secret.hex().encode() not in copied
