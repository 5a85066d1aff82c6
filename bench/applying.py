"""Events applied: what a worker does with stored webhooks of one event each, in batches and one by one, in turn."""

import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import asyncpg
import orjson
from rich.console import Console
from rich.table import Table

from bench.rounds import Pace
from bench.world import SECRET_KEY, Tenant
from db.ids import uuid7
from db.inbox import NewDelivery, store_deliveries
from db.pool import Database, PoolSize
from db.sealing import Sealer
from mail.ids import DeliveryId
from workers import jobs
from workers.apply import Applier
from workers.jobs import Jobs

TITLE: Final = "Events applied, one a webhook, by one worker"
_EACH: Final = "A transaction each"
# How many webhooks a batch holds, and how many are applied in a round: about a second's worth.
_SIZES: Final = {
    _EACH: (1, 600),
    "Batches of 100": (100, 4000),
    "Batches of 500": (500, 4000),
    "Batches of 1000": (1000, 4000),
}


async def run(console: Console, database_url: str, redis_url: str, tenants: Sequence[Tenant], pace: Pace) -> Any:
    """Measures and shows; gives the rates of every round. Raises `AssertionError` when an event was not applied."""
    client = jobs.connect(redis_url)
    rates: dict[str, list[float]] = {name: [] for name in _SIZES}
    owner = await asyncpg.connect(database_url)
    try:
        async with Database(database_url, PoolSize(1, 2)) as database:
            await owner.execute("UPDATE webhook_delivery SET state = 'applied' WHERE state = 'pending'")
            for number in range(pace.rounds + 1):
                for name, (batch, count) in _SIZES.items():
                    applier = Applier(database, Sealer([SECRET_KEY]), Jobs(client, enabled=False), batch=batch)
                    rate = await _round(owner, database, applier, tenants[number % len(tenants)], count)
                    if number:  # the first is the warm-up
                        rates[name].append(rate)
    finally:
        await owner.close()
        await client.aclose(close_connection_pool=True)
    _show(console, rates)
    return rates


async def _round(owner: Any, database: Database, applier: Applier, tenant: Tenant, count: int) -> float:
    """Events a second over `count` webhooks, each of another message of the practice."""
    ids = await owner.fetch(
        "SELECT id FROM message WHERE practice_id = $1 AND account_id = $2 ORDER BY random() LIMIT $3",
        tenant.practice.id,
        tenant.esp.id,
        count,
    )
    messages = [ids[number % len(ids)]["id"] for number in range(count)]
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
    applied = await applier.apply_pending()
    seconds = time.perf_counter() - start_at
    added = await owner.fetchval("SELECT count(*) FROM message_event") - before
    assert (applied, added) == (count, count), (applied, added)
    return count / seconds


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


def _show(console: Console, rates: Mapping[str, Sequence[float]]) -> None:
    table = Table(title=TITLE, title_justify="left")
    for column in ("", "events a second", "min..max", f"x {_EACH.lower()}"):
        table.add_column(column, justify="left" if not column else "right")
    for name, measured in rates.items():
        ratio = statistics.median(one / each for one, each in zip(measured, rates[_EACH], strict=True))
        spread = f"{min(measured):,.0f}..{max(measured):,.0f}"
        table.add_row(name, f"{statistics.median(measured):,.0f}", spread, f"{ratio:.1f}")
    console.print(table)
