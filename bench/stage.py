"""What every part of a run stands on: the servers, the filled database, the pace."""

import contextlib
import json
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.bulk import add_messages
from bench.processes import RESULTS, child
from bench.rounds import Pace
from bench.world import FULL, JWT_SECRET, QUICK, SECRET_KEY, Tenant, make_world

MESSAGES: Final = 1_000_000
"""Of a full run."""
_DATA: Final = RESULTS / "servers"


@dataclass(frozen=True, slots=True)
class Servers:
    """Embedded Postgres and Valkey; `postgres_pid` is the postmaster's."""

    database_url: str
    redis_url: str
    postgres_pid: int

    @property
    def environment(self) -> dict[str, str]:
        """What a process of Carepost is told."""
        return {
            "CAREPOST_DATABASE_URL": self.database_url,
            "CAREPOST_REDIS_URL": self.redis_url,
            "CAREPOST_SECRET_KEY": SECRET_KEY,
            "CAREPOST_JWT_SECRET": JWT_SECRET,
            # One client here is as many as a practice has.
            "CAREPOST_REQUESTS_PER_SECOND": "1000000",
            "CAREPOST_WEBHOOKS_PER_SECOND": "1000000",
        }


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers with a filled database. `connections` are the numbers of connections that loads are put on with."""

    servers: Servers
    tenants: Sequence[Tenant]
    pace: Pace
    connections: Sequence[int]
    messages: int
    quick: bool


@contextlib.asynccontextmanager
async def servers(folder: Path = _DATA) -> AsyncIterator[Servers]:
    """New servers in a folder that is emptied before and afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    RESULTS.mkdir(exist_ok=True)
    embedded = [sys.executable, "-m", "carepost.embedded", str(folder)]
    try:
        async with child(embedded, {}, sys.stderr.fileno(), announces=True) as (_, line):
            urls = json.loads(line)
            pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
            yield Servers(urls["database_url"], urls["redis_url"], pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def stage(*, quick: bool) -> AsyncIterator[Stage]:
    """Servers and a world, for as long as the with statement."""
    size, pace = (QUICK, Pace(3, 0.9, 0.3)) if quick else (FULL, Pace(5, 2.0, 1.0))
    async with servers() as running:
        messages = size.messages if quick else MESSAGES
        print(f"Filling a database with {messages:,} messages ...", flush=True)
        tenants = await make_world(running.database_url, size)
        if messages > size.messages:
            await add_messages(running.database_url, list(tenants), messages)
        yield Stage(running, tenants, pace, (16,) if quick else (16, 64), messages, quick)
