"""Servers of our own: what happens to them must not happen to other tests."""

from collections.abc import Iterator

import pytest

from tests.faults import servers as _servers
from tests.faults.servers import Servers


@pytest.fixture(scope="module")
def durable_servers() -> Iterator[Servers]:
    """A Postgres that commits to disk, which may be crashed, and a Valkey; for the tests of one file."""
    with _servers.running() as servers:
        yield servers
