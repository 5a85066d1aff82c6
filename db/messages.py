"""Messages as they are read: pages, single ones, bodies."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from db.ids import uuid_floor
from db.pool import TENANT, TENANT_AND_RUNNING, Connection, Pool
from db.sealing import Sealer
from mail.failure import Failure, FailureKind
from mail.ids import AccountId, MessageId, PatientId, PracticeId
from mail.status import AccountKind, MessageStatus, Verdict

BODY: Final = "message.body"


@dataclass(frozen=True, slots=True)
class Message:
    """One email to one patient, with its evidence summed up; the body is read apart.

    Times are of the earliest event that says so. `limit` and status follow by mail.status.
    """

    id: MessageId
    patient_id: PatientId
    account_id: AccountId
    account_kind: AccountKind
    recipient: str
    subject: str
    track_opens: bool
    resend_of: MessageId | None
    queued_at: datetime
    scheduled_at: datetime | None
    verdict: Verdict
    cancelled_at: datetime | None
    failed_at: datetime | None
    sent_at: datetime | None
    soft_returned_at: datetime | None
    delivered_at: datetime | None
    opened_at: datetime | None
    returned_at: datetime | None
    attempt_failed: bool
    ambiguous: bool
    deferred: bool
    machine_opened: bool
    complained: bool
    unsubscribed: bool
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Body:
    """What staff wrote; `html` is None for a plain email."""

    text: str
    html: str | None


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages a list holds; None and empty ask for no limit. `queued_to` is exclusive."""

    statuses: Sequence[MessageStatus] = ()
    account_id: UUID | None = None
    patient_id: UUID | None = None
    queued_from: datetime | None = None
    queued_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list, and the oldest transaction that ran when it was read, whose changes it may lack (db.position)."""

    messages: Sequence[Message]
    running: int


COLUMNS: Final = (
    "m.id, m.patient_id, m.account_id, m.account_kind, m.recipient, m.subject, m.track_opens, m.resend_of, "
    "m.queued_at, m.scheduled_at, m.verdict, m.cancelled_at, m.failed_at, m.sent_at, m.soft_returned_at, "
    "m.delivered_at, m.opened_at, m.returned_at, m.attempt_failed, m.ambiguous, m.deferred, m.machine_opened, "
    "m.complained, m.unsubscribed, m.failure_kind, m.failure_smtp_code, m.failure_enhanced_code, m.failure_reason"
)

# Which verdicts can show as a status: anything above SENT shows as SENT under a ceiling.
_VERDICTS: Final[dict[MessageStatus, tuple[Verdict, ...]]] = {
    MessageStatus.QUEUED: (Verdict.QUEUED,),
    MessageStatus.CANCELLED: (Verdict.CANCELLED,),
    MessageStatus.FAILED: (Verdict.FAILED,),
    MessageStatus.SENT: tuple(verdict for verdict in Verdict if verdict >= Verdict.SENT),
    MessageStatus.DELIVERED: (Verdict.DELIVERED,),
    MessageStatus.OPENED: (Verdict.OPENED,),
    MessageStatus.NOT_DELIVERED: (Verdict.RETURNED_SOFT, Verdict.RETURNED),
}


async def find_messages(pool: Pool, practice_id: PracticeId, ids: Sequence[UUID]) -> dict[MessageId, Message]:
    """The practice's messages among `ids`."""
    rows = await pool.fetch(
        TENANT + f"SELECT m.* FROM tenant CROSS JOIN LATERAL (SELECT {COLUMNS} FROM message m "
        "WHERE m.practice_id = tenant.practice_id AND m.id = ANY($2::uuid[]) OFFSET 0) m",
        practice_id,
        ids,
    )
    return {row["id"]: message_from(row) for row in rows}


async def find_bodies(
    pool: Pool, sealer: Sealer, practice_id: PracticeId, ids: Sequence[UUID]
) -> dict[MessageId, Body]:
    """The opened bodies of the practice's messages among `ids`; raises `SealBroken`."""
    rows = await pool.fetch(
        TENANT + "SELECT m.* FROM tenant CROSS JOIN LATERAL (SELECT m.id, m.body FROM message m "
        "WHERE m.practice_id = tenant.practice_id AND m.id = ANY($2::uuid[]) OFFSET 0) m",
        practice_id,
        ids,
    )
    return {row["id"]: open_body(sealer, practice_id, row["id"], row["body"]) for row in rows}


async def find_statuses(
    database: Pool | Connection, practice_id: PracticeId, ids: Sequence[UUID], first_tracked: datetime
) -> dict[UUID, MessageStatus]:
    """The statuses at which the practice's messages among `ids` stand."""
    rows = await database.fetch(
        TENANT + "SELECT m.* FROM tenant CROSS JOIN LATERAL (SELECT id, status_of(verdict, message_limit(account_kind, "
        "coalesce(sent_at, queued_at), $3)) AS status FROM message "
        "WHERE practice_id = tenant.practice_id AND id = ANY($2::uuid[]) OFFSET 0) m",
        practice_id,
        ids,
        first_tracked,
    )
    return {row["id"]: MessageStatus(row["status"]) for row in rows}


async def page_of_messages(
    pool: Pool,
    practice_id: PracticeId,
    wanted: MessageFilter,
    limit: int,
    after: UUID | None,
    first_tracked: datetime,
) -> Page:
    """Messages of a practice, newest first, those older than the message `after`."""
    where, arguments = conditions(wanted, after, first_tracked, [practice_id, limit])
    rows = await pool.fetch(
        TENANT_AND_RUNNING
        + f"SELECT m.*, tenant.running FROM tenant LEFT JOIN LATERAL (SELECT {COLUMNS} FROM message m "
        f"WHERE m.practice_id = tenant.practice_id{where} ORDER BY m.id DESC LIMIT $2) m ON true",
        *arguments,
    )
    return Page([message_from(row) for row in rows if row["id"] is not None], rows[0]["running"])


async def pages_by_patient(
    pool: Pool,
    practice_id: PracticeId,
    patient_ids: Sequence[UUID],
    wanted: MessageFilter,
    limit: int,
    after: UUID | None,
    first_tracked: datetime,
) -> dict[UUID, Page]:
    """The same page for each of several patients, in one statement."""
    where, arguments = conditions(wanted, after, first_tracked, [practice_id, limit, patient_ids])
    rows = await pool.fetch(
        TENANT_AND_RUNNING + "SELECT wanted.patient_id AS wanted, m.*, tenant.running "
        "FROM tenant CROSS JOIN unnest($3::uuid[]) AS wanted(patient_id) LEFT JOIN LATERAL ("
        f"SELECT {COLUMNS} FROM message m WHERE m.practice_id = tenant.practice_id "
        f"AND m.patient_id = wanted.patient_id{where} ORDER BY m.id DESC LIMIT $2) m ON true",
        *arguments,
    )
    found: dict[UUID, list[Message]] = {patient_id: [] for patient_id in patient_ids}
    for row in rows:
        if row["id"] is not None:
            found[row["wanted"]].append(message_from(row))
    return {patient_id: Page(messages, rows[0]["running"]) for patient_id, messages in found.items()}


def conditions(
    wanted: MessageFilter, after: UUID | None, first_tracked: datetime, arguments: list[object]
) -> tuple[str, list[object]]:
    """SQL conditions on `m` with the numbers of their arguments; the texts are fixed, so few in number."""
    where = ""

    def add(condition: str, *values: object) -> None:
        nonlocal where
        numbers = []
        for value in values:
            arguments.append(value)
            numbers.append(f"${len(arguments)}")
        where += " AND " + condition.format(*numbers)

    if wanted.statuses:
        verdicts = {verdict for status in wanted.statuses for verdict in _VERDICTS[status]}
        add("m.verdict = ANY({0}::verdict[])", [verdict.sql_name for verdict in sorted(verdicts)])
        add(
            "status_of(m.verdict, message_limit(m.account_kind, coalesce(m.sent_at, m.queued_at), {0})) "
            "= ANY({1}::message_status[])",
            first_tracked,
            [status.value for status in wanted.statuses],
        )
    if wanted.account_id:
        add("m.account_id = {0}", wanted.account_id)
    if wanted.patient_id:
        add("m.patient_id = {0}", wanted.patient_id)
    if wanted.queued_from:
        add("m.id >= {0}", uuid_floor(wanted.queued_from))
    if wanted.queued_to:
        add("m.id < {0}", uuid_floor(wanted.queued_to))
    if after:
        add("m.id < {0}", after)
    return where, arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A promise to send: checked, not yet stored. `scheduled_at` None means now."""

    id: MessageId
    patient_id: PatientId
    account_id: AccountId
    account_kind: AccountKind
    recipient: str
    subject: str
    body: Body
    track_opens: bool
    queued_at: datetime
    scheduled_at: datetime | None = None
    resend_of: MessageId | None = None
    idempotency_key: str | None = None
    bulk: bool = False
    """Written to several patients at once: single emails go first."""


async def insert_messages(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, messages: Sequence[NewMessage]
) -> set[MessageId]:
    """Stores promises; returns the ids stored. One whose idempotency key stands already is left out."""
    rows = await connection.fetch(
        "INSERT INTO message (practice_id, id, patient_id, account_id, account_kind, recipient, subject, body, "
        "track_opens, queued_at, scheduled_at, due_at, resend_of, idempotency_key, bulk) "
        "SELECT $1, n.id, n.patient_id, n.account_id, n.account_kind::account_kind, n.recipient, n.subject, n.body, "
        "n.track_opens, n.queued_at, n.scheduled_at, coalesce(n.scheduled_at, n.queued_at), n.resend_of, n.key, n.bulk "
        "FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bytea[], "
        "$9::boolean[], $10::timestamptz[], $11::timestamptz[], $12::uuid[], $13::text[], $14::boolean[]) "
        "AS n(id, patient_id, account_id, account_kind, recipient, subject, body, track_opens, queued_at, "
        "scheduled_at, resend_of, key, bulk) "
        "ON CONFLICT (practice_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING id",
        practice_id,
        [message.id for message in messages],
        [message.patient_id for message in messages],
        [message.account_id for message in messages],
        [message.account_kind.value for message in messages],
        [message.recipient for message in messages],
        [message.subject for message in messages],
        [seal_body(sealer, practice_id, message.id, message.body) for message in messages],
        [message.track_opens for message in messages],
        [message.queued_at for message in messages],
        [message.scheduled_at for message in messages],
        [message.resend_of for message in messages],
        [message.idempotency_key for message in messages],
        [message.bulk for message in messages],
    )
    return {row["id"] for row in rows}


async def find_by_idempotency_keys(
    connection: Connection, sealer: Sealer, practice_id: PracticeId, keys: Sequence[str]
) -> dict[str, tuple[Message, Body]]:
    """The messages that these keys stand for, with what was written."""
    rows = await connection.fetch(
        f"SELECT {COLUMNS}, m.body, m.idempotency_key FROM message m "
        "WHERE m.practice_id = $1 AND m.idempotency_key = ANY($2::text[])",
        practice_id,
        keys,
    )
    return {
        row["idempotency_key"]: (message_from(row), open_body(sealer, practice_id, row["id"], row["body"]))
        for row in rows
    }


def seal_body(sealer: Sealer, practice_id: PracticeId, message_id: MessageId, body: Body) -> bytes:
    return sealer.seal(orjson.dumps({"text": body.text, "html": body.html}), BODY, practice_id, message_id)


def open_body(sealer: Sealer, practice_id: PracticeId, message_id: MessageId, sealed: bytes) -> Body:
    opened = orjson.loads(sealer.open(sealed, BODY, practice_id, message_id))
    return Body(opened["text"], opened["html"])


def message_from(row: asyncpg.Record) -> Message:
    """A row of `COLUMNS`."""
    return Message(
        id=row["id"],
        patient_id=row["patient_id"],
        account_id=row["account_id"],
        account_kind=AccountKind(row["account_kind"]),
        recipient=row["recipient"],
        subject=row["subject"],
        track_opens=row["track_opens"],
        resend_of=row["resend_of"],
        queued_at=row["queued_at"],
        scheduled_at=row["scheduled_at"],
        verdict=Verdict[row["verdict"].upper()],
        cancelled_at=row["cancelled_at"],
        failed_at=row["failed_at"],
        sent_at=row["sent_at"],
        soft_returned_at=row["soft_returned_at"],
        delivered_at=row["delivered_at"],
        opened_at=row["opened_at"],
        returned_at=row["returned_at"],
        attempt_failed=row["attempt_failed"],
        ambiguous=row["ambiguous"],
        deferred=row["deferred"],
        machine_opened=row["machine_opened"],
        complained=row["complained"],
        unsubscribed=row["unsubscribed"],
        failure=failure_from(row),
    )


def failure_from(row: asyncpg.Record) -> Failure | None:
    """The failure in a row's `failure_*` columns."""
    if row["failure_kind"] is None:
        return None
    return Failure(
        FailureKind(row["failure_kind"]),
        row["failure_smtp_code"],
        row["failure_enhanced_code"],
        row["failure_reason"] or "",
    )
