"""GraphQL over HTTP and WebSocket: Strawberry's view with our sign-in, our limits and coded errors for bad requests.

GraphQL over HTTP specification (`application/graphql-response+json`); graphql-transport-ws; SSE and multipart for
subscriptions. Batches and the legacy WebSocket protocol are off; queries by GET are a setting.
"""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, cast
from uuid import uuid4

import orjson
import structlog
from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.base import BaseRequestProtocol
from strawberry.http.types import QueryParams
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import (
    GRAPHQL_SSE_PROTOCOL,
    GRAPHQL_TRANSPORT_WS_PROTOCOL,
    MULTIPART_SUBSCRIPTION_PROTOCOL,
)
from strawberry.types.execution import ExecutionResult, PreExecutionError

from api.auth import Authenticator, Principal, SignInUnavailable, Unauthenticated
from api.bodies import BodyTooLarge, BodyTooSlow, read_body
from api.graphql.context import Context, Services
from api.graphql.errors import OUT_OF_REACH, error_body
from api.graphql.schema import Schema, build_schema
from api.graphql.socket import Sockets
from api.revocations import REMEMBER
from db.errors import BUSY, UNREACHABLE

_JSON: Final = "application/json"
_RESPONSE_JSON: Final = "application/graphql-response+json"
_log = structlog.get_logger("carepost.graphql")


class GraphQLView(GraphQL[Context, None]):
    """The endpoint `/graphql`."""

    schema: Schema

    def __init__(self, services: Services, authenticator: Authenticator) -> None:
        config = services.config
        super().__init__(
            build_schema(config.limits, introspection=config.introspection),
            graphql_ide=None,
            allow_queries_via_get=config.queries_by_get,
            subscription_protocols=(
                GRAPHQL_TRANSPORT_WS_PROTOCOL,
                GRAPHQL_SSE_PROTOCOL,
                MULTIPART_SUBSCRIPTION_PROTOCOL,
            ),
            connection_init_wait_timeout=timedelta(seconds=config.limits.socket_init_seconds),
            max_subscriptions_per_connection=config.limits.subscriptions_per_socket,
            allowed_origins=config.allowed_origins,
        )
        self.services = services
        self._authenticator = authenticator
        self.sockets = Sockets(self)
        self._methods = ("POST", "GET") if config.queries_by_get else ("POST",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.sockets(scope, receive, send)
            return
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        """Any request gets an answer in JSON with a code."""
        config = self.services.config
        if request.method == "GET" and config.graphiql and _is_opened_by_a_person(request):
            return RedirectResponse("graphiql", 303)
        if request.method not in self._methods:
            return self._not_by(request, "Send operations by POST.")
        if wait := request.scope.get("carepost.wait"):
            response = _refusal(request, 429, "Too many requests with this token.", "RATE_LIMITED")
            response.headers["retry-after"] = str(math.ceil(wait))
            return response
        if request.method == "POST" and (problem := _unsupported(request)) is not None:
            return _refusal(request, 415, problem, "UNSUPPORTED_MEDIA_TYPE")
        try:
            if request.method == "POST":
                body = await read_body(request, config.limits.body_bytes)
                request = Request(request.scope, _given(body))
            response = await self.run(request)
        except BodyTooLarge:
            return _refusal(request, 413, "The request is too large.", "REQUEST_TOO_LARGE")
        except BodyTooSlow:
            return _refusal(request, 408, "The request came too slowly.", "REQUEST_TIMEOUT")
        except ClientDisconnect:
            return Response(status_code=400)
        except Unauthenticated as error:
            response = _refusal(request, 401, str(error), "UNAUTHENTICATED")
            response.headers["www-authenticate"] = "Bearer"
            return response
        except SignInUnavailable as error:
            return _refusal(request, 503, str(error), "SIGN_IN_UNAVAILABLE")
        except (*UNREACHABLE, *BUSY) as error:
            _log.warning("nobody could be signed in", error=type(error).__name__)
            return _refusal(request, 503, OUT_OF_REACH, "UNAVAILABLE")
        except HTTPException as error:
            if request.method == "GET" and isinstance(error.__cause__, InvalidOperationTypeError):
                return self._not_by(request, "By GET only queries are answered. Send this by POST.")
            return _refusal(request, error.status_code, error.reason, "BAD_REQUEST")
        except Exception as error:  # noqa: BLE001 - the last resort: masked, with an id
            return _refusal(request, 500, unexpected(error), "INTERNAL_ERROR")
        if response.media_type == _JSON and _prefers_response_json(request):
            # The specification's own media type tells by the status whether anything was executed.
            response.headers["content-type"] = json_type(request.headers["accept"])
            if getattr(request.state, "not_executed", False):
                response.status_code = 400
        if request.method == "GET":
            # An answer is for who asked, and for now.
            response.headers["cache-control"] = "no-store"
        return response

    def _not_by(self, request: Request, message: str) -> Response:
        """The answer to a method that what is asked for doesn't go by."""
        response = _refusal(request, 405, message, "METHOD_NOT_ALLOWED")
        response.headers["allow"] = ", ".join(self._methods)
        return response

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        context = Context(self.services, response=response)
        await self.sign_in(context, request.headers.get("authorization"))
        request.state.signed_in = context.signed_in
        return context

    async def create_streaming_response(
        self,
        request: Request | WebSocket,
        stream: Callable[[], AsyncIterator[str]],
        sub_response: Response,
        headers: Mapping[str, str],
    ) -> Response:
        """A stream ends with its token, like a socket: without a last word, so that the client comes again."""
        principal = request.state.signed_in
        return await super().create_streaming_response(
            request, lambda: self._while_signed_in(stream(), principal), sub_response, headers
        )

    async def _while_signed_in(self, stream: AsyncIterator[str], principal: Principal) -> AsyncIterator[str]:
        """What a stream gives while its token holds."""
        try:
            async with asyncio.timeout(max(0.0, principal.expires_at - time.time())) as end:
                watching = asyncio.create_task(self._end_when_revoked(principal, end))
                try:
                    async for part in stream:
                        yield part
                finally:
                    watching.cancel()
        except TimeoutError:
            return

    async def _end_when_revoked(self, principal: Principal, end: asyncio.Timeout) -> None:
        while True:
            await asyncio.sleep(REMEMBER)
            if not await self.services.revocations.still_holds(principal):
                break
        end.reschedule(asyncio.get_running_loop().time())

    def signed_in(self, authorization: str) -> Context | None:
        """The context of who signed in a moment ago; None for whom `sign_in` would have to ask."""
        principal = self._authenticator.remembered(authorization)
        if principal is None:
            return None
        practice = self.services.known_practice(principal.practice_id)
        if practice is None or not self.services.revocations.is_known_to_hold(principal):
            return None
        return Context(self.services, principal, practice)

    async def sign_in(self, context: Context, authorization: str | None) -> None:
        """Raises `Unauthenticated` and `SignInUnavailable`."""
        principal = await self._authenticator.authenticate(authorization)
        context.home = await self.services.practice(principal.practice_id)
        await self.services.revocations.check(principal)
        context.signed_in = principal

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData | list[GraphQLRequestData]:
        data = await super().parse_http_body(request)
        if isinstance(data, GraphQLRequestData):
            if not isinstance(data.operation_name, str | None):
                raise HTTPException(400, "`operationName` must be a string or null, if provided.")
            if request.method == "GET":
                data.protocol = "http"  # an answer, and no stream, whatever is accepted
        return data

    def parse_query_params(self, params: QueryParams) -> dict[str, Any]:
        # What is given as nothing isn't given.
        given = {name: value for name, value in params.items() if value}
        try:
            return super().parse_query_params(given)
        except HTTPException as error:
            raise HTTPException(400, "`variables` and `extensions` must be JSON objects, if provided.") from error

    def should_render_graphql_ide(self, request: BaseRequestProtocol) -> bool:
        return False  # whoever asks for nothing is told so

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        # Errors in variables are found by the execution, before it executes anything.
        request.state.not_executed = isinstance(result, PreExecutionError) or (
            result.data is None and bool(result.errors) and all(error.path is None for error in result.errors or ())
        )
        response = await super().process_result(request, result)
        if request.state.not_executed:
            response = cast("GraphQLHTTPResponse", {key: value for key, value in response.items() if key != "data"})
        return response

    def decode_json(self, data: str | bytes) -> object:
        """A JSON object. NaN, lone surrogates, bad UTF-8 and deep nesting are refused by orjson."""
        decoded = orjson.loads(data)
        if not isinstance(decoded, dict):
            raise json.JSONDecodeError("not a JSON object", "", 0)
        return decoded

    def encode_json(self, data: object) -> str:
        return encode(data).decode()


def encode(data: object) -> bytes:
    """An answer in JSON."""
    return orjson.dumps(data, option=orjson.OPT_PASSTHROUGH_SUBCLASS, default=str)


def json_type(accept: str) -> str:
    """The media type of an answer, by the client's `Accept`."""
    return f"{_RESPONSE_JSON}; charset=utf-8" if _RESPONSE_JSON in accept else _JSON


def unexpected(error: Exception) -> str:
    """Logs an error that nobody foresaw; gives the message that names it to the client."""
    error_id = uuid4().hex[:12]
    _log.error("unexpected error", error_id=error_id, error=type(error).__name__)
    return f"Something went wrong on our side: {error_id}"


def _is_opened_by_a_person(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and "query" not in request.query_params


def _given(body: bytes) -> Receive:
    """A request's `receive` once its body was read."""
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _unsupported(request: Request) -> str | None:
    """What is wrong with the form of a body: JSON as it is, which no page of another origin can post unasked."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _JSON:
        return "Send JSON, as `Content-Type: application/json`."
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return "Send the body as it is, without `Content-Encoding`."
    return None


def _prefers_response_json(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return _RESPONSE_JSON in accept


def _refusal(request: Request, status: int, message: str, code: str) -> Response:
    media_type = _RESPONSE_JSON if _prefers_response_json(request) else _JSON
    return Response(error_body(message, code), status_code=status, media_type=media_type)
