"""The ASGI application: what the outside world can call."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.at_once import AtOnce
from api.auth import Authenticator
from api.bodies import BodyTooSlow, in_time
from api.config import ApiConfig
from api.graphql.context import Services
from api.graphql.door import Door
from api.graphql.errors import error_body
from api.graphql.view import GraphQLView
from api.health import Metrics, Readiness, healthz
from api.live import LiveHub
from api.page import Page
from api.rates import token_key
from api.webhooks.endpoint import WebhookEndpoint
from api.webhooks.secrets import WebhookSecrets
from db.pool import Database, PoolSize
from workers import jobs
from workers.jobs import Jobs


def create_app(config: ApiConfig) -> "Application":
    """The application; connections open when it starts and close when it ends."""
    limits = config.limits
    timeout = round(limits.statement_seconds * 1000)
    database = Database(config.database_url, PoolSize(2, 16), statement_timeout_ms=timeout, patience=config.patience)
    client = jobs.connect(config.redis_url)
    hurry = Jobs(client, enabled=config.enqueue)
    live = LiveHub(database, client, catch_up=limits.catch_up)
    secrets = WebhookSecrets(database, config.sealer)
    services = Services(config, database, hurry, live, secrets)
    graphql = GraphQLView(services, Authenticator(config.sign_in))
    webhooks = WebhookEndpoint(config, database, hurry, secrets)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with database:
            running = [
                asyncio.create_task(live.run(), name="live"),
                asyncio.create_task(services.views.run(), name="views"),
            ]
            try:
                yield
            finally:
                for task in running:
                    await _end(task)
                await services.views.close()
                await webhooks.close()
                await client.aclose(close_connection_pool=True)

    middleware = []
    if config.allowed_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=config.allowed_origins,
                allow_methods=["GET", "POST"] if config.queries_by_get else ["POST"],
                allow_headers=["authorization", "content-type"],
                max_age=600,
            )
        )
    messages = Page("web")
    # GraphiQL sets styles by itself, and its fonts stand in its stylesheet.
    graphiql = Page("graphiql", style_src="'self' 'unsafe-inline'", font_src="data:")
    pages = Starlette(
        routes=[
            Route("/", messages.index),
            Mount("/web", messages),
            *([Route("/graphiql", graphiql.index), Mount("/graphiql", graphiql)] if config.graphiql else []),
            Route("/graphql", graphql),
            WebSocketRoute("/graphql", graphql),
            Route("/healthz", healthz),
            Route("/readyz", Readiness(database, live).__call__),
            Route("/metrics", Metrics(database, live).__call__),
        ],
        middleware=middleware,
        lifespan=lifespan,
    )

    return Application(graphql, webhooks, pages)


class Application:
    """`at_once` is for servers that know of it (see api.at_once); what it leaves comes by ASGI, and so may all."""

    def __init__(self, graphql: GraphQLView, webhooks: WebhookEndpoint, pages: ASGIApp) -> None:
        config = graphql.services.config
        self._graphql = graphql
        self._webhooks = webhooks
        self._pages = pages
        self._body_seconds = config.limits.body_seconds
        self._door = Door(graphql, cross_origin=bool(config.allowed_origins))

    def at_once(self, target: bytes) -> AtOnce | None:
        return self._door if target == b"/graphql" else self._webhooks.at_once(target)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # A frame of Starlette's around a socket would be kept for as long as it is open.
            is_ours = scope["type"] == "websocket" and scope["path"] == "/graphql"
            sending = _without_traceback(send) if scope["type"] == "lifespan" else send
            await (self._graphql.sockets if is_ours else self._pages)(scope, receive, sending)
            return
        receive = in_time(receive, self._body_seconds)
        if scope["path"].startswith("/webhooks/"):
            await self._webhooks(scope, receive, send)
            return
        if wait := _too_soon(self._graphql.services, scope):
            scope = {**scope, "carepost.wait": wait}
        try:
            await self._pages(scope, receive, send)
        except BodyTooSlow:
            await _TOO_SLOW(scope, receive, send)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancels it until it has ended: asyncio.wait_for of Python 3.11, by which the Redis client waits, swallows a
    cancellation that comes together with what it waits for."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


_TOO_SLOW: Final = Response(
    error_body("The request came too slowly.", "REQUEST_TIMEOUT"), 408, media_type="application/json"
)


def _too_soon(services: Services, scope: Scope) -> float:
    """In how many seconds a token may come again; 0 when it may now. Without one the answer is 401, which is cheap."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            return services.rates.take(token_key(value))
    return 0.0


def _without_traceback(send: Send) -> Send:
    """Of a start that failed, the last line alone, which says what it was and is for people."""

    async def send_it(message: Message) -> None:
        if message["type"] == "lifespan.startup.failed":
            message = {**message, "message": str(message.get("message", "")).rstrip().rpartition("\n")[2]}
        await send(message)

    return send_it
