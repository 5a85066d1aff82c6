"""Proxy: one TCP link of the house, through a door that can be shut, slowed down and cut."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


class Link(Enum):
    """What a link does with what comes along it."""

    OPEN = "open"
    """It passes."""
    REFUSING = "refusing"
    """New connections are refused and those that stand are cut, as where nobody listens."""
    SILENT = "silent"
    """New connections are taken and nothing passes, there or on those that stand, until the link is open again: what
    was held back passes then."""
    SLOW = "slow"
    """What comes passes later, by `delay` seconds."""


@dataclass(eq=False, slots=True)
class _Pair:
    """Connections, from the client and to the server; `lost` when the server's is gone and the client isn't told."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    lost: bool = False


@dataclass(slots=True)
class Proxy:
    """Listens on `port` of 127.0.0.1 and passes on to the first of `targets`, in turn, that takes the connection. Use
    as an async context manager."""

    name: str
    targets: Sequence[Address]
    port: int = 0
    delay: float = 0.3
    opened: int = 0
    passed: int = 0
    """Bytes, both ways."""
    _link: Link = Link.OPEN
    _pairs: set[_Pair] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)
    _server: asyncio.Server | None = None
    _reserved: socket.socket | None = None

    async def __aenter__(self) -> Self:
        self._open.set()
        self._reserve()
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open.set()
        self._stop_listening()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._reserved is not None:
            self._reserved.close()

    async def set(self, link: Link) -> None:
        """Changes what the link does, for connections that stand too."""
        if self._link is Link.REFUSING and link is not Link.REFUSING:
            await self._listen()
        self._link = link
        if link is Link.SILENT:
            self._open.clear()
        else:
            self._open.set()
        if link is Link.REFUSING:
            self._stop_listening()
            self.cut()

    def cut(self) -> None:
        """Resets every connection, both ways, in the middle of whatever passes."""
        for pair in list(self._pairs):
            _reset(pair.client)
            if pair.server is not None:
                _reset(pair.server)

    def lose(self) -> int:
        """Makes every connection half-open: the server sees it reset, the client hears nothing any more, ever. New
        ones pass. Gives how many they were."""
        standing = [pair for pair in self._pairs if not pair.lost]
        for pair in standing:
            pair.lost = True
            if pair.server is not None:
                _reset(pair.server)
        return len(standing)

    def _reserve(self) -> None:
        # Bound but not listening: connections are refused, and the port stays ours.
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", self.port))
        self.port = self._reserved.getsockname()[1]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._enter, "127.0.0.1", self.port, reuse_port=True, backlog=512)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.opened += 1
        pair = _Pair(writer)
        self._pairs.add(pair)
        try:
            await self._open.wait()
            found = await self._connect()
            if found is None:
                _reset(writer)
                return
            there, pair.server = found
            ways = {
                asyncio.create_task(self._pass(pair, reader, pair.server, from_client=True)),
                asyncio.create_task(self._pass(pair, there, writer, from_client=False)),
            }
            try:
                await asyncio.wait(ways)
            finally:
                for way in ways:
                    way.cancel()
        except asyncio.CancelledError:
            pass
        finally:
            self._pairs.discard(pair)
            self._tasks.discard(task)
            for end in (writer, pair.server):
                if end is not None:
                    end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        turn = next(self._turn)
        for place in range(len(self.targets)):
            target = self.targets[(turn + place) % len(self.targets)]
            with contextlib.suppress(OSError):
                if isinstance(target, str):
                    return await asyncio.open_unix_connection(target)
                return await asyncio.open_connection(*target)
        return None

    async def _pass(
        self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        try:
            while data := await reader.read(65536):
                if self._link is Link.SLOW:
                    await asyncio.sleep(self.delay)
                await self._open.wait()
                if pair.lost:
                    continue  # swallowed: the client must come to its own conclusion
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
            await self._open.wait()
        except OSError:
            if from_client or not pair.lost:
                _reset(writer)
            return
        if pair.lost:
            if from_client and pair.server is not None:
                _reset(pair.server)
        elif writer.can_write_eof():
            with contextlib.suppress(OSError):
                writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection by RST: what is unsent is lost."""
    found = writer.get_extra_info("socket")
    if found is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()
