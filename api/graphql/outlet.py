"""What a socket sends.

Most of what is sent needn't wait, so it costs no task: the server's `send` is stepped once, here. A client that reads
slowly has the server wait, with a full buffer of its own; then the rest becomes a task, and nothing more is posted
until it is done.
"""

import asyncio
from collections.abc import Callable, Generator
from typing import Any

from starlette.types import Message, Send

from api.stepping import go_on


class Outlet:
    """`on_free` is called when a client that read slowly takes more; `closed` is set once nothing can be sent."""

    __slots__ = ("_rest", "_send", "closed", "on_free")

    def __init__(self, send: Send, on_free: Callable[[], None]) -> None:
        self._send = send
        self._rest: asyncio.Task[None] | None = None
        self.on_free = on_free
        self.closed = False

    @property
    def blocked(self) -> bool:
        """Whether nothing should be posted now."""
        return self._rest is not None or self.closed

    def post(self, text: str) -> None:
        """Sends a text without waiting; what the server can't take now is sent later."""
        self._step({"type": "websocket.send", "text": text})

    def close(self, code: int, reason: str = "") -> None:
        """Closes the socket without waiting; the first code counts."""
        if not self.closed:
            self._step({"type": "websocket.close", "code": code, "reason": reason})
            self.closed = True

    async def send(self, text: str) -> None:
        """Sends a text, and waits until the server has taken it."""
        if not self.closed:
            try:
                await self._send({"type": "websocket.send", "text": text})
            except (OSError, RuntimeError):  # the client is gone, or we closed while it waited
                self.closed = True

    def abandon(self) -> None:
        """The socket is gone."""
        self.closed = True
        if self._rest is not None:
            self._rest.cancel()

    def _step(self, message: Message) -> None:
        if self.closed:
            return
        sending = self._send(message).__await__()
        try:
            waits_for = next(sending)
        except StopIteration:
            return
        except (OSError, RuntimeError):
            self.closed = True
            return
        # Posted while blocked: a last word, or a close. Each waits for itself; `_rest` is the latest.
        task = asyncio.create_task(_finish(sending, waits_for))
        self._rest = task
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.closed = True
        if self._rest is task:
            self._rest = None
            if not self.closed:
                self.on_free()


async def _finish(sending: Generator[Any, Any, None], waits_for: object) -> None:
    await go_on(sending, waits_for)
