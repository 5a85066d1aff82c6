"""A folder to run programs in."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder outside of pytest's own: each start of pytest shuts that one to other users, and an embedded
    Postgres, which is one when root runs the tests, would lose its data under its feet."""
    with tempfile.TemporaryDirectory(prefix="carepost-test-", ignore_cleanup_errors=True) as name:
        yield Path(name)
