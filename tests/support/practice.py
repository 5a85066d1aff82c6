"""A practice with a patient and accounts, written by the functions that serve."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from db.accounts import Account, create_account
from db.ids import uuid7
from db.inbox import NewDelivery, store_deliveries
from db.messages import Body, NewMessage, insert_messages
from db.patients import Patient, create_patient
from db.pool import Database
from db.position import Position
from db.practices import Practice, create_practice
from mail.ids import AccountId, DeliveryId, MessageId
from mail.message import Address
from mail.status import AccountKind
from tests.support.databases import OWN_SEALER

BEGINNING = Position("00000001", 0)
"""Before every change; a Postgres that took no other's place is on its first timeline."""


async def make_practice(url: str, name: str, zone: str = "Europe/Berlin") -> Practice:
    return await create_practice(url, name, ZoneInfo(zone))


async def make_patient(
    database: Database, practice: Practice, email: str = "pat@mail.example", name: str = "Pat Example"
) -> Patient:
    async with database.tenant(practice.id) as connection:
        return await create_patient(connection, practice.id, name, email, open_tracking=True)


async def make_account(
    database: Database,
    practice: Practice,
    kind: AccountKind = AccountKind.ESP,
    *,
    provider: str | None = None,
    credentials: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
) -> Account:
    """An account; of kind ESP it is SendGrid's unless named otherwise."""
    async with database.tenant(practice.id) as connection:
        return await create_account(
            connection,
            OWN_SEALER,
            practice.id,
            AccountId(uuid7(datetime.now(UTC))),
            kind=kind,
            provider=(provider or "sendgrid") if kind is AccountKind.ESP else None,
            name=f"{kind.value} account",
            sender=Address("hello@northgate.example", "Northgate"),
            reply_to=None,
            is_default=False,
            credentials=credentials or {"api_key": "SG.sandbox"},
            webhook_secrets=secrets,
        )


def draft_of(patient: Patient, account: Account, at: datetime | None = None, **changes: Any) -> NewMessage:
    """A message to be stored, written now or `at`; `changes` are of its fields."""
    queued_at = at or datetime.now(UTC)
    draft = NewMessage(
        id=MessageId(uuid7(queued_at)),
        patient_id=patient.id,
        account_id=account.id,
        account_kind=account.kind,
        recipient=patient.email,
        subject="Your results are ready",
        body=Body("Please call us.", None),
        track_opens=True,
        queued_at=queued_at,
    )
    return replace(draft, **changes)


async def make_message(
    database: Database,
    practice: Practice,
    patient: Patient,
    account: Account,
    *,
    at: datetime | None = None,
    subject: str = "Your results are ready",
    text: str = "Please call us.",
    scheduled_at: datetime | None = None,
) -> MessageId:
    """A queued message, due at once."""
    message = draft_of(patient, account, at, subject=subject, body=Body(text, None), scheduled_at=scheduled_at)
    async with database.tenant(practice.id) as connection:
        await insert_messages(connection, OWN_SEALER, practice.id, [message])
    return message.id


async def make_delivery(
    database: Database,
    practice: Practice,
    account_id: AccountId,
    body: bytes = b"[]",
    *,
    provider: str = "sendgrid",
    headers: Mapping[str, str] | None = None,
    token: str | None = None,
) -> DeliveryId:
    """A webhook as the endpoint stores it."""
    delivery_id = DeliveryId(uuid7(datetime.now(UTC)))
    delivery = NewDelivery(
        practice_id=practice.id,
        id=delivery_id,
        account_id=account_id,
        provider=provider,
        headers=headers or {},
        body=body,
        token=token,
    )
    await store_deliveries(database.inbox, OWN_SEALER, [delivery])
    return delivery_id
