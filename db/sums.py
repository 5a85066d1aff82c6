"""What a message and its patient's address say of the evidence: maxima, minima and ORs over it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from db.pool import Connection
from mail.health import health_of
from mail.ids import MessageId, PracticeId

if TYPE_CHECKING:
    from db.events import Matched


_FIRSTS: Final = """
    min(at) FILTER (WHERE verdict = 'cancelled') AS cancelled_at,
    min(at) FILTER (WHERE verdict = 'failed') AS failed_at,
    min(at) FILTER (WHERE verdict >= 'sent') AS sent_at,
    min(at) FILTER (WHERE verdict = 'returned_soft') AS soft_returned_at,
    min(at) FILTER (WHERE verdict = 'delivered') AS delivered_at,
    min(at) FILTER (WHERE verdict = 'opened') AS opened_at,
    min(at) FILTER (WHERE verdict = 'returned') AS returned_at"""
_LOWERED: Final = """
    cancelled_at = LEAST(m.cancelled_at, e.cancelled_at),
    failed_at = LEAST(m.failed_at, e.failed_at),
    sent_at = LEAST(m.sent_at, CASE WHEN e.sent_at IS NOT NULL THEN GREATEST(e.sent_at, m.queued_at) END),
    soft_returned_at = LEAST(m.soft_returned_at, e.soft_returned_at),
    delivered_at = LEAST(m.delivered_at, e.delivered_at),
    opened_at = LEAST(m.opened_at, e.opened_at),
    returned_at = LEAST(m.returned_at, e.returned_at)"""


async def sum_up(connection: Connection, practice_id: PracticeId, message_ids: Sequence[MessageId]) -> None:
    """Sets what a message row says of its events: maxima, minima and ORs, never lowered.

    The failure shown is the one of the greatest verdict; among equals the latest, then by key.
    """
    await connection.execute(
        f"""
        UPDATE message m SET
            verdict = GREATEST(m.verdict, e.verdict),
            {_LOWERED},
            attempt_failed = m.attempt_failed OR e.attempt_failed,
            ambiguous = m.ambiguous OR e.ambiguous,
            deferred = m.deferred OR e.deferred,
            machine_opened = m.machine_opened OR e.machine_opened,
            complained = m.complained OR e.complained,
            unsubscribed = m.unsubscribed OR e.unsubscribed,
            failure_kind = f.failure_kind,
            failure_smtp_code = f.failure_smtp_code,
            failure_enhanced_code = f.failure_enhanced_code,
            failure_reason = f.failure_reason,
            due_at = CASE WHEN e.verdict > 'queued' THEN NULL ELSE m.due_at END,
            changed_xid = pg_current_xact_id()
        FROM (
            SELECT message_id,
                max(verdict) AS verdict,
                {_FIRSTS},
                bool_or(kind = 'attempt_deferred') AS attempt_failed,
                bool_or(kind = 'attempt_ambiguous') AS ambiguous,
                bool_or(kind = 'deferred') AS deferred,
                bool_or(machine) AS machine_opened,
                bool_or(kind = 'complained') AS complained,
                bool_or(kind = 'unsubscribed') AS unsubscribed
            FROM (
                SELECT message_id, verdict, kind, machine, believed_at(occurred_at, received_at) AS at
                FROM message_event WHERE practice_id = $1 AND message_id = ANY($2::uuid[])
            ) believed GROUP BY message_id
        ) e
        LEFT JOIN LATERAL (
            SELECT failure_kind, failure_smtp_code, failure_enhanced_code, failure_reason
            FROM message_event WHERE practice_id = $1 AND message_id = e.message_id AND failure_kind IS NOT NULL
            ORDER BY verdict DESC, occurred_at DESC, dedupe_key LIMIT 1
        ) f ON true
        WHERE m.practice_id = $1 AND m.id = e.message_id
        """,
        practice_id,
        message_ids,
    )


async def bring_forward(connection: Connection, practice_id: PracticeId, copies: Sequence["Matched"]) -> set[MessageId]:
    """Lowers times by copies of events that are stored with a later time: theirs was in the future (see
    mail.status.believed_at), and of two copies the smaller counts, whichever came first."""
    rows = await connection.fetch(
        f"""
        UPDATE message m SET
            {_LOWERED}, changed_xid = pg_current_xact_id()
        FROM (
            SELECT message_id,
                {_FIRSTS}
            FROM (SELECT message_id, verdict::verdict, at FROM unnest($2::uuid[], $3::text[], $4::timestamptz[])
                AS n(message_id, verdict, at)) n GROUP BY message_id
        ) e
        WHERE m.practice_id = $1 AND m.id = e.message_id AND (
            e.cancelled_at < m.cancelled_at OR e.failed_at < m.failed_at
            OR (e.sent_at < m.sent_at AND m.queued_at < m.sent_at) OR e.soft_returned_at < m.soft_returned_at
            OR e.delivered_at < m.delivered_at OR e.opened_at < m.opened_at OR e.returned_at < m.returned_at)
        RETURNING m.id
        """,
        practice_id,
        [entry.message_id for entry in copies],
        [entry.event.verdict.sql_name for entry in copies],
        [entry.received_at for entry in copies],
    )
    return {MessageId(row["id"]) for row in rows}


async def update_health(connection: Connection, practice_id: PracticeId, told: Sequence["Matched"]) -> None:
    """Sets the health of the patients' addresses; the latest event wins, of several at one time the worst, and only
    for the address it is about. The rows are locked in the order of their ids, as those of the messages are."""
    telling = [
        (entry.message_id, entry.believed_at, health.value)
        for entry in told
        if not entry.event.machine and (health := health_of(entry.event.kind, entry.event.failure)) is not None
    ]
    if not telling:
        return
    # In a statement of its own: one that locks rows and then updates them can wait in a circle with others that do the
    # same, where foreign keys hold the row too.
    await lock_patients(connection, practice_id, [message_id for message_id, _, _ in telling])
    await connection.execute(
        """
        WITH said AS MATERIALIZED (
            SELECT DISTINCT ON (m.patient_id, m.recipient) m.patient_id, m.recipient, n.at, n.health::email_health
            FROM unnest($2::uuid[], $3::timestamptz[], $4::text[]) AS n(message_id, at, health)
            JOIN message m ON m.practice_id = $1 AND m.id = n.message_id
            ORDER BY m.patient_id, m.recipient, n.at DESC, n.health::email_health DESC
        )
        UPDATE patient p SET email_health = n.health, email_health_at = n.at
        FROM said n
        WHERE p.practice_id = $1 AND p.id = n.patient_id AND p.email = n.recipient
            AND (p.email_health_at IS NULL OR (p.email_health_at, p.email_health) < (n.at, n.health))
        """,
        practice_id,
        *(list(column) for column in zip(*telling, strict=True)),
    )


async def lock_patients(connection: Connection, practice_id: PracticeId, message_ids: Sequence[UUID]) -> None:
    """Locks the patients of messages in the order of their ids; after the messages."""
    await connection.execute(
        "SELECT FROM patient WHERE practice_id = $1 AND id IN (SELECT patient_id FROM message WHERE practice_id = $1 "
        "AND id = ANY($2::uuid[])) ORDER BY id FOR NO KEY UPDATE",
        practice_id,
        message_ids,
    )
