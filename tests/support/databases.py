"""A database for each test, copied from a migrated template in a few milliseconds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import redis.asyncio

from db.migrate import migrate
from db.sealing import Sealer

OWN_KEY = "the secret key of the tests: long enough to be taken"
OWN_SEALER = Sealer([OWN_KEY])
_TEMPLATE = "carepost_template"


def make_template(url: str) -> None:
    """Makes the template; once for a server."""

    async def make() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(f'CREATE DATABASE "{_TEMPLATE}"')
        await connection.close()
        await migrate(url_of(url, _TEMPLATE))

    asyncio.run(make())


@contextlib.asynccontextmanager
async def fresh(url: str, *, template: str = _TEMPLATE) -> AsyncIterator[str]:
    """A database of its own, dropped at the end whoever still holds it."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield url_of(url, name)
        finally:
            await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


def url_of(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    head, _, query = url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{query}"


async def flush(redis_url: str) -> None:
    client = redis.asyncio.Redis.from_url(redis_url)
    try:
        await client.flushall()
    finally:
        await client.aclose()
