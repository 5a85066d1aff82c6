"""Messages by the million, made inside Postgres: what fills a database around those that the program wrote itself.

They lie in the order of their time, as they do in life, each with one event. Their bodies are the same sealed bytes,
which open for none of them: no list reads a body.
"""

import time
from typing import Final

import asyncpg

from bench.world import MESSAGES_EACH, Tenant

_YEARS: Final = "interval '2 years'"
_FASTER: Final = {"autovacuum": "off", "max_wal_size": "'8GB'", "maintenance_work_mem": "'256MB'"}

_PATIENTS: Final = """INSERT INTO bulk_patient SELECT n, uuid_at(now() - n * interval '1 minute')
FROM generate_series(0, $1::integer - 1) n"""
_PATIENT_ROWS: Final = """INSERT INTO patient (practice_id, id, name, email)
SELECT $1, id, 'Pat Bulk ' || n, 'bulk.' || n || '@mail.example' FROM bulk_patient"""
_MESSAGES: Final = f"""INSERT INTO message (practice_id, id, patient_id, account_id, account_kind, recipient, subject,
  body, track_opens, queued_at, attempts, verdict, sent_at, delivered_at)
SELECT $1, uuid_at(s.at), p.id, $2, 'esp', 'bulk.' || p.n || '@mail.example', 'Your appointment on Tuesday',
  $3, true, s.at, 1, 'delivered', s.at + interval '1 second', s.at + interval '6 seconds'
FROM (SELECT n, now() - {_YEARS} + n * {_YEARS} / $4::bigint AS at FROM generate_series(0, $4::bigint - 1) n) s
JOIN bulk_patient p ON p.n = (s.n * 7919) % (SELECT count(*) FROM bulk_patient)"""
_EVENTS: Final = """INSERT INTO message_event (practice_id, message_id, dedupe_key, kind, verdict, occurred_at, source)
SELECT practice_id, id, 'bulk/delivered', 'delivered', 'delivered', delivered_at, 'webhook' FROM message m
WHERE practice_id = $1 AND NOT EXISTS (SELECT FROM message_event e WHERE (e.practice_id, e.message_id) = ($1, m.id))"""


async def add_messages(url: str, tenants: list[Tenant], total: int) -> float:
    """Fills the database up to `total` messages; gives the seconds that it took."""
    owner = await asyncpg.connect(url)
    begun = time.perf_counter()
    try:
        await _set(owner, _FASTER)
        # The rows are right by construction; and an index is built in a third of the time that it takes to keep it.
        await owner.execute("SET session_replication_role = replica; SET max_parallel_maintenance_workers = 0")
        await owner.execute("SET work_mem = '256MB'; SET jit = off")
        indexes = await owner.fetch(
            "SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS made FROM pg_index i "
            "WHERE i.indrelid = 'message'::regclass AND NOT i.indisprimary"
        )
        for index in indexes:
            await owner.execute(f"DROP INDEX {index['name']}")
        there = await owner.fetchval("SELECT count(*) FROM message")
        for number, tenant in enumerate(tenants):
            each = (total - there) // len(tenants) + (number < (total - there) % len(tenants))
            await _fill(owner, tenant, each)
        for index in indexes:
            await owner.execute(index["made"])
        await _set(owner, dict.fromkeys(_FASTER))
        await owner.execute("VACUUM ANALYZE")
        await owner.execute("CHECKPOINT")
    finally:
        await owner.close()
    return time.perf_counter() - begun


async def _fill(owner: "asyncpg.Connection[asyncpg.Record]", tenant: Tenant, messages: int) -> None:
    practice_id = tenant.practice.id
    if not messages:
        return
    await owner.execute("DROP TABLE IF EXISTS bulk_patient")
    await owner.execute("CREATE TEMP TABLE bulk_patient (n integer PRIMARY KEY, id uuid NOT NULL)")
    await owner.execute(_PATIENTS, max(1, messages // MESSAGES_EACH))
    await owner.execute("ANALYZE bulk_patient")
    await owner.execute(_PATIENT_ROWS, practice_id)
    body = await owner.fetchval("SELECT body FROM message WHERE practice_id = $1 LIMIT 1", practice_id)
    await owner.execute(_MESSAGES, practice_id, tenant.esp.id, body, messages)
    await owner.execute(_EVENTS, practice_id)


async def _set(owner: "asyncpg.Connection[asyncpg.Record]", settings: "dict[str, str] | dict[str, None]") -> None:
    """Sets what the whole server goes by, or gives it its own value back."""
    for name, value in settings.items():
        await owner.execute(f"ALTER SYSTEM RESET {name}" if value is None else f"ALTER SYSTEM SET {name} = {value}")
    await owner.execute("SELECT pg_reload_conf()")
