"""graphql-transport-ws: one socket, from its handshake to its close.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md. Written for many idle sockets: a socket is one
coroutine, its time limits are timers, and a subscription to message changes is an entry in a list (`following`). Every
other operation is a task, executed by Strawberry. Malformed messages end the socket by 4400 with a reason; what is
wrong with a document is told to its own operation.
"""

import asyncio
import contextlib
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
import structlog
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.http import process_result
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.execution import ExecutionResult, PreExecutionError

from api import revocations
from api.auth import SignInUnavailable, Unauthenticated
from api.graphql.audience import Audiences
from api.graphql.context import Context
from api.graphql.following import Following, Turns
from api.graphql.outlet import Outlet
from api.live import LiveHub
from api.rates import token_key

if TYPE_CHECKING:
    from api.graphql.view import GraphQLView

_LONGEST_REASON: Final = 123  # bytes: RFC 6455 section 5.5
_LOOK_AGAIN: Final = 60.0
_FOR_NOW: Final = (
    SignInUnavailable,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_log = structlog.get_logger("carepost.graphql")


class Sockets:
    """Serves sockets at `/graphql`."""

    def __init__(self, view: "GraphQLView") -> None:
        self.view = view
        self.audiences = Audiences(view.schema, view.services)
        self.turns = Turns()
        self._open: set[Socket] = set()
        self._patrol: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        if not self.view._check_websocket_origin(WebSocket(scope, receive, send)):  # noqa: SLF001 - the library's own
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: answered by 403
            return
        is_spoken = GRAPHQL_TRANSPORT_WS_PROTOCOL in scope["subprotocols"]
        await send({"type": "websocket.accept", "subprotocol": GRAPHQL_TRANSPORT_WS_PROTOCOL if is_spoken else None})
        if not is_spoken:
            await send({"type": "websocket.close", "code": 4406, "reason": "Subprotocol not acceptable"})
            return
        socket = Socket(self, send)
        self._open.add(socket)
        if self._patrol is None:
            self._patrol = asyncio.create_task(self._end_the_revoked())
        try:
            await socket.run(receive)
        finally:
            self._open.discard(socket)
            if not self._open and self._patrol is not None:
                self._patrol.cancel()
                self._patrol = None

    async def _end_the_revoked(self) -> None:
        """One look at all sockets every few seconds."""
        while True:
            await asyncio.sleep(revocations.REMEMBER)
            for number, socket in enumerate(tuple(self._open)):
                principal = socket.context.signed_in
                if principal is not None and not await self.view.services.revocations.still_holds(principal):
                    socket.close(4403, "Token revoked")
                if number % 200 == 199:
                    await asyncio.sleep(0)


class Running:
    """An operation that a task executes."""

    __slots__ = ("task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task

    def stop(self) -> None:
        self.task.cancel()


class Socket:
    """One socket. `operations` are those that go on, by the client's ids."""

    __slots__ = ("_rate_key", "_sockets", "_timer", "context", "is_initialised", "operations", "outlet")

    def __init__(self, sockets: Sockets, send: Send) -> None:
        self._sockets = sockets
        self.context = Context(sockets.view.services)
        self.operations: dict[str, Following | Running] = {}
        self.outlet = Outlet(send, self._on_free)
        self.is_initialised = False
        patience = sockets.view.connection_init_wait_timeout.total_seconds()
        self._timer = asyncio.get_running_loop().call_later(patience, self._too_late)

    @property
    def live(self) -> LiveHub:
        return self._sockets.view.services.live

    @property
    def turns(self) -> Turns:
        return self._sockets.turns

    async def run(self, receive: Receive) -> None:
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                if not self.outlet.closed:
                    await self._read(message)
        except Exception as error:  # noqa: BLE001 - the last resort
            _log.error("a socket ended unexpectedly", error=type(error).__name__)
            # 1013 has the client try again later, after 1011 it wouldn't.
            self.outlet.close(1013 if isinstance(error, _FOR_NOW) else 1011)
        finally:
            self._timer.cancel()
            operations = list(self.operations.values())
            self.operations.clear()
            for operation in operations:
                operation.stop()
            self.outlet.abandon()
            tasks = [each.task for each in operations if isinstance(each, Running)]
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self, code: int, reason: str) -> None:
        self.outlet.close(code, reason.encode()[:_LONGEST_REASON].decode(errors="ignore"))

    async def say(self, message: dict[str, Any]) -> None:
        await self.outlet.send(self._sockets.view.encode_json(message))

    async def _read(self, received: MutableMapping[str, Any]) -> None:
        text = received.get("text")
        if text is None:
            self.close(4400, "WebSocket message type must be text")
            return
        try:
            message: Any = self._sockets.view.decode_json(text)
        except JSONDecodeError:
            self.close(4400, "WebSocket message must be valid JSON")
            return
        if (problem := _problem(message)) is not None:
            self.close(4400, problem)
            return
        match message["type"]:
            case "connection_init":
                await self._sign_in(message.get("payload", {}))
            case "ping":
                await self._answer_ping(message.get("payload"))
            case "pong":
                pass
            case "subscribe":
                await self._subscribe(message["id"], message["payload"])
            case "complete":
                if (operation := self.operations.pop(message["id"], None)) is not None:
                    operation.stop()
            case other:
                self.close(4400, f"Unknown message type: {other}")

    async def _sign_in(self, payload: Any) -> None:
        """`connection_init` carries {"Authorization": "Bearer ..."}; its name may be in lower case."""
        if not isinstance(payload, dict):
            self.close(4400, "Invalid connection init payload")
            return
        if self.is_initialised:
            self.close(4429, "Too many initialisation requests")
            return
        self.is_initialised = True
        self._timer.cancel()
        authorization = _authorization(payload) or ""
        self._rate_key = token_key(authorization.encode(errors="replace"))
        try:
            await self._sockets.view.sign_in(self.context, authorization)
        except Unauthenticated:
            self.close(4403, "Forbidden")
            return
        self._look_at_the_token()
        await self.say({"type": "connection_ack"})

    async def _answer_ping(self, payload: Any) -> None:
        """A ping may bring a token, as `connection_init` does: the socket then ends with that one. The pong says until
        when; one that doesn't means that nobody could tell, and the token before still holds."""
        authorization = _authorization(payload) if isinstance(payload, dict) else None
        before = self.context.signed_in
        if authorization is None or before is None:
            await self.say({"type": "pong"})
            return
        anew = Context(self._sockets.view.services)
        try:
            await self._sockets.view.sign_in(anew, authorization)
        except Unauthenticated:
            self.close(4403, "Forbidden")
            return
        except _FOR_NOW:
            await self.say({"type": "pong"})
            return
        now = anew.principal
        if (now.subject, now.practice_id, now.role) != (before.subject, before.practice_id, before.role):
            self.close(4403, "Token of somebody else")
            return
        self.context.signed_in = now
        self._rate_key = token_key(authorization.encode(errors="replace"))
        self._timer.cancel()
        self._look_at_the_token()
        until = datetime.fromtimestamp(now.expires_at, UTC).isoformat().replace("+00:00", "Z")
        await self.say({"type": "pong", "payload": {"expiresAt": until}})

    async def _subscribe(self, operation_id: str, payload: dict[str, Any]) -> None:
        limit = self._sockets.view.max_subscriptions_per_connection
        if self.context.signed_in is None:
            self.close(4401, "Unauthorized")
        elif operation_id in self.operations:
            self.close(4409, f"Subscriber for {operation_id} already exists")
        elif limit is not None and len(self.operations) >= limit:
            await self._refuse(operation_id, f"At most {limit} at once.", "SUBSCRIPTION_LIMIT")
        elif wait := self.context.services.rates.take(self._rate_key):
            await self._refuse(operation_id, f"Too many with this token; wait {wait:.1f} s.", "RATE_LIMITED")
        else:
            asked = (payload["query"], payload.get("operationName"), payload.get("variables"))
            wish = self._sockets.audiences.wish(self.context, *asked)
            if wish is not None and not self._has_room():
                await self._refuse(operation_id, "Too many at once of this practice.", "SUBSCRIPTION_LIMIT")
            elif wish is not None:
                self.operations[operation_id] = Following(self, operation_id, wish)
            else:
                task = asyncio.create_task(self._execute(operation_id, *asked))
                self.operations[operation_id] = Running(task)

    def _has_room(self) -> bool:
        limit = self.context.services.config.limits.subscriptions_per_practice
        return self.live.watchers(self.context.practice_id) < limit

    async def _refuse(self, operation_id: str, message: str, code: str) -> None:
        error = {"message": message, "extensions": {"code": code}}
        await self.say({"id": operation_id, "type": "error", "payload": [error]})

    async def _execute(
        self, operation_id: str, query: str, operation_name: str | None, variables: dict[str, Any] | None
    ) -> None:
        last: dict[str, Any] = {"id": operation_id, "type": "complete"}
        try:
            results = await self._sockets.view.schema.stream(
                query, variable_values=variables, context_value=self.context, operation_name=operation_name
            )
            async with contextlib.aclosing(results):
                async for result in results:
                    if isinstance(result, PreExecutionError):
                        errors = [error.formatted for error in result.errors or ()]
                        last = {"id": operation_id, "type": "error", "payload": errors}
                        break
                    answer = process_result(cast("ExecutionResult", result))
                    await self.say({"id": operation_id, "type": "next", "payload": answer})
        except Exception as error:  # noqa: BLE001 - the operation ends, the socket stays
            _log.error("an operation on a socket ended unexpectedly", error=type(error).__name__)
        # From here on its id is free.
        if self.operations.pop(operation_id, None) is not None:
            await self.say(last)

    def _on_free(self) -> None:
        for operation in self.operations.values():
            if isinstance(operation, Following):
                operation.wake()

    def _too_late(self) -> None:
        self.close(4408, "Connection initialisation timeout")

    def _look_at_the_token(self) -> None:
        """A socket ends with its token, the last that it was given: 4403 tells the client to sign in anew."""
        left = self.context.principal.expires_at - time.time()
        if left <= 0:
            self.close(4403, "Token expired")
        else:
            # The clock may be set, so look now and then.
            self._timer = asyncio.get_running_loop().call_later(min(left, _LOOK_AGAIN), self._look_at_the_token)


def _authorization(payload: dict[str, Any]) -> str | None:
    """What a payload gives as one; its name may be written as a header's may."""
    given = {name.lower(): value for name, value in payload.items()}.get("authorization")
    return given if isinstance(given, str) else None


def _problem(message: Any) -> str | None:
    """What is wrong with a message, None when it can be handled."""
    kind, operation = message.get("type"), message.get("id")
    if not isinstance(kind, str):
        return "`type` must be a string"
    if kind in {"subscribe", "complete"} and not (isinstance(operation, str) and operation):
        return "`id` must be a string that isn't empty"
    if kind == "subscribe":
        payload = message.get("payload")
        if not isinstance(payload, dict) or not isinstance(payload.get("query"), str):
            return "`payload.query` must be a string"
        if not isinstance(payload.get("variables"), dict | None):
            return "`payload.variables` must be an object"
        if not isinstance(payload.get("operationName"), str | None):
            return "`payload.operationName` must be a string"
    return None
