"""The webhook endpoint: signed posts of one event each, stored so that a lost machine loses none."""

import contextlib
import hmac
import json
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from api.addresses import webhook_url
from bench.load import Load, post
from bench.processes import serving
from bench.rounds import Contender, Pace
from bench.world import JWT_SECRET, SECRET_KEY, Tenant

CONNECTIONS: Final = (16, 64)
_POSTS: Final = 4000


@contextlib.asynccontextmanager
async def contenders(
    database_url: str, redis_url: str, tenants: Sequence[Tenant], pace: Pace
) -> AsyncIterator[list[list[Contender]]]:
    """The servers with their loads; a list for each number of connections."""
    environment = {
        "CAREPOST_DATABASE_URL": database_url,
        "CAREPOST_REDIS_URL": redis_url,
        "CAREPOST_SECRET_KEY": SECRET_KEY,
        "CAREPOST_JWT_SECRET": JWT_SECRET,
    }
    commands = {
        "Carepost": ["carepost", "api"],
        "One INSERT a POST": ["bench.peers.webhooks", "insert"],
        "Verified, not stored": ["bench.peers.webhooks", "nothing"],
    }
    posts = [signed_post(tenants[number % len(tenants)]) for number in range(_POSTS)]
    async with contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(serving(f"{name} webhooks", [sys.executable, "-m", *command], environment))
            for name, command in commands.items()
        ]
        yield [
            [
                Contender(name, server, Load(server.port, posts, connections, pace.seconds, pace.warm_up))
                for name, server in zip(commands, servers, strict=True)
            ]
            for connections in CONNECTIONS
        ]


async def count_stored(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM webhook_delivery")
        return count
    finally:
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
