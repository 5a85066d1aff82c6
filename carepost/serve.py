"""Serving: the API by uvicorn, the worker, each until told to stop."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

import uvicorn
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from api.app import create_app
from carepost.config import Settings
from workers.main import run_worker

# Of a supervisor to its children; no settings, for nobody sets them.
SUPERVISED: Final = "CAREPOST_SUPERVISED"
LISTENER: Final = "CAREPOST_LISTENER"


class PortTaken(Exception):
    """Another program listens there; the text says what to do."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises `PortTaken`.

    `up` and `demo` hold it for as long as they run and lend it to the API: what was found free stays theirs, and while
    the API is started again, requests wait instead of being refused.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        raise PortTaken(
            f"Port {port} on {host} is taken by another program. Stop it, or choose another: CAREPOST_PORT={port + 1}"
        ) from error


def serve_api(settings: Settings) -> None:
    """Serves until SIGTERM, SIGINT, or the end of a supervisor's pipe."""
    config = uvicorn.Config(
        create_app(settings.api()),
        loop="uvloop",
        http="httptools",
        ws=_Socket,
        # Compression costs a socket four times its memory, for messages of a few hundred bytes.
        ws_per_message_deflate=False,
        ws_max_size=1 << 20,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )
    server = _Server(config)
    _collect_garbage_less_often()

    def leave() -> None:
        server.should_exit = True

    _on_end_of_stdin(leave)
    with _listener(settings) as listener:
        server.run(sockets=[listener])


def _collect_garbage_less_often() -> None:
    """What stands after the imports stands until the end. An answer makes hundreds of dictionaries, and none of them is
    part of a cycle: looking for cycles after every 700 takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _listener(settings: Settings) -> socket.socket:
    """The supervisor's socket where it lends one, else our own."""
    lent = os.environ.get(LISTENER)
    return socket.socket(fileno=int(lent)) if lent else listen(settings.host, settings.port)


class _Socket(WebSocketsSansIOProtocol):
    """Forgets the handshake once it is done: the headers, kept three times, are a fifth of an idle socket's memory."""

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.request.headers.clear()  # the parser holds the request too
            del self.request, self.response
            self.scope["headers"] = []


class _Server(uvicorn.Server):
    """uvicorn raises the signal again once it has served; told to stop we have done as told, and exit with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            # It may be waiting for Postgres, and has answered nobody yet.
            raise SystemExit(0)
        super().handle_exit(sig, frame)


def serve_worker(settings: Settings) -> None:
    """Works until SIGTERM, SIGINT, or the end of a supervisor's pipe."""

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)

        def leave() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)

        _on_end_of_stdin(leave)
        await run_worker(settings.worker(), stop)

    import uvloop

    uvloop.run(work())


def _on_end_of_stdin(leave: Callable[[], None]) -> None:
    """Calls `leave` when a supervisor's pipe ends. Any other stdin (a terminal, /dev/null) says nothing."""
    if os.environ.get(SUPERVISED) != "1":
        return

    def wait() -> None:
        # The descriptor itself: a thread inside sys.stdin's buffer would hold its lock when the interpreter ends.
        while os.read(0, 4096):
            pass
        leave()

    threading.Thread(target=wait, daemon=True).start()
