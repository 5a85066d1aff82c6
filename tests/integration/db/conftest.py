from collections.abc import AsyncIterator

import asyncpg
import pytest

from db.pool import Database
from tests.integration.db.houses import House, furnish


@pytest.fixture
async def owner(database_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """A connection as the database's owner, who sees every row."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def house(database: Database, database_url: str) -> House:
    return await furnish(database, database_url, "northgate")


@pytest.fixture
async def other(database: Database, database_url: str) -> House:
    """Another practice, whose rows nobody of the first may see."""
    return await furnish(database, database_url, "southgate")
