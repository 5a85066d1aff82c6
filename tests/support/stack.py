"""All of Carepost in the test's own process, over real sockets: API, worker, sandbox ESP, sandbox mail server."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

import httpx2
import uvicorn

from api.addresses import webhook_url
from api.app import create_app
from api.config import ApiConfig, SignIn
from api.roles import Role
from carepost.config import Settings
from carepost.protocols import Http, Socket
from carepost.sandbox import customer, esp, smtp
from carepost.tokens import make_token
from db.accounts import Account, set_webhook_secrets, update_account
from db.pool import Database
from db.practices import Practice
from mail.status import AccountKind
from tests.support.databases import OWN_SEALER
from tests.support.practice import make_account
from workers.main import WorkerConfig, run_worker

JWT_SECRET = "the jwt secret of the tests, which is long enough"
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
PATIENCE = 20.0
"""The longest that a test waits for something that ought to happen, in seconds."""


class Stack:
    """Starts parts when asked; everything ends with the test."""

    def __init__(self, database_url: str, redis_url: str, database: Database, folder: Path) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.database = database
        self.folder = folder

    async def __aenter__(self) -> Self:
        self._parts = await contextlib.AsyncExitStack().__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._parts.aclose()

    async def api(self, **changes: Any) -> str:
        """An API process's worth of server; gives its base URL. `changes` are fields of ApiConfig."""
        # Webhooks are posted to the server's own port; neither SendGrid's nor Postmark's proof covers the URL.
        fields: dict[str, Any] = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "sealer": OWN_SEALER,
            "sign_in": SignIn(secret=JWT_SECRET),
            "public_url": "http://carepost.example",
        }
        app = create_app(ApiConfig(**(fields | changes)))
        return await self._parts.enter_async_context(serving_app(app))

    async def worker(self, **changes: Any) -> None:
        """A worker; `changes` are fields of WorkerConfig."""
        fields: dict[str, Any] = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "sealer": OWN_SEALER,
            "sweep_interval": timedelta(seconds=0.5),
            "allowed_networks": LOOPBACK,
        }
        await self._parts.enter_async_context(_working(WorkerConfig(**(fields | changes))))

    async def esp(self, practice: Practice, api_url: str, **options: Any) -> tuple[Account, str]:
        """A sandbox ESP with an account at SendGrid that sends through it and hears from it; gives the account and the
        sandbox's URL."""
        base_url = await self.sandbox(**options)
        return await self.account(practice, api_url, base_url, "sendgrid"), base_url

    async def sandbox(self, **options: Any) -> str:
        """A sandbox ESP; gives its URL."""
        options = {"max_delay": 0.4, **options}
        return await self._parts.enter_async_context(esp.running(esp.EspOptions(**options)))

    async def account(self, practice: Practice, api_url: str, base_url: str, vendor: str) -> Account:
        """An account at one of the sandbox's vendors, which hears from it. SES's still has to be confirmed."""
        account = await make_account(self.database, practice, provider=vendor)
        hook = webhook_url(api_url, vendor, practice.id, account.id)
        async with httpx2.AsyncClient(base_url=base_url, trust_env=False) as client:
            joined = await customer.join(client, vendor, hook, "carepost:of-the-tests")
            await self.point(practice, account, joined.credentials, [joined.secret])
            await customer.listen(client, vendor, hook)
        return account

    async def smtp(self, practice: Practice, **options: Any) -> tuple[Account, Any]:
        """A sandbox mail server with an SMTP account that sends through it; gives the account and the server."""
        server = await self._parts.enter_async_context(smtp.running(smtp.SmtpOptions(**options)))
        credentials = {"host": server.host, "port": str(server.port), "security": "none"}
        account = await make_account(self.database, practice, AccountKind.SMTP, credentials=credentials)
        return account, server

    async def point(
        self, practice: Practice, account: Account, credentials: Mapping[str, str], secrets: list[str]
    ) -> None:
        """Gives an account other credentials and webhook secrets."""
        async with self.database.tenant(practice.id) as connection:
            await set_webhook_secrets(connection, OWN_SEALER, practice.id, account.id, secrets)
            await update_account(
                connection,
                OWN_SEALER,
                practice.id,
                account.id,
                name=None,
                sender_name=None,
                sender_email=None,
                reply_to=None,
                is_default=None,
                credentials=credentials,
            )

    async def client(self, api_url: str, practice: Practice, role: Role = Role.STAFF) -> "GraphQLClient":
        """A signed-in GraphQL client."""
        http = await self._parts.enter_async_context(httpx2.AsyncClient(base_url=api_url, timeout=10))
        return GraphQLClient(http, token_for(practice, role))


class GraphQLClient:
    """Posts operations and gives `data`; errors fail the test unless `raw` is asked for."""

    def __init__(self, http: httpx2.AsyncClient, token: str) -> None:
        self.http = http
        self.token = token

    async def raw(self, query: str, **variables: Any) -> dict[str, Any]:
        response = await self.http.post(
            "/graphql",
            json={"query": query, "variables": variables},
            headers={"authorization": f"Bearer {self.token}"},
        )
        answer: dict[str, Any] = response.json()
        return answer

    async def __call__(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = await self.raw(query, **variables)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data


def token_for(practice: Practice, role: Role = Role.STAFF, lifetime: timedelta = timedelta(hours=1)) -> str:
    settings = Settings(jwt_secret=JWT_SECRET)
    return make_token(settings, practice.id, role, "somebody", lifetime)


async def until(what: Callable[[], Awaitable[Any]], within: float = PATIENCE) -> Any:
    """Asks again and again until the answer is true, and gives it; fails after `within` seconds."""
    async with asyncio.timeout(within):
        while not (answer := await what()):
            await asyncio.sleep(0.02)
    return answer


class _Server(uvicorn.Server):
    """Ends when it is told to. uvicorn's own looks ten times a second whether it is to, and once more whether its
    clients have left: hundreds of tests would wait for both."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(0.002)
        for task in self.server_state.tasks:
            task.cancel()
        await self.lifespan.shutdown()


@contextlib.asynccontextmanager
async def serving_app(app: Any, http: type[Http] = Http) -> AsyncIterator[str]:
    """An ASGI application on a free port, by HTTP and WebSocket."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=http,
        ws=Socket,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    server.config.load()
    task = asyncio.create_task(server._serve())
    try:
        async with asyncio.timeout(PATIENCE):
            while not server.started and not task.done():
                await asyncio.sleep(0.005)
        if task.done():
            task.result()
            raise RuntimeError("the server did not start")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.told.set()
        await task


@contextlib.asynccontextmanager
async def _working(config: WorkerConfig) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_worker(config, stop))
    try:
        yield
    finally:
        stop.set()
        await task
