"""The webhook endpoint: signed posts of one event each, stored so that a lost machine loses none."""

import contextlib
import functools
import hmac
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from api.addresses import webhook_url
from bench.figures import SERVED, Benchmark, Column, Goal
from bench.load import Load, post
from bench.processes import serving
from bench.rounds import Contender, run_rounds
from bench.stage import Stage
from bench.world import Tenant

_POSTS: Final = 4000
_PLAIN: Final = "One INSERT a POST"
_NOT_STORED: Final = "Verified, not stored"
_OWN: Final = "The same past ASGI"
_COMMANDS: Final = {
    "Carepost": ["carepost", "api"],
    _PLAIN: ["bench.peers.webhooks", "insert"],
    _NOT_STORED: ["bench.peers.webhooks", "nothing"],
    _OWN: ["bench.peers.webhooks", "own"],
}


async def run(stage: Stage) -> Sequence[Benchmark]:
    """The endpoints, by each number of connections; every post that was answered must be stored."""
    posts = signed_posts(stage.tenants)
    pace, servers = stage.pace, stage.servers
    async with contextlib.AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(
                serving(f"{name} webhooks", [sys.executable, "-m", *command], servers.environment)
            )
            for name, command in _COMMANDS.items()
        ]
        found = []
        for connections in stage.connections:
            load = Load(posts, connections, pace.seconds, pace.warm_up)
            contenders = [
                Contender(name, [server], load, stores=name not in {_NOT_STORED, _OWN})
                for name, server in zip(_COMMANDS, running, strict=True)
            ]
            benchmark = Benchmark(
                part="webhook",
                title=f"Webhook: a signed post of one event, {connections} connections",
                rows=(),
                against=_PLAIN,
                columns=(*SERVED, Column("good", "answered 200", total=True), Column("stored", "stored", total=True)),
                goals=[Goal(2.5, _PLAIN), Goal(0.5, _NOT_STORED)],
            )
            counted = functools.partial(count_stored, servers.database_url)
            found.append(await run_rounds(benchmark, contenders, pace.rounds, servers.postgres_pid, counted))
    await forget_stored(servers.database_url)
    return found


def signed_posts(tenants: Sequence[Tenant]) -> Sequence[str]:
    """Requests, all different, in turn over the practices."""
    return [signed_post(tenants[number % len(tenants)]) for number in range(_POSTS)]


async def count_stored(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM webhook_delivery")
        return count
    finally:
        await connection.close()


async def forget_stored(database_url: str) -> None:
    """Takes all webhooks away, which the workers of other parts would apply first."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE webhook_delivery, parked_event")
    await connection.close()


def signed_post(tenant: Tenant, message_id: UUID | None = None) -> str:
    """A post of one event, of a message or of none that is known, as MailerSend words it and signs it (HMAC-SHA256 over
    the body)."""
    moment = datetime.now(UTC).isoformat()
    data = {
        "id": uuid4().hex,
        "domain_id": "yv69oxl5kl785kw2",
        "message_id": uuid4().hex[:24],
        "email_id": uuid4().hex[:24],
        "type": "delivered",
        "subject": "Your appointment",
        "recipient": "patient@mail.example",
        "tags": [str(message_id or uuid4())],
        "meta": [],
    }
    body = json.dumps({"type": "activity.delivered", "created_at": moment, "data": data}).encode()
    signature = hmac.digest(tenant.secret.encode(), body, "sha256").hex()
    path = webhook_url("", "mailersend", tenant.practice.id, tenant.esp.id)
    return post(path, body, {"signature": signature})
