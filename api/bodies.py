"""Request bodies, read to a limit."""

from starlette.requests import Request


class BodyTooLarge(Exception):
    """The body is longer than what is taken here: answer 413."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; raises `BodyTooLarge` as soon as that is certain, and holds no more than the limit."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise BodyTooLarge
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge
    return bytes(body)
