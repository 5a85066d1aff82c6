"""Webhooks applied: in any order, however often, early or poisoned, the same truth comes of them."""

import random
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import asyncpg
import httpx2
import pytest
from structlog.testing import capture_logs

from db.events import Appended, Matched, append_events
from db.locks import Locked
from db.matching import lock_matching
from db.pool import Connection
from db.practices import Practice
from mail.ids import MessageId, PracticeId
from mail.providers.base import Reading
from tests.integration.api.evidence import make_messages
from tests.integration.api.hooks import NOON, SendGridHook, sendgrid_event, sendgrid_hook
from tests.support.practice import make_account, make_message, make_patient
from tests.support.stack import Stack
from workers.apply import Applier


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is set aside is logged with its place; drawing that for a terminal takes seconds."""
    with capture_logs():
        yield


SUMS = (
    "verdict::text, sent_at, delivered_at, opened_at, soft_returned_at, returned_at, deferred, machine_opened, "
    "complained, unsubscribed, failure_kind::text, failure_smtp_code, failure_enhanced_code, failure_reason"
)
HEALTH = "{ sendingAccounts { health { unreadable parked } } }"


async def sums(stack: Stack, practice: Practice, message: MessageId) -> tuple[Any, ...]:
    async with stack.database.tenant(practice.id) as connection:
        row = await connection.fetchrow(f"SELECT {SUMS} FROM message WHERE id = $1", message)
    assert row is not None
    return tuple(row)


async def evidence_of(stack: Stack, practice: Practice, message: MessageId) -> list[str]:
    async with stack.database.tenant(practice.id) as connection:
        rows = await connection.fetch(
            "SELECT kind::text FROM message_event WHERE message_id = $1 ORDER BY occurred_at, kind", message
        )
    return [row["kind"] for row in rows]


async def test_events_that_come_before_our_own_commit_are_parked_and_joined(
    stack: Stack, practice: Practice, applier: Applier
) -> None:
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    patient = await make_patient(stack.database, practice)
    message = await make_message(stack.database, practice, patient, hook.account)
    async with httpx2.AsyncClient() as http:
        for _ in range(2):
            events = [sendgrid_event("delivered", sg_message_id="sg-9"), sendgrid_event("open", sg_message_id="sg-9")]
            assert await hook.post(http, events) == 200
    await applier.apply_pending()
    client = await stack.client(api, practice)
    assert (await client(HEALTH))["sendingAccounts"] == [{"health": {"unreadable": 0, "parked": 2}}]
    assert (await sums(stack, practice, message))[0] == "queued"
    async with stack.database.tenant(practice.id) as connection:
        await connection.execute("UPDATE message SET provider_message_id = 'sg-9' WHERE id = $1", message)
    await applier.join_parked()
    assert (await client(HEALTH))["sendingAccounts"] == [{"health": {"unreadable": 0, "parked": 0}}]
    assert (await sums(stack, practice, message))[0] == "opened"
    assert await evidence_of(stack, practice, message) == ["delivered", "opened"]


async def test_an_event_joins_no_message_of_another_account(stack: Stack, practice: Practice, applier: Applier) -> None:
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    patient = await make_patient(stack.database, practice)
    other = await make_account(stack.database, practice)
    theirs = await make_message(stack.database, practice, patient, other)
    async with httpx2.AsyncClient() as http:
        assert await hook.post(http, [sendgrid_event("bounce", theirs, reason="550 5.1.1 no")]) == 200
    await applier.apply_pending()
    await applier.join_parked()
    assert (await sums(stack, practice, theirs))[0] == "queued"


async def test_shuffled_and_repeated_webhooks_end_in_the_same_state_as_once_in_order(
    stack: Stack, practice: Practice, applier: Applier
) -> None:
    rng = random.Random(11)
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    patient = await make_patient(stack.database, practice)

    def life(message: MessageId) -> list[dict[str, Any]]:
        def at(minutes: int) -> Any:
            return NOON + timedelta(minutes=minutes)

        return [
            sendgrid_event("processed", message, at=at(0)),
            sendgrid_event("deferred", message, at=at(1), response="451 4.7.1 greylisted", attempt="1"),
            sendgrid_event("deferred", message, at=at(2), response="451 4.7.1 greylisted", attempt="2"),
            sendgrid_event("bounce", message, at=at(3), type="blocked", reason="451 4.2.2 mailbox full"),
            sendgrid_event("delivered", message, at=at(4), response="250 OK"),
            sendgrid_event("open", message, at=at(5), sg_machine_open=True),
            sendgrid_event("open", message, at=at(6), sg_machine_open=False),
            sendgrid_event("spamreport", message, at=at(7)),
            sendgrid_event("bounce", message, at=at(8), type="bounce", reason="550 5.1.1 no such user", status="5.1.1"),
        ]

    queued_at = NOON - timedelta(minutes=1)
    ordered, *shuffled = [
        await make_message(stack.database, practice, patient, hook.account, at=queued_at) for _ in range(7)
    ]
    async with httpx2.AsyncClient() as http:
        for event in life(ordered):
            assert await hook.post(http, [event]) == 200
            await applier.apply_pending()
        for message in shuffled:
            events = life(message) * 2
            rng.shuffle(events)
            while events:
                count = rng.randint(1, 5)
                assert await hook.post(http, events[:count]) == 200
                events = events[count:]
                if rng.random() < 0.5:
                    await applier.apply_pending()
    await applier.apply_pending()
    expected = await sums(stack, practice, ordered)
    assert expected[0] == "returned"
    assert expected[-4:] == ("address_unknown", 550, "5.1.1", "550 5.1.1 no such user")
    kinds = await evidence_of(stack, practice, ordered)
    assert len(kinds) == 9
    for message in shuffled:
        assert await sums(stack, practice, message) == expected
        assert await evidence_of(stack, practice, message) == kinds


async def make_thousand(stack: Stack, practice: Practice, hook: SendGridHook) -> list[MessageId]:
    patient = await make_patient(stack.database, practice)
    return await make_messages(stack.database, practice, patient, hook.account, 1000)


async def delivered(stack: Stack, practice: Practice) -> int:
    async with stack.database.tenant(practice.id) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM message WHERE verdict = 'delivered'")
    return count


async def test_of_a_thousand_events_one_that_cannot_be_read_is_set_aside(
    stack: Stack, practice: Practice, applier: Applier
) -> None:
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    events = [sendgrid_event("delivered", message) for message in await make_thousand(stack, practice, hook)]
    events[500]["timestamp"] = "yesterday"
    async with httpx2.AsyncClient() as http:
        assert await hook.post(http, events) == 200
    await applier.apply_pending()
    assert await delivered(stack, practice) == 999
    client = await stack.client(api, practice)
    assert (await client(HEALTH))["sendingAccounts"] == [{"health": {"unreadable": 1, "parked": 0}}]
    async with stack.database.tenant(practice.id) as connection:
        row = await connection.fetchrow("SELECT state::text, events, error FROM webhook_delivery")
    assert row is not None
    assert tuple(row) == ("applied", 999, "event 500: its time is no number of seconds")


async def test_of_a_thousand_events_one_that_the_store_refuses_is_set_aside(
    stack: Stack, practice: Practice, applier: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    messages = await make_thousand(stack, practice, hook)

    async def refuse_one(
        connection: Connection, practice_id: PracticeId, matched: list[Matched], locked: Mapping[MessageId, Locked]
    ) -> Appended:
        if any(entry.message_id == messages[500] for entry in matched):
            await connection.execute("SELECT 1 / 0")
        return await append_events(connection, practice_id, matched, locked)

    monkeypatch.setattr("workers.settle.append_events", refuse_one)
    async with httpx2.AsyncClient() as http:
        assert await hook.post(http, [sendgrid_event("delivered", message) for message in messages]) == 200
    await applier.apply_pending()
    assert await delivered(stack, practice) == 999
    client = await stack.client(api, practice)
    assert (await client(HEALTH))["sendingAccounts"] == [{"health": {"unreadable": 1, "parked": 0}}]


async def test_an_event_that_cannot_be_parked_is_set_aside(stack: Stack, practice: Practice, applier: Applier) -> None:
    """An id of the ESP's that is longer than an index takes: nobody's message, so it would be parked."""
    rng = random.Random(3)
    endless = "".join(chr(rng.randrange(0x10000, 0x10FFF)) for _ in range(1000))
    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    patient = await make_patient(stack.database, practice)
    message = await make_message(stack.database, practice, patient, hook.account)
    endless_event = {**sendgrid_event("delivered"), "sg_message_id": endless}
    async with httpx2.AsyncClient() as http:
        events = [sendgrid_event("delivered", message), endless_event, sendgrid_event("open", sg_message_id="sg-2")]
        assert await hook.post(http, events) == 200
        assert await hook.post(http, [sendgrid_event("open", message)]) == 200
    await applier.apply_pending()
    assert (await sums(stack, practice, message))[0] == "opened"
    client = await stack.client(api, practice)
    assert (await client(HEALTH))["sendingAccounts"] == [{"health": {"unreadable": 1, "parked": 1}}]


async def test_a_practice_whose_webhooks_cannot_be_applied_holds_up_no_other(
    stack: Stack, practice: Practice, other_practice: Practice, applier: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await stack.api()
    stuck, other = await sendgrid_hook(stack, practice, api), await sendgrid_hook(stack, other_practice, api)
    patient = await make_patient(stack.database, other_practice)
    message = await make_message(stack.database, other_practice, patient, other.account)

    async def fail_for_one(
        connection: Connection, practice_id: PracticeId, *more: Any
    ) -> tuple[list[MessageId | None], dict[MessageId, Locked]]:
        if practice_id == practice.id:
            raise asyncpg.InternalServerError("a broken index")
        return await lock_matching(connection, practice_id, *more)

    monkeypatch.setattr("workers.settle.lock_matching", fail_for_one)
    async with httpx2.AsyncClient() as http:
        assert await stuck.post(http, [sendgrid_event("delivered")]) == 200
        assert await other.post(http, [sendgrid_event("delivered", message)]) == 200
    assert await applier.apply_pending() == 1
    assert (await sums(stack, other_practice, message))[0] == "delivered"
    monkeypatch.undo()
    assert await applier.apply_pending() == 1


async def test_a_provider_that_raises_sets_its_webhook_aside(
    stack: Stack, practice: Practice, applier: Applier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Reading:
        raise RuntimeError("against its contract")

    api = await stack.api()
    hook = await sendgrid_hook(stack, practice, api)
    async with httpx2.AsyncClient() as http:
        assert await hook.post(http, [sendgrid_event("delivered")]) == 200
    monkeypatch.setattr("mail.providers.sendgrid.SendGrid.read_webhook", fail)
    assert await applier.apply_pending() == 1
    client = await stack.client(api, practice)
    assert (await client(HEALTH))["sendingAccounts"] == [{"health": {"unreadable": 1, "parked": 0}}]
