"""Real servers for every test: one Postgres and one Valkey a test process, a database a test."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from carepost.embedded import EmbeddedServers
from db.pool import Database
from db.practices import Practice
from db.sealing import Sealer
from tests.support import databases
from tests.support.databases import OWN_SEALER
from tests.support.fuzzing import examples
from tests.support.places import in_memory
from tests.support.practice import make_practice
from tests.support.stack import Stack

settings.register_profile("carepost", max_examples=examples(100))
settings.load_profile("carepost")


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """Postgres 18 and Valkey 9 of this test process.

    Not in pytest's own folder: several runs at once share that and clear it up, and a Postgres whose data folder goes
    ends at once.
    """
    with (
        tempfile.TemporaryDirectory(prefix="carepost-tests-", dir=in_memory(), ignore_cleanup_errors=True) as folder,
        EmbeddedServers(Path(folder), durable=False) as servers,
    ):
        databases.make_template(servers.database_url)
        yield servers


@pytest.fixture
async def database_url(servers: EmbeddedServers) -> AsyncIterator[str]:
    """A migrated database of the test's own, and a Valkey without leftovers."""
    await databases.flush(servers.redis_url)
    async with databases.fresh(servers.database_url) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        yield database


@pytest.fixture
def sealer() -> Sealer:
    return OWN_SEALER


@pytest.fixture
async def practice(database_url: str) -> Practice:
    return await make_practice(database_url, "Northgate Practice")


@pytest.fixture
async def stack(
    servers: EmbeddedServers, database_url: str, database: Database, tmp_path: Path
) -> AsyncIterator[Stack]:
    """The whole of Carepost over real sockets, with the sandbox in place of an ESP; parts start when asked for."""
    async with Stack(database_url, servers.redis_url, database, tmp_path) as stack:
        yield stack
