"""What is asked of Valkey may be lost; whoever asks is never told."""

import asyncio
from typing import Any
from uuid import uuid4

import redis.asyncio
import uvloop
from structlog.testing import capture_logs

from carepost.embedded import EmbeddedServers
from mail.ids import PracticeId
from workers import jobs
from workers.jobs import Jobs


class EndsAsItIsWritten(redis.asyncio.Connection):
    """A connection that ends between the look whether it stands and the first byte of a notice."""

    async def _send_packed_command(self, command: Any) -> None:
        if any(b"PUBLISH" in part for part in command):
            assert self._writer is not None
            self._writer.transport.abort()
            await asyncio.sleep(0)  # uvloop closes it in its next turn
        await super()._send_packed_command(command)


def test_a_connection_that_ends_as_it_is_written_to_costs_the_hurry_alone(servers: EmbeddedServers) -> None:
    async def ask() -> None:
        client = jobs.connect(servers.redis_url)
        client.connection_pool.connection_class = EndsAsItIsWritten
        await Jobs(client).announce(PracticeId(uuid4()))
        await client.aclose(close_connection_pool=True)

    with capture_logs() as logs:
        uvloop.run(ask())
    assert [log["error"] for log in logs] == ["RuntimeError"]
