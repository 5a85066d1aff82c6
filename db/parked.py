"""Events that match no message yet: parked, and joined when the message appears."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from db.events import Matched, append_events, event_columns, failure_columns
from db.locks import lock_messages
from db.messages import failure_from
from db.pool import Connection, Pool
from mail.event import Event, EventKind, EventSource
from mail.ids import AccountId, DeliveryId, MessageId, PracticeId

_JOINED_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Unmatched:
    """An event that found no message; `delivery_id` is the webhook it came with, `reader` who read it."""

    account_id: AccountId
    delivery_id: DeliveryId
    event: Event
    source: EventSource
    received_at: datetime
    reader: int | None = None


async def park(connection: Connection, practice_id: PracticeId, unmatched: Sequence[Unmatched]) -> None:
    """Keeps events until their message appears; of copies one waits, with the time of the first."""
    copies: dict[tuple[str, ...], Unmatched] = {}
    for entry in unmatched:
        former = copies.get(key := parked_key(entry))
        if former is None or entry.received_at < former.received_at:
            copies[key] = entry
    # In one order, so that workers never wait for each other in a circle.
    unmatched = [copies[key] for key in sorted(copies)]
    events = [entry.event for entry in unmatched]
    await connection.execute(
        "INSERT INTO parked_event (practice_id, account_id, delivery_id, message_id, provider_message_id, dedupe_key, "
        "kind, verdict, machine, occurred_at, received_at, source, detail, failure_kind, failure_smtp_code, "
        "failure_enhanced_code, failure_reason, place, reader) SELECT $1, n.account_id, n.delivery_id, n.message_id, "
        "n.provider_message_id, n.dedupe_key, n.kind::event_kind, n.verdict::verdict, n.machine, n.occurred_at, "
        "n.received_at, n.source::event_source, n.detail, n.failure_kind::failure_kind, n.smtp_code, n.enhanced_code, "
        "n.reason, n.place, n.reader FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], "
        "$7::text[], $8::text[], $9::boolean[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], "
        "$14::text[], $15::integer[], $16::text[], $17::text[], $18::integer[], $19::integer[]) "
        "AS n(account_id, delivery_id, message_id, provider_message_id, dedupe_key, kind, "
        "verdict, machine, occurred_at, received_at, source, detail, failure_kind, smtp_code, enhanced_code, reason, "
        "place, reader) ON CONFLICT ON CONSTRAINT parked_event_key DO UPDATE SET received_at = EXCLUDED.received_at "
        "WHERE EXCLUDED.received_at < parked_event.received_at",
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
        [event.place for event in events],
        [entry.reader for entry in unmatched],
    )


async def supersede_parked(
    connection: Connection, practice_id: PracticeId, read_again: Sequence[Matched | Unmatched]
) -> int:
    """Removes what waits of webhooks that were read again, all of whose events these are: where an event has found its
    message now, and where another reader had parked it under a key that it no longer has. Returns how many found
    their message. What another transaction has in its hands is left to it."""
    if not read_again:
        return 0
    rows = await connection.fetch(
        """
        WITH n AS MATERIALIZED (
            SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::boolean[], $6::timestamptz[], $7::integer[],
                $8::integer[], $9::boolean[])
                AS n(delivery_id, dedupe_key, kind, machine, occurred_at, place, reader, matched)
        ), found AS MATERIALIZED (
            SELECT p.ctid AS place, n.matched FROM parked_event p JOIN n ON n.delivery_id = p.delivery_id
            WHERE p.practice_id = $1 AND (
                (p.dedupe_key = n.dedupe_key AND n.matched)
                OR (p.reader IS DISTINCT FROM n.reader
                    AND NOT EXISTS (SELECT FROM n o WHERE o.delivery_id = p.delivery_id AND o.dedupe_key = p.dedupe_key)
                    AND (p.place = n.place OR (p.kind = n.kind::event_kind AND p.machine = n.machine
                        AND p.occurred_at = n.occurred_at))))
            FOR UPDATE OF p SKIP LOCKED
        )
        DELETE FROM parked_event p USING found WHERE p.practice_id = $1 AND p.ctid = found.place
        RETURNING found.matched
        """,
        practice_id,
        [entry.delivery_id for entry in read_again],
        [entry.event.dedupe_key for entry in read_again],
        [entry.event.kind.value for entry in read_again],
        [entry.event.machine for entry in read_again],
        [entry.event.occurred_at for entry in read_again],
        [entry.event.place for entry in read_again],
        [entry.reader for entry in read_again],
        [isinstance(entry, Matched) for entry in read_again],
    )
    return sum(row["matched"] for row in rows)


async def join_parked(
    connection: Connection,
    practice_id: PracticeId,
    messages: Sequence[UUID] | None = None,
    *,
    since: datetime | None = None,
    deliveries: Sequence[UUID] | None = None,
) -> set[MessageId]:
    """Moves parked events to their messages: those of some messages; or, for a thousand messages at most, those parked
    `since` a time, those of some webhooks, or all. Returns the messages that changed.

    Messages are locked before what is parked, as everybody does: whoever notes what came of a send has its message.
    """
    if messages is not None:
        message_ids = messages
    elif deliveries is not None:
        message_ids = await _appeared(connection, practice_id, "delivery_id = ANY($2::uuid[])", deliveries)
    elif since is not None:
        message_ids = await _appeared(connection, practice_id, "received_at >= $2", since)
    else:
        message_ids = await _appeared(connection, practice_id, "$2::boolean", True)
    if not message_ids:
        return set()
    locked = await lock_messages(connection, practice_id, message_ids)
    rows = await connection.fetch(
        """
        WITH matched AS (
            SELECT e.ctid AS place, m.id FROM message m JOIN parked_event e
                ON e.practice_id = $1 AND e.account_id = m.account_id AND e.message_id = m.id
            WHERE m.practice_id = $1 AND m.id = ANY($2::uuid[])
            UNION ALL
            SELECT e.ctid, m.id FROM message m JOIN parked_event e
                ON e.practice_id = $1 AND e.account_id = m.account_id AND e.provider_message_id = m.provider_message_id
            WHERE m.practice_id = $1 AND m.id = ANY($2::uuid[]) AND NOT EXISTS (SELECT FROM message o
                WHERE o.practice_id = $1 AND o.id = e.message_id AND o.account_id = e.account_id)
        ), found AS (SELECT DISTINCT ON (place) place, id FROM matched ORDER BY place, id DESC)
        DELETE FROM parked_event e USING found WHERE e.practice_id = $1 AND e.ctid = found.place
        RETURNING e.*, found.id AS matched
        """,
        practice_id,
        message_ids,
    )
    return (await append_events(connection, practice_id, [_matched(row) for row in rows], locked)).messages


async def _appeared(connection: Connection, practice_id: PracticeId, wanted: str, value: object) -> list[UUID]:
    """Messages for which something waits; at most a thousand."""
    rows = await connection.fetch(
        "WITH waiting AS NOT MATERIALIZED (SELECT account_id, message_id, provider_message_id FROM parked_event "
        f"WHERE practice_id = $1 AND {wanted}) "
        "SELECT m.id FROM waiting e JOIN message m ON m.practice_id = $1 AND m.account_id = e.account_id "
        "AND m.id = e.message_id UNION "
        "SELECT m.id FROM waiting e JOIN message m ON m.practice_id = $1 AND m.account_id = e.account_id "
        "AND m.provider_message_id = e.provider_message_id LIMIT $3",
        practice_id,
        value,
        _JOINED_AT_ONCE,
    )
    return [row["id"] for row in rows]


async def remove_parked(connection: Connection, practice_id: PracticeId, before: datetime, limit: int) -> int:
    """Gives up events that have waited since before a time, at most `limit`; returns how many."""
    done = await connection.execute(
        "DELETE FROM parked_event e USING (SELECT ctid AS place FROM parked_event WHERE practice_id = $1 "
        "AND received_at < $2 LIMIT $3 FOR UPDATE SKIP LOCKED) old WHERE e.practice_id = $1 AND e.ctid = old.place",
        practice_id,
        before,
        limit,
    )
    return int(done.rpartition(" ")[2])


async def find_practices_with_parked(
    dispatcher: Pool, since: datetime | None = None, before: datetime | None = None
) -> Sequence[PracticeId]:
    """Practices for which events are parked, since one time or before another."""
    rows = await dispatcher.fetch(
        "SELECT DISTINCT practice_id FROM parked_event WHERE ($1::timestamptz IS NULL OR received_at >= $1) "
        "AND ($2::timestamptz IS NULL OR received_at < $2)",
        since,
        before,
    )
    return [row["practice_id"] for row in rows]


def parked_key(entry: Unmatched) -> tuple[str, ...]:
    """What makes it one of its kind; in the order of it, events are parked."""
    event = entry.event
    return (
        str(entry.account_id),
        str(event.message_id or ""),
        # None is no text, and an empty text is one.
        "" if event.provider_message_id is None else f"={event.provider_message_id}",
        event.dedupe_key,
    )


def _matched(row: asyncpg.Record) -> Matched:
    event = Event(
        kind=EventKind(row["kind"]),
        occurred_at=row["occurred_at"],
        dedupe_key=row["dedupe_key"],
        provider_message_id=row["provider_message_id"],
        machine=row["machine"],
        failure=failure_from(row),
        detail=row["detail"],
        place=row["place"],
    )
    return Matched(
        row["matched"],
        event,
        EventSource(row["source"]),
        row["received_at"],
        row["delivery_id"],
        row["reader"],
        again=True,
    )
