"""The audit trail: who did what to which object, and who saw what of which patients. Appended only; holds no content.

A deed is written in its own transaction. A view is written a moment after it (api/views.py), by the role that can
append and sees nothing.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from db.pool import Connection, Pool
from mail.ids import PracticeId


async def record_deed(
    connection: Connection, practice_id: PracticeId, subject: str, action: str, object_kind: str, object_id: UUID
) -> None:
    """`subject` is the token's `sub`, `action` the mutation (`sendMessage`), `object_kind` a type of the API."""
    await record_deeds(connection, practice_id, subject, action, object_kind, [object_id])


async def record_deeds(
    connection: Connection, practice_id: PracticeId, subject: str, action: str, kind: str, object_ids: Sequence[UUID]
) -> None:
    """The same done to each of several objects, an entry for each."""
    await connection.execute(
        "INSERT INTO audit_entry (practice_id, subject, action, object_kind, object_id) "
        "SELECT $1, $2, $3, $4, id FROM unnest($5::uuid[]) AS id",
        practice_id,
        subject,
        action,
        kind,
        object_ids,
    )


@dataclass(frozen=True, slots=True)
class ViewEntry:
    """Views of one kind (api.views.View) by one person, from `first_at` to `last_at`: `times` in all, of each of
    these patients at least once. Without patients the selection showed or named none."""

    practice_id: PracticeId
    subject: str
    view: str
    patient_ids: Sequence[UUID]
    times: int
    first_at: datetime
    last_at: datetime


async def record_views(inbox: Pool, entries: Sequence[ViewEntry]) -> None:
    """Appends entries of any practices, in one statement."""
    await inbox.execute(
        "INSERT INTO view_entry (practice_id, subject, view, patient_ids, times, first_at, last_at) "
        "SELECT practice_id, subject, view, patient_ids::uuid[], times, first_at, last_at "
        "FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::timestamptz[], "
        "$7::timestamptz[]) AS n(practice_id, subject, view, patient_ids, times, first_at, last_at)",
        [entry.practice_id for entry in entries],
        [_storable(entry.subject) for entry in entries],
        [entry.view for entry in entries],
        [f"{{{','.join(map(str, entry.patient_ids))}}}" for entry in entries],
        [entry.times for entry in entries],
        [entry.first_at for entry in entries],
        [entry.last_at for entry in entries],
    )


def _storable(text: str) -> str:
    """Without what Postgres takes in no text, so that one token's `sub` can't keep others' entries out."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail: a deed (`times` 1, one object), or views (`action` "view messages", patients)."""

    at: datetime
    until: datetime
    subject: str
    action: str
    object_kind: str
    object_ids: Sequence[UUID]
    times: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; None asks for no limit. Of a patient: what was done to them and their messages, whatever showed
    them, and every following of the whole practice. `until` is exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    subject: str | None = None
    patient_id: UUID | None = None


_TRAIL: Final = """
    SELECT * FROM (
        SELECT at, at AS until, subject, action, object_kind, ARRAY[object_id] AS object_ids, 1 AS times
        FROM audit_entry a WHERE practice_id = $1 AND ($5::uuid IS NULL OR object_id = $5 OR EXISTS (
            SELECT FROM message m WHERE m.practice_id = $1 AND m.id = a.object_id AND m.patient_id = $5))
        UNION ALL
        SELECT first_at, last_at, subject, 'view ' || view, 'Patient', patient_ids, times
        FROM view_entry WHERE practice_id = $1 AND ($5::uuid IS NULL OR $5 = ANY(patient_ids)
            OR (view IN ('follow', 'unfollow') AND patient_ids = '{}'))
    ) t
    WHERE ($2::timestamptz IS NULL OR until >= $2) AND ($3::timestamptz IS NULL OR at < $3)
    AND ($4::text IS NULL OR subject = $4)
    ORDER BY at, until, subject, action, object_ids
"""


async def read_trail(connection: Connection, practice_id: PracticeId, wanted: Wanted) -> AsyncIterator[Entry]:
    """The trail of a practice in order of time, within a transaction that works for it, which may last as long as the
    reader takes."""
    await connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
    rows = connection.cursor(_TRAIL, practice_id, wanted.since, wanted.until, wanted.subject, wanted.patient_id)
    async for row in rows:
        yield Entry(
            row["at"],
            row["until"],
            row["subject"],
            row["action"],
            row["object_kind"],
            row["object_ids"],
            row["times"],
        )
