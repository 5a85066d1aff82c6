"""The first bulk of an installation: what Postgres has planned for next to nothing reads no more than it should."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import asyncpg

from db.events import Matched, record_events
from db.inbox import Applied, mark_applied, take_pending
from db.matching import lock_matching
from db.messages import insert_messages
from db.outbox import AttemptOutcome, Claim, Ending, Lane, claim_due, finish_all
from db.pool import Connection, Database, PoolSize
from mail.event import Event, EventKind, EventSource
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from tests.integration.db.houses import House, event, furnish, now, promise
from tests.support.databases import OWN_SEALER
from tests.support.practice import make_delivery

BULK, BATCH = 1500, 16
Done = TypeVar("Done")
AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)


def accepted(claim: Claim) -> Ending:
    told = Event(kind=EventKind.ACCEPTED, occurred_at=now(), dedupe_key=f"attempt/{claim.number}/accepted")
    return Ending(claim, AttemptOutcome.ACCEPTED, told, f"theirs-{claim.message_id}")


def bounced(message_id: MessageId, key: str) -> Matched:
    failure = Failure(FailureKind.ADDRESS_UNKNOWN, 550, "5.1.1", "no such mailbox")
    return Matched(message_id, event(EventKind.BOUNCED, key, failure=failure), EventSource.WEBHOOK, now())


async def rows_read(connection: Connection) -> int:
    """By this connection so far, but for what it has told the statistics."""
    count: int = await connection.fetchval(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_user_tables "
        "WHERE relname IN ('message', 'patient', 'attempt', 'webhook_delivery')"
    )
    return count


class Batch:
    """What workers do with a batch, and how many rows of big tables each part of it reads by an index or otherwise."""

    def __init__(self, database: Database, house: House) -> None:
        self._database = database
        self._house = house
        self.read: dict[str, int] = {}

    async def run(self) -> None:
        practice_id, account_id = self._house.practice.id, self._house.account.id
        lane = Lane(practice_id, account_id)
        claims = await self._count(
            "claim", lambda on: claim_due(on, OWN_SEALER, lane, "worker", timedelta(hours=1), BATCH)
        )
        assert claims
        ids = [claim.message_id for claim in claims]
        written = await self._count(
            "finish", lambda on: finish_all(on, practice_id, [accepted(claim) for claim in claims])
        )
        assert {message_id for message_id, _ in written} == set(ids)
        events = [event(EventKind.DELIVERED, ours=each) for each in ids]
        events += [event(EventKind.OPENED, theirs=f"theirs-{each}") for each in ids]
        told = [(account_id, each) for each in events]
        matched, _ = await self._count("match", lambda on: lock_matching(on, practice_id, told))
        assert matched == [*ids, *ids]
        delivered = [
            Matched(message_id, each, EventSource.WEBHOOK, now())
            for message_id, each in zip(matched, events, strict=True)
            if message_id
        ]
        assert await self._count("append", lambda on: record_events(on, practice_id, delivered)) == set(ids)
        refused = [bounced(each, "bounced") for each in ids]
        assert await self._count("append failures", lambda on: record_events(on, practice_id, refused)) == set(ids)

        async def apply(connection: Connection) -> Sequence[object]:
            taken = await take_pending(connection, OWN_SEALER, practice_id, BATCH)
            await mark_applied(connection, practice_id, [Applied(each.id, 1, 0, None, True) for each in taken])
            return taken

        assert await self._count("apply", apply)

    async def _count(self, name: str, part: Callable[[Connection], Awaitable[Done]]) -> Done:
        async with self._database.tenant(self._house.practice.id) as connection:
            before = await rows_read(connection)
            done = await part(connection)
            self.read[name] = await rows_read(connection) - before
        return done


async def test_a_batch_reads_its_own_rows_and_not_all_of_the_practice(
    database_url: str, owner: asyncpg.Connection
) -> None:
    for table in ("message", "patient", "attempt", "webhook_delivery"):
        await owner.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    async with Database(database_url, PoolSize(1, 1)) as database:
        house = await furnish(database, database_url, "northgate")
        await write(database, house, 1)
        await Batch(database, house).run()  # from here on all is planned
        await write(database, house, BULK)
        batch = Batch(database, house)
        await batch.run()
    # Some twenty reads for each message at most, locks and foreign keys included.
    assert {name: read for name, read in batch.read.items() if read > 20 * BATCH} == {}


async def write(database: Database, house: House, count: int) -> None:
    async with database.tenant(house.practice.id) as connection:
        messages = [promise(house, queued_at=AN_HOUR_AGO) for _ in range(count)]
        await insert_messages(connection, OWN_SEALER, house.practice.id, messages)
    for _ in range(count):
        await make_delivery(database, house.practice, house.account.id)
