"""Practices: the tenants. Made by the operator, as the database's owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import asyncpg

from db.pool import TENANT, Pool
from mail.ids import PracticeId


@dataclass(frozen=True, slots=True)
class Practice:
    """One tenant; its days, and the tracking start, are in `zone`."""

    id: PracticeId
    name: str
    zone: ZoneInfo


async def find_practice(pool: Pool, practice_id: PracticeId) -> Practice | None:
    row = await pool.fetchrow(
        TENANT + "SELECT p.* FROM tenant CROSS JOIN LATERAL "
        "(SELECT id, name, time_zone FROM practice WHERE id = tenant.practice_id LIMIT 1) p",
        practice_id,
    )
    return _practice(row) if row else None


async def create_practice(url: str, name: str, zone: ZoneInfo) -> Practice:
    """A new tenant; `url` must be the owner's."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "INSERT INTO practice (name, time_zone) VALUES ($1, $2) RETURNING id, name, time_zone", name, zone.key
        )
    finally:
        await connection.close()
    assert row is not None
    return _practice(row)


async def list_practices(url: str) -> Sequence[Practice]:
    """All tenants by name; `url` must be the owner's."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT id, name, time_zone FROM practice ORDER BY name, id")
    finally:
        await connection.close()
    return [_practice(row) for row in rows]


def _practice(row: asyncpg.Record) -> Practice:
    return Practice(PracticeId(row["id"]), row["name"], ZoneInfo(row["time_zone"]))
