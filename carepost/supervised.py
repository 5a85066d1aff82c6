"""What a server's process and its supervisor agree on: a lent socket, and a pipe that ends with the supervisor.

A server that is started before all of its settings are known (the embedded servers start too, and databases are
migrated) imports what it needs meanwhile, and is told them by the pipe, as one line of JSON.

It imports next to nothing, for `up` needs it, which neither serves nor works itself.
"""

import contextlib
import gc
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

# Of a supervisor to its children; no settings, for nobody sets them.
SUPERVISED: Final = "CAREPOST_SUPERVISED"
LISTENER: Final = "CAREPOST_LISTENER"
UNTOLD: Final = "CAREPOST_UNTOLD"


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


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """While most of a program is imported. What that makes stays until the end: it is looked through for cycles once,
    not a hundred times, and never again."""
    gc.disable()
    yield
    gc.collect()
    gc.freeze()
    gc.enable()


def be_told() -> None:
    """Adds to the environment what the supervisor tells, once it does. Ends the process when the supervisor ends first;
    does nothing where there is none."""
    if os.environ.pop(UNTOLD, None) != "1":
        return
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 65536)
        if not part:
            raise SystemExit(0)
        line += part
    os.environ.update(json.loads(line))


def on_end_of_stdin(leave: Callable[[], None]) -> None:
    """Calls `leave` when a supervisor's pipe ends. Any other stdin (a terminal, /dev/null) says nothing."""
    if os.environ.get(SUPERVISED) != "1":
        return

    def wait() -> None:
        # The descriptor itself: a thread inside sys.stdin's buffer would hold its lock when the interpreter ends.
        while os.read(0, 4096):
            pass
        leave()

    threading.Thread(target=wait, daemon=True).start()
