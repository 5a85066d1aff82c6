"""Patients: whom the practice writes to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from db.pool import TENANT, Connection, Pool
from mail.health import EmailHealth
from mail.ids import PatientId, PracticeId


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient; `open_tracking` is their consent."""

    id: PatientId
    name: str
    email: str
    open_tracking: bool
    email_health: EmailHealth


COLUMNS: Final = "id, name, email, open_tracking, email_health"


async def find_patients(pool: Pool, practice_id: PracticeId, ids: Sequence[UUID]) -> dict[PatientId, Patient]:
    """The practice's patients among `ids`."""
    rows = await pool.fetch(
        TENANT + "SELECT p.* FROM tenant CROSS JOIN LATERAL ("
        f"SELECT {COLUMNS} FROM patient WHERE practice_id = tenant.practice_id AND id = ANY($2::uuid[]) OFFSET 0) p",
        practice_id,
        ids,
    )
    return {row["id"]: _patient(row) for row in rows}


async def page_of_patients(
    pool: Pool, practice_id: PracticeId, search: str, limit: int, after: UUID | None
) -> Sequence[Patient]:
    """Patients by name, those after the patient `after`; `search` is part of a name or address."""
    return [_patient(row) for row in await list_patients(pool, practice_id, search, limit, after)]


async def list_patients(
    pool: Pool, practice_id: PracticeId, search: str, limit: int, after: UUID | None
) -> Sequence[asyncpg.Record]:
    """The same as rows of `COLUMNS`."""
    if search := search.strip():
        return await pool.fetch(
            TENANT + "SELECT p.* FROM tenant CROSS JOIN LATERAL "
            "unnest(patient_ids_like(tenant.practice_id, $3, $4, $2)) WITH ORDINALITY AS f(id, place) "
            "CROSS JOIN LATERAL ("
            f"SELECT {COLUMNS} FROM patient WHERE practice_id = tenant.practice_id AND id = f.id OFFSET 0) p "
            "ORDER BY f.place",
            practice_id,
            limit,
            search,
            after,
        )
    arguments: list[object] = [practice_id, limit]
    further = ""
    if after:
        arguments.append(after)
        further = (
            " AND (lower_name, id) > (SELECT last.lower_name, last.id FROM patient last "
            "WHERE last.practice_id = tenant.practice_id AND last.id = $3)"
        )
    return await pool.fetch(
        TENANT + f"SELECT p.* FROM tenant CROSS JOIN LATERAL (SELECT {COLUMNS} FROM patient "
        f"WHERE practice_id = tenant.practice_id{further} ORDER BY lower_name, id LIMIT $2) p",
        *arguments,
    )


async def create_patient(
    connection: Connection, practice_id: PracticeId, name: str, email: str, *, open_tracking: bool
) -> Patient:
    row = await connection.fetchrow(
        f"INSERT INTO patient (practice_id, name, email, open_tracking) VALUES ($1, $2, $3, $4) RETURNING {COLUMNS}",
        practice_id,
        name,
        email,
        open_tracking,
    )
    assert row is not None
    return _patient(row)


@dataclass(frozen=True, slots=True)
class NewPatient:
    """A patient to be made; name and address are checked."""

    name: str
    email: str
    open_tracking: bool


async def insert_patients(
    connection: Connection, practice_id: PracticeId, patients: Sequence[NewPatient]
) -> Sequence[PatientId]:
    """Makes those of whom there is no patient of the same name and address, each once; returns the new ones."""
    rows = await connection.fetch(
        "INSERT INTO patient (practice_id, name, email, open_tracking) "
        "SELECT DISTINCT ON (lower(n.name), lower(n.email)) $1::uuid, n.name, n.email, n.open_tracking "
        "FROM unnest($2::text[], $3::text[], $4::boolean[]) WITH ORDINALITY AS n(name, email, open_tracking, place) "
        "WHERE NOT EXISTS (SELECT FROM patient p WHERE p.practice_id = $1 AND p.lower_name = lower(n.name) "
        "    AND p.lower_email = lower(n.email)) ORDER BY lower(n.name), lower(n.email), n.place RETURNING id",
        practice_id,
        [patient.name for patient in patients],
        [patient.email for patient in patients],
        [patient.open_tracking for patient in patients],
    )
    return [PatientId(row["id"]) for row in rows]


async def update_patient(
    connection: Connection,
    practice_id: PracticeId,
    patient_id: UUID,
    *,
    name: str | None,
    email: str | None,
    open_tracking: bool | None,
) -> Patient | None:
    """Changes what isn't None. A new address has unknown health. None when there's no such patient."""
    row = await connection.fetchrow(
        "UPDATE patient SET name = coalesce($3, name), email = coalesce($4, email), "
        "open_tracking = coalesce($5, open_tracking), "
        "email_health = CASE WHEN email IS DISTINCT FROM coalesce($4, email) THEN 'unknown' ELSE email_health END, "
        "email_health_at = CASE WHEN email IS DISTINCT FROM coalesce($4, email) THEN NULL ELSE email_health_at END "
        f"WHERE practice_id = $1 AND id = $2 RETURNING {COLUMNS}",
        practice_id,
        patient_id,
        name,
        email,
        open_tracking,
    )
    return _patient(row) if row else None


def _patient(row: asyncpg.Record) -> Patient:
    return Patient(
        PatientId(row["id"]), row["name"], row["email"], row["open_tracking"], EmailHealth(row["email_health"])
    )
