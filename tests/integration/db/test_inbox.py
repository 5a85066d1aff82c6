"""The inbox and its waiting room: what an ESP posted is taken by one worker, and joined to its message in any order."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from db.accounts import read_credentials
from db.errors import SealBroken
from db.event_pages import find_event
from db.ids import uuid7
from db.inbox import (
    Applied,
    Delivery,
    find_practices_with_pending,
    mark_applied,
    take_pending,
    touch_accounts,
)
from db.messages import find_bodies, find_messages
from db.outbox import AttemptOutcome, Ending, Lane, claim_due, finish_all
from db.parked import Unmatched, find_practices_with_parked, join_parked, park
from db.pool import Database
from db.sealing import Sealer
from mail.event import Event, EventKind, EventSource
from mail.failure import Failure, FailureKind
from mail.ids import DeliveryId, MessageId
from mail.status import Verdict
from tests.integration.db.houses import HOUR, House, event, now, promise, sent, store
from tests.support.databases import OWN_SEALER
from tests.support.practice import make_delivery, make_message


async def post(database: Database, house: House, body: bytes = b"[]") -> DeliveryId:
    return await make_delivery(database, house.practice, house.account.id, body, headers={"x-a": "b"})


async def test_a_webhook_comes_out_as_it_came_in(database: Database, house: House, owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE webhook_delivery SET state = 'applied'")
    body = bytes(range(256)) * 40
    delivery_id = await post(database, house, body)
    assert await find_practices_with_pending(database.dispatcher) == [house.practice.id]
    async with database.tenant(house.practice.id) as connection:
        (taken,) = await take_pending(connection, OWN_SEALER, house.practice.id, 10)
        assert taken == Delivery(delivery_id, house.account.id, "sendgrid", taken.received_at, {"x-a": "b"}, body)
        await mark_applied(connection, house.practice.id, [Applied(delivery_id, 3, 1, None, True)])
    assert await find_practices_with_pending(database.dispatcher) == []
    row = await owner.fetchrow(
        "SELECT state::text, events, unmatched, error, applied_at IS NOT NULL FROM webhook_delivery WHERE id = $1",
        delivery_id,
    )
    assert row is not None
    assert tuple(row) == ("applied", 3, 1, None, True)


async def test_a_webhook_whose_seal_does_not_open_is_taken_without_its_body(database: Database, house: House) -> None:
    async with database.tenant(house.practice.id) as connection:
        (taken,) = await take_pending(connection, Sealer(["another key altogether"]), house.practice.id, 10)
        assert (taken.id, taken.body) == (house.delivery_id, None)
        unreadable = Applied(taken.id, 0, 0, "the seal does not open", False)
        await mark_applied(connection, house.practice.id, [unreadable])
        assert await take_pending(connection, OWN_SEALER, house.practice.id, 10) == []


async def test_workers_take_different_webhooks_and_none_waits(database: Database, house: House) -> None:
    ids = [house.delivery_id, *[await post(database, house) for _ in range(4)]]
    async with (
        database.tenant(house.practice.id) as first,
        database.tenant(house.practice.id) as second,
        database.tenant(house.practice.id) as third,
    ):
        one = await take_pending(first, OWN_SEALER, house.practice.id, 2)
        two = await take_pending(second, OWN_SEALER, house.practice.id, 2)
        three = await take_pending(third, OWN_SEALER, house.practice.id, 100)
        assert [delivery.id for delivery in (*one, *two, *three)] == ids
    async with database.tenant(house.practice.id) as connection:
        again = await take_pending(connection, OWN_SEALER, house.practice.id, 100)
        assert [delivery.id for delivery in again] == ids


async def test_practices_are_served_the_longest_waiting_first(database: Database, house: House, other: House) -> None:
    assert await find_practices_with_pending(database.dispatcher) == [house.practice.id, other.practice.id]
    assert set(await find_practices_with_parked(database.dispatcher)) == {house.practice.id, other.practice.id}


async def test_the_last_event_of_an_account_only_moves_on(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    last = now()
    for at in (last - HOUR, last, last - timedelta(minutes=1)):
        async with database.tenant(house.practice.id) as connection:
            await touch_accounts(connection, house.practice.id, {house.account.id: at})
    assert await owner.fetchval("SELECT last_event_at FROM sending_account") == last


async def wait_for_message(database: Database, house: House, *events: Event) -> None:
    async with database.tenant(house.practice.id) as connection:
        await park(
            connection,
            house.practice.id,
            [Unmatched(house.account.id, house.delivery_id, entry, EventSource.WEBHOOK, now()) for entry in events],
        )


async def join(database: Database, house: House, message_id: MessageId | None = None) -> set[MessageId]:
    async with database.tenant(house.practice.id) as connection:
        return await join_parked(connection, house.practice.id, [message_id] if message_id else None)


async def verdict(database: Database, house: House, message_id: MessageId) -> Verdict:
    return (await find_messages(database.app, house.practice.id, [message_id]))[message_id].verdict


async def parked(owner: asyncpg.Connection, house: House) -> int:
    """Events that wait, besides the one that every house has for nobody."""
    count: int = await owner.fetchval("SELECT count(*) FROM parked_event WHERE practice_id = $1", house.practice.id)
    return count - 1


async def test_an_event_by_their_id_that_came_first_is_joined_by_the_answer_to_the_send(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    await wait_for_message(database, house, event(EventKind.DELIVERED, theirs="theirs"))
    assert await join(database, house) == set()
    message_id = await sent(database, house, "theirs")
    assert await verdict(database, house, message_id) is Verdict.DELIVERED
    assert await parked(owner, house) == 0


async def test_events_that_came_before_the_answers_to_several_sends_are_joined_by_them(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    practice_id = house.practice.id
    await wait_for_message(
        database, house, *[event(EventKind.DELIVERED, name, theirs=name) for name in ("one", "two", "nobody's")]
    )
    for _ in range(3):
        await make_message(database, house.practice, house.patient, house.account)
    async with database.tenant(practice_id) as connection:
        claims = await claim_due(connection, OWN_SEALER, Lane(practice_id, house.account.id), "worker", HOUR, 3)
    names = ["one", "two", None]
    accepted = event(EventKind.ACCEPTED, "attempt/1/accepted")
    async with database.tenant(practice_id) as connection:
        endings = [
            Ending(each, AttemptOutcome.ACCEPTED, accepted, name) for each, name in zip(claims, names, strict=True)
        ]
        assert len(await finish_all(connection, practice_id, endings)) == 3
    verdicts = [await verdict(database, house, claimed.message_id) for claimed in claims]
    assert verdicts == [Verdict.DELIVERED, Verdict.DELIVERED, Verdict.SENT]
    assert await parked(owner, house) == 1


async def test_an_event_by_their_id_that_was_parked_beside_the_answer_is_joined_later(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    message_id = await sent(database, house, "theirs")
    await wait_for_message(database, house, event(EventKind.BOUNCED, theirs="theirs"))
    assert await join(database, house) == {message_id}
    assert await verdict(database, house, message_id) is Verdict.RETURNED
    assert await parked(owner, house) == 0


@pytest.mark.parametrize("first", [True, False], ids=["parked first", "stored first"])
async def test_an_event_by_our_id_is_joined_whichever_came_first(
    database: Database, house: House, owner: asyncpg.Connection, first: bool
) -> None:
    message = promise(house)
    waiting = event(EventKind.OPENED, ours=message.id, theirs="unknown")
    if first:
        await wait_for_message(database, house, waiting)
        assert await join(database, house) == set()
    await store(database, house, message)
    if not first:
        await wait_for_message(database, house, waiting)
    assert await join(database, house, message.id) == {message.id}
    assert await verdict(database, house, message.id) is Verdict.OPENED
    assert await parked(owner, house) == 0


async def test_an_event_parked_twice_waits_once_and_one_that_is_known_changes_nothing(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    by_theirs, by_ours = event(EventKind.DELIVERED, theirs="theirs"), event(EventKind.OPENED, ours=uuid7(now()))
    await wait_for_message(database, house, by_theirs, by_ours, by_theirs)
    await wait_for_message(database, house, by_ours, by_theirs)
    assert await parked(owner, house) == 2
    message_id = await sent(database, house, "theirs")
    assert await parked(owner, house) == 1
    await wait_for_message(database, house, by_theirs)
    assert await join(database, house, message_id) == set()
    assert await parked(owner, house) == 1
    assert await owner.fetchval("SELECT count(*) FROM message_event WHERE message_id = $1", message_id) == 2


async def test_a_joined_event_is_the_event_that_was_parked(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    message_id = await sent(database, house, "theirs")
    failure = Failure(FailureKind.ADDRESS_UNKNOWN, 550, "5.1.1", "550 5.1.1 no such user")
    waiting = event(EventKind.BOUNCED, "key", theirs="theirs", failure=failure)
    await wait_for_message(database, house, waiting)
    await join(database, house)
    stored = await find_event(database.app, house.practice.id, message_id, "key")
    assert stored is not None
    assert (stored.kind, stored.occurred_at, stored.failure, stored.source) == (
        EventKind.BOUNCED,
        waiting.occurred_at,
        failure,
        EventSource.WEBHOOK,
    )


async def test_several_workers_that_join_at_once_move_each_event_once(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    message_id = await sent(database, house, "theirs")
    await wait_for_message(
        database, house, *(event(EventKind.OPENED, f"open {number}", theirs="theirs") for number in range(20))
    )
    changed = await asyncio.gather(*(join(database, house) for _ in range(5)))
    assert sorted(map(len, changed)) == [0, 0, 0, 0, 1]
    assert await parked(owner, house) == 0
    opened = "SELECT count(*) FROM message_event WHERE message_id = $1 AND kind = 'opened'"
    assert await owner.fetchval(opened, message_id) == 20


async def test_a_sealed_body_that_was_moved_to_another_row_does_not_open(
    database: Database, house: House, owner: asyncpg.Connection
) -> None:
    another = await make_message(database, house.practice, house.patient, house.account, text="Another text")
    await owner.execute(
        "UPDATE message SET body = (SELECT body FROM message WHERE id = $1) WHERE id = $2", another, house.message_id
    )
    with pytest.raises(SealBroken):
        await find_bodies(database.app, OWN_SEALER, house.practice.id, [house.message_id])
    await owner.execute("UPDATE sending_account SET credentials = webhook_secrets")
    async with database.tenant(house.practice.id) as connection:
        with pytest.raises(SealBroken):
            await read_credentials(connection, OWN_SEALER, house.practice.id, house.account.id)


async def test_many_who_note_an_accounts_last_webhook_at_once_never_wait_in_a_circle(
    database: Database, house: House
) -> None:
    start = now()

    async def note(number: int) -> None:
        for place in range(25):
            async with database.tenant(house.practice.id) as connection:
                at = start + timedelta(seconds=8 * place + number)
                await touch_accounts(connection, house.practice.id, {house.account.id: at})

    async def refer() -> None:
        # As the foreign keys of webhooks do that come meanwhile.
        for _ in range(100):
            async with database.tenant(house.practice.id) as connection:
                await connection.execute("SELECT FROM sending_account WHERE id = $1 FOR KEY SHARE", house.account.id)

    await asyncio.gather(*(note(number) for number in range(8)), *(refer() for _ in range(2)))
    async with database.tenant(house.practice.id) as connection:
        last = await connection.fetchval("SELECT last_event_at FROM sending_account WHERE id = $1", house.account.id)
    assert last == start + timedelta(seconds=8 * 24 + 7)
