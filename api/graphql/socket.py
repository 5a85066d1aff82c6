"""graphql-transport-ws, where the library would fall over: every malformed message ends in 4400 with a reason, and what
is wrong with a document is told to its own operation."""

from typing import Any, Final

import structlog
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message, SubscribeMessage

from api.graphql.context import Context

_LONGEST_REASON: Final = 123  # bytes: RFC 6455 section 5.5
_log = structlog.get_logger("carepost.graphql")


class SocketAdapter(ASGIWebSocketAdapter):
    async def close(self, code: int, reason: str) -> None:
        await super().close(code, reason.encode()[:_LONGEST_REASON].decode(errors="ignore"))


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """One socket."""

    async def handle_message(self, message: Message) -> None:
        problem = _problem(message)
        if problem is not None:
            await self.handle_invalid_message(problem)
        else:
            await super().handle_message(message)

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        limit = self.max_subscriptions_per_connection
        full = limit is not None and len(self.operations) >= limit
        if not full or not self.connection_acknowledged or message["id"] in self.operations:
            await super().handle_subscribe(message)
            return
        error: Any = {"message": f"At most {limit} at once.", "extensions": {"code": "SUBSCRIPTION_LIMIT"}}
        await self.send_message({"id": message["id"], "type": "error", "payload": [error]})

    async def handle_task_exception(self, error: Exception) -> None:
        _log.error("an operation on a socket ended unexpectedly", error=type(error).__name__)

    @staticmethod
    def _get_pre_execution_close_reason(error: object) -> str | None:
        """One bad document doesn't end the subscriptions beside it."""
        return None


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
