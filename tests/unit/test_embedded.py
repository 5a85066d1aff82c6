"""The embedded Postgres' share of a machine."""

import pytest

from carepost.embedded import shared_buffers

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory", "megabytes"), [(GIB // 2, 128), (GIB, 128), (2 * GIB, 256), (8 * GIB, 1024), (64 * GIB, 1024)]
)
def test_postgres_keeps_an_eighth_of_the_memory_within_bounds(memory: int, megabytes: int) -> None:
    assert shared_buffers(memory) == megabytes
