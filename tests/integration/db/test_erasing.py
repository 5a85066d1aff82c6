"""A patient who is erased is known no more, and what became of the practice's emails is."""

from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import pytest

from db.erasing import NAME, Erased, StillSending, erase_patient
from db.events import Matched, record_events
from db.messages import Body
from db.patients import NewPatient, find_patients, insert_patients
from db.pool import Database
from mail.event import EventKind, EventSource
from mail.failure import Failure, FailureKind
from tests.integration.db.houses import HOUR, House, event, matched, now, promise, store, tables
from tests.support.databases import OWN_SEALER
from tests.support.outbox import claim
from tests.support.practice import make_delivery, make_message, make_patient

CANARY = "zanzibar-7719"


async def everything(owner: asyncpg.Connection) -> str:
    """All rows of all tables as text."""
    rows: list[str] = []
    for table in await tables(owner):
        rows += [row[0] for row in await owner.fetch(f"SELECT t::text FROM {table} t")]
    return "\n".join(rows)


async def count(owner: asyncpg.Connection, table: str) -> int:
    found: int = await owner.fetchval(f"SELECT count(*) FROM {table}")
    return found


async def test_nothing_that_names_the_patient_is_left_and_the_status_is(
    database: Database, house: House, other: House, owner: asyncpg.Connection
) -> None:
    patient = await make_patient(database, house.practice, f"{CANARY}@mail.example", f"Pat {CANARY}")
    body = f'[{{"email": "{CANARY}@mail.example"}}]'.encode()
    webhook = await make_delivery(database, house.practice, house.account.id, body)
    message = promise(
        house,
        patient_id=patient.id,
        recipient=patient.email,
        subject=f"Results of {CANARY}",
        body=Body(CANARY, None),
        idempotency_key=CANARY,
    )
    await store(database, house, message)
    failure = Failure(FailureKind.ADDRESS_UNKNOWN, 550, "5.1.1", f"550 5.1.1 <{CANARY}@mail.example> unknown")
    async with database.tenant(house.practice.id) as connection:
        bounce = Matched(message.id, replace(event(EventKind.BOUNCED), failure=failure), EventSource.WEBHOOK, now())
        await record_events(connection, house.practice.id, [bounce])
    await owner.execute("UPDATE message_event SET delivery_id = $1 WHERE message_id = $2", webhook, message.id)
    assert CANARY in await everything(owner)
    others = [await count(owner, table) for table in ("webhook_delivery", "message_event", "parked_event")]

    erased = await erase_patient(database, OWN_SEALER, house.practice.id, patient.id, "somebody")
    assert erased == Erased(messages=1, cancelled=0, webhooks=1)
    assert CANARY not in await everything(owner)
    row = await owner.fetchrow(
        "SELECT verdict::text, failure_kind::text, failure_smtp_code, failure_reason, recipient, subject "
        "FROM message WHERE id = $1",
        message.id,
    )
    assert row is not None
    assert tuple(row) == ("returned", "address_unknown", 550, "", "", "")
    [found] = (await find_patients(database.app, house.practice.id, [patient.id])).values()
    assert (found.name, found.email, found.open_tracking) == (NAME, "", False)
    left = [await count(owner, table) for table in ("webhook_delivery", "message_event", "parked_event")]
    assert left == [others[0] - 1, others[1], others[2]]
    deed = await owner.fetchrow("SELECT subject, action FROM audit_entry WHERE object_id = $1", patient.id)
    assert deed is not None
    assert tuple(deed) == ("somebody", "erase")
    assert await erase_patient(database, OWN_SEALER, house.practice.id, patient.id, "x") == Erased(1, 0, 0)


async def test_what_waits_is_cancelled_and_what_is_being_sent_is_waited_for(database: Database, house: House) -> None:
    patient = await make_patient(database, house.practice, "pat@mail.example")
    sending = await make_message(database, house.practice, patient, house.account)
    waiting = await make_message(database, house.practice, patient, house.account)
    async with database.tenant(house.practice.id) as connection:
        assert await claim(connection, house.practice.id, sending, HOUR)
    with pytest.raises(StillSending):
        await erase_patient(database, OWN_SEALER, house.practice.id, patient.id, "somebody")
    async with database.tenant(house.practice.id) as connection:
        await record_events(connection, house.practice.id, [matched(sending, EventKind.ACCEPTED)])
    erased = await erase_patient(database, OWN_SEALER, house.practice.id, patient.id, "somebody")
    assert erased == Erased(messages=2, cancelled=1, webhooks=0)
    async with database.tenant(house.practice.id) as connection:
        rows = await connection.fetch(
            "SELECT id, verdict::text FROM message WHERE id = ANY($1::uuid[])", [sending, waiting]
        )
    assert {row["id"]: row["verdict"] for row in rows} == {sending: "sent", waiting: "cancelled"}


async def test_another_practices_patient_is_not_erased(database: Database, house: House, other: House) -> None:
    assert await erase_patient(database, OWN_SEALER, house.practice.id, other.patient.id, "somebody") is None
    [found] = (await find_patients(database.app, other.practice.id, [other.patient.id])).values()
    assert found == other.patient


async def test_the_eraser_sees_ids_and_empties_what_names_a_person(database: Database, house: House) -> None:
    forbidden: Sequence[str] = (
        "SELECT name FROM patient",
        "SELECT body FROM message",
        "SELECT body FROM webhook_delivery",
        "SELECT credentials FROM sending_account",
        "UPDATE message SET verdict = 'opened'",
        "DELETE FROM message",
        "DELETE FROM message_event",
        "DELETE FROM audit_entry",
    )
    for statement in forbidden:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.role("carepost_eraser", house.practice.id) as connection:
                await connection.execute(statement)


async def test_patients_are_imported_once_each(database: Database, house: House) -> None:
    given = [
        NewPatient("Ada", "ada@mail.example", True),
        NewPatient("ADA", "Ada@mail.example", False),
        NewPatient("Ben", "ada@mail.example", True),
        NewPatient(house.patient.name.upper(), house.patient.email, True),
    ]
    for expected in (2, 0):
        async with database.tenant(house.practice.id) as connection:
            assert len(await insert_patients(connection, house.practice.id, given)) == expected
