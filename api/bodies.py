"""Request bodies, read to a limit."""

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Message, Receive

from api.stepping import go_on


class BodyTooLarge(Exception):
    """The body is longer than what is taken here: answer 413."""


class BodyTooSlow(Exception):
    """The body didn't come in time: answer 408."""


class Disconnected(Exception):
    """The client went away before its body was whole."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; raises `BodyTooLarge` as soon as that is certain, and holds no more than the limit."""
    _check_declared(request.headers.get("content-length", ""), limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge
    return bytes(body)


async def receive_body(headers: Mapping[str, str], receive: Receive, limit: int) -> bytes:
    """The same from ASGI's own messages; raises `Disconnected`, too."""
    _check_declared(headers.get("content-length", ""), limit)
    message = await receive()
    body = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body") and len(body) <= limit:
        return bytes(body)
    whole = bytearray()
    while True:
        if message["type"] != "http.request":
            raise Disconnected
        whole += message.get("body", b"")
        if len(whole) > limit:
            raise BodyTooLarge
        if not message.get("more_body"):
            return bytes(whole)
        message = await receive()


def in_time(receive: Receive, seconds: float) -> Receive:
    """The same `receive`, which raises `BodyTooSlow` where the body isn't whole within the time."""
    deadline: float | None = asyncio.get_running_loop().time() + seconds

    async def hurried() -> Message:
        nonlocal deadline
        if deadline is None:
            return await receive()
        # Mostly the server has the body when it has the headers, and a timer costs more than all else here.
        waiting = receive().__await__()
        try:
            waits_for = next(waiting)
        except StopIteration as done:
            message: Message = done.value
        else:
            try:
                async with asyncio.timeout_at(deadline):
                    message = await go_on(waiting, waits_for)
            except TimeoutError as error:
                raise BodyTooSlow from error
        if not message.get("more_body"):
            deadline = None
        return message

    return hurried


def _check_declared(length: str, limit: int) -> None:
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise BodyTooLarge
