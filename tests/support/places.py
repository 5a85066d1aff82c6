"""Where servers of tests keep what nobody needs when the tests have ended."""

import os
import shutil
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 4 << 30


def in_memory() -> Path | None:
    """A file system in memory where Linux has one with room for all of a run, as containers often haven't. On disk, a
    database for each test costs up to a second, for the several hundred files that it is copied from."""
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
        return _MEMORY
    return None
