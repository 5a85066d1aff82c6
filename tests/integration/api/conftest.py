"""What the tests of the API share."""

from collections.abc import AsyncIterator

import pytest

from db.practices import Practice
from tests.integration.api.evidence import Evidence
from tests.support.databases import OWN_SEALER
from tests.support.practice import make_practice
from tests.support.stack import Stack
from workers import jobs
from workers.apply import Applier
from workers.jobs import Jobs


@pytest.fixture
async def hurry(stack: Stack) -> AsyncIterator[Jobs]:
    """The notices of a worker, without the worker."""
    client = jobs.connect(stack.redis_url)
    yield Jobs(client)
    await client.aclose(close_connection_pool=True)


@pytest.fixture
def evidence(stack: Stack, hurry: Jobs) -> Evidence:
    return Evidence(stack.database, hurry)


@pytest.fixture
def applier(stack: Stack, hurry: Jobs) -> Applier:
    """Applies the inbox when told to."""
    return Applier(stack.database, OWN_SEALER, hurry)


@pytest.fixture
async def other_practice(database_url: str) -> Practice:
    return await make_practice(database_url, "Southgate Practice", "Europe/London")
