"""Two servers beside which Carepost's is measured.

`stock`: Strawberry's view and its WebSocket handler as they come, over Carepost's types, loaders and its reader of
changes: a document is parsed, validated and executed by graphql-core for each request, and for each subscriber there is
a task, a chain of generators and an execution.
`bare`: one frame, encoded when a change is announced, sent to each socket in turn: what the server library alone costs.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import strawberry
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from strawberry.asgi import GraphQL
from strawberry.types.unset import UNSET

from api.auth import Authenticator
from api.config import ApiConfig, SignIn
from api.graphql.context import Context, Services
from api.graphql.mutations import Mutation
from api.graphql.queries import Query
from api.graphql.subscriptions import Subscription
from api.graphql.types.event import MessageEvent
from api.graphql.types.message import Message
from api.graphql.types.patient import Patient
from api.live import LiveHub
from api.webhooks.secrets import WebhookSecrets
from bench.world import JWT_SECRET, SECRET_KEY
from db.pool import Database, PoolSize
from db.sealing import Sealer
from workers import jobs
from workers.jobs import Jobs

_ACK = '{"type":"connection_ack"}'
_FRAME = (
    '{"id":"1","type":"next","payload":{"data":{"messageStatusChanged":{"message":{"id":"TWVzc2FnZTowMTkzNTZhNy0wMDA'
    'wLTcwMDAtODAwMC0wMDAwMDAwMDAwMDA","status":"DELIVERED","statusLabel":"Delivered","statusAt":"2026-11-24T10:00:0'
    '0.000000+00:00","explanation":{"code":"DELIVERED_NO_OPEN","text":"The destination email server confirmed the de'
    'livery. An open shows only if the email program loads images.","nextStep":null}},"cursor":"bGl2ZToxMjM0NTY3OA"}'
    "}}}"
)


class StockView(GraphQL[Context, None]):
    """Only sign-in is ours."""

    def __init__(self, services: Services) -> None:
        super().__init__(
            strawberry.Schema(
                query=Query, mutation=Mutation, subscription=Subscription, types=[Message, MessageEvent, Patient]
            )
        )
        self._services = services
        self._authenticator = Authenticator(services.config.sign_in)

    async def get_context(self, request: Any, response: Any) -> Context:
        context = Context(self._services)
        if isinstance(request, Request):
            await self._sign_in(context, request.headers.get("authorization"))
        return context

    async def on_ws_connect(self, context: Context) -> Any:
        carried: Any = (context.connection_params or {}).get("Authorization")
        await self._sign_in(context, carried)
        return UNSET

    async def _sign_in(self, context: Context, authorization: str | None) -> None:
        context.signed_in = await self._authenticator.authenticate(authorization)
        context.home = await self._services.practice(context.signed_in.practice_id)


def stock(database_url: str, redis_url: str) -> Any:
    database, client = Database(database_url, PoolSize(2, 16)), jobs.connect(redis_url)
    live = LiveHub(database, client, catch_up=5000)
    sealer = Sealer([SECRET_KEY])
    config = ApiConfig(database_url, redis_url, sealer, SignIn(secret=JWT_SECRET), "http://carepost.example")
    view = StockView(Services(config, database, Jobs(client), live, WebhookSecrets(database, sealer)))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with database:
            listening = asyncio.create_task(live.run())
            yield
            listening.cancel()

    return Starlette(routes=[Route("/graphql", view), WebSocketRoute("/graphql", view)], lifespan=lifespan)


class Bare:
    """Accepts whatever a client says, and tells the same to all."""

    def __init__(self, redis_url: str) -> None:
        self._client = jobs.connect(redis_url)
        self._sends: set[Any] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "graphql-transport-ws"})
        await receive()
        await send({"type": "websocket.send", "text": _ACK})
        self._sends.add(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        self._sends.discard(send)

    async def tell(self) -> None:
        async for _ in jobs.listen(self._client, lambda: None):
            for send in tuple(self._sends):
                await send({"type": "websocket.send", "text": _FRAME})


def bare(redis_url: str) -> Any:
    told = Bare(redis_url)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        telling = asyncio.create_task(told.tell())
        yield
        telling.cancel()

    inner = Starlette(lifespan=lifespan)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (inner if scope["type"] == "lifespan" else told)(scope, receive, send)

    return app


def main() -> None:
    """Serves as `carepost api` does, on PORT."""
    database_url, redis_url = os.environ["CAREPOST_DATABASE_URL"], os.environ["CAREPOST_REDIS_URL"]
    uvicorn.run(
        stock(database_url, redis_url) if sys.argv[1] == "stock" else bare(redis_url),
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
    )


if __name__ == "__main__":
    main()
