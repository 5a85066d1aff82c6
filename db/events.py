"""Evidence: appended once, summed up on its message (db.sums) in the same transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from db.locks import Locked, ids_and_places, lock_messages
from db.pool import Connection, Pool
from db.sums import SUM_UP, SUM_UP_FAILURES, bring_forward, update_health
from mail.event import Event, EventSource
from mail.failure import Failure
from mail.ids import MessageId, PracticeId
from mail.status import believed_at

_INSERT: Final = (
    "INSERT INTO message_event (practice_id, message_id, dedupe_key, kind, verdict, machine, occurred_at, "
    "received_at, source, detail, failure_kind, failure_smtp_code, failure_enhanced_code, failure_reason, "
    "delivery_id, place, reader) "
    "SELECT $1, n.message_id, n.dedupe_key, n.kind::event_kind, n.verdict::verdict, n.machine, n.occurred_at, "
    "n.received_at, n.source::event_source, n.detail, n.failure_kind::failure_kind, n.smtp_code, n.enhanced_code, "
    "n.reason, n.delivery_id, n.place, n.reader FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], "
    "$8::boolean[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[], $13::text[], $14::integer[], "
    "$15::text[], $16::text[], $17::uuid[], $18::integer[], $19::integer[]) "
    "AS n(message_id, dedupe_key, kind, verdict, machine, occurred_at, received_at, source, detail, failure_kind, "
    "smtp_code, enhanced_code, reason, delivery_id, place, reader) "
    "ON CONFLICT DO NOTHING RETURNING *"
)
_APPEND: Final = f"WITH fresh AS ({_INSERT}), {SUM_UP} SELECT message_id FROM fresh"
_APPEND_FAILURES: Final = f"WITH fresh AS ({_INSERT}), {SUM_UP_FAILURES} SELECT message_id FROM fresh"


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

    @property
    def believed_at(self) -> datetime:
        """When it happened, as far as its clock is believed."""
        return believed_at(self.event.occurred_at, self.received_at)


@dataclass(frozen=True, slots=True)
class Appended:
    """What was new: how many events, and the messages that changed."""

    events: int
    messages: set[MessageId]


async def record_events(connection: Connection, practice_id: PracticeId, matched: Sequence[Matched]) -> set[MessageId]:
    """Appends what is new and sums it up on the messages; returns the messages that changed."""
    locked = await lock_messages(connection, practice_id, [entry.message_id for entry in matched])
    return (await append_events(connection, practice_id, matched, locked)).messages


async def append_events(
    connection: Connection, practice_id: PracticeId, matched: Sequence[Matched], locked: Mapping[MessageId, Locked]
) -> Appended:
    """Appends what is new and sums it up on the messages, which are `locked` and unchanged since.

    Repeats are dropped by the primary key.
    """
    if not matched:
        return Appended(0, set())
    matched = await _without_known(connection, practice_id, matched)
    failures = [entry.event.failure for entry in matched]
    inserted = await connection.fetch(
        _APPEND_FAILURES if any(failures) else _APPEND,
        practice_id,
        *ids_and_places(locked),
        [entry.message_id for entry in matched],
        *event_columns([entry.event for entry in matched]),
        [entry.received_at for entry in matched],
        [entry.source.value for entry in matched],
        [entry.event.detail for entry in matched],
        *failure_columns(failures),
        [entry.delivery_id for entry in matched],
        [entry.event.place for entry in matched],
        [entry.reader for entry in matched],
    )
    changed = {MessageId(row["message_id"]) for row in inserted}
    if len(inserted) < len(matched):
        early = [entry for entry in matched if entry.believed_at < entry.event.occurred_at]
        if early:
            # Those with other events were written just now, and lie elsewhere.
            moved = await lock_messages(connection, practice_id, [entry.message_id for entry in early])
            changed |= await bring_forward(connection, practice_id, early, moved)
    await update_health(connection, practice_id, matched, locked)
    return Appended(len(inserted), changed)


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


async def create_partitions(dispatcher: Pool) -> None:
    """Makes the partitions of the next twelve months; those that stand are left alone."""
    await dispatcher.fetchval("SELECT create_event_partitions(now() + interval '1 year')")
