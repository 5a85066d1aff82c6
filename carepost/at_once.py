"""Answers for which ASGI is too long a way: those of applications that have `at_once` (see api.at_once)."""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.at_once import Answering, AtOnce, ByTarget


class AnsweringAtOnce(HttpToolsProtocol):
    """Holds a request of such a target back until its body is there, and asks `at_once`. What it doesn't take goes on
    as if it came just now; so does a body that is long or doesn't come. uvicorn keeps the connection: what is answered
    here is one of its cycles, and waits its turn among them."""

    hold_bytes: ClassVar = 64 << 10
    """Of a body; a query is shorter."""
    hold_seconds: ClassVar = 1.0
    """That a body may come after its head; mostly both are there at once."""

    _by_target: ByTarget | None = None
    _at_once: AtOnce | None = None
    """Set while a request is held."""
    _body = b""
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._by_target = getattr(self.app, "at_once", None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._at_once = None
        self._stop_holding()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        at_once = self._by_target(self.url) if self._by_target and self.parser.get_method() == b"POST" else None
        if at_once is None or self.expect_100_continue or self.parser.should_upgrade():
            super().on_headers_complete()
        else:
            self._at_once, self._body = at_once, b""

    def on_body(self, body: bytes) -> None:
        if self._at_once is None:
            super().on_body(body)
            return
        self._body += body
        if len(self._body) > self.hold_bytes:
            self._let_go()

    def on_message_complete(self) -> None:
        if self._at_once is not None:
            answering = self._at_once(self.headers, self._body)
            if answering is not None:
                self._at_once = None
                self._stop_holding()
                self._answer(answering)
                return
            self._let_go()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._at_once is not None and self._waiting is None:
            self._waiting = self.loop.call_later(self.hold_seconds, self._let_go)

    def shutdown(self) -> None:
        if self._at_once is not None:
            self._let_go()
        super().shutdown()

    def _let_go(self) -> None:
        self._at_once = None
        self._stop_holding()
        if not self.transport.is_closing():
            super().on_headers_complete()
            if self._body:
                super().on_body(self._body)

    def _stop_holding(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _answer(self, answering: Answering) -> None:
        # There is none before the first request.
        is_free = getattr(self.cycle, "response_complete", True)
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        cycle = _Cycle(self, answering, keep_alive=keep_alive)
        self.cycle = cycle  # type: ignore[assignment]
        if is_free:
            self._start_asgi_task(cycle, self.app)  # type: ignore[arg-type]
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]


class _Cycle:
    """What uvicorn's protocol needs of a request and its response."""

    __slots__ = ("_answering", "_protocol", "disconnected", "keep_alive", "response_complete")

    message_event = asyncio.Event()
    """Nobody waits for it."""

    def __init__(self, protocol: AnsweringAtOnce, answering: Answering, *, keep_alive: bool) -> None:
        self._protocol = protocol
        self._answering = answering
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False

    async def run_asgi(self, app: object) -> None:
        protocol = self._protocol
        try:
            status, headers, body = await self._answering()
        except Exception:
            protocol.logger.exception("no answer was made at once")
            protocol.transport.close()
            return
        if protocol.flow.write_paused and not self.disconnected:
            await protocol.flow.drain()
        if self.disconnected:
            return
        whole = [STATUS_LINE[status]]
        for name, value in protocol.server_state.default_headers:
            whole += (name, b": ", value, b"\r\n")
        whole += (b"content-length: ", str(len(body)).encode())
        for name, value in headers:
            whole += (b"\r\n", name, b": ", value)
        whole += (b"\r\n\r\n" if self.keep_alive else b"\r\nconnection: close\r\n\r\n", body)
        protocol.transport.write(b"".join(whole))
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()
