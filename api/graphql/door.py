"""In front of the application: a query that was answered before is answered here, from bytes to bytes.

Whatever isn't the plain case goes into the application as it came: another method, another body, headers that ask for
anything else, a document that is seen for the first time, a token or variables that don't hold. So every refusal, limit
and error of the request is the view's, and the two can't differ in them.
"""

from functools import lru_cache
from typing import Any, Final

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.graphql.context import Context
from api.graphql.errors import MaskUnexpected
from api.graphql.view import GraphQLView, encode, json_type

_LONGEST: Final = 64 << 10
"""Bytes of a body; documents that are remembered are shorter."""
_log = structlog.get_logger("carepost.graphql")


class Door:
    """`view` is what answers at `path` within the application."""

    def __init__(self, app: ASGIApp, view: GraphQLView, path: str, *, cross_origin: bool) -> None:
        self._app = app
        self._view = view
        self._path = path
        # What answers other origins adds headers of its own.
        self._read = {b"authorization", b"accept", b"content-type", b"content-length"}
        self._others = {b"content-encoding", b"origin"} if cross_origin else {b"content-encoding"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self._path and scope["method"] == "POST":
            headers = self._headers(scope)
            if headers is not None:
                received: list[Message] = []
                answer = await self._answer(headers, receive, received)
                if answer is not None:
                    await send(
                        {
                            "type": "http.response.start",
                            "status": 200,
                            "headers": [
                                (b"content-length", str(len(answer)).encode()),
                                (b"content-type", _answer_type(headers.get(b"accept", b""))),
                            ],
                        }
                    )
                    await send({"type": "http.response.body", "body": answer})
                    return
                receive = _again(received, receive)
        await self._app(scope, receive, send)

    def _headers(self, scope: Scope) -> dict[bytes, bytes] | None:
        """Those that matter, when all ask for the plain case."""
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in self._read:
                if name in found:
                    return None
                found[name] = value
            elif name in self._others:
                return None
        length = found.get(b"content-length", b"")
        plain = (
            b"authorization" in found
            and _is_json(found.get(b"content-type", b""))
            and not _may_stream(found.get(b"accept", b""))
            and len(length) < 6
            and length.isdigit()
            and int(length) <= _LONGEST
            and not scope.get("root_path")
        )
        return found if plain else None

    async def _answer(self, headers: dict[bytes, bytes], receive: Receive, received: list[Message]) -> bytes | None:
        """The body of the answer, None to leave the request to the application; `received` is what was read of it."""
        while True:
            message = await receive()
            received.append(message)
            if message["type"] != "http.request":
                return None
            if not message.get("more_body"):
                break
            if sum(len(each.get("body", b"")) for each in received) > _LONGEST:
                return None
        body = received[0]["body"] if len(received) == 1 else b"".join(each.get("body", b"") for each in received)
        try:
            asked = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        return await self._execute(asked, headers[b"authorization"].decode("latin-1"))

    async def _execute(self, asked: Any, authorization: str) -> bytes | None:
        if type(asked) is not dict:
            return None
        query, name, variables = asked.get("query"), asked.get("operationName"), asked.get("variables")
        more = asked.get("extensions")
        if type(query) is not str or type(name) not in _TEXT or type(variables) not in _OBJECT or more is not None:
            return None
        operation = self._view.schema.compiled(query, name)
        if operation is None or self._view.schema.too_costly(query, name, variables):
            return None
        context = Context(self._view.services)
        try:
            await self._view.sign_in(context, authorization)
        except Exception:  # noqa: BLE001 - whatever it is, the view says it
            return None
        run = operation.start(variables, context, native=True)
        if run is None:
            return None
        try:
            result = await operation.finish(run)
            if not result.errors:
                return encode({"data": result.data})
            shown = MaskUnexpected().shown(result.errors)
            return encode({"data": result.data, "errors": [error.formatted for error in shown]})
        except Exception as error:  # noqa: BLE001 - a query changes nothing: the application may try
            _log.error("a compiled query ended unexpectedly", error=type(error).__name__)
            return None


_TEXT: Final = frozenset({str, type(None)})
_OBJECT: Final = frozenset({dict, type(None)})


@lru_cache(64)
def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


@lru_cache(256)
def _may_stream(accept: bytes) -> bool:
    lowered = accept.lower()
    return b"event-stream" in lowered or b"multipart" in lowered


@lru_cache(256)
def _answer_type(accept: bytes) -> bytes:
    return json_type(accept.decode("latin-1")).encode()


def _again(received: list[Message], receive: Receive) -> Receive:
    """What was received, then what comes."""
    waiting = iter(received)

    async def again() -> Message:
        for message in waiting:
            return message
        return await receive()

    return again
