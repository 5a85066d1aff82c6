"""A sandbox server as a process: it says when it is ready and goes when it is told to.

Told means SIGTERM, SIGINT, or the end of stdin where asked for: a supervisor that is killed closes that
pipe, whatever else it had no time for.
"""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CONNECTION = "sandbox.connection"
"""Scope key of the request's transport, which a fault cuts."""


@asynccontextmanager
async def serving(app: ASGIApp, host: str, port: int) -> AsyncIterator[str]:
    """Serves the app in the running loop for as long as the block lasts; gives its base URL.

    Port 0 binds a free one. Raises OSError when the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=512) as listener:
        listener.setblocking(False)
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        ready = asyncio.create_task(server.ready.wait())
        try:
            await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
            if not server.started:
                await task
                raise RuntimeError("the app did not start")
            yield f"http://{at(host, listener.getsockname()[1])}"
        finally:
            ready.cancel()
            server.leave()
            await task


async def cut(request: Request) -> None:
    """Ends the connection of a request without an answer."""
    request.scope[CONNECTION].abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass


def at(host: str, port: int) -> str:
    """Host and port as they stand in a URL (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run(server: Callable[[], AbstractAsyncContextManager[str]], *, exit_with_stdin: bool) -> None:
    """Runs a server until it is told to go; the line that it gives is printed when it is ready."""
    asyncio.run(_run(server, exit_with_stdin=exit_with_stdin))


async def _run(server: Callable[[], AbstractAsyncContextManager[str]], *, exit_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()

    def tell(*_: object) -> None:
        with suppress(RuntimeError):  # the loop has gone already
            loop.call_soon_threadsafe(told.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, tell)
    if exit_with_stdin:
        threading.Thread(target=_wait_for_end_of_stdin, args=(tell,), daemon=True).start()
    async with server() as line:
        print(line, flush=True)
        await told.wait()


def _wait_for_end_of_stdin(tell: Callable[[], None]) -> None:
    # os.read and not sys.stdin: a thread that holds its buffer's lock breaks the interpreter's exit.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    tell()


class _Server(uvicorn.Server):
    """uvicorn's server as one part of a program that has its own idea of signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Ends `serve`."""
        self.should_exit = True
        self._leaving.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it is time to go; tests would feel it.
        while not await self.on_tick(counter=0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), timeout=1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # At once, for nothing here is worth the wait.
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.lifespan.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP with the connection in the scope: ASGI alone can't end a request without an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self.app

        async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
            scope[CONNECTION] = transport
            await app(scope, receive, send)

        self.app = with_connection
