"""Composing: from what staff wrote to a committed promise to send it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from api.graphql.context import Context
from api.graphql.errors import ErrorCode, refuse
from api.graphql.ids import uuid_of
from api.graphql.mutations.payload import Checks
from db import accounts, messages, outbox, patients
from db.accounts import Account
from db.audit import record_deed
from db.ids import uuid7
from db.messages import Body, Message, NewMessage
from db.patients import Patient
from mail.ids import MessageId
from mail.message import check_body, check_subject

_FARTHEST: Final = timedelta(days=366)
_KEY_LIMIT: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an input says; ids are global ones. With `repeats`, content and patient are that message's."""

    account_id: str | None = None
    subject: str = ""
    text: str = ""
    html: str | None = None
    send_at: datetime | None = None
    idempotency_key: str | None = None
    repeats: str | None = None


async def promise(
    context: Context, action: str, draft: Draft, patient_ids: Sequence[str], *, many: bool
) -> Sequence[Message]:
    """Stores a message for each patient in one transaction, with its deed in the audit trail, and has it sent.

    Raises `InputRefused`, and then nothing is stored.
    """
    now = await context.database.now()
    checks = Checks()
    original: Message | None = None
    if draft.repeats is not None:
        original, subject, body = await _original(context, draft.repeats)
        recipients = await _patients(context, checks, [original.patient_id], many=False)
    else:
        subject = checks.text(lambda: check_subject(draft.subject))
        text = checks.text(lambda: check_body("text", draft.text))
        html = None if draft.html is None else checks.text(lambda: check_body("html", draft.html or ""))
        body = Body(text, html)
        limit = context.services.config.limits.recipients
        if many and not 0 < len(patient_ids) <= limit:
            checks.errors.extend(refuse("patientIds", ErrorCode.TOO_MANY, f"Name from 1 to {limit} patients.").errors)
            patient_ids = []
        keys = [uuid_of("Patient", patient_id) for patient_id in patient_ids]
        recipients = await _patients(context, checks, keys, many=many)
    account = await _account(context, checks, draft.account_id, original)
    with checks.field():
        _check_timing(draft, now)
    checks.done()
    assert account is not None
    scheduled_at = draft.send_at if draft.send_at is not None and draft.send_at > now else None
    drafts = [
        NewMessage(
            id=MessageId(uuid7(now)),
            patient_id=patient.id,
            account_id=account.id,
            account_kind=account.kind,
            recipient=patient.email,
            subject=subject,
            body=body,
            track_opens=patient.open_tracking,
            queued_at=now,
            scheduled_at=scheduled_at,
            resend_of=original.id if original else None,
            idempotency_key=_key_for(draft.idempotency_key, patient, many=many),
            bulk=len(recipients) > 1,
        )
        for patient in recipients
    ]
    return await _store(context, action, draft, drafts)


async def _store(context: Context, action: str, draft: Draft, drafts: Sequence[NewMessage]) -> Sequence[Message]:
    sealer = context.services.config.sealer
    practice_id = context.practice_id
    async with context.database.tenant(practice_id) as connection:
        # In the order of their keys, so that two of the same wish never wait for each other in a circle.
        ordered = sorted(drafts, key=lambda message: message.idempotency_key or "")
        stored = await messages.insert_messages(connection, sealer, practice_id, ordered)
        ids: list[MessageId] = [message.id for message in drafts]
        if len(stored) < len(drafts):
            keys = [message.idempotency_key for message in drafts if message.idempotency_key]
            standing = await messages.find_by_idempotency_keys(connection, sealer, practice_id, keys)
            for place, message in enumerate(drafts):
                if message.id not in stored:
                    earlier, body = standing[message.idempotency_key or ""]
                    _check_same(draft, message, earlier, body)
                    ids[place] = earlier.id
        for message_id in stored:
            await record_deed(connection, practice_id, context.principal.subject, action, "Message", message_id)
    if stored:
        await context.services.jobs.send(practice_id, drafts[0].account_id, at=drafts[0].scheduled_at)
        await context.services.jobs.announce(practice_id)
    found = await messages.find_messages(context.database.app, practice_id, ids)
    return [found[key] for key in ids]


async def cancel_message(context: Context, message_id: str) -> Message:
    """Withdraws a message; raises `InputRefused`."""
    key = uuid_of("Message", message_id)
    row = await context.load.message.load(key) if key else None
    if row is None:
        raise refuse("messageId", ErrorCode.NOT_FOUND, "There is no such message.")
    practice_id = context.practice_id
    async with context.database.tenant(practice_id) as connection:
        if not await outbox.cancel(connection, practice_id, row.id, await context.database.now()):
            raise refuse("messageId", ErrorCode.NOT_CANCELLABLE, "It is being sent, or was sent or cancelled already.")
        await record_deed(connection, practice_id, context.principal.subject, "cancelMessage", "Message", row.id)
    await context.services.jobs.announce(practice_id)
    cancelled = await context.load.message.load(row.id)
    assert cancelled is not None
    return cancelled


async def _original(context: Context, message_id: str) -> tuple[Message, str, Body]:
    key = uuid_of("Message", message_id)
    row = await context.load.message.load(key) if key else None
    body = await context.load.body.load(row.id) if row else None
    if row is None or body is None:
        raise refuse("messageId", ErrorCode.NOT_FOUND, "There is no such message.")
    return row, row.subject, body


async def _patients(context: Context, checks: Checks, keys: Sequence[UUID | None], *, many: bool) -> Sequence[Patient]:
    """The patients in the order of the keys, each once."""
    wanted = [key for key in keys if key is not None]
    known = await patients.find_patients(context.database.app, context.practice_id, wanted)
    by_key = {UUID(bytes=key.bytes): patient for key, patient in known.items()}
    found: dict[UUID, Patient] = {}
    for place, key in enumerate(keys):
        patient = by_key.get(key) if key else None
        if patient is None:
            field = f"patientIds.{place}" if many else "patientId"
            checks.errors.extend(refuse(field, ErrorCode.NOT_FOUND, "There is no such patient.").errors)
        elif not patient.email:
            field = f"patientIds.{place}" if many else "patientId"
            checks.errors.extend(refuse(field, ErrorCode.NOT_FOUND, "This patient was erased.").errors)
        else:
            found[patient.id] = patient
    return list(found.values())


async def _account(
    context: Context, checks: Checks, account_id: str | None, original: Message | None
) -> Account | None:
    """The account named, else that of the message repeated, else the practice's default."""
    rows = await accounts.list_accounts(context.database.app, context.practice_id)
    if account_id is None and original is None:
        if rows and rows[0].is_default:
            return rows[0]
        checks.errors.extend(
            refuse("accountId", ErrorCode.NO_ACCOUNT, "The practice has no sending account yet.").errors
        )
        return None
    key = uuid_of("SendingAccount", account_id) if account_id is not None else original and original.account_id
    for row in rows:
        if row.id == key:
            return row
    checks.errors.extend(refuse("accountId", ErrorCode.NOT_FOUND, "There is no such sending account.").errors)
    return None


def _check_timing(draft: Draft, now: datetime) -> None:
    key, send_at = draft.idempotency_key, draft.send_at
    if key is not None and not 0 < len(key) <= _KEY_LIMIT:
        raise refuse("idempotencyKey", ErrorCode.TOO_LONG, f"From 1 to {_KEY_LIMIT} characters.")
    if key is not None and not key.isprintable():
        raise refuse("idempotencyKey", ErrorCode.INVALID_CHARACTER, "Use printable characters.")
    if send_at is not None and send_at.tzinfo is None:
        raise refuse("sendAt", ErrorCode.INVALID_VALUE, "Give the time with its offset: 2026-01-31T09:00:00Z.")
    if send_at is not None and send_at > now + _FARTHEST:
        raise refuse("sendAt", ErrorCode.INVALID_VALUE, "At most a year ahead.")


def _key_for(key: str | None, patient: Patient, *, many: bool) -> str | None:
    """A bulk's key stands for one message a patient."""
    return f"{key}/{patient.id}" if key is not None and many else key


def _check_same(draft: Draft, message: NewMessage, earlier: Message, body: Body) -> None:
    """Refuses a key that stands for another content. An account or time left out asks for no particular one."""
    same = (
        earlier.patient_id == message.patient_id
        and earlier.resend_of == message.resend_of
        and (draft.account_id is None or earlier.account_id == message.account_id)
        and (draft.send_at is None or (earlier.scheduled_at or draft.send_at) == draft.send_at)
        and (earlier.subject, body) == (message.subject, message.body)
    )
    if not same:
        raise refuse(
            "idempotencyKey",
            ErrorCode.IDEMPOTENCY_KEY_REUSED,
            "This key stands for a message with another content; take a new key for a new message.",
        )
