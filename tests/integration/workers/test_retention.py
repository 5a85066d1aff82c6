"""What is past its time is removed, and nothing else."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from carepost.config import Settings
from db.events import Matched, record_events
from db.parked import Unmatched, park
from db.pool import Database
from db.practices import Practice
from mail.event import Event, EventKind, EventSource
from tests.support.practice import make_account, make_delivery, make_message, make_patient
from workers.retention import remove_old

YEAR = timedelta(days=365)


@pytest.mark.parametrize("batch", [1, 1000])
async def test_old_webhooks_and_parked_events_go_and_evidence_and_what_is_pending_stay(
    database: Database, database_url: str, practice: Practice, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("workers.retention.BATCH", batch)
    account = await make_account(database, practice)
    message = await make_message(database, practice, await make_patient(database, practice), account)
    now = datetime.now(UTC)
    young, old, waiting, parked, confirming = [
        await make_delivery(database, practice, account.id, str(number).encode()) for number in range(5)
    ]
    event = Event(kind=EventKind.DELIVERED, occurred_at=now, dedupe_key="x", provider_message_id="nobody's")
    async with database.tenant(practice.id) as connection:
        await record_events(connection, practice.id, [Matched(message, event, EventSource.WEBHOOK, now, old, 1)])
        for delivery, at in ((parked, now - 2 * YEAR), (young, now)):
            await park(connection, practice.id, [Unmatched(account.id, delivery, event, EventSource.WEBHOOK, at)])
            event = Event(kind=EventKind.OPENED, occurred_at=now, dedupe_key="y", provider_message_id="nobody's")
    owner = await asyncpg.connect(database_url)
    try:
        # An id begins with its time, so that of an old one is old too.
        await owner.execute("UPDATE webhook_delivery SET state = 'applied' WHERE id <> $1", waiting)
        await owner.execute("UPDATE webhook_delivery SET confirm_at = now() WHERE id = $1", confirming)
        await owner.execute(
            "UPDATE webhook_delivery SET received_at = now() - interval '2 years' WHERE id <> $1", young
        )
        monkeypatch.setattr("db.inbox.uuid_floor", lambda _: "ffffffff-ffff-ffff-ffff-ffffffffffff")
        assert await remove_old(database, now - YEAR, asyncio.Event()) == 2
        kept = {row["id"] for row in await owner.fetch("SELECT id FROM webhook_delivery")}
        assert kept == {young, waiting, confirming}
        assert [row["dedupe_key"] for row in await owner.fetch("SELECT dedupe_key FROM parked_event")] == ["y"]
        assert await owner.fetchval("SELECT count(*) FROM message_event") == 1
        assert await remove_old(database, now - YEAR, asyncio.Event()) == 0
    finally:
        await owner.close()


async def test_postgres_itself_keeps_what_is_pending_or_of_the_last_day(
    database: Database, database_url: str, practice: Practice
) -> None:
    account = await make_account(database, practice)
    ids = [await make_delivery(database, practice, account.id, str(number).encode()) for number in range(4)]
    owner = await asyncpg.connect(database_url)
    try:
        await owner.execute("UPDATE webhook_delivery SET state = 'applied' WHERE id = ANY($1::uuid[])", ids[:2])
        await owner.execute(
            "UPDATE webhook_delivery SET received_at = now() - interval '2 days' WHERE id = ANY($1::uuid[])", ids[1:3]
        )
        async with database.tenant(practice.id) as connection:
            assert await connection.execute("DELETE FROM webhook_delivery") == "DELETE 1"
        kept = {row["id"] for row in await owner.fetch("SELECT id FROM webhook_delivery")}
        assert kept == {ids[0], ids[2], ids[3]}
    finally:
        await owner.close()


def test_how_long_is_a_setting_and_nought_keeps_all() -> None:
    fields = {
        "database_url": "postgresql://x",
        "redis_url": "redis://x",
        "secret_key": ("a key of thirty-two characters at least",),
    }
    assert Settings(**fields).worker().retention == timedelta(days=400)  # type: ignore[arg-type]
    assert Settings(**fields, retention_days=30).worker().retention == timedelta(days=30)  # type: ignore[arg-type]
    assert Settings(**fields, retention_days=0).worker().retention is None  # type: ignore[arg-type]
