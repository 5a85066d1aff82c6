"""HTTP to the byte: a bare connection, and what an ASGI application of a test needs to be served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from tests.support.stack import PATIENCE


@contextlib.asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """To the server of a URL."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.transport.abort()


async def live(receive: Any, send: Any) -> None:
    """The lifespan of an application that has nothing to open or close."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
