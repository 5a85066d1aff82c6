"""What a message and its patient's address say of the evidence: maxima, minima and ORs over it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from db.locks import Locked, Recipient, ids_and_places, lock_patients
from db.pool import Connection
from mail.health import EmailHealth, health_of
from mail.ids import MessageId, PracticeId

if TYPE_CHECKING:
    from db.events import Matched

_HEALTHS: Final = tuple(EmailHealth)

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
_FAILURE: Final = ("failure_kind", "failure_smtp_code", "failure_enhanced_code", "failure_reason")
# Messages are written where they were locked, and not looked for: joined by statistics that were made when a practice
# had next to nothing, all of its messages would be read for each event. $2 are their ids in order, $3 where they are.
# With a limit that it can't see Postgres expects one row, for which it goes there; for ten it would rather look.
_PLACE: Final = "($3::tid[])[width_bucket(message_id, $2::uuid[])] AS place"
_AT_ITS_PLACE: Final = "m.practice_id = $1 AND m.ctid = e.place"
_OF_FRESH: Final = f"""
    SELECT message_id, {_PLACE},
        max(verdict) AS verdict,
        {_FIRSTS},
        bool_or(kind = 'attempt_deferred') AS attempt_failed,
        bool_or(kind = 'attempt_ambiguous') AS ambiguous,
        bool_or(kind = 'deferred') AS deferred,
        bool_or(machine) AS machine_opened,
        bool_or(kind = 'complained') AS complained,
        bool_or(kind = 'unsubscribed') AS unsubscribed
    FROM (SELECT message_id, verdict, kind, machine, believed_at(occurred_at, received_at) AS at FROM fresh) believed
    GROUP BY message_id LIMIT cardinality($2::uuid[])"""
_RAISED: Final = f"""
    verdict = GREATEST(m.verdict, e.verdict),
    {_LOWERED},
    attempt_failed = m.attempt_failed OR e.attempt_failed,
    ambiguous = m.ambiguous OR e.ambiguous,
    deferred = m.deferred OR e.deferred,
    machine_opened = m.machine_opened OR e.machine_opened,
    complained = m.complained OR e.complained,
    unsubscribed = m.unsubscribed OR e.unsubscribed,
    due_at = CASE WHEN e.verdict > 'queued' THEN NULL ELSE m.due_at END,
    changed_xid = pg_current_xact_id()"""

# The failure shown is the one of the greatest verdict; among equals the latest, then by key.
_WORST_FIRST: Final = "verdict DESC, occurred_at DESC, dedupe_key"
_WORST: Final = f"""
    SELECT w.message_id, f.* FROM (
        SELECT DISTINCT ON (message_id) message_id, verdict, occurred_at, dedupe_key, {", ".join(_FAILURE)}
        FROM fresh WHERE failure_kind IS NOT NULL ORDER BY message_id, {_WORST_FIRST}
    ) w CROSS JOIN LATERAL (
        SELECT {", ".join(_FAILURE)} FROM (
            SELECT w.verdict, w.occurred_at, w.dedupe_key, {", ".join(f"w.{column}" for column in _FAILURE)}
            UNION ALL SELECT verdict, occurred_at, dedupe_key, {", ".join(_FAILURE)} FROM message_event
            WHERE practice_id = $1 AND message_id = w.message_id AND failure_kind IS NOT NULL
        ) known ORDER BY {_WORST_FIRST} LIMIT 1
    ) f"""
_SHOWN: Final = ", ".join(
    f"{column} = CASE WHEN f.message_id IS NULL THEN m.{column} ELSE f.{column} END" for column in _FAILURE
)

SUM_UP: Final = f"summed AS (UPDATE message m SET {_RAISED} FROM ({_OF_FRESH}) e WHERE {_AT_ITS_PLACE})"
"""The part of a statement that sums up on their messages, as maxima, minima and ORs, what `fresh` has: the rows of
`message_event` that the same statement appends. What stood there before needn't be read for it."""
SUM_UP_FAILURES: Final = f"""summed AS (
    UPDATE message m SET {_RAISED}, {_SHOWN}
    FROM ({_OF_FRESH}) e LEFT JOIN ({_WORST}) f ON f.message_id = e.message_id WHERE {_AT_ITS_PLACE})"""
"""The same where some of `fresh` tell of a failure."""


async def bring_forward(
    connection: Connection, practice_id: PracticeId, copies: Sequence["Matched"], locked: Mapping[MessageId, Locked]
) -> set[MessageId]:
    """Lowers times by copies of events that are stored with a later time: theirs was in the future (see
    mail.status.believed_at), and of two copies the smaller counts, whichever came first."""
    rows = await connection.fetch(
        f"""
        UPDATE message m SET
            {_LOWERED}, changed_xid = pg_current_xact_id()
        FROM (
            SELECT message_id, {_PLACE},
                {_FIRSTS}
            FROM (SELECT message_id, verdict::verdict, at FROM unnest($4::uuid[], $5::text[], $6::timestamptz[])
                AS n(message_id, verdict, at)) n GROUP BY message_id LIMIT cardinality($2::uuid[])
        ) e
        WHERE {_AT_ITS_PLACE} AND (
            e.cancelled_at < m.cancelled_at OR e.failed_at < m.failed_at
            OR (e.sent_at < m.sent_at AND m.queued_at < m.sent_at) OR e.soft_returned_at < m.soft_returned_at
            OR e.delivered_at < m.delivered_at OR e.opened_at < m.opened_at OR e.returned_at < m.returned_at)
        RETURNING m.id
        """,
        practice_id,
        *ids_and_places(locked),
        [entry.message_id for entry in copies],
        [entry.event.verdict.sql_name for entry in copies],
        [entry.received_at for entry in copies],
    )
    return {MessageId(row["id"]) for row in rows}


async def update_health(
    connection: Connection,
    practice_id: PracticeId,
    told: Sequence["Matched"],
    locked: Mapping[MessageId, Locked],
) -> None:
    """Sets the health of the patients' addresses; the latest event wins, of several at one time the worst, and only
    for the address it is about. The rows are locked in the order of their ids, as those of the messages are."""
    latest: dict[Recipient, tuple[datetime, int]] = {}
    for entry in told:
        if entry.event.machine or (health := health_of(entry.event.kind, entry.event.failure)) is None:
            continue
        recipient, said = locked[entry.message_id].recipient, (entry.believed_at, _HEALTHS.index(health))
        latest[recipient] = max(said, latest.get(recipient, said))
    if not latest:
        return
    # In a statement of its own: one that locks rows and then updates them can wait in a circle with others that do the
    # same, where foreign keys hold the row too.
    places = await lock_patients(connection, practice_id, latest)
    await connection.execute(
        """
        UPDATE patient p SET email_health = n.health::email_health, email_health_at = n.at
        FROM (SELECT * FROM unnest($2::tid[], $3::text[], $4::timestamptz[], $5::text[]) LIMIT cardinality($2))
            AS n(place, address, at, health)
        WHERE p.practice_id = $1 AND p.ctid = n.place AND p.email = n.address
            AND (p.email_health_at IS NULL OR (p.email_health_at, p.email_health) < (n.at, n.health::email_health))
        """,
        practice_id,
        [places[recipient.patient_id] for recipient in latest],
        [recipient.address for recipient in latest],
        [at for at, _ in latest.values()],
        [_HEALTHS[index].value for _, index in latest.values()],
    )
