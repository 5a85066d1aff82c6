"""Messages and patients as they are stored and listed: once, and each exactly once on the pages of a list."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.event_pages import find_event, page_of_events
from db.events import Matched, record_events
from db.messages import Body, MessageFilter, find_bodies, find_by_idempotency_keys, page_of_messages, pages_by_patient
from db.patients import Patient, create_patient, page_of_patients
from db.pool import Database, PoolSize
from db.report import count_by_status
from mail.event import EventKind, EventSource
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from mail.status import AccountKind, MessageStatus, Verdict, ceiling, status_of
from tests.integration.db.houses import BEFORE_EVERYTHING, House, event, matched, promise, record, store
from tests.support.databases import OWN_SEALER
from tests.support.fuzzing import examples
from tests.support.practice import make_account, make_delivery, make_patient

NIGHT = datetime(2026, 3, 1, tzinfo=UTC)
one_database = settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


async def test_of_fifty_identical_promises_at_once_one_is_stored(
    database_url: str, house: House, owner: asyncpg.Connection
) -> None:
    promises = [promise(house, idempotency_key="the same") for _ in range(50)]
    async with Database(database_url, PoolSize(10, 10)) as database:
        stored = await asyncio.gather(*(store(database, house, message) for message in promises))
    won = set().union(*stored)
    assert len(won) == 1
    assert await owner.fetch("SELECT id FROM message WHERE idempotency_key IS NOT NULL") == [(*won,)]


async def test_a_key_that_stands_gives_its_message_with_what_was_written(database: Database, house: House) -> None:
    first = promise(house, idempotency_key="key", body=Body("Grüße", "<p>Grüße</p>"))
    assert await store(database, house, first) == {first.id}
    assert await store(database, house, promise(house, idempotency_key="key", subject="Another")) == set()
    async with database.tenant(house.practice.id) as connection:
        found = await find_by_idempotency_keys(connection, OWN_SEALER, house.practice.id, ["key", "unknown"])
    assert list(found) == ["key"]
    message, body = found["key"]
    assert (message.id, message.subject, body) == (first.id, "Your results are ready", Body("Grüße", "<p>Grüße</p>"))


async def test_the_same_key_of_two_practices_stands_for_two_messages(
    database: Database, house: House, other: House
) -> None:
    mine, theirs = promise(house, idempotency_key="key"), promise(other, idempotency_key="key")
    assert await store(database, house, mine) == {mine.id}
    assert await store(database, other, theirs) == {theirs.id}


async def test_of_one_batch_the_second_of_a_key_is_left_out_and_the_rest_is_stored(
    database: Database, house: House
) -> None:
    keys = ["one", "one", "two", None, None]
    batch = [promise(house, idempotency_key=key) for key in keys]
    assert await store(database, house, *batch) == {batch[place].id for place in (0, 2, 3, 4)}
    assert await store(database, house) == set()


async def test_a_body_is_read_as_it_was_written(database: Database, house: House) -> None:
    bodies = [Body("", None), Body("", ""), Body("Grüße 😀\r\n\x01\u2028", "<p>&amp;</p>"), Body("x" * 1_000_000, None)]
    batch = [promise(house, body=body) for body in bodies]
    await store(database, house, *batch)
    found = await find_bodies(database.app, OWN_SEALER, house.practice.id, [message.id for message in batch])
    assert [found[message.id] for message in batch] == bodies


async def ids_by_pages(
    database: Database, house: House, wanted: MessageFilter, size: int, meanwhile: bool = False
) -> list[MessageId]:
    """All ids of a list, page by page; a new message comes in before each next page if asked for."""
    ids: list[MessageId] = []
    after = None
    while True:
        page = await page_of_messages(database.app, house.practice.id, wanted, size, after, BEFORE_EVERYTHING)
        ids += [message.id for message in page.messages]
        if len(page.messages) < size:
            return ids
        after = ids[-1]
        if meanwhile:
            await store(database, house, promise(house))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
async def test_pages_of_messages_hold_each_once_newest_first_while_new_ones_come_in(
    database: Database, house: House, size: int
) -> None:
    # Several of one millisecond, where only the random part of their ids decides.
    batch = [promise(house, queued_at=NIGHT + timedelta(milliseconds=number // 3)) for number in range(12)]
    await store(database, house, *batch)
    ids = await ids_by_pages(database, house, MessageFilter(), size, meanwhile=True)
    assert ids == [house.message_id, *sorted((message.id for message in batch), reverse=True)]


async def test_a_list_holds_what_was_asked_for(database: Database, house: House) -> None:
    patient = await make_patient(database, house.practice, "second@mail.example")
    account = await make_account(database, house.practice, AccountKind.SMTP)
    mine = promise(house, queued_at=NIGHT, patient_id=patient.id)
    by_smtp = promise(house, queued_at=NIGHT + timedelta(hours=1), account_id=account.id, account_kind=AccountKind.SMTP)
    await store(database, house, mine, by_smtp)

    async def ids(**wanted: object) -> list[MessageId]:
        return await ids_by_pages(database, house, MessageFilter(**wanted), 10)

    assert await ids() == [house.message_id, by_smtp.id, mine.id]
    assert await ids(patient_id=patient.id) == [mine.id]
    assert await ids(account_id=account.id) == [by_smtp.id]
    assert await ids(queued_from=NIGHT, queued_to=NIGHT + timedelta(hours=1)) == [mine.id]
    assert await ids(queued_from=NIGHT, queued_to=NIGHT + timedelta(hours=1, milliseconds=1)) == [by_smtp.id, mine.id]
    assert await ids(queued_from=NIGHT + timedelta(milliseconds=1), queued_to=NIGHT + timedelta(hours=1)) == []
    assert await ids(patient_id=patient.id, account_id=account.id) == []


async def test_each_patient_has_a_page_of_their_own(database: Database, house: House, other: House) -> None:
    patient = await make_patient(database, house.practice, "second@mail.example")
    batch = [promise(house, queued_at=NIGHT + timedelta(hours=hour), patient_id=patient.id) for hour in range(4)]
    await store(database, house, *batch)
    asked = [patient.id, house.patient.id, other.patient.id, UUID(int=0)]

    async def ids(after: UUID | None) -> dict[UUID, list[MessageId]]:
        pages = await pages_by_patient(
            database.app, house.practice.id, asked, MessageFilter(), 3, after, BEFORE_EVERYTHING
        )
        return {patient_id: [message.id for message in page.messages] for patient_id, page in pages.items()}

    newest_first = [message.id for message in reversed(batch)]
    assert await ids(None) == dict(zip(asked, [newest_first[:3], [house.message_id], [], []], strict=True))
    assert await ids(newest_first[2]) == dict(zip(asked, [newest_first[3:], [], [], []], strict=True))
    assert (
        await pages_by_patient(database.app, house.practice.id, [], MessageFilter(), 3, None, BEFORE_EVERYTHING) == {}
    )


async def test_a_page_says_what_ran_when_it_was_read_even_when_it_is_empty(database: Database, house: House) -> None:
    running = (
        await page_of_messages(database.app, house.practice.id, MessageFilter(), 10, UUID(int=0), BEFORE_EVERYTHING)
    ).running
    assert running > 0


EVIDENCE = {
    Verdict.QUEUED: EventKind.AUTO_REPLIED,
    Verdict.CANCELLED: EventKind.CANCELLED,
    Verdict.FAILED: EventKind.FAILED,
    Verdict.SENT: EventKind.ACCEPTED,
    Verdict.RETURNED_SOFT: EventKind.SOFT_BOUNCED,
    Verdict.DELIVERED: EventKind.DELIVERED,
    Verdict.OPENED: EventKind.OPENED,
    Verdict.RETURNED: EventKind.BOUNCED,
}


async def test_filters_and_the_report_agree_with_the_status_that_is_shown(database: Database, house: House) -> None:
    """Every verdict, of every kind of account, sent before and after tracking began."""
    accounts = {kind: await make_account(database, house.practice, kind) for kind in AccountKind}
    patient = await make_patient(database, house.practice, "second@mail.example")
    first_tracked = NIGHT
    shown: dict[MessageId, MessageStatus] = {}
    for kind, account in accounts.items():
        for verdict, evidence in EVIDENCE.items():
            for sent_at in (NIGHT - timedelta(microseconds=1), NIGHT):
                message = promise(
                    house,
                    queued_at=sent_at,
                    account_id=account.id,
                    account_kind=kind,
                    patient_id=patient.id,
                    recipient=patient.email,
                )
                await store(database, house, message)
                async with database.tenant(house.practice.id) as connection:
                    told = [matched(message.id, evidence, at=sent_at)]
                    await record_events(connection, house.practice.id, told)
                shown[message.id] = status_of(verdict, ceiling(kind, sent_at, first_tracked))

    async def found(*statuses: MessageStatus) -> set[MessageId]:
        wanted = MessageFilter(statuses=statuses, patient_id=patient.id)
        page = await page_of_messages(database.app, house.practice.id, wanted, 100, None, first_tracked)
        pages = await pages_by_patient(
            database.app, house.practice.id, [patient.id], MessageFilter(statuses), 100, None, first_tracked
        )
        assert [message.id for message in pages[patient.id].messages] == [message.id for message in page.messages]
        return {message.id for message in page.messages}

    for status in MessageStatus:
        assert await found(status) == {message_id for message_id, said in shown.items() if said is status}, status
    pair = (MessageStatus.SENT, MessageStatus.NOT_DELIVERED)
    assert await found(*pair) == {message_id for message_id, said in shown.items() if said in pair}
    counted = await count_by_status(
        database.app, house.practice.id, NIGHT - timedelta(days=1), NIGHT + timedelta(days=1), first_tracked
    )
    assert counted == {status: list(shown.values()).count(status) for status in MessageStatus}


names = st.sampled_from(["Pat", "pat", "PAT", "Zoë", "zoë", "Ängel", "", "a", "%", "_", "İpek", "ß"])


async def patients_by_pages(database: Database, house: House, search: str, size: int) -> list[Patient]:
    found: list[Patient] = []
    newcomers = iter(["", "a", "pat"])
    while True:
        after = found[-1].id if found else None
        page = await page_of_patients(database.app, house.practice.id, search, size, after)
        found += page
        if len(page) < size:
            return found
        if (name := next(newcomers, None)) is not None:
            async with database.tenant(house.practice.id) as connection:
                await create_patient(connection, house.practice.id, name, "newcomer@mail.example", open_tracking=True)


@one_database
@given(st.lists(names, max_size=12), st.integers(1, 5))
async def test_pages_of_patients_hold_each_once_by_name_while_new_ones_come_in(
    database: Database, house: House, some: list[str], size: int
) -> None:
    async with database.tenant(house.practice.id) as connection:
        known = {house.patient.id} | {
            (await create_patient(connection, house.practice.id, name, "a@mail.example", open_tracking=True)).id
            for name in some
        }
        rows = await connection.fetch("SELECT id, name FROM patient ORDER BY lower(name), id")
    found = [patient for patient in await patients_by_pages(database, house, "", size) if patient.id in known]
    assert [patient.id for patient in found] == [row["id"] for row in rows if row["id"] in known]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("", {"Zoë Ångström", "İpek", "100% Pat", "Pat of northgate"}),
        ("zoË", {"Zoë Ångström"}),
        ("ÅNG", {"Zoë Ångström"}),
        ("İpek", {"İpek"}),
        ("  pat ", {"100% Pat", "Pat of northgate"}),
        ("%", {"100% Pat"}),
        ("_", set()),
        ("MAIL.example", {"Zoë Ångström", "İpek", "100% Pat"}),
        ("nobody", set()),
    ],
)
async def test_patients_are_found_by_part_of_a_name_or_address_in_any_case(
    database: Database, house: House, search: str, found: set[str]
) -> None:
    for name in ("Zoë Ångström", "İpek", "100% Pat"):
        await make_patient(database, house.practice, "a@mail.example", name)
    page = await page_of_patients(database.app, house.practice.id, search, 10, None)
    assert {patient.name for patient in page} == found


@pytest.mark.parametrize("size", [1, 2, 3, 10])
async def test_pages_of_events_hold_each_once_in_the_order_in_which_they_happened(
    database: Database, house: House, size: int
) -> None:
    message, another = promise(house), promise(house)
    await store(database, house, message, another)
    told = [
        matched(message.id, EventKind.DEFERRED, key, at=NIGHT + timedelta(minutes=minute))
        for minute, keys in ((2, "b"), (0, "zé😀"), (1, "aA-_"))
        for key in keys
    ]
    async with database.tenant(house.practice.id) as connection:
        await record_events(connection, house.practice.id, told)
    expected = ["z", "é", "😀", "-", "A", "_", "a", "b"]
    found: list[str] = []
    after = None
    while True:
        pages = await page_of_events(database.app, house.practice.id, [message.id, another.id], size, after)
        assert pages[another.id] == []
        page = pages[message.id]
        found += [event.dedupe_key for event in page]
        if len(page) < size:
            break
        after = page[-1].occurred_at, page[-1].dedupe_key
        # Evidence of an earlier time that comes late isn't repeated on a later page, nor moves it.
        late = matched(message.id, EventKind.DEFERRED, f"late {len(found)}", at=NIGHT - timedelta(days=1))
        async with database.tenant(house.practice.id) as connection:
            await record_events(connection, house.practice.id, [late])
    assert found == expected


async def test_an_event_is_found_by_its_message_and_key(database: Database, house: House) -> None:
    await record(database, house, EventKind.DELIVERED)
    found = await find_event(database.app, house.practice.id, house.message_id, "delivered")
    assert found is not None
    assert (found.kind, found.message_id, found.failure) == (EventKind.DELIVERED, house.message_id, None)
    assert await find_event(database.app, house.practice.id, house.message_id, "unknown") is None


async def test_what_is_secret_stands_nowhere_in_the_database_in_plain_text(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    canary = "canary-5f2a"
    await make_account(database, house.practice, credentials={"api_key": canary}, secrets=[canary])
    message = promise(house, body=Body(canary, f"<p>{canary}</p>"))
    await store(database, house, message)
    await make_delivery(database, house.practice, house.account.id, f'[{{"email":"{canary}"}}]'.encode())
    columns = await owner.fetch(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 "
        "AND NOT a.attisdropped AND a.atttypid = ANY('{bytea,text,jsonb,json,varchar}'::regtype[])"
    )
    assert {"body", "credentials", "webhook_secrets", "headers", "subject"} <= {row["attname"] for row in columns}
    encodings = [canary.encode(), canary.encode().hex().encode(), canary.encode("utf-16-le")]
    for table, column in columns:
        for value in await owner.fetch(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"):
            stored = value[0] if isinstance(value[0], bytes) else value[0].encode()
            assert not any(encoding in stored for encoding in encodings), (table, column)
    assert await owner.fetchval("SELECT count(*) FROM message WHERE length(body) > 30") >= 2


async def test_a_failure_is_stored_whole(database: Database, house: House) -> None:
    failure = Failure(FailureKind.SPAM, 554, "5.7.1", "554 5.7.1 Spam 😀")
    bounced = event(EventKind.BOUNCED, "key", at=NIGHT, failure=failure)
    async with database.tenant(house.practice.id) as connection:
        await record_events(
            connection,
            house.practice.id,
            [Matched(house.message_id, bounced, EventSource.POLL, NIGHT + timedelta(seconds=1))],
        )
    stored = await find_event(database.app, house.practice.id, house.message_id, "key")
    assert stored is not None
    assert (stored.failure, stored.source, stored.occurred_at) == (failure, EventSource.POLL, NIGHT)
    assert stored.received_at == NIGHT + timedelta(seconds=1)
