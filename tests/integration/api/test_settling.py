"""Webhooks settled by several workers at once, with one bad event among many, and by clocks that are wrong."""

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from db.events import Appended, Matched, append_events, record_events
from db.ids import uuid7
from db.locks import Locked
from db.matching import lock_matching
from db.messages import find_messages
from db.outbox import AttemptOutcome, Lane, claim_due
from db.pool import Connection, Database
from db.practices import Practice
from mail.event import Event, EventKind, EventSource
from mail.failure import Failure, FailureKind
from mail.ids import MessageId, PracticeId
from mail.status import CLOCK_TOLERANCE, Verdict, believed_at
from tests.integration.api.evidence import make_messages
from tests.integration.api.hooks import NOON
from tests.integration.api.test_replaying import READ, Inbox, event
from tests.support.databases import OWN_SEALER
from tests.support.outbox import claim, finish
from tests.support.practice import make_account, make_message, make_patient
from workers.apply import Applier
from workers.jobs import Jobs

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
async def inbox(database: Database, practice: Practice, hurry: Jobs) -> Inbox:
    return Inbox(database, practice, await make_account(database, practice), hurry)


async def messages_of(inbox: Inbox, count: int) -> list[MessageId]:
    patient = await make_patient(inbox.database, inbox.practice)
    return await make_messages(inbox.database, inbox.practice, patient, inbox.account, count)


async def test_of_a_thousand_webhooks_one_that_the_store_refuses_is_set_aside_and_told_by_its_place(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = await messages_of(inbox, 1000)
    calls = 0

    async def refuse_one(
        connection: Connection, practice_id: PracticeId, matched: list[Matched], locked: Mapping[MessageId, Locked]
    ) -> Appended:
        nonlocal calls
        calls += 1
        if any(entry.message_id == messages[700] for entry in matched):
            await connection.execute("SELECT 1 / 0")
        return await append_events(connection, practice_id, matched, locked)

    monkeypatch.setattr("workers.settle.append_events", refuse_one)
    monkeypatch.setattr(READ, inbox.reading())
    ids = [await inbox.take(event(EventKind.DELIVERED, message)) for message in messages]
    await inbox.apply()
    async with inbox.database.tenant(inbox.practice.id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM message WHERE verdict = 'delivered'") == 999
        rows = await connection.fetch("SELECT id, state::text, error FROM webhook_delivery WHERE error IS NOT NULL")
    assert [tuple(row) for row in rows] == [(ids[700], "applied", "event 0: refused by the store: DivisionByZeroError")]
    assert calls < 25, "it is found by halving"


async def test_an_error_that_is_not_an_events_sets_nothing_aside(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    [message] = await messages_of(inbox, 1)
    monkeypatch.setattr(READ, inbox.reading())
    await inbox.take(event(EventKind.DELIVERED, message))
    for error in (asyncpg.DeadlockDetectedError("x"), asyncpg.QueryCanceledError("x"), OSError("x"), TypeError("x")):

        async def fail(*_: Any, error: Exception = error) -> Appended:
            raise error

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("workers.settle.append_events", fail)
            await inbox.apply()
        async with inbox.database.tenant(inbox.practice.id) as connection:
            row = await connection.fetchrow("SELECT state::text, error FROM webhook_delivery")
        assert row is not None
        assert tuple(row) == ("pending", None), error
    await inbox.apply()
    assert (await inbox.sums(message)).verdict is Verdict.DELIVERED


async def test_many_workers_with_crossing_messages_and_a_bad_event_never_deadlock(
    inbox: Inbox, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(5)
    messages = await messages_of(inbox, 40)
    bad = messages[13]
    errors: list[type[Exception]] = []

    async def watched(
        connection: Connection, practice_id: PracticeId, matched: list[Matched], locked: Mapping[MessageId, Locked]
    ) -> Appended:
        if any(entry.message_id == bad and entry.event.kind is EventKind.CLICKED for entry in matched):
            await connection.execute("SELECT 1 / 0")
        try:
            return await append_events(connection, practice_id, matched, locked)
        except Exception as error:
            errors.append(type(error))
            raise

    monkeypatch.setattr("workers.settle.append_events", watched)
    monkeypatch.setattr(READ, inbox.reading())
    good = 0
    for number in range(200):
        events = [
            event(kind, chance.choice(messages), key=f"{number}/{place}")
            for place, kind in enumerate(chance.choices([EventKind.OPENED, EventKind.BOUNCED, EventKind.CLICKED], k=6))
        ]
        strangers = [event(EventKind.OPENED, provider_message_id=f"x{n}", key="x") for n in chance.sample(range(20), 4)]
        good += sum(each.message_id != bad or each.kind is not EventKind.CLICKED for each in events)
        await inbox.take(*events, *strangers)
    async with Database(database_url) as other:
        appliers = [
            Applier(database, OWN_SEALER, inbox.hurry, reader=1, batch=batch)
            for database, batch in itertools.product((inbox.database, other), (3, 10, 40))
        ]
        counts = await asyncio.gather(*(applier.apply_pending() for applier in appliers))
    assert sum(counts) == 200
    assert errors == []
    async with inbox.database.tenant(inbox.practice.id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM message_event") == good
        assert await connection.fetchval("SELECT count(*) FROM parked_event") == 20


async def test_an_event_beside_our_own_commit_of_the_esps_id_finds_its_message_without_the_sweeper(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up finds no message, then the send is committed and sees nothing parked, then the event is parked."""
    patient = await make_patient(inbox.database, inbox.practice)
    message = await make_message(inbox.database, inbox.practice, patient, inbox.account)
    async with inbox.database.tenant(inbox.practice.id) as connection:
        claimed = await claim(connection, inbox.practice.id, message, HOUR)
    assert claimed is not None

    async def then_it_is_committed(*arguments: Any) -> tuple[list[MessageId | None], dict[MessageId, Locked]]:
        found = await lock_matching(*arguments)
        async with inbox.database.tenant(inbox.practice.id) as connection:
            accepted = event(EventKind.ACCEPTED, key="attempt/1/accepted")
            assert await finish(connection, claimed, AttemptOutcome.ACCEPTED, accepted, "theirs")
        return found

    monkeypatch.setattr("workers.settle.lock_matching", then_it_is_committed)
    monkeypatch.setattr(READ, inbox.reading())
    await inbox.take(event(EventKind.DELIVERED, provider_message_id="theirs"))
    await inbox.apply()
    assert (await inbox.sums(message)).verdict is Verdict.DELIVERED


async def test_events_with_an_id_of_ours_that_is_not_theirs_are_settled_by_the_esps_id_in_the_order_of_all(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by what is looked up second, a message would be locked after those that the rest of the batch has."""
    chance = random.Random(11)
    messages = await messages_of(inbox, 20)
    async with inbox.database.tenant(inbox.practice.id) as connection:
        await connection.execute("UPDATE message SET provider_message_id = 'sg-' || id")
    monkeypatch.setattr(READ, inbox.reading())
    for number in range(100):
        known, strange = chance.sample(messages, 2)
        kinds = chance.sample([EventKind.OPENED, EventKind.CLICKED, EventKind.BOUNCED], 2)
        await inbox.take(
            event(kinds[0], known, key=f"{number}/0"),
            event(kinds[1], MessageId(uuid7(NOON)), provider_message_id=f"sg-{strange}", key=f"{number}/1"),
        )
    appliers = [Applier(inbox.database, OWN_SEALER, inbox.hurry, reader=1, batch=batch) for batch in (1, 3, 10)]
    with capture_logs() as logs:
        counts = await asyncio.gather(*(applier.apply_pending() for applier in appliers))
    assert sum(counts) == 100
    assert [entry for entry in logs if entry["log_level"] != "debug"] == []
    async with inbox.database.tenant(inbox.practice.id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM message_event") == 200
        assert await connection.fetchval("SELECT count(*) FROM parked_event") == 0


async def test_however_sends_and_their_events_race_none_is_left_waiting(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READ, inbox.reading())
    patient = await make_patient(inbox.database, inbox.practice)
    messages = [await make_message(inbox.database, inbox.practice, patient, inbox.account) for _ in range(40)]
    chance = random.Random(7)

    async def send() -> None:
        lane = Lane(inbox.practice.id, inbox.account.id)
        async with inbox.database.tenant(inbox.practice.id) as connection:
            [claimed] = await claim_due(connection, OWN_SEALER, lane, "worker", HOUR, 1)
        await asyncio.sleep(chance.random() / 50)
        async with inbox.database.tenant(inbox.practice.id) as connection:
            accepted = event(EventKind.ACCEPTED, key="attempt/1/accepted")
            # Raises when it is the victim of a deadlock with whoever joins what is parked.
            their_id = f"sg-{claimed.message_id}"
            assert await finish(connection, claimed, AttemptOutcome.ACCEPTED, accepted, their_id)

    async def hear(message: MessageId) -> None:
        await asyncio.sleep(chance.random() / 50)
        await inbox.take(event(EventKind.DELIVERED, provider_message_id=f"sg-{message}"))
        await inbox.apply()

    applier = Applier(inbox.database, OWN_SEALER, inbox.hurry, reader=1)

    async def sweep() -> None:
        for _ in range(10):
            await applier.join_parked()

    await asyncio.gather(*(send() for _ in messages), *map(hear, messages), sweep())
    await applier.join_parked()
    found = await find_messages(inbox.database.app, inbox.practice.id, messages)
    assert {each.verdict for each in found.values()} == {Verdict.DELIVERED}


class TestAClockInTheFuture:
    async def test_of_an_esp_is_not_believed(self, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
        [message] = await messages_of(inbox, 1)
        future = datetime.now(UTC) + timedelta(days=900)
        failure = Failure(FailureKind.ADDRESS_UNKNOWN)
        told = Event(kind=EventKind.BOUNCED, occurred_at=future, dedupe_key="x", message_id=message, failure=failure)
        monkeypatch.setattr(READ, inbox.reading())
        before = datetime.now(UTC)
        await inbox.take(told)
        await inbox.apply()
        found = await inbox.sums(message)
        assert before <= found.returned_at <= datetime.now(UTC)
        assert before <= found.sent_at <= datetime.now(UTC)
        [(_, _, occurred_at, *_)] = await inbox.evidence(message)
        assert occurred_at == future, "the evidence is as it was told"
        async with inbox.database.tenant(inbox.practice.id) as connection:
            assert await connection.fetchval("SELECT email_health_at FROM patient") <= datetime.now(UTC)

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
    async def test_counts_alike_in_whatever_order_its_copies_come(
        self, database: Database, practice: Practice, order: tuple[int, ...]
    ) -> None:
        account = await make_account(database, practice)
        message = await make_message(database, practice, await make_patient(database, practice), account, at=NOON)
        told = Event(kind=EventKind.DELIVERED, occurred_at=NOON + HOUR, dedupe_key="x")
        # By the third the time has come, so that by itself it would count with its own.
        received = [NOON + timedelta(minutes=minute) for minute in (20, 10, 90)]
        for number in order:
            async with database.tenant(practice.id) as connection:
                await record_events(
                    connection, practice.id, [Matched(message, told, EventSource.WEBHOOK, received[number])]
                )
        found = (await find_messages(database.app, practice.id, [message]))[message]
        assert found.delivered_at == found.sent_at == received[1]

    async def test_is_the_same_to_postgres_and_to_the_program(self, database: Database) -> None:
        step = timedelta(microseconds=1)
        for away in (-HOUR, timedelta(), CLOCK_TOLERANCE - step, CLOCK_TOLERANCE, CLOCK_TOLERANCE + step, 9 * HOUR):
            stored = await database.app.fetchval("SELECT believed_at($1, $2)", NOON + away, NOON)
            assert stored == believed_at(NOON + away, NOON) == (NOON if away > CLOCK_TOLERANCE else NOON + away)
