"""What a server's process and its supervisor agree on: a lent socket, and a pipe that ends with the supervisor.

It imports next to nothing, for `up` needs it, which neither serves nor works itself.
"""

import os
import socket
import threading
from collections.abc import Callable
from typing import Final

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
