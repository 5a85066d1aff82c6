"""Serving: the API by uvicorn, until told to stop."""

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from api.app import create_app
from carepost.config import Settings
from carepost.protocols import Http, Socket
from carepost.supervised import LISTENER, listen, on_end_of_stdin


def serve_api(settings: Settings) -> None:
    """Serves the API until SIGTERM, SIGINT, or the end of a supervisor's pipe."""
    serve(create_app(settings.api()), lambda: _listener(settings))


def serve(app: ASGIApp, listening: Callable[[], socket.socket]) -> None:
    """The same for any application; `listening` gives the socket once it has been made."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Http,
        ws=Socket,
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

    on_end_of_stdin(leave)
    with listening() as listener:
        server.run(sockets=[listener])


def _collect_garbage_less_often() -> None:
    """The schema too stands until the end. An answer makes hundreds of dictionaries, and none of them is part of a
    cycle: looking for cycles after every 700 takes a tenth of the time. Plans of documents are cycles, though, and old
    when they are forgotten."""
    gc.freeze()
    gc.set_threshold(20_000, 5, 2)


def _listener(settings: Settings) -> socket.socket:
    """The supervisor's socket where it lends one, else our own."""
    lent = os.environ.get(LISTENER)
    return socket.socket(fileno=int(lent)) if lent else listen(settings.host, settings.port)


class _Server(uvicorn.Server):
    """uvicorn raises the signal again once it has served; told to stop we have done as told, and exit with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            # It may be waiting for Postgres, and has answered nobody yet. An exception here would rise wherever the
            # program is just now, and uvicorn takes one from its own beginning for a failure.
            sys.stderr.flush()
            os._exit(0)
        super().handle_exit(sig, frame)
