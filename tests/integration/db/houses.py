"""Two practices with a row in every table, and what the tests of the store ask of them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from db.accounts import Account
from db.audit import ViewEntry, record_deed, record_views
from db.events import Matched, record_events
from db.ids import uuid7
from db.messages import Body, NewMessage, insert_messages
from db.outbox import AttemptOutcome
from db.parked import Unmatched, park
from db.patients import Patient
from db.pool import Database
from db.practices import Practice
from db.revocations import Revocation, revoke
from mail.event import Event, EventKind, EventSource
from mail.failure import Failure
from mail.ids import DeliveryId, MessageId
from tests.support.databases import OWN_SEALER
from tests.support.outbox import claim, finish
from tests.support.practice import make_account, make_delivery, make_message, make_patient, make_practice

HOUR = timedelta(hours=1)
BEFORE_EVERYTHING = datetime(2019, 7, 24, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class House:
    """A practice with one row in every table."""

    practice: Practice
    patient: Patient
    account: Account
    message_id: MessageId
    delivery_id: DeliveryId


async def furnish(database: Database, url: str, name: str) -> House:
    practice = await make_practice(url, name)
    patient = await make_patient(database, practice, f"pat@{name}.example", f"Pat of {name}")
    account = await make_account(database, practice, secrets=[f"secret of {name}"])
    message_id = await make_message(database, practice, patient, account, subject=f"Subject of {name}")
    delivery_id = await make_delivery(database, practice, account.id, headers={"a": "b"})
    async with database.tenant(practice.id) as connection:
        assert await claim(connection, practice.id, message_id, HOUR)
        await record_events(connection, practice.id, [matched(message_id, EventKind.ATTEMPT_DEFERRED)])
        unmatched = Unmatched(
            account.id, delivery_id, event(EventKind.DELIVERED, theirs="nobody's"), EventSource.WEBHOOK, now()
        )
        await park(connection, practice.id, [unmatched])
        await record_deed(connection, practice.id, "somebody", "sendMessage", "Message", message_id)
        await revoke(connection, practice.id, Revocation(None, f"leaver of {name}", now()))
    await record_views(database.inbox, [ViewEntry(practice.id, "somebody", "patient", [patient.id], 1, now(), now())])
    return House(practice, patient, account, message_id, delivery_id)


def promise(house: House, **fields: Any) -> NewMessage:
    """A message of a house that isn't stored yet."""
    queued_at = fields.get("queued_at", now())
    return NewMessage(
        **{
            "id": MessageId(uuid7(queued_at)),
            "patient_id": house.patient.id,
            "account_id": house.account.id,
            "account_kind": house.account.kind,
            "recipient": house.patient.email,
            "subject": "Your results are ready",
            "body": Body("Please call us.", None),
            "track_opens": True,
            "queued_at": queued_at,
            **fields,
        }
    )


async def store(database: Database, house: House, *messages: NewMessage) -> set[MessageId]:
    async with database.tenant(house.practice.id) as connection:
        return await insert_messages(connection, OWN_SEALER, house.practice.id, messages)


def now() -> datetime:
    return datetime.now(UTC)


def event(
    kind: EventKind,
    key: str | None = None,
    *,
    at: datetime | None = None,
    ours: UUID | None = None,
    theirs: str | None = None,
    failure: Failure | None = None,
) -> Event:
    """An event whose key is its kind unless given."""
    return Event(
        kind=kind,
        occurred_at=at or now(),
        dedupe_key=key or kind.value,
        message_id=MessageId(ours) if ours else None,
        provider_message_id=theirs,
        failure=failure,
    )


def matched(message_id: UUID, kind: EventKind, key: str | None = None, *, at: datetime | None = None) -> Matched:
    return Matched(MessageId(message_id), event(kind, key, at=at), EventSource.WEBHOOK, now())


async def record(database: Database, house: House, *kinds: EventKind, message_id: UUID | None = None) -> None:
    async with database.tenant(house.practice.id) as connection:
        await record_events(
            connection, house.practice.id, [matched(message_id or house.message_id, kind) for kind in kinds]
        )


async def tables(owner: asyncpg.Connection) -> list[str]:
    """Every table of the application; partitions are reached through their parent."""
    rows = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', "
        "'f') AND NOT relispartition AND relname <> 'migration' ORDER BY relname"
    )
    return [row["relname"] for row in rows]


def key_of(table: str) -> str:
    return "id" if table == "practice" else "practice_id"


async def sent(database: Database, house: House, theirs: str) -> MessageId:
    """A message that its ESP has taken, by the id `theirs`."""
    message_id = await make_message(database, house.practice, house.patient, house.account)
    async with database.tenant(house.practice.id) as connection:
        claimed = await claim(connection, house.practice.id, message_id, HOUR)
    assert claimed is not None
    async with database.tenant(house.practice.id) as connection:
        accepted = event(EventKind.ACCEPTED, "attempt/1/accepted")
        await finish(connection, claimed, AttemptOutcome.ACCEPTED, accepted, theirs)
    return message_id
