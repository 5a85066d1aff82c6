"""Erasing a patient: what is known of the person goes for good, what became of the practice's emails stays.

Of a message remain its times, its status and the codes of its failures; of the person a row that says when they were
erased. Webhooks that brought events of their messages are removed as a whole, since the raw body names them.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from db.audit import record_deed
from db.messages import Body, seal_body
from db.outbox import cancel, find_queued
from db.pool import Database
from db.sealing import Sealer
from mail.ids import MessageId, PracticeId

NAME: Final = "Erased patient"
_BATCH: Final = 500
_NOTHING: Final = Body("", None)


class StillSending(Exception):
    """A worker has an email to the patient in its hands: erase again in a minute."""


@dataclass(frozen=True, slots=True)
class Erased:
    """How much was removed: messages emptied, of which some were cancelled first, and webhooks deleted."""

    messages: int
    cancelled: int
    webhooks: int


async def erase_patient(
    database: Database, sealer: Sealer, practice_id: PracticeId, patient_id: UUID, subject: str
) -> Erased | None:
    """Erases a patient as `subject`, which the audit trail keeps; None when there's no such patient. May be repeated.

    Emails that wait to be sent are cancelled first. Raises `StillSending`.
    """
    async with database.tenant(practice_id) as connection:
        now = await connection.fetchval("SELECT clock_timestamp()")
        cancelled = 0
        for message_id in await find_queued(connection, practice_id, patient_id):
            if not await cancel(connection, practice_id, message_id, now):
                raise StillSending("An email to the patient is being sent; erase again in a minute.")
            cancelled += 1
    async with database.role("carepost_eraser", practice_id) as connection:
        found = await connection.fetchval(
            "UPDATE patient SET name = $3, email = '', open_tracking = false, email_health = 'unknown', "
            "email_health_at = NULL, erased_at = coalesce(erased_at, now()) WHERE practice_id = $1 AND id = $2 "
            "RETURNING true",
            practice_id,
            patient_id,
            NAME,
        )
        if not found:
            return None
        ids = [
            row["id"]
            for row in await connection.fetch(
                "SELECT id FROM message WHERE practice_id = $1 AND patient_id = $2 ORDER BY id", practice_id, patient_id
            )
        ]
        webhooks = 0
        for start in range(0, len(ids), _BATCH):
            batch: list[MessageId] = ids[start : start + _BATCH]
            await connection.execute(
                "UPDATE message m SET recipient = '', subject = '', body = n.body, idempotency_key = NULL, "
                "failure_reason = CASE WHEN m.failure_kind IS NOT NULL THEN '' END, "
                "changed_xid = pg_current_xact_id() FROM unnest($2::uuid[], $3::bytea[]) AS n(id, body) "
                "WHERE m.practice_id = $1 AND m.id = n.id",
                practice_id,
                batch,
                [seal_body(sealer, practice_id, message_id, _NOTHING) for message_id in batch],
            )
            await connection.execute(
                "DELETE FROM parked_event p USING message_event e WHERE p.practice_id = $1 AND e.practice_id = $1 "
                "AND e.message_id = ANY($2::uuid[]) AND p.delivery_id = e.delivery_id",
                practice_id,
                batch,
            )
            webhooks += await connection.fetchval(
                "WITH gone AS (DELETE FROM webhook_delivery d USING message_event e WHERE d.practice_id = $1 "
                "    AND e.practice_id = $1 AND e.message_id = ANY($2::uuid[]) AND d.id = e.delivery_id "
                "    RETURNING d.id) SELECT count(*) FROM gone",
                practice_id,
                batch,
            )
            await connection.execute(
                "UPDATE message_event SET failure_reason = '' "
                "WHERE practice_id = $1 AND message_id = ANY($2::uuid[]) AND failure_kind IS NOT NULL",
                practice_id,
                batch,
            )
            # Of our own attempts `detail` is the server's reply, elsewhere the vendor's name of the event.
            await connection.execute(
                "UPDATE message_event SET detail = '' "
                "WHERE practice_id = $1 AND message_id = ANY($2::uuid[]) AND source = 'attempt'",
                practice_id,
                batch,
            )
        await record_deed(connection, practice_id, subject, "erase", "Patient", patient_id)
    return Erased(len(ids), cancelled, webhooks)
