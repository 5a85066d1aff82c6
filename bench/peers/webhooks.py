"""Webhook endpoints that verify as Carepost's does, by the same functions.

`insert`: looks up the secret, and stores each POST by one INSERT in a transaction of its own: the plain way.
`nothing`: the same, but remembers the secret and stores nothing: what a webhook costs before any database.
`own`: that too, answered past ASGI: what it costs Carepost's own server.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.addresses import read_account_token
from api.at_once import Answer, Answering, AtOnce, Headers
from api.bodies import read_body
from bench.peers.serving import live, serve_peer
from bench.world import SECRET_KEY
from db.accounts import find_webhook_secrets
from db.ids import uuid7
from db.pool import Database, PoolSize
from db.sealing import Sealer
from mail.ids import AccountId, DeliveryId, PracticeId
from mail.providers import PROVIDERS
from mail.providers.base import WebhookRequest


class _Secrets:
    """Looked up once where they are remembered."""

    def __init__(self, database: Database, *, remembered: bool) -> None:
        self._database = database
        self._sealer = Sealer([SECRET_KEY])
        self._known: dict[AccountId, Sequence[str]] | None = {} if remembered else None

    async def find(self, practice_id: PracticeId, account_id: AccountId, provider: str) -> Sequence[str]:
        if self._known is not None and account_id in self._known:
            return self._known[account_id]
        secrets = await find_webhook_secrets(self._database.app, self._sealer, practice_id, account_id, provider) or ()
        if self._known is not None:
            self._known[account_id] = secrets
        return secrets


class Plain:
    """By Starlette; `stores` or doesn't."""

    def __init__(self, database: Database, *, stores: bool) -> None:
        self._database = database
        self._sealer = Sealer([SECRET_KEY])
        self._stores = stores
        self._secrets = _Secrets(database, remembered=not stores)

    def app(self) -> Starlette:
        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with self._database:
                yield

        route = Route("/webhooks/{provider}/{account}", self._answer, methods=["POST"])
        return Starlette(routes=[route], lifespan=lifespan)

    async def _answer(self, request: Request) -> Response:
        esp = PROVIDERS[request.path_params["provider"]]
        ids = read_account_token(request.path_params["account"])
        assert ids is not None
        body = await read_body(request, 4 << 20)
        secrets = await self._secrets.find(*ids, esp.name)
        headers = {name.lower(): value for name, value in request.headers.items()}
        esp.verify_webhook(WebhookRequest(request.method, str(request.url), headers, body), secrets)
        if self._stores:
            await self._store(*ids, esp.name, {name: headers[name] for name in esp.kept_headers}, body)
        return Response(status_code=200)

    async def _store(
        self, practice_id: PracticeId, account_id: AccountId, provider: str, kept: dict[str, str], body: bytes
    ) -> None:
        delivery_id = DeliveryId(uuid7(datetime.now(UTC)))
        sealed = self._sealer.seal(body, "webhook_delivery.body", practice_id, delivery_id)
        async with self._database.tenant(practice_id) as connection:
            await connection.execute(
                "INSERT INTO webhook_delivery (practice_id, id, account_id, provider, headers, body) "
                "VALUES ($1, $2, $3, $4, $5, $6)",
                practice_id,
                delivery_id,
                account_id,
                provider,
                orjson.dumps(kept).decode(),
                sealed,
            )


class Own:
    """Past ASGI; stores nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._secrets = _Secrets(database, remembered=True)

    def at_once(self, target: bytes) -> AtOnce:
        return partial(self._take, target)

    def _take(self, target: bytes, headers: Headers, body: bytes) -> Answering:
        return partial(self._answer, target.decode(), headers, body)

    async def _answer(self, path: str, headers: Headers, body: bytes) -> Answer:
        _, _, name, account = path.split("/")
        esp, ids = PROVIDERS[name], read_account_token(account)
        assert ids is not None
        secrets = await self._secrets.find(*ids, esp.name)
        read = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        esp.verify_webhook(WebhookRequest("POST", path, read, body), secrets)
        return Answer(200, ())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        async with self._database:
            await live(receive, send)


def main() -> None:
    database = Database(os.environ["CAREPOST_DATABASE_URL"], PoolSize(2, 16))
    serve_peer(Own(database) if sys.argv[1] == "own" else Plain(database, stores=sys.argv[1] == "insert").app())


if __name__ == "__main__":
    main()
