"""How the API's process speaks HTTP and WebSocket: by uvicorn's protocols, bounded where uvicorn sets no bound, and
with one write for an answer where uvicorn makes two."""

from asyncio import AbstractEventLoop, TimerHandle, Transport
from http import HTTPStatus
from typing import ClassVar, cast

import orjson
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class Http(HttpToolsProtocol):
    """Gives up a head (the request line and headers) that is longer or slower than any client's, and trailers that are:
    uvicorn would wait for them, and keep them, without end. Who says nothing at all is left without a word; between
    requests uvicorn's own timeout holds."""

    head_bytes: ClassVar = 64 << 10
    """A token, a document asked for by GET, and what proxies add; what one read brings may be more."""
    head_seconds: ClassVar = 10.0

    _in_head = False
    _in_trailers = False
    """Or between the size of a chunk and the chunk."""
    _pending = 0
    """Bytes of a head or trailers that aren't whole."""
    _giving_up: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answers = _Answers(transport, self.loop)
        self._giving_up = self.loop.call_later(self.head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._in_trailers, self._pending = True, False, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()
        if self.cycle is not None:
            # Its task begins in the loop's next turn.
            self.cycle.transport = cast("Transport", self._answers)

    def on_chunk_header(self) -> None:
        self._in_trailers, self._pending = True, 0

    def on_body(self, body: bytes) -> None:
        self._in_trailers = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_trailers = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not (self._in_head or self._in_trailers) or self.transport.is_closing():
            return
        self._pending += len(data)
        if self._pending > self.head_bytes:
            if self._in_head:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large.")
            else:
                self.transport.close()
        elif self._in_head and self._giving_up is None:
            self._giving_up = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _give_up(self) -> None:
        self._giving_up = None
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request came too slowly.")
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        code = "REQUEST_TIMEOUT" if status is HTTPStatus.REQUEST_TIMEOUT else "REQUEST_TOO_LARGE"
        body = orjson.dumps({"errors": [{"message": message, "extensions": {"code": code}}]})
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )
        self.transport.close()


class _Answers:
    """What answers are written to: a connection's transport, but the head of an answer waits for what follows, at most
    until the loop's next turn. uvicorn writes it by itself, and each write is a system call, a packet, and a turn for
    whoever reads: a twentieth of what storing a webhook costs."""

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):  # or a body that begins so, for which it is as well
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            data, self._head = self._head, b""
            self._transport.write(data)


class Socket(WebSocketsSansIOProtocol):
    """Forgets the handshake once it is done: the headers, kept three times, are a fifth of an idle socket's memory."""

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.request.headers.clear()  # the parser holds the request too
            del self.request, self.response
            self.scope["headers"] = []
