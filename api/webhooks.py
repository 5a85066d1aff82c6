"""Webhooks in: verify on the raw bytes, commit them raw, answer. Everything else is a worker's.

The status of the answer decides over loss (see each provider's `unavailable_status`): what was stored is 200, what
isn't proven is 401, and what couldn't be stored is whatever makes that ESP try again.
"""

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Counter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.addresses import read_account_token, webhook_url
from api.bodies import BodyTooLarge, read_body
from api.config import ApiConfig
from db import accounts, inbox
from db.ids import uuid7
from db.pool import Database
from mail.errors import WebhookRejected
from mail.ids import AccountId, DeliveryId, PracticeId
from mail.providers import PROVIDERS
from mail.providers.base import Provider, WebhookRequest
from workers.jobs import Jobs

_STORED = Counter("carepost_webhooks_stored_total", "Webhooks verified and stored.", ["provider"])
_REJECTED = Counter(
    "carepost_webhooks_rejected_total", "Webhooks whose signature or password did not hold.", ["provider"]
)
_UNAVAILABLE = Counter("carepost_webhooks_unavailable_total", "Webhooks that could not be stored.", ["provider"])
_STORE_TIMEOUT: Final = 2.0
_log = structlog.get_logger("carepost.webhooks")


class WebhookEndpoint:
    """`POST /webhooks/{provider}/{account}`."""

    def __init__(self, config: ApiConfig, database: Database, jobs: Jobs) -> None:
        self._config = config
        self._database = database
        self._jobs = jobs
        self._wake_ups: set[asyncio.Task[None]] = set()

    async def __call__(self, request: Request) -> Response:
        esp = PROVIDERS.get(request.path_params["provider"])
        ids = read_account_token(request.path_params["account"])
        if esp is None or ids is None:
            return Response(status_code=404)
        try:
            body = await read_body(request, self._config.limits.webhook_bytes)
        except BodyTooLarge:
            return Response(status_code=413)
        except ClientDisconnect:
            return Response(status_code=400)
        try:
            async with asyncio.timeout(_STORE_TIMEOUT):
                return await self._take(esp, *ids, request, body)
        except Exception as error:  # noqa: BLE001 - whatever failed, nothing was kept, and the ESP has to come again
            _UNAVAILABLE.labels(esp.name).inc()
            _log.warning("a webhook could not be stored", provider=esp.name, error=type(error).__name__)
            return Response(status_code=esp.unavailable_status)

    async def drain(self) -> None:
        """Waits for wake-ups under way; when the process ends."""
        await asyncio.gather(*self._wake_ups)

    async def _take(
        self, esp: Provider, practice_id: PracticeId, account_id: AccountId, request: Request, body: bytes
    ) -> Response:
        secrets = await accounts.find_webhook_secrets(
            self._database.app, self._config.sealer, practice_id, account_id, esp.name
        )
        if secrets is None:
            return Response(status_code=404)
        headers = {name.lower(): value for name, value in request.headers.items()}
        url = webhook_url(self._config.public_url, esp.name, practice_id, account_id)
        try:
            esp.verify_webhook(WebhookRequest(request.method, url, headers, body), secrets)
        except WebhookRejected:
            _REJECTED.labels(esp.name).inc()
            async with self._database.tenant(practice_id) as connection:
                await accounts.count_signature_failure(connection, practice_id, account_id)
            return Response(status_code=401, headers={"www-authenticate": 'Basic realm="webhooks"'})
        kept = {name: headers[name] for name in esp.kept_headers if name in headers}
        async with self._database.tenant(practice_id) as connection:
            await inbox.store_delivery(
                connection,
                self._config.sealer,
                practice_id,
                DeliveryId(uuid7(datetime.now(UTC))),
                account_id,
                esp.name,
                kept,
                body,
            )
        _STORED.labels(esp.name).inc()
        # The answer doesn't wait for the wake-up: the bytes are committed, and the sweeper would find them too.
        wake_up = asyncio.create_task(self._jobs.apply())
        self._wake_ups.add(wake_up)
        wake_up.add_done_callback(self._wake_ups.discard)
        return Response(status_code=200)
