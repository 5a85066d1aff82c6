"""What workers promise whatever Valkey does: everything is finished, nothing is sent twice."""

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from db import outbox
from db.outbox import AttemptOutcome, Claim
from db.practices import Practice
from mail.event import Event, EventKind
from mail.ids import MessageId
from mail.status import AccountKind
from tests.integration.workers.sending import OFTEN, Desk, kinds, received
from tests.support.outbox import claim as claim_one
from tests.support.outbox import finish as finish_one
from tests.support.practice import make_message, make_patient
from tests.support.stack import Stack, until

SEND = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id } errors { field message code } }
}"""
STATUS = "query ($id: ID!) { message(id: $id) { status } }"


async def test_with_no_job_ever_enqueued_the_sweeper_finishes_everything(stack: Stack, practice: Practice) -> None:
    api = await stack.api(enqueue=False)
    await stack.worker(enqueue=False, sweep_interval=OFTEN)
    await stack.esp(practice, api)
    client = await stack.client(api, practice)
    await make_patient(stack.database, practice, "opened@sandbox.example")
    [patient] = (await client("{ patients { nodes { id } } }"))["patients"]["nodes"]
    wish = {"patientId": patient["id"], "subject": "Your results", "text": "Please call us."}
    written = [(await client(SEND, input=wish))["sendMessage"]["message"]["id"] for _ in range(5)]

    async def all_opened() -> bool:
        return {(await client(STATUS, id=each))["message"]["status"] for each in written} == {"OPENED"}

    await until(all_opened)


async def test_two_workers_send_300_messages_once_each(stack: Stack, practice: Practice) -> None:
    account, server = await stack.smtp(practice)
    patient = await make_patient(stack.database, practice)
    written = [await make_message(stack.database, practice, patient, account) for _ in range(300)]
    await stack.worker(sweep_interval=OFTEN)
    await stack.worker(sweep_interval=OFTEN)

    async def all_sent() -> bool:
        async with stack.database.tenant(practice.id) as connection:
            return bool(await connection.fetchval("SELECT bool_and(verdict = 'sent') FROM message"))

    await until(all_sent, within=40)
    arrived = Counter(dict(mail["headers"])["Message-ID"] for mail in await received(server))
    assert arrived == Counter({f"<{UUID(str(each)).hex}@northgate.example>": 1 for each in written})
    async with stack.database.tenant(practice.id) as connection:
        outcomes = await connection.fetch("SELECT outcome, count(*) FROM attempt GROUP BY outcome")
    assert [tuple(row) for row in outcomes] == [("accepted", 300)]


async def test_a_worker_that_is_told_to_stop_finishes_what_it_has_in_hand(stack: Stack, practice: Practice) -> None:
    """Whether a job or the sweeper brought it: cut off, the email would be sent a second time."""
    for enqueue in (True, False):
        async with Stack(stack.database_url, stack.redis_url, stack.database, stack.folder) as own:
            account, server = await own.smtp(practice, slow_seconds=1)
            async with Stack(stack.database_url, stack.redis_url, stack.database, stack.folder) as passing:
                api = await passing.api(enqueue=enqueue)
                await passing.worker(enqueue=enqueue, sweep_interval=OFTEN if not enqueue else timedelta(seconds=15))
                client = await passing.client(api, practice)
                patient = await make_patient(stack.database, practice, "slow@sandbox.example")
                message_id = await make_message(stack.database, practice, patient, account)
                if enqueue:
                    nodes = (await client("{ patients { nodes { id email } } }"))["patients"]["nodes"]
                    wish = {"patientId": nodes[0]["id"], "subject": "Slow", "text": "Slow."}
                    await client(SEND, input=wish)

                async def in_hand() -> bool:
                    async with stack.database.tenant(practice.id) as connection:
                        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM attempt)"))

                await until(in_hand)
            # The worker has stopped by now.
            async with stack.database.tenant(practice.id) as connection:
                assert {row[0] for row in await connection.fetch("SELECT outcome FROM attempt")} == {"accepted"}
                await connection.execute("UPDATE message SET due_at = NULL")
            assert len(await received(server)) >= 1
            assert message_id is not None
        owner = await asyncpg.connect(stack.database_url)
        await owner.execute("TRUNCATE attempt")
        await owner.close()


async def test_a_late_worker_writes_nothing(desk: Desk, database_url: str) -> None:
    account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port="1", security="none")
    written = MessageId(UUID(await desk.write(account)))
    database, practice = desk.stack.database, desk.practice

    async def claim(worker: str) -> Claim | None:
        async with database.tenant(practice.id) as connection:
            return await claim_one(connection, practice.id, written, timedelta(minutes=1), worker)

    first = await claim("slow")
    assert first is not None
    assert await claim("another") is None  # the lease holds
    async with database.tenant(practice.id) as connection:
        await connection.execute("UPDATE message SET due_at = now()")  # it has ended
    second = await claim("another")
    assert second is not None
    assert (first.number, second.number) == (1, 2)

    async def finish(claimed: Claim, outcome: AttemptOutcome, kind: EventKind) -> bool:
        event = Event(kind=kind, occurred_at=claimed.queued_at, dedupe_key=f"attempt/{claimed.number}")
        async with database.tenant(practice.id) as connection:
            return await finish_one(connection, claimed, outcome, event)

    assert not await finish(first, AttemptOutcome.REFUSED, EventKind.FAILED)
    assert await finish(second, AttemptOutcome.ACCEPTED, EventKind.ACCEPTED)
    assert not await finish(second, AttemptOutcome.REFUSED, EventKind.FAILED)
    message = await desk.read(written)
    assert message["status"] == "SENT"
    assert sorted(kinds(message)) == ["ACCEPTED", "ATTEMPT_AMBIGUOUS"]


async def test_a_message_is_claimed_once_however_many_ask(desk: Desk) -> None:
    account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port="1", security="none")
    written = MessageId(UUID(await desk.write(account)))
    database, practice = desk.stack.database, desk.practice

    async def claim(number: int) -> Claim | None:
        async with database.tenant(practice.id) as connection:
            return await claim_one(connection, practice.id, written, timedelta(seconds=60), f"worker {number}")

    claims = await asyncio.gather(*(claim(number) for number in range(20)))
    assert len([claim for claim in claims if claim is not None]) == 1


@pytest.mark.parametrize("status", ["CANCELLED"])
async def test_a_message_that_was_withdrawn_is_not_sent(desk: Desk, status: str) -> None:
    account, server = await desk.stack.smtp(desk.practice)
    written = MessageId(UUID(await desk.write(account)))
    async with desk.stack.database.tenant(desk.practice.id) as connection:
        now = await connection.fetchval("SELECT now()")
        assert await outbox.cancel(connection, desk.practice.id, written, now)
    await desk.stack.worker(sweep_interval=OFTEN)
    other = await desk.write(account)
    await desk.reaches(other, "SENT")
    assert (await desk.read(written))["status"] == status
    assert len(await received(server)) == 1


async def test_a_message_whose_seal_does_not_open_waits_and_holds_nobody_up(desk: Desk) -> None:
    account, server = await desk.stack.smtp(desk.practice)
    locked, other = [MessageId(UUID(await desk.write(account))) for _ in range(2)]
    async with desk.stack.database.tenant(desk.practice.id) as connection:
        await connection.execute(
            "UPDATE message SET body = set_byte(body, 20, get_byte(body, 20) # 1) WHERE id = $1", locked
        )
    await desk.stack.worker()

    async def settled() -> bool:
        return (await desk.read(other))["status"] == "SENT" and "ATTEMPT_DEFERRED" in kinds(await desk.read(locked))

    await until(settled)
    message = await desk.read(locked)
    assert (message["status"], message["explanation"]["code"]) == ("QUEUED", "RETRYING")
    assert len(await received(server)) == 1
