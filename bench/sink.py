"""A mail server that takes everything and keeps nothing but the count: `python -m bench.sink` prints its port.

A process of its own under uvloop; its verb XCOUNT tells how many emails it took.
"""

import asyncio
import sys
from typing import cast

import uvloop

_EHLO = b"250-sink.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 26214400\r\n"


class Sink(asyncio.Protocol):
    """One connection."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._buffer = bytearray()
        self._in_data = False
        self._transport.write(b"220 sink.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n.\r\n" if self._in_data else b"\r\n")
            if end < 0:
                return
            if self._in_data:
                del self._buffer[: end + 5]
                self._in_data = False
                Sink.count += 1
                self._transport.write(b"250 2.0.0 taken\r\n")
            else:
                verb = bytes(self._buffer[:4]).upper()
                del self._buffer[: end + 2]
                self._answer(verb)

    def _answer(self, verb: bytes) -> None:
        if verb == b"DATA":
            self._in_data = True
            self._transport.write(b"354 go on\r\n")
        elif verb == b"EHLO":
            self._transport.write(_EHLO)
        elif verb == b"XCOU":
            self._transport.write(b"250 %d\r\n" % Sink.count)
        elif verb == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"250 ok\r\n")


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
