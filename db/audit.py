"""The audit trail: who did what to which object. Appended in the transaction of the deed; holds no content."""

from collections.abc import Sequence
from uuid import UUID

from db.pool import Connection
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
