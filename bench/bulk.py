"""Messages by the million, made inside Postgres: what fills a database around those that the program wrote itself.

They lie in the order of their time, as they do in life, each with one event. Their bodies are the same sealed bytes,
which open for none of them: no list reads a body.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

import asyncpg

from bench.world import MESSAGES_EACH, Tenant

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

_AT_ONCE: Final = 2
"""Connections that fill, and then build indexes."""
_YEARS: Final = "interval '2 years'"
_FASTER: Final = {
    "autovacuum": "off",
    "full_page_writes": "off",
    "max_wal_size": "'16GB'",
    "checkpoint_timeout": "'1h'",
    "maintenance_work_mem": "'512MB'",
}

_PATIENTS: Final = """INSERT INTO bulk_patient SELECT n, uuid_at(now() - n * interval '1 minute')
FROM generate_series(0, $1::integer - 1) n"""
_PATIENT_ROWS: Final = """INSERT INTO patient (practice_id, id, name, email)
SELECT $1, id, 'Pat Bulk ' || n, 'bulk.' || n || '@mail.example' FROM bulk_patient"""
_MESSAGES: Final = f"""WITH made AS (
  INSERT INTO message (practice_id, id, patient_id, account_id, account_kind, recipient, subject,
    body, track_opens, queued_at, attempts, verdict, sent_at, delivered_at)
  SELECT $1, uuid_at(s.at), p.id, $2, 'esp', 'bulk.' || p.n || '@mail.example', 'Your appointment on Tuesday',
    $3, true, s.at, 1, 'delivered', s.at + interval '1 second', s.at + interval '6 seconds'
  FROM (SELECT n, now() - {_YEARS} + n * {_YEARS} / $4::bigint AS at FROM generate_series(0, $4::bigint - 1) n) s
  JOIN bulk_patient p ON p.n = (s.n * 7919) % (SELECT count(*) FROM bulk_patient)
  RETURNING id, delivered_at)
INSERT INTO message_event (practice_id, message_id, dedupe_key, kind, verdict, occurred_at, source)
SELECT $1, id, 'bulk/delivered', 'delivered', 'delivered', delivered_at, 'webhook' FROM made"""


async def add_messages(url: str, tenants: list[Tenant], total: int) -> float:
    """Fills the database up to `total` messages; gives the seconds that it took."""
    owner = await asyncpg.connect(url)
    begun = time.perf_counter()
    try:
        await _set(owner, _FASTER)
        indexes = await owner.fetch(
            "SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS made FROM pg_index i "
            "WHERE i.indrelid IN ('message'::regclass, 'patient'::regclass) AND NOT i.indisprimary"
        )
        for index in indexes:
            await owner.execute(f"DROP INDEX {index['name']}")
        there = await owner.fetchval("SELECT count(*) FROM message")
        shares = [
            (tenant, (total - there) // len(tenants) + (number < (total - there) % len(tenants)))
            for number, tenant in enumerate(tenants)
        ]
        await _in_turn(url, [partial(_fill, tenant=tenant, messages=share) for tenant, share in shares if share])
        # An index is built in a third of the time that it takes to keep it.
        await _in_turn(url, [partial(_run, statement=index["made"]) for index in indexes])
        await _set(owner, dict.fromkeys(_FASTER))
        await owner.execute("VACUUM ANALYZE")
        await owner.execute("CHECKPOINT")
    finally:
        await owner.close()
    return time.perf_counter() - begun


async def _in_turn(url: str, tasks: Iterable[Callable[[Connection], Awaitable[object]]]) -> None:
    """Does each task on whichever of the connections is free."""
    waiting = deque(tasks)

    async def work() -> None:
        # The rows are right by construction: no trigger looks whether their keys point at something.
        settings = {
            "session_replication_role": "replica",
            "synchronous_commit": "off",
            "max_parallel_maintenance_workers": "0",
            "work_mem": "256MB",
            "jit": "off",
        }
        connection = await asyncpg.connect(url, server_settings=settings)
        try:
            while waiting:
                await waiting.popleft()(connection)
        finally:
            await connection.close()

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))


async def _run(connection: Connection, statement: str) -> None:
    await connection.execute(statement)


async def _fill(connection: Connection, tenant: Tenant, messages: int) -> None:
    practice_id = tenant.practice.id
    await connection.execute("DROP TABLE IF EXISTS bulk_patient")
    await connection.execute("CREATE TEMP TABLE bulk_patient (n integer PRIMARY KEY, id uuid NOT NULL)")
    await connection.execute(_PATIENTS, max(1, messages // MESSAGES_EACH))
    await connection.execute("ANALYZE bulk_patient")
    await connection.execute(_PATIENT_ROWS, practice_id)
    body = await connection.fetchval("SELECT body FROM message WHERE practice_id = $1 LIMIT 1", practice_id)
    await connection.execute(_MESSAGES, practice_id, tenant.esp.id, body, messages)


async def _set(owner: Connection, settings: dict[str, str] | dict[str, None]) -> None:
    """Sets what the whole server goes by, or gives it its own value back."""
    for name, value in settings.items():
        await owner.execute(f"ALTER SYSTEM RESET {name}" if value is None else f"ALTER SYSTEM SET {name} = {value}")
    await owner.execute("SELECT pg_reload_conf()")
