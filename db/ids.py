"""New identifiers: UUIDv7 (RFC 9562 section 5.7), so that keys are in the order of time."""

import os
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION_AND_VARIANT: Final = 0x7 << 76 | 0b10 << 62
_RANDOM: Final = 0xFFF << 64 | (1 << 62) - 1


def uuid7(at: datetime) -> UUID:
    """A UUID whose first 48 bits are `at` in milliseconds since 1970; the rest is random."""
    return UUID(int=_milliseconds(at) << 80 | _VERSION_AND_VARIANT | int.from_bytes(os.urandom(10)) & _RANDOM)


def uuid_floor(at: datetime) -> UUID:
    """Not greater than any UUIDv7 of `at` or later."""
    return UUID(int=_milliseconds(at) << 80)


def _milliseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)
