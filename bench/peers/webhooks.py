"""Two webhook endpoints that verify as Carepost's does, by the same functions in the same frame.

`insert`: looks up the secret, and stores each POST by one INSERT in a transaction of its own: the plain way.
`nothing`: remembers the secret and stores nothing: what a webhook costs before any database.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.addresses import read_account_token
from api.bodies import read_body
from bench.peers.serving import serve_peer
from bench.world import SECRET_KEY
from db.accounts import find_webhook_secrets
from db.ids import uuid7
from db.pool import Database, PoolSize
from db.sealing import Sealer
from mail.ids import AccountId, DeliveryId, PracticeId
from mail.providers import PROVIDERS
from mail.providers.base import WebhookRequest


class Webhooks:
    """The endpoint."""

    def __init__(self, database: Database, *, stores: bool) -> None:
        self._database = database
        self._sealer = Sealer([SECRET_KEY])
        self._stores = stores
        self._known: dict[AccountId, Sequence[str]] = {}

    async def __call__(self, request: Request) -> Response:
        esp = PROVIDERS[request.path_params["provider"]]
        ids = read_account_token(request.path_params["account"])
        assert ids is not None
        body = await read_body(request, 4 << 20)
        secrets = None if self._stores else self._known.get(ids[1])
        if secrets is None:
            secrets = await find_webhook_secrets(self._database.app, self._sealer, *ids, esp.name) or ()
            self._known[ids[1]] = secrets
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


def main() -> None:
    database = Database(os.environ["CAREPOST_DATABASE_URL"], PoolSize(2, 16))
    endpoint = Webhooks(database, stores=sys.argv[1] == "insert")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with database:
            yield

    route = Route("/webhooks/{provider}/{account}", endpoint.__call__, methods=["POST"])
    serve_peer(Starlette(routes=[route], lifespan=lifespan))


if __name__ == "__main__":
    main()
