"""Events that match no message yet: parked, and joined when the message appears."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from db.events import Matched, event_columns, failure_columns, record_events
from db.messages import failure_from
from db.pool import Connection, Pool
from mail.event import Event, EventKind, EventSource
from mail.ids import AccountId, DeliveryId, MessageId, PracticeId


@dataclass(frozen=True, slots=True)
class Unmatched:
    """An event that found no message; `delivery_id` is the webhook it came with."""

    account_id: AccountId
    delivery_id: DeliveryId
    event: Event
    source: EventSource
    received_at: datetime


async def match_events(
    connection: Connection, practice_id: PracticeId, account_id: AccountId, events: Sequence[Event]
) -> list[MessageId | None]:
    """The message of each event: by our own id, else by the provider's; only among the account's messages."""
    rows = await connection.fetch(
        """
        SELECT n.place, coalesce(own.id, theirs.id) AS message_id
        FROM unnest($3::uuid[], $4::text[]) WITH ORDINALITY AS n(message_id, provider_message_id, place)
        LEFT JOIN message own ON own.practice_id = $1 AND own.id = n.message_id AND own.account_id = $2
        LEFT JOIN LATERAL (
            SELECT m.id FROM message m WHERE own.id IS NULL AND m.practice_id = $1 AND m.account_id = $2
                AND m.provider_message_id = n.provider_message_id ORDER BY m.id DESC LIMIT 1
        ) theirs ON true
        ORDER BY n.place
        """,
        practice_id,
        account_id,
        [event.message_id for event in events],
        [event.provider_message_id for event in events],
    )
    return [row["message_id"] for row in rows]


async def park(connection: Connection, practice_id: PracticeId, unmatched: Sequence[Unmatched]) -> None:
    """Keeps events until their message appears; repeats are dropped."""
    events = [entry.event for entry in unmatched]
    await connection.execute(
        "INSERT INTO parked_event (practice_id, account_id, delivery_id, message_id, provider_message_id, dedupe_key, "
        "kind, verdict, machine, occurred_at, received_at, source, detail, failure_kind, failure_smtp_code, "
        "failure_enhanced_code, failure_reason) SELECT $1, n.account_id, n.delivery_id, n.message_id, "
        "n.provider_message_id, n.dedupe_key, n.kind::event_kind, n.verdict::verdict, n.machine, n.occurred_at, "
        "n.received_at, n.source::event_source, n.detail, n.failure_kind::failure_kind, n.smtp_code, n.enhanced_code, "
        "n.reason FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], "
        "$9::boolean[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::text[], $15::integer[], "
        "$16::text[], $17::text[]) AS n(account_id, delivery_id, message_id, provider_message_id, dedupe_key, kind, "
        "verdict, machine, occurred_at, received_at, source, detail, failure_kind, smtp_code, enhanced_code, reason) "
        "ON CONFLICT DO NOTHING",
        practice_id,
        [entry.account_id for entry in unmatched],
        [entry.delivery_id for entry in unmatched],
        [event.message_id for event in events],
        [event.provider_message_id for event in events],
        *event_columns(events),
        [entry.received_at for entry in unmatched],
        [entry.source.value for entry in unmatched],
        [event.detail for event in events],
        *failure_columns([event.failure for event in events]),
    )


async def join_parked(
    connection: Connection, practice_id: PracticeId, message_id: UUID | None = None
) -> set[MessageId]:
    """Moves parked events to their messages, those of one message or all; returns the messages that changed."""
    rows = await connection.fetch(
        """
        WITH found AS (
            SELECT DISTINCT ON (e.ctid) e.ctid AS place, m.id AS matched
            FROM parked_event e JOIN message m ON m.practice_id = e.practice_id AND m.account_id = e.account_id
                AND (m.id = e.message_id OR m.provider_message_id = e.provider_message_id)
            WHERE e.practice_id = $1 AND ($2::uuid IS NULL OR m.id = $2)
            ORDER BY e.ctid, (m.id = e.message_id) DESC
        )
        DELETE FROM parked_event e USING found WHERE e.practice_id = $1 AND e.ctid = found.place
        RETURNING e.*, found.matched
        """,
        practice_id,
        message_id,
    )
    return await record_events(connection, practice_id, [_matched(row) for row in rows])


async def find_practices_with_parked(dispatcher: Pool) -> Sequence[PracticeId]:
    rows = await dispatcher.fetch("SELECT DISTINCT practice_id FROM parked_event")
    return [row["practice_id"] for row in rows]


def _matched(row: asyncpg.Record) -> Matched:
    event = Event(
        kind=EventKind(row["kind"]),
        occurred_at=row["occurred_at"],
        dedupe_key=row["dedupe_key"],
        provider_message_id=row["provider_message_id"],
        machine=row["machine"],
        failure=failure_from(row),
        detail=row["detail"],
    )
    return Matched(row["matched"], event, EventSource(row["source"]), row["received_at"])
