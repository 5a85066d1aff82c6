"""Evidence: appended once, summed up on its message in the same transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from db.messages import failure_from
from db.pool import TENANT, Connection, Pool
from mail.event import Event, EventKind, EventSource
from mail.failure import Failure
from mail.health import health_of
from mail.ids import MessageId, PracticeId
from mail.status import Verdict, believed_at

_COLUMNS: Final = (
    "message_id, dedupe_key, kind, occurred_at, received_at, source, machine, detail, failure_kind, "
    "failure_smtp_code, failure_enhanced_code, failure_reason"
)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One piece of evidence as it is shown."""

    message_id: MessageId
    dedupe_key: str
    kind: EventKind
    occurred_at: datetime
    received_at: datetime
    source: EventSource
    machine: bool
    detail: str
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class Matched:
    """An event whose message is known.

    `delivery_id` is the stored webhook that it was read from, `reader` the fingerprint of the program that read it.
    `again` says that the same evidence may stand there under another key: it was read again, or had been parked.
    """

    message_id: MessageId
    event: Event
    source: EventSource
    received_at: datetime
    delivery_id: UUID | None = None
    reader: int | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """What was new: how many events, and the messages that changed."""

    events: int
    messages: set[MessageId]


async def record_events(connection: Connection, practice_id: PracticeId, matched: Sequence[Matched]) -> set[MessageId]:
    """Appends what is new and sums it up on the messages; returns the messages that changed."""
    return (await append_events(connection, practice_id, matched)).messages


async def append_events(connection: Connection, practice_id: PracticeId, matched: Sequence[Matched]) -> Appended:
    """Appends what is new and sums it up on the messages.

    Repeats are dropped by the primary key. The rows of the messages are locked in the order of their ids,
    so that workers never wait for each other in a circle.
    """
    if not matched:
        return Appended(0, set())
    await lock_messages(connection, practice_id, [entry.message_id for entry in matched])
    matched = await _without_known(connection, practice_id, matched)
    inserted = await connection.fetch(
        "INSERT INTO message_event (practice_id, message_id, dedupe_key, kind, verdict, machine, occurred_at, "
        "received_at, source, detail, failure_kind, failure_smtp_code, failure_enhanced_code, failure_reason, "
        "delivery_id, place, reader) "
        "SELECT $1, n.message_id, n.dedupe_key, n.kind::event_kind, n.verdict::verdict, n.machine, n.occurred_at, "
        "n.received_at, n.source::event_source, n.detail, n.failure_kind::failure_kind, n.smtp_code, n.enhanced_code, "
        "n.reason, n.delivery_id, n.place, n.reader FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], "
        "$6::boolean[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::integer[], "
        "$13::text[], $14::text[], $15::uuid[], $16::integer[], $17::integer[]) "
        "AS n(message_id, dedupe_key, kind, verdict, machine, occurred_at, received_at, source, detail, failure_kind, "
        "smtp_code, enhanced_code, reason, delivery_id, place, reader) "
        "ON CONFLICT DO NOTHING RETURNING message_id, dedupe_key",
        practice_id,
        [entry.message_id for entry in matched],
        *event_columns([entry.event for entry in matched]),
        [entry.received_at for entry in matched],
        [entry.source.value for entry in matched],
        [entry.event.detail for entry in matched],
        *failure_columns([entry.event.failure for entry in matched]),
        [entry.delivery_id for entry in matched],
        [entry.event.place for entry in matched],
        [entry.reader for entry in matched],
    )
    fresh = {(row["message_id"], row["dedupe_key"]) for row in inserted}
    changed = {MessageId(message_id) for message_id, _ in fresh}
    if changed:
        await _sum_up(connection, practice_id, sorted(changed))
    if len(fresh) < len(matched):
        early = [entry for entry in matched if _believed(entry) < entry.event.occurred_at]
        changed |= await _bring_forward(connection, practice_id, early) if early else set()
    await _update_health(connection, practice_id, matched)
    return Appended(len(fresh), changed)


def _believed(entry: Matched) -> datetime:
    return believed_at(entry.event.occurred_at, entry.received_at)


async def lock_messages(connection: Connection, practice_id: PracticeId, message_ids: Sequence[UUID]) -> None:
    """Locks messages in the order of their ids: before anything else of theirs, as everybody does."""
    await connection.execute(
        "SELECT FROM message WHERE practice_id = $1 AND id = ANY($2::uuid[]) ORDER BY id FOR NO KEY UPDATE",
        practice_id,
        message_ids,
    )


async def lock_patients(connection: Connection, practice_id: PracticeId, message_ids: Sequence[UUID]) -> None:
    """Locks the patients of messages in the order of their ids; after the messages."""
    await connection.execute(
        "SELECT FROM patient WHERE practice_id = $1 AND id IN (SELECT patient_id FROM message WHERE practice_id = $1 "
        "AND id = ANY($2::uuid[])) ORDER BY id FOR NO KEY UPDATE",
        practice_id,
        message_ids,
    )


async def _without_known(
    connection: Connection, practice_id: PracticeId, matched: Sequence[Matched]
) -> Sequence[Matched]:
    """Leaves out evidence that stands there already under another key.

    It is the same when it came from the same place of the same webhook; or, when another program read it, which may
    have made other keys, when it is of the same kind and time. A reading that says more than the stored one did (of
    what was unknown then, say) is kept, beside it.
    """
    again = [entry for entry in matched if entry.again]
    if not again:
        return matched
    rows = await connection.fetch(
        """
        SELECT n.number, known.own_key
        FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::timestamptz[], $8::uuid[],
            $9::integer[], $10::integer[]) WITH ORDINALITY
            AS n(message_id, dedupe_key, kind, verdict, machine, occurred_at, delivery_id, place, reader, number)
        CROSS JOIN LATERAL (
            SELECT max(e.verdict) AS verdict, bool_or(e.dedupe_key = n.dedupe_key) AS own_key
            FROM message_event e
            WHERE e.practice_id = $1 AND e.message_id = n.message_id AND e.source <> 'attempt' AND (
                e.dedupe_key = n.dedupe_key
                OR (e.delivery_id = n.delivery_id AND e.place = n.place)
                OR (e.reader IS DISTINCT FROM n.reader AND e.kind = n.kind::event_kind AND e.machine = n.machine
                    AND e.occurred_at = n.occurred_at))
        ) known
        WHERE known.verdict IS NULL OR known.verdict < n.verdict::verdict
        """,
        practice_id,
        [entry.message_id for entry in again],
        *event_columns([entry.event for entry in again]),
        [entry.delivery_id for entry in again],
        [entry.event.place for entry in again],
        [entry.reader for entry in again],
    )
    kept = [entry for entry in matched if not entry.again]
    for row in rows:
        entry = again[row["number"] - 1]
        if row["own_key"]:
            key = f"{entry.event.dedupe_key}/{entry.event.kind.value}"
            entry = replace(entry, event=replace(entry.event, dedupe_key=key))
        kept.append(entry)
    return kept


def event_columns(events: Sequence[Event]) -> tuple[list[str], list[str], list[str], list[bool], list[datetime]]:
    """dedupe_key, kind, verdict, machine, occurred_at as columns for unnest."""
    return (
        [event.dedupe_key for event in events],
        [event.kind.value for event in events],
        [event.verdict.sql_name for event in events],
        [event.machine for event in events],
        [event.occurred_at for event in events],
    )


def failure_columns(
    failures: Sequence[Failure | None],
) -> tuple[list[str | None], list[int | None], list[str | None], list[str | None]]:
    """failure_kind, failure_smtp_code, failure_enhanced_code, failure_reason as columns for unnest."""
    return (
        [failure.kind.value if failure else None for failure in failures],
        [failure.smtp_code if failure else None for failure in failures],
        [failure.enhanced_code if failure else None for failure in failures],
        [failure.reason if failure else None for failure in failures],
    )


async def _sum_up(connection: Connection, practice_id: PracticeId, message_ids: Sequence[MessageId]) -> None:
    """Sets what a message row says of its events: maxima, minima and ORs, never lowered.

    The failure shown is the one of the greatest verdict; among equals the latest, then by key.
    """
    await connection.execute(
        """
        UPDATE message m SET
            verdict = GREATEST(m.verdict, e.verdict),
            cancelled_at = LEAST(m.cancelled_at, e.cancelled_at),
            failed_at = LEAST(m.failed_at, e.failed_at),
            sent_at = LEAST(m.sent_at, CASE WHEN e.sent_at IS NOT NULL THEN GREATEST(e.sent_at, m.queued_at) END),
            soft_returned_at = LEAST(m.soft_returned_at, e.soft_returned_at),
            delivered_at = LEAST(m.delivered_at, e.delivered_at),
            opened_at = LEAST(m.opened_at, e.opened_at),
            returned_at = LEAST(m.returned_at, e.returned_at),
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
                min(at) FILTER (WHERE verdict = 'cancelled') AS cancelled_at,
                min(at) FILTER (WHERE verdict = 'failed') AS failed_at,
                min(at) FILTER (WHERE verdict >= 'sent') AS sent_at,
                min(at) FILTER (WHERE verdict = 'returned_soft') AS soft_returned_at,
                min(at) FILTER (WHERE verdict = 'delivered') AS delivered_at,
                min(at) FILTER (WHERE verdict = 'opened') AS opened_at,
                min(at) FILTER (WHERE verdict = 'returned') AS returned_at,
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


async def _bring_forward(connection: Connection, practice_id: PracticeId, copies: Sequence[Matched]) -> set[MessageId]:
    """Lowers times by copies of events that are stored with a later time: theirs was in the future (see
    mail.status.believed_at), and of two copies the smaller counts, whichever came first."""
    rows = await connection.fetch(
        """
        UPDATE message m SET
            cancelled_at = LEAST(m.cancelled_at, e.cancelled_at), failed_at = LEAST(m.failed_at, e.failed_at),
            sent_at = LEAST(m.sent_at, CASE WHEN e.sent_at IS NOT NULL THEN GREATEST(e.sent_at, m.queued_at) END),
            soft_returned_at = LEAST(m.soft_returned_at, e.soft_returned_at),
            delivered_at = LEAST(m.delivered_at, e.delivered_at), opened_at = LEAST(m.opened_at, e.opened_at),
            returned_at = LEAST(m.returned_at, e.returned_at), changed_xid = pg_current_xact_id()
        FROM (
            SELECT message_id,
                min(at) FILTER (WHERE verdict = 'cancelled') AS cancelled_at,
                min(at) FILTER (WHERE verdict = 'failed') AS failed_at,
                min(at) FILTER (WHERE verdict >= 'sent') AS sent_at,
                min(at) FILTER (WHERE verdict = 'returned_soft') AS soft_returned_at,
                min(at) FILTER (WHERE verdict = 'delivered') AS delivered_at,
                min(at) FILTER (WHERE verdict = 'opened') AS opened_at,
                min(at) FILTER (WHERE verdict = 'returned') AS returned_at
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


async def _update_health(connection: Connection, practice_id: PracticeId, told: Sequence[Matched]) -> None:
    """Sets the health of the patients' addresses; the latest event wins, of several at one time the worst, and only
    for the address it is about. The rows are locked in the order of their ids, as those of the messages are."""
    telling = [
        (entry.message_id, _believed(entry), health.value)
        for entry in told
        if not entry.event.machine and (health := health_of(entry.event.kind, entry.event.failure)) is not None
    ]
    if not telling:
        return
    await connection.execute(
        """
        WITH said AS MATERIALIZED (
            SELECT DISTINCT ON (m.patient_id, m.recipient) m.patient_id, m.recipient, n.at, n.health::email_health
            FROM unnest($2::uuid[], $3::timestamptz[], $4::text[]) AS n(message_id, at, health)
            JOIN message m ON m.practice_id = $1 AND m.id = n.message_id
            ORDER BY m.patient_id, m.recipient, n.at DESC, n.health::email_health DESC
        ), locked AS MATERIALIZED (
            SELECT id FROM patient WHERE practice_id = $1 AND id IN (SELECT patient_id FROM said)
            ORDER BY id FOR NO KEY UPDATE
        )
        UPDATE patient p SET email_health = n.health, email_health_at = n.at
        FROM said n JOIN locked ON locked.id = n.patient_id
        WHERE p.practice_id = $1 AND p.id = n.patient_id AND p.email = n.recipient
            AND (p.email_health_at IS NULL OR (p.email_health_at, p.email_health) < (n.at, n.health))
        """,
        practice_id,
        *(list(column) for column in zip(*telling, strict=True)),
    )


async def page_of_events(
    pool: Pool,
    practice_id: PracticeId,
    message_ids: Sequence[UUID],
    limit: int,
    after: tuple[datetime, str] | None,
    ceiling: Verdict = Verdict.RETURNED,
) -> dict[UUID, list[StoredEvent]]:
    """The evidence of each message in the order in which it happened, after the event (time, key) `after`.

    Evidence above the ceiling is left out; so is a machine's, which says that the email arrived.
    """
    rows = await pool.fetch(
        TENANT + "SELECT e.* FROM tenant CROSS JOIN unnest($2::uuid[]) AS wanted(message_id) CROSS JOIN LATERAL ("
        f"SELECT {_COLUMNS} FROM message_event "
        "WHERE practice_id = tenant.practice_id AND message_id = wanted.message_id "
        "AND ($4::timestamptz IS NULL OR (occurred_at, dedupe_key) > ($4, $5)) "
        "AND verdict <= $6::verdict AND (NOT machine OR $6::verdict = 'returned') "
        "ORDER BY occurred_at, dedupe_key LIMIT $3) e",
        practice_id,
        message_ids,
        limit,
        after[0] if after else None,
        after[1] if after else None,
        ceiling.sql_name,
    )
    pages: dict[UUID, list[StoredEvent]] = {message_id: [] for message_id in message_ids}
    for row in rows:
        pages[row["message_id"]].append(_stored(row))
    return pages


async def find_event(pool: Pool, practice_id: PracticeId, message_id: UUID, dedupe_key: str) -> StoredEvent | None:
    row = await pool.fetchrow(
        TENANT + f"SELECT e.* FROM tenant CROSS JOIN LATERAL (SELECT {_COLUMNS} FROM message_event "
        "WHERE practice_id = tenant.practice_id AND message_id = $2 AND dedupe_key = $3 LIMIT 1) e",
        practice_id,
        message_id,
        dedupe_key,
    )
    return _stored(row) if row else None


def _stored(row: asyncpg.Record) -> StoredEvent:
    return StoredEvent(
        message_id=row["message_id"],
        dedupe_key=row["dedupe_key"],
        kind=EventKind(row["kind"]),
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        source=EventSource(row["source"]),
        machine=row["machine"],
        detail=row["detail"],
        failure=failure_from(row),
    )


async def create_partitions(dispatcher: Pool) -> None:
    """Makes the partitions of the next twelve months; those that stand are left alone."""
    await dispatcher.execute("SELECT create_event_partitions(now() + interval '1 year')")
