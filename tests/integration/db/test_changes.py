"""What changed since a position: repeats are harmless, a miss is a bug."""

from contextlib import AsyncExitStack

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.changes import Reading, read_changes
from db.events import Matched, record_events
from db.ids import uuid_floor
from db.messages import Message, MessageFilter, find_messages, page_of_messages
from db.pool import Database
from db.position import Position
from mail.event import EventKind, EventSource
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from mail.status import Verdict
from tests.integration.db.houses import BEFORE_EVERYTHING, HOUR, House, event, matched, now, record
from tests.support.fuzzing import examples
from tests.support.outbox import claim
from tests.support.practice import BEGINNING, make_message


async def read_all(
    database: Database, house: House, since: Position, limit: int
) -> tuple[dict[MessageId, Message], Position, list[int]]:
    """Everything since a position, page by page: the messages, where to resume, the sizes of the pages."""
    seen, sizes, reading = {}, [], Reading(since)
    while reading.begin is not None:
        page = await read_changes(database.app, house.practice.id, reading.begin, limit)
        assert [change.transaction for change in page.changes] == sorted(change.transaction for change in page.changes)
        seen.update({change.message.id: change.message for change in page.changes})
        sizes.append(len(page.changes))
        assert reading.takes(page)
    return seen, reading.position, sizes


async def test_a_change_after_a_position_is_read_from_there(database: Database, house: House) -> None:
    since = await database.horizon.advance()
    assert (await read_all(database, house, since, 10))[0] == {}
    await record(database, house, EventKind.DELIVERED)
    seen, position, _ = await read_all(database, house, since, 10)
    assert {message_id: message.verdict for message_id, message in seen.items()} == {
        house.message_id: Verdict.DELIVERED
    }
    assert (await read_all(database, house, position, 10))[0] == {}
    assert since < position <= await database.horizon.advance()


async def test_a_transaction_begun_before_and_committed_after_a_later_one_is_not_missed(
    database: Database, house: House
) -> None:
    """Kinds of event that say nothing of the address: otherwise the one would wait for the other at the patient."""
    other_id = await make_message(database, house.practice, house.patient, house.account)
    since = await database.horizon.advance()
    async with database.tenant(house.practice.id) as slow:
        await record_events(slow, house.practice.id, [matched(house.message_id, EventKind.UNSUBSCRIBED)])
        await record(database, house, EventKind.ACCEPTED, message_id=other_id)
        seen, between, _ = await read_all(database, house, since, 10)
        assert set(seen) == {other_id}
        page = await page_of_messages(database.app, house.practice.id, MessageFilter(), 10, None, BEFORE_EVERYTHING)
        assert {message.id: message.verdict for message in page.messages}[house.message_id] is Verdict.QUEUED
    for position in (between, between._replace(transaction=page.running)):
        seen, after, _ = await read_all(database, house, position, 10)
        assert seen[house.message_id].verdict is Verdict.DELIVERED
    assert (await read_all(database, house, after, 10))[0] == {}


async def test_pages_hold_every_change_once_and_those_of_one_transaction_together(
    database: Database, house: House
) -> None:
    since = await database.horizon.advance()
    several = [await make_message(database, house.practice, house.patient, house.account) for _ in range(5)]
    async with database.tenant(house.practice.id) as connection:
        together = [matched(message_id, EventKind.ACCEPTED) for message_id in several[:3]]
        await record_events(connection, house.practice.id, together)
    seen, _, sizes = await read_all(database, house, since, 1)
    assert set(seen) == set(several)
    assert sizes == [1, 1, 3, 0]
    assert (await read_all(database, house, since, 2))[2] == [2, 3, 0]
    assert (await read_all(database, house, since, 100))[2] == [5]


async def test_a_reader_may_ask_for_one_patient_or_some_messages(database: Database, house: House) -> None:
    another = await make_message(database, house.practice, house.patient, house.account)

    async def ids(**wanted: object) -> set[MessageId]:
        page = await read_changes(database.app, house.practice.id, 0, 10, **wanted)
        return {change.message.id for change in page.changes}

    assert await ids(patient_id=house.patient.id) == {house.message_id, another}
    assert await ids(patient_id=uuid_floor(now())) == set()
    assert await ids(message_ids=[another, uuid_floor(now())]) == {another}
    assert await ids(message_ids=[]) == set()


async def test_numbers_that_came_with_a_dump_of_another_cluster_tell_nothing(
    database_url: str, database: Database, house: House
) -> None:
    since = await database.horizon.advance()
    owner = await asyncpg.connect(database_url)
    await owner.execute("UPDATE message SET changed_xid = '1000000000000'")
    await owner.close()
    seen, position, _ = await read_all(database, house, since, 10)
    assert (seen, position) == ({}, since)
    await record(database, house, EventKind.DELIVERED)
    assert set((await read_all(database, house, since, 10))[0]) == {house.message_id}


async def test_a_claim_and_a_repeat_change_nothing_that_anybody_sees(database: Database, house: House) -> None:
    another = await make_message(database, house.practice, house.patient, house.account)
    await record(database, house, EventKind.DELIVERED)
    since = await database.horizon.advance()
    async with database.tenant(house.practice.id) as connection:
        assert await claim(connection, house.practice.id, another, HOUR)
    await record(database, house, EventKind.DELIVERED)
    assert (await read_all(database, house, since, 10))[0] == {}


async def test_another_practices_changes_are_not_read(database: Database, house: House, other: House) -> None:
    assert set((await read_all(database, house, BEGINNING, 10))[0]) == {house.message_id}
    assert set((await read_all(database, other, BEGINNING, 10))[0]) == {other.message_id}


@pytest.fixture
async def many(database: Database, house: House) -> list[MessageId]:
    return [await make_message(database, house.practice, house.patient, house.account) for _ in range(4)]


@settings(max_examples=examples(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 3)),
            st.tuples(st.just("commit"), st.integers(0, 3)),
            st.tuples(st.just("roll back"), st.integers(0, 3)),
            st.tuples(st.just("read"), st.integers(1, 3)),
        ),
        max_size=20,
    )
)
async def test_a_reader_that_resumes_misses_nothing_however_transactions_cross(
    database: Database, house: House, many: list[MessageId], steps: list[tuple[str, int]]
) -> None:
    """Each writer has a message of its own, so that none waits for another."""
    view = await find_messages(database.app, house.practice.id, many)
    position = await database.horizon.advance()
    open_writers: dict[int, asyncpg.transaction.Transaction] = {}
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(database.app.acquire()) for _ in many]

        async def abandon() -> None:
            for transaction in open_writers.values():
                await transaction.rollback()

        async def write(writer: int, number: int) -> None:
            connection = connections[writer]
            if writer not in open_writers:
                open_writers[writer] = connection.transaction()
                await open_writers[writer].start()
                practice = str(house.practice.id)
                await connection.execute("SELECT set_config('carepost.practice_id', $1, true)", practice)
            # A reason of its own, so that each write is one that anybody sees.
            reason = f"{number}/{now().isoformat()}"
            told = event(EventKind.BOUNCED, reason, failure=Failure(FailureKind.OTHER, reason=reason))
            entry = Matched(many[writer], told, EventSource.WEBHOOK, now())
            await record_events(connection, house.practice.id, [entry])

        stack.push_async_callback(abandon)
        for number, (step, which) in enumerate([*steps, *(("commit", writer) for writer in range(4)), ("read", 1)]):
            if step == "write":
                await write(which, number)
            elif step == "read":
                seen, position, _ = await read_all(database, house, position, which)
                view.update({message_id: message for message_id, message in seen.items() if message_id in view})
                assert view == await find_messages(database.app, house.practice.id, many)
            elif which in open_writers:
                transaction = open_writers.pop(which)
                await (transaction.commit() if step == "commit" else transaction.rollback())
