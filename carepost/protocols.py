"""How the API's process speaks HTTP and WebSocket: uvicorn's protocols, bounded where uvicorn sets no bound."""

from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import ClassVar

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from api.graphql.errors import error_body
from carepost.at_once import AnsweringAtOnce


class Http(AnsweringAtOnce):
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
        body = error_body(message, code)
        # Not in the middle of another answer; there is no cycle before the first request.
        if getattr(self.cycle, "response_complete", True):
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: application/json\r\nconnection: close\r\ncontent-length: "
                + str(len(body)).encode()
                + b"\r\n\r\n"
                + body
            )
        self.transport.close()


class Socket(WebSocketsSansIOProtocol):
    """Forgets the handshake once it is done: the headers, kept three times, are a fifth of an idle socket's memory."""

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.request.headers.clear()  # the parser holds the request too
            del self.request, self.response
            self.scope["headers"] = []
