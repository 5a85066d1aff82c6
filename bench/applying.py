"""Events applied: what a worker does with stored webhooks of one event each, in batches and one by one, in turn."""

import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import orjson

from bench import report
from bench.figures import Benchmark, Column, Goal, Row
from bench.stage import Stage
from bench.world import SECRET_KEY, Tenant
from db.ids import uuid7
from db.inbox import NewDelivery, store_deliveries
from db.pool import Database, PoolSize
from db.sealing import Sealer
from mail.ids import DeliveryId
from workers import jobs
from workers.apply import Applier
from workers.jobs import Jobs

_EACH: Final = "A transaction each"
# How many webhooks a batch holds, and how many are applied in a round: about a second's worth. Workers take 500.
_SIZES: Final = {
    "Carepost, batches of 500": (500, 4000),
    "Carepost, batches of 100": (100, 4000),
    "Carepost, batches of 1000": (1000, 4000),
    _EACH: (1, 600),
}


async def run(stage: Stage) -> Sequence[Benchmark]:
    """Measures. Raises `AssertionError` when an event was not applied."""
    client = jobs.connect(stage.servers.redis_url)
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in _SIZES}
    owner = await asyncpg.connect(stage.servers.database_url)
    before = report.load_average()
    # A short run applies a quarter; the first round of either is the warm-up.
    share = 4 if stage.quick else 1
    try:
        async with Database(stage.servers.database_url, PoolSize(1, 2)) as database:
            for number in range(stage.pace.rounds + 1):
                for name, (batch, count) in _SIZES.items():
                    applier = Applier(database, Sealer([SECRET_KEY]), Jobs(client, enabled=False), batch=batch)
                    tenant = stage.tenants[number % len(stage.tenants)]
                    rate = await apply_new(owner, database, applier, tenant, count // share)
                    if number:
                        rates[name].append({"rate": rate})
    finally:
        await owner.close()
        await client.aclose(close_connection_pool=True)
    return [
        Benchmark(
            part="apply",
            title="Events applied, one a webhook, by one worker",
            rows=[Row(name, each) for name, each in rates.items()],
            against=_EACH,
            columns=[Column("rate", "events a second")],
            goals=[Goal(12, _EACH)],
            load=(before, report.load_average()),
        )
    ]


async def apply_new(
    owner: Any,
    database: Database,
    applier: Applier,
    tenant: Tenant,
    count: int,
    around: contextlib.AbstractContextManager[object] | None = None,
    newest: int | None = None,
) -> float:
    """Events a second over `count` webhooks, each of another message of the practice as `any_messages` chooses them;
    `around` holds the applying alone."""
    messages = await any_messages(owner, tenant, count, newest)
    sealer = Sealer([SECRET_KEY])
    posts = [
        NewDelivery(
            practice_id=tenant.practice.id,
            id=DeliveryId(uuid7(datetime.now(UTC))),
            account_id=tenant.esp.id,
            provider="sendgrid",
            headers={},
            body=_body(str(message)),
        )
        for message in messages
    ]
    for start in range(0, count, 1000):
        await store_deliveries(database.inbox, sealer, posts[start : start + 1000])
    await owner.execute("CHECKPOINT")
    before = await owner.fetchval("SELECT count(*) FROM message_event")
    start_at = time.perf_counter()
    with around or contextlib.nullcontext():
        applied = await applier.apply_pending()
    seconds = time.perf_counter() - start_at
    added = await owner.fetchval("SELECT count(*) FROM message_event") - before
    assert (applied, added) == (count, count), (applied, added)
    return count / seconds


async def any_messages(owner: Any, tenant: Tenant, count: int, newest: int | None = None) -> Sequence[UUID]:
    """Messages of the practice, chosen from all or in turn from the `newest`."""
    ids = await owner.fetch(
        "SELECT id FROM message WHERE practice_id = $1 AND account_id = $2 "
        f"ORDER BY {'random()' if newest is None else 'id DESC'} LIMIT $3",
        tenant.practice.id,
        tenant.esp.id,
        newest or count,
    )
    return [ids[number % len(ids)]["id"] for number in range(count)]


def _body(message: str) -> bytes:
    return orjson.dumps(
        [
            {
                "email": "patient@mail.example",
                "timestamp": int(time.time()),
                "event": "open",
                "sg_event_id": uuid4().hex,
                "sg_message_id": f"{uuid4().hex}.recvd-5d6f-1",
                "useragent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
                "carepost_message_id": message,
            }
        ]
    )
