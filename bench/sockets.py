"""Many subscribers in one process: bare WebSockets under uvloop, which count what they are told.

The frames are read by hand, since a client library would take more of the machine than the servers that are measured.
"""

import asyncio
import base64
import json
import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one socket asks for."""

    token: str
    selection: str
    variables: dict[str, Any]


class Subscriber(asyncio.Protocol):
    """One socket. `told` is called with each text frame once it has signed in."""

    def __init__(self, wanted: Wanted, told: Callable[["Subscriber", bytes], None]) -> None:
        self._wanted = wanted
        self._told = told
        self._buffer = b""
        self._upgraded = False
        self.signed_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.close_code: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        key = base64.b64encode(os.urandom(16)).decode()
        self.transport.write(
            f"GET /graphql HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.signed_in.set_exception(RuntimeError(head.decode()))
                return
            self._upgraded, self._buffer = True, rest
            self.say({"type": "connection_init", "payload": {"Authorization": f"Bearer {self._wanted.token}"}})
        while (frame := self._frame()) is not None:
            self._take(*frame)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.signed_in.done():
            self.signed_in.set_exception(RuntimeError(f"closed: {self.close_code}"))

    def say(self, message: dict[str, Any]) -> None:
        self._write(1, json.dumps(message).encode())

    def _write(self, opcode: int, body: bytes) -> None:
        # RFC 6455 section 5.2; a mask of zeros leaves the body as it is.
        size = len(body)
        short = struct.pack("!BB", 128 | opcode, 128 | size) if size < 126 else b""
        head = short or struct.pack("!BBH", 128 | opcode, 254, size)
        self.transport.write(head + bytes(4) + body)

    def _frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 127, 2
        if size == 126:
            if len(buffer) < 4:
                return None
            (size,), start = struct.unpack_from("!H", buffer, 2), 4
        if len(buffer) < start + size:
            return None
        self._buffer = buffer[start + size :]
        return buffer[0] & 15, buffer[start : start + size]

    def _take(self, opcode: int, body: bytes) -> None:
        if opcode == 9:
            self._write(10, body)
        elif opcode == 8:
            self.close_code = struct.unpack("!H", body[:2])[0] if body else 1005
        elif self.signed_in.done():
            self._told(self, body)
        elif b"connection_ack" in body:
            field = f"messageStatusChanged(patientId: $patientId) {{ {self._wanted.selection} cursor }}"
            payload = {"query": f"subscription ($patientId: ID) {{ {field} }}", "variables": self._wanted.variables}
            self.say({"id": "1", "type": "subscribe", "payload": payload})
            self.signed_in.set_result(None)


async def connect(
    port: int, wanted: Sequence[Wanted], told: Callable[[Subscriber, bytes], None]
) -> Sequence[Subscriber]:
    """Opens a socket for each, a hundred at a time."""
    loop = asyncio.get_running_loop()
    opened: list[Subscriber] = []
    for start in range(0, len(wanted), 100):
        some = [
            (await loop.create_connection(partial(Subscriber, each, told), "127.0.0.1", port))[1]
            for each in wanted[start : start + 100]
        ]
        async with asyncio.timeout(60):
            await asyncio.gather(*(each.signed_in for each in some))
        opened += some
    return opened


def resident(pid: int) -> int:
    """Memory of a process in bytes, as it is now; 0 where there is no /proc."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def now() -> float:
    """The same clock in every process of the machine."""
    return time.monotonic()
