"""Postgres and the pure rule agree, on every history in every order."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from db.event_pages import page_of_events
from db.events import Matched, append_events, record_events
from db.ids import uuid7, uuid_floor
from db.locks import lock_messages
from db.messages import MessageFilter, find_messages, page_of_messages
from db.patients import find_patients, update_patient
from db.pool import Database
from db.practices import Practice
from mail.event import Event, EventKind, EventSource
from mail.failure import Failure, FailureKind
from mail.health import EmailHealth
from mail.ids import MessageId
from mail.status import AccountKind, MessageStatus, Verdict, ceiling, status, status_of
from tests.integration.db.histories import QUEUED_AT, health_after, histories, summed_up
from tests.support.fuzzing import examples
from tests.support.practice import make_account, make_message, make_patient

# Every example writes messages of its own, so one database serves them all.
one_database = settings(
    max_examples=examples(80),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TOLD_AT = datetime(2026, 3, 2, tzinfo=UTC)


def told(message_id: MessageId, event: Event) -> Matched:
    return Matched(message_id, event, EventSource.WEBHOOK, TOLD_AT)


async def record(database: Database, practice: Practice, batch: list[Matched]) -> set[MessageId]:
    async with database.tenant(practice.id) as connection:
        return await record_events(connection, practice.id, batch)


async def test_the_enums_have_the_members_and_the_order_of_the_program(owner: asyncpg.Connection) -> None:
    for name, members in {
        "verdict": [verdict.sql_name for verdict in sorted(Verdict)],
        "message_status": [member.value for member in MessageStatus],
        "account_kind": [member.value for member in AccountKind],
        "email_health": [member.value for member in EmailHealth],
        "event_source": [member.value for member in EventSource],
        "event_kind": [member.value for member in EventKind],
        "failure_kind": [member.value for member in FailureKind],
    }.items():
        assert await owner.fetchval(f"SELECT enum_range(NULL::{name})::text[]") == members, name


async def test_greatest_and_least_are_the_maximum_and_minimum_of_the_program(owner: asyncpg.Connection) -> None:
    for one in Verdict:
        for two in Verdict:
            row = await owner.fetchrow(
                "SELECT GREATEST($1::verdict, $2::verdict)::text, LEAST($1::verdict, $2::verdict)::text",
                one.sql_name,
                two.sql_name,
            )
            assert row is not None
            assert tuple(row) == (max(one, two).sql_name, min(one, two).sql_name)


async def test_every_verdict_shows_as_the_same_status_under_every_limit(owner: asyncpg.Connection) -> None:
    for verdict in Verdict:
        for limit in Verdict:
            shown = await owner.fetchval(
                "SELECT status_of($1::verdict, $2::verdict)::text", verdict.sql_name, limit.sql_name
            )
            assert shown == status_of(verdict, limit).value


async def test_the_ceiling_is_the_same_to_the_microsecond(owner: asyncpg.Connection) -> None:
    for kind in AccountKind:
        for away in (-3600_000_000, -1, 0, 1, 3600_000_000):
            sent_at = QUEUED_AT + timedelta(microseconds=away)
            limit = await owner.fetchval(
                "SELECT message_limit($1::account_kind, $2, $3)::text", kind.value, sent_at, QUEUED_AT
            )
            assert limit == ceiling(kind, sent_at, QUEUED_AT).sql_name


@one_database
@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
@example(datetime(2026, 5, 28, 20, 26, 40, 1000, tzinfo=UTC))
@example(datetime(2026, 5, 28, 20, 26, 40, 999_999, tzinfo=UTC))
async def test_ids_and_floors_are_of_the_same_millisecond(owner: asyncpg.Connection, at: datetime) -> None:
    row = await owner.fetchrow("SELECT uuid_floor($1), uuid_at($1)", at)
    assert row is not None
    assert row[0] == uuid_floor(at)
    made = UUID(int=row[1].int)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == uuid7(at).int >> 80


@one_database
@given(st.data(), histories, st.sampled_from(AccountKind))
async def test_a_history_in_any_order_and_batches_with_repeats_comes_to_what_its_set_says(
    database: Database, practice: Practice, data: st.DataObject, history: list[Event], kind: AccountKind
) -> None:
    patient = await make_patient(database, practice)
    account = await make_account(database, practice, kind)
    message_id = await make_message(database, practice, patient, account, at=QUEUED_AT)
    queued = (await find_messages(database.app, practice.id, [message_id]))[message_id]
    repeats = data.draw(st.lists(st.sampled_from(history), max_size=5)) if history else []
    rest = data.draw(st.permutations(history + repeats))
    known: set[str] = set()
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        batch, rest = rest[:size], rest[size:]
        fresh = {event.dedupe_key for event in batch} - known
        changed = await record(database, practice, [told(message_id, event) for event in batch])
        assert changed == ({message_id} if fresh else set())
        known |= fresh
        so_far = [event for event in history if event.dedupe_key in known]
        found = (await find_messages(database.app, practice.id, [message_id]))[message_id]
        assert found == summed_up(queued, so_far)
    found = (await find_messages(database.app, practice.id, [message_id]))[message_id]
    assert found == summed_up(queued, history)
    health = (await find_patients(database.app, practice.id, [patient.id]))[patient.id].email_health
    assert health is health_after(history)
    stored = (await page_of_events(database.app, practice.id, [message_id], 100, None))[message_id]
    assert [event.dedupe_key for event in stored] == [
        event.dedupe_key for event in sorted(history, key=lambda event: (event.occurred_at, event.dedupe_key))
    ]
    # The status that a filter finds it by is the one that the program shows, before and after tracking began.
    for first_tracked in (QUEUED_AT, QUEUED_AT + timedelta(minutes=2)):
        limit = ceiling(kind, found.sent_at or found.queued_at, first_tracked)
        shown = status((event.verdict for event in history), limit)
        for asked in MessageStatus:
            wanted = MessageFilter(statuses=[asked], patient_id=patient.id)
            page = await page_of_messages(database.app, practice.id, wanted, 10, None, first_tracked)
            assert [entry.id for entry in page.messages] == ([message_id] if asked is shown else [])


@settings(one_database, max_examples=examples(25))
@given(st.lists(histories, min_size=2, max_size=4), st.randoms(use_true_random=False))
async def test_histories_of_several_messages_told_at_once_come_to_what_their_sets_say(
    database: Database, practice: Practice, several: list[list[Event]], chance: random.Random
) -> None:
    account = await make_account(database, practice)
    patients = [await make_patient(database, practice), await make_patient(database, practice)]
    expected = {}
    everything = []
    for number, history in enumerate(several):
        message_id = await make_message(database, practice, patients[number % 2], account, at=QUEUED_AT)
        queued = (await find_messages(database.app, practice.id, [message_id]))[message_id]
        expected[message_id] = summed_up(queued, history)
        everything += [told(message_id, event) for event in history]
    batches = [chance.sample(everything, chance.randint(0, len(everything))) for _ in range(6)]
    await asyncio.gather(*(record(database, practice, batch) for batch in [*batches, everything]))
    assert await find_messages(database.app, practice.id, list(expected)) == expected


async def test_a_message_that_was_written_while_its_lock_was_waited_for_is_summed_up_where_it_lies_now(
    database: Database, practice: Practice, owner: asyncpg.Connection
) -> None:
    account = await make_account(database, practice)
    message_id = await make_message(database, practice, await make_patient(database, practice), account, at=QUEUED_AT)

    def event(kind: EventKind) -> Matched:
        return told(message_id, Event(kind=kind, occurred_at=QUEUED_AT + timedelta(minutes=1), dedupe_key=kind.value))

    async with database.tenant(practice.id) as connection:
        await record_events(connection, practice.id, [event(EventKind.ACCEPTED)])
        later = asyncio.create_task(record(database, practice, [event(EventKind.DELIVERED)]))
        while not await owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0)
    assert await later == {message_id}
    found = (await find_messages(database.app, practice.id, [message_id]))[message_id]
    assert (found.sent_at, found.delivered_at) == (QUEUED_AT + timedelta(minutes=1),) * 2


async def test_each_message_is_summed_up_by_its_own_events_in_whatever_order_they_were_locked(
    database: Database, practice: Practice
) -> None:
    account, patient = await make_account(database, practice), await make_patient(database, practice)
    ids = [await make_message(database, practice, patient, account, at=QUEUED_AT) for _ in range(5)]
    kinds = [EventKind.ACCEPTED, EventKind.DELIVERED, EventKind.OPENED, EventKind.BOUNCED]
    batch = [
        told(message_id, Event(kind=kind, occurred_at=QUEUED_AT + timedelta(minutes=1), dedupe_key=kind.value))
        for message_id, kind in zip(ids, kinds, strict=False)
    ]
    async with database.tenant(practice.id) as connection:
        locked = await lock_messages(connection, practice.id, ids)
        shuffled = {message_id: locked[message_id] for message_id in (ids[3], ids[0], ids[4], ids[2], ids[1])}
        await append_events(connection, practice.id, batch, shuffled)
    found = await find_messages(database.app, practice.id, ids)
    assert [found[message_id].verdict for message_id in ids] == [
        Verdict.SENT,
        Verdict.DELIVERED,
        Verdict.OPENED,
        Verdict.RETURNED,
        Verdict.QUEUED,
    ]


async def test_a_tie_of_two_failures_is_decided_by_verdict_then_time_then_key(
    database: Database, practice: Practice
) -> None:
    account = await make_account(database, practice)
    message_id = await make_message(database, practice, await make_patient(database, practice), account, at=QUEUED_AT)

    def refused(kind: EventKind, minute: int, key: str, reason: str) -> Matched:
        failure = Failure(FailureKind.OTHER, reason=reason)
        at = QUEUED_AT + timedelta(minutes=minute)
        return told(message_id, Event(kind=kind, occurred_at=at, dedupe_key=key, failure=failure))

    for event, reason in (
        (refused(EventKind.ATTEMPT_DEFERRED, 9, "1", "put off"), "put off"),
        (refused(EventKind.BOUNCED, 1, "b", "bounced"), "bounced"),
        (refused(EventKind.SOFT_BOUNCED, 8, "3", "soft"), "bounced"),
        (refused(EventKind.BOUNCED, 2, "c", "bounced later"), "bounced later"),
        (refused(EventKind.BOUNCED, 2, "a", "the same time, smaller key"), "the same time, smaller key"),
        (refused(EventKind.BOUNCED, 2, "d", "the same time, greater key"), "the same time, smaller key"),
    ):
        await record(database, practice, [event])
        found = (await find_messages(database.app, practice.id, [message_id]))[message_id]
        assert found.failure == Failure(FailureKind.OTHER, reason=reason)


async def test_the_health_of_an_address_is_not_touched_by_events_of_an_earlier_address(
    database: Database, practice: Practice
) -> None:
    account = await make_account(database, practice)
    patient = await make_patient(database, practice, "old@mail.example")
    message_id = await make_message(database, practice, patient, account, at=QUEUED_AT)

    async def health() -> EmailHealth:
        return (await find_patients(database.app, practice.id, [patient.id]))[patient.id].email_health

    def event(kind: EventKind, minute: int) -> Matched:
        at = QUEUED_AT + timedelta(minutes=minute)
        return told(message_id, Event(kind=kind, occurred_at=at, dedupe_key=str(minute)))

    await record(database, practice, [event(EventKind.DELIVERED, 1)])
    assert await health() is EmailHealth.GOOD
    async with database.tenant(practice.id) as connection:
        await update_patient(
            connection, practice.id, patient.id, name=None, email="new@mail.example", open_tracking=None
        )
    assert await health() is EmailHealth.UNKNOWN
    await record(database, practice, [event(EventKind.COMPLAINED, 2)])
    assert await health() is EmailHealth.UNKNOWN
    new_address = (await find_patients(database.app, practice.id, [patient.id]))[patient.id]
    another_id = await make_message(database, practice, new_address, account, at=QUEUED_AT)
    delivered = replace(event(EventKind.DELIVERED, 3), message_id=another_id)
    await record(database, practice, [event(EventKind.COMPLAINED, 4), delivered])
    assert await health() is EmailHealth.GOOD
