"""In front of the application: a query that was answered before is answered here, from bytes to bytes.

Whatever isn't the plain case goes into the application as it came: headers that ask for anything else, a document that
is seen for the first time, a token or variables that don't hold, or a token of which nothing was asked for seconds. So
every refusal, limit and error of the request is the view's, and the two can't differ in them.
"""

from functools import lru_cache, partial
from typing import Final

import orjson
import structlog

from api.at_once import Answer, Answering, Headers
from api.graphql.compiled.operation import CompiledOperation
from api.graphql.compiled.run import Run
from api.graphql.errors import MaskUnexpected, error_body
from api.graphql.view import GraphQLView, encode, json_type, unexpected
from api.rates import token_key

_log = structlog.get_logger("carepost.graphql")


class Door:
    """`view` is what answers within the application."""

    def __init__(self, view: GraphQLView, *, cross_origin: bool) -> None:
        self._view = view
        self._longest = view.services.config.limits.body_bytes
        # What answers other origins adds headers of its own.
        self._read = {b"authorization", b"accept", b"content-type"}
        self._others = {b"content-encoding", b"origin"} if cross_origin else {b"content-encoding"}

    def __call__(self, headers: Headers, body: bytes) -> Answering | None:
        """What answers a POST, where that is the plain case (see api.at_once)."""
        try:
            return self._begun(headers, body)
        except Exception as error:  # noqa: BLE001 - whatever it is, the view says it
            _log.error("a query could not be begun at the door", error=type(error).__name__)
            return None

    def _begun(self, headers: Headers, body: bytes) -> Answering | None:
        found = self._headers(headers)
        if found is None or len(body) > self._longest:
            return None
        try:
            asked = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if type(asked) is not dict:
            return None
        query, name, variables = asked.get("query"), asked.get("operationName"), asked.get("variables")
        more = asked.get("extensions")
        if type(query) is not str or type(name) not in _TEXT or type(variables) not in _OBJECT or more is not None:
            return None
        operation = self._view.schema.compiled(query, name)
        if operation is None or self._view.schema.too_costly(query, name, variables):
            return None
        authorization = found[b"authorization"]
        context = self._view.signed_in(authorization.decode("latin-1"))
        if context is None:
            return None
        run = operation.start(variables, context, native=True)
        # Last, since what is left to the application counts there.
        if run is None or self._view.services.rates.take(token_key(authorization)):
            return None
        return partial(_answer, operation, run, _json_headers(found.get(b"accept", b"")))

    def _headers(self, headers: Headers) -> dict[bytes, bytes] | None:
        """Those that matter, when all ask for the plain case."""
        found: dict[bytes, bytes] = {}
        read, others = self._read, self._others
        for name, value in headers:
            if name in read:
                if name in found:
                    return None
                found[name] = value
            elif name in others:
                return None
        plain = (
            b"authorization" in found
            and _is_json(found.get(b"content-type", b""))
            and not _may_stream(found.get(b"accept", b""))
        )
        return found if plain else None


_TEXT: Final = frozenset({str, type(None)})
_OBJECT: Final = frozenset({dict, type(None)})


async def _answer(operation: CompiledOperation, run: Run, headers: Headers) -> Answer:
    try:
        result = await operation.finish(run)
        if not result.errors:
            return Answer(200, headers, encode({"data": result.data}))
        shown = MaskUnexpected().shown(result.errors)
        return Answer(200, headers, encode({"data": result.data, "errors": [error.formatted for error in shown]}))
    except Exception as error:  # noqa: BLE001 - the last resort, as it is the view's
        return Answer(500, headers, error_body(unexpected(error), "INTERNAL_ERROR"))


@lru_cache(64)
def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


@lru_cache(256)
def _may_stream(accept: bytes) -> bool:
    lowered = accept.lower()
    return b"event-stream" in lowered or b"multipart" in lowered


@lru_cache(256)
def _json_headers(accept: bytes) -> Headers:
    return ((b"content-type", json_type(accept.decode("latin-1")).encode()),)
