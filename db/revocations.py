"""Revocations: tokens that hold no more although they have not ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from db.pool import TENANT, Connection, Pool
from mail.ids import PracticeId


@dataclass(frozen=True, slots=True)
class Revocation:
    """With a `token_id` it means that one token; else those issued before a time: of a subject, or of everybody."""

    token_id: str | None
    subject: str | None
    issued_before: datetime


async def list_revocations(pool: Pool, practice_id: PracticeId) -> Sequence[Revocation]:
    """All of a practice."""
    rows = await pool.fetch(
        TENANT + "SELECT r.* FROM tenant CROSS JOIN LATERAL (SELECT token_id, subject, issued_before FROM revocation "
        "WHERE practice_id = tenant.practice_id OFFSET 0) r",
        practice_id,
    )
    return [Revocation(row["token_id"], row["subject"], row["issued_before"]) for row in rows]


async def revoke(connection: Connection, practice_id: PracticeId, revocation: Revocation) -> UUID:
    """Appends one; gives its id."""
    key: UUID = await connection.fetchval(
        "INSERT INTO revocation (practice_id, token_id, subject, issued_before) VALUES ($1, $2, $3, $4) RETURNING id",
        practice_id,
        revocation.token_id,
        revocation.subject,
        revocation.issued_before,
    )
    return key
