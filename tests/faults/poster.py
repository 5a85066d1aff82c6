"""Poster: an ESP that posts to a webhook, signed by a key of ours, over kept connections and with little ado."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from carepost.sandbox.vendors.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, SigningKey

FAILED = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)
"""What `post` raises when no answer came: a broken link, a timeout, half an answer."""
_PATIENCE = 10.0


@dataclass(slots=True)
class Poster:
    """Posts to one URL. An httpx client costs ten times as much, which the measured processes would lack."""

    url: str
    key: SigningKey
    _free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def post(self, body: bytes) -> int:
        """The status of the answer; raises `FAILED`."""
        stamp = str(int(time.time()))
        address = urlsplit(self.url)
        head = (
            f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            f"{TIMESTAMP_HEADER}: {stamp}\r\n{SIGNATURE_HEADER}: {self.key.sign(stamp, body)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await self._connection(address.hostname or "", address.port or 80)
            try:
                writer.write(head.encode() + body)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                status = int(answer.split(b" ", 2)[1])
            except BaseException:
                writer.close()
                raise
        # Our endpoint's answers have no body.
        if b"content-length: 0\r\n" in answer and b"connection: close" not in answer:
            self._free.append((reader, writer))
        else:
            writer.close()
        return status

    async def close(self) -> None:
        while self._free:
            _, writer = self._free.pop()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _connection(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._free:
            reader, writer = self._free.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return reader, writer
            writer.close()
        return await asyncio.open_connection(host, port)
