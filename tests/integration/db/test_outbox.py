"""The outbox: one worker at a time has a message, and a late one writes nothing."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from db import outbox
from db.accounts import Account
from db.matching import match_events
from db.messages import Message, find_messages
from db.outbox import AttemptOutcome, Claim, Ending, Lane, cancel, find_due, finish_all
from db.patients import Patient
from db.pool import Connection, Database, PoolSize
from db.practices import Practice
from mail.event import EventKind
from mail.ids import MessageId
from mail.status import Verdict
from tests.integration.db.houses import HOUR, event, matched, now
from tests.support.outbox import claim
from tests.support.practice import make_account, make_message, make_patient

EXPIRED = timedelta(0)


@pytest.fixture
async def patient(database: Database, practice: Practice) -> Patient:
    return await make_patient(database, practice)


@pytest.fixture
async def account(database: Database, practice: Practice) -> Account:
    return await make_account(database, practice)


@pytest.fixture
async def message_id(database: Database, practice: Practice, patient: Patient, account: Account) -> MessageId:
    return await make_message(database, practice, patient, account)


async def take(database: Database, practice: Practice, message_id: UUID, lease: timedelta = HOUR) -> Claim | None:
    async with database.tenant(practice.id) as connection:
        return await claim(connection, practice.id, message_id, lease)


async def end(database: Database, claimed: Claim, kind: EventKind, **options: Any) -> bool:
    outcome = {
        EventKind.ACCEPTED: AttemptOutcome.ACCEPTED,
        EventKind.FAILED: AttemptOutcome.REFUSED,
        EventKind.ATTEMPT_DEFERRED: AttemptOutcome.DEFERRED,
    }[kind]
    async with database.tenant(claimed.practice_id) as connection:
        ending = Ending(claimed, outcome, event(kind, f"{claimed.number}/{kind.value}"), **options)
        return bool(await finish_all(connection, claimed.practice_id, [ending]))


async def read(database: Database, practice: Practice, message_id: MessageId) -> Message:
    return (await find_messages(database.app, practice.id, [message_id]))[message_id]


async def row(owner: asyncpg.Connection, message_id: UUID) -> asyncpg.Record:
    found = await owner.fetchrow("SELECT *, verdict::text AS verdict FROM message WHERE id = $1", message_id)
    assert found is not None
    return found


async def attempts(owner: asyncpg.Connection, message_id: UUID) -> list[tuple[int, str | None]]:
    rows = await owner.fetch("SELECT number, outcome FROM attempt WHERE message_id = $1 ORDER BY number", message_id)
    return [(entry["number"], entry["outcome"]) for entry in rows]


async def waiting(owner: asyncpg.Connection, count: int = 1) -> None:
    """Until so many connections wait for a lock."""
    async with asyncio.timeout(10):
        while (
            await owner.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            < count
        ):
            await asyncio.sleep(0)


async def test_of_twenty_claims_at_once_one_wins(
    database_url: str, practice: Practice, message_id: MessageId, owner: asyncpg.Connection
) -> None:
    async with Database(database_url, PoolSize(20, 20)) as database:
        claims = await asyncio.gather(*(take(database, practice, message_id) for _ in range(20)))
    won = [claimed for claimed in claims if claimed]
    assert [claimed.number for claimed in won] == [1]
    assert await attempts(owner, message_id) == [(1, None)]


async def test_a_claim_carries_everything_that_the_transport_needs(
    database: Database, practice: Practice, patient: Patient, account: Account, message_id: MessageId
) -> None:
    claimed = await take(database, practice, message_id)
    assert claimed is not None
    queued_at = (await read(database, practice, message_id)).queued_at
    assert claimed == Claim(
        practice_id=practice.id,
        message_id=message_id,
        number=1,
        tries=1,
        account_id=account.id,
        account_kind=account.kind,
        provider="sendgrid",
        sender=account.sender,
        reply_to=None,
        recipient=outbox.Address("pat@mail.example", "Pat Example"),
        subject="Your results are ready",
        body=outbox.Body("Please call us.", None),
        track_opens=True,
        queued_at=queued_at,
        first_due=queued_at,
        started_at=claimed.started_at,
        account_refused=False,
        bulk=False,
    )


async def test_a_message_is_due_until_it_is_claimed_and_again_when_the_lease_ends(
    database: Database, practice: Practice, message_id: MessageId
) -> None:
    message = await read(database, practice, message_id)
    assert await find_due(database.dispatcher) == [Lane(practice.id, message.account_id)]
    assert await take(database, practice, message_id, HOUR)
    assert await find_due(database.dispatcher) == []
    assert await take(database, practice, message_id) is None


async def test_a_lease_that_ended_gives_the_next_attempt_and_says_that_the_last_was_ambiguous(
    database: Database, practice: Practice, message_id: MessageId, owner: asyncpg.Connection
) -> None:
    first = await take(database, practice, message_id, EXPIRED)
    second = await take(database, practice, message_id)
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    assert await attempts(owner, message_id) == [(1, "abandoned"), (2, None)]
    message = await read(database, practice, message_id)
    assert (message.ambiguous, message.verdict) == (True, Verdict.QUEUED)
    keys = await owner.fetch("SELECT kind, dedupe_key, source FROM message_event")
    assert [tuple(key) for key in keys] == [("attempt_ambiguous", "attempt/1/abandoned", "attempt")]


async def test_a_worker_whose_lease_was_lost_writes_nothing(
    database: Database, practice: Practice, message_id: MessageId, owner: asyncpg.Connection
) -> None:
    late = await take(database, practice, message_id, EXPIRED)
    assert late is not None
    assert await take(database, practice, message_id)
    before = await row(owner, message_id)
    assert not await end(database, late, EventKind.ACCEPTED, provider_message_id="theirs")
    assert await row(owner, message_id) == before
    assert await owner.fetchval("SELECT count(*) FROM message_event WHERE kind = 'accepted'") == 0
    assert await attempts(owner, message_id) == [(1, "abandoned"), (2, None)]


async def test_a_lease_that_ended_still_counts_while_nobody_else_has_begun(
    database: Database, practice: Practice, message_id: MessageId, owner: asyncpg.Connection
) -> None:
    slow = await take(database, practice, message_id, EXPIRED)
    assert slow is not None
    assert await end(database, slow, EventKind.ACCEPTED, provider_message_id="theirs")
    assert await attempts(owner, message_id) == [(1, "accepted")]
    assert await take(database, practice, message_id) is None
    assert await find_due(database.dispatcher) == []


async def test_an_end_is_written_once(database: Database, practice: Practice, message_id: MessageId) -> None:
    claimed = await take(database, practice, message_id)
    assert claimed is not None
    ends = await asyncio.gather(*(end(database, claimed, EventKind.ACCEPTED) for _ in range(5)))
    assert sorted(ends) == [False, False, False, False, True]


async def test_an_accepted_message_is_sent_and_found_by_the_id_of_the_esp(
    database: Database, practice: Practice, account: Account, message_id: MessageId
) -> None:
    claimed = await take(database, practice, message_id)
    assert claimed is not None
    assert await end(database, claimed, EventKind.ACCEPTED, provider_message_id="theirs")
    message = await read(database, practice, message_id)
    assert message.verdict is Verdict.SENT
    assert message.sent_at is not None
    async with database.tenant(practice.id) as connection:
        asked = [event(EventKind.DELIVERED, theirs="theirs"), event(EventKind.DELIVERED, theirs="nobody's")]
        told = [(account.id, each) for each in asked]
        assert await match_events(connection, practice.id, told) == [message_id, None]


async def test_a_message_put_off_is_due_again_when_said(
    database: Database, practice: Practice, message_id: MessageId, owner: asyncpg.Connection
) -> None:
    claimed = await take(database, practice, message_id)
    assert claimed is not None
    later = now() + HOUR
    assert await end(database, claimed, EventKind.ATTEMPT_DEFERRED, due_at=later)
    found = await row(owner, message_id)
    assert (found["due_at"], found["verdict"], found["attempt_failed"]) == (later, "queued", True)
    assert await take(database, practice, message_id) is None


@pytest.mark.parametrize(
    "kind", [kind for kind in EventKind if event(kind).verdict > Verdict.QUEUED], ids=lambda kind: kind.value
)
async def test_a_message_of_which_more_is_known_than_queued_is_never_claimed(
    database: Database, practice: Practice, message_id: MessageId, owner: asyncpg.Connection, kind: EventKind
) -> None:
    async with database.tenant(practice.id) as connection:
        await outbox.record_events(connection, practice.id, [matched(message_id, kind)])
    assert (await row(owner, message_id))["due_at"] is None
    await owner.execute("UPDATE message SET due_at = now() - interval '1 day'")
    assert await take(database, practice, message_id) is None
    assert await attempts(owner, message_id) == []


async def test_evidence_that_comes_during_an_attempt_ends_the_trying(
    database: Database, practice: Practice, message_id: MessageId, owner: asyncpg.Connection
) -> None:
    claimed = await take(database, practice, message_id)
    assert claimed is not None
    async with database.tenant(practice.id) as connection:
        await outbox.record_events(connection, practice.id, [matched(message_id, EventKind.DELIVERED)])
    assert await end(database, claimed, EventKind.ATTEMPT_DEFERRED, due_at=now() + HOUR)
    assert (await row(owner, message_id))["due_at"] is None


async def withdraw(database: Database, practice: Practice, message_id: UUID) -> bool:
    async with database.tenant(practice.id) as connection:
        return await cancel(connection, practice.id, message_id, now())


async def test_a_queued_message_is_withdrawn_once_and_never_sent(
    database: Database, practice: Practice, message_id: MessageId
) -> None:
    assert await withdraw(database, practice, message_id)
    assert not await withdraw(database, practice, message_id)
    assert await take(database, practice, message_id) is None
    message = await read(database, practice, message_id)
    assert message.verdict is Verdict.CANCELLED
    assert message.cancelled_at is not None


async def test_a_message_in_the_hands_of_a_worker_is_not_withdrawn(
    database: Database, practice: Practice, message_id: MessageId
) -> None:
    claimed = await take(database, practice, message_id)
    assert claimed is not None
    assert not await withdraw(database, practice, message_id)
    assert await end(database, claimed, EventKind.ATTEMPT_DEFERRED, due_at=now() + HOUR)
    assert await withdraw(database, practice, message_id)


async def open_tenant(database: Database, practice: Practice) -> tuple[Connection, asyncpg.transaction.Transaction]:
    """A transaction that the test ends itself."""
    connection = await database.app.acquire()
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT set_config('carepost.practice_id', $1, true)", str(practice.id))
    return connection, transaction


async def test_a_withdrawal_that_waits_for_a_claim_comes_too_late(
    database: Database, practice: Practice, message_id: MessageId, owner: asyncpg.Connection
) -> None:
    connection, transaction = await open_tenant(database, practice)
    claimed = await claim(connection, practice.id, message_id, HOUR)
    late = asyncio.create_task(withdraw(database, practice, message_id))
    await waiting(owner)
    await transaction.commit()
    await database.app.release(connection)
    assert claimed is not None
    assert not await late
    assert (await row(owner, message_id))["verdict"] == "queued"


async def test_a_claim_passes_by_what_is_being_withdrawn(
    database: Database, practice: Practice, message_id: MessageId, owner: asyncpg.Connection
) -> None:
    connection, transaction = await open_tenant(database, practice)
    assert await cancel(connection, practice.id, message_id, now())
    assert await take(database, practice, message_id) is None
    await transaction.commit()
    await database.app.release(connection)
    assert await take(database, practice, message_id) is None
    assert await attempts(owner, message_id) == []


async def test_of_a_claim_and_a_withdrawal_at_once_one_wins(
    database: Database, practice: Practice, patient: Patient, account: Account, owner: asyncpg.Connection
) -> None:
    for _ in range(20):
        message_id = await make_message(database, practice, patient, account)
        claimed, withdrawn = await asyncio.gather(
            take(database, practice, message_id), withdraw(database, practice, message_id)
        )
        assert (claimed is None) == withdrawn
        assert await attempts(owner, message_id) == ([] if withdrawn else [(1, None)])


async def test_an_end_that_meets_the_next_claim_waits_for_it_and_writes_nothing(
    database: Database, practice: Practice, message_id: MessageId, owner: asyncpg.Connection
) -> None:
    late = await take(database, practice, message_id, EXPIRED)
    assert late is not None
    connection, transaction = await open_tenant(database, practice)
    await connection.execute("SELECT FROM message WHERE id = $1 FOR NO KEY UPDATE", message_id)
    ending = asyncio.create_task(end(database, late, EventKind.ACCEPTED))
    await waiting(owner)
    # The end waits for the message while holding nothing, so the claim can note that the attempt was abandoned.
    claimed = await claim(connection, practice.id, message_id, HOUR)
    await transaction.commit()
    await database.app.release(connection)
    assert claimed is not None
    assert not await ending
    assert await attempts(owner, message_id) == [(1, "abandoned"), (2, None)]
