"""`/webhooks/{provider}/{account}`: where ESPs post what they know.

The status of the answer decides over loss (see each provider's `unavailable_status`): what was stored is 200, what
isn't proven is 401, and what couldn't be stored is whatever makes that ESP try again.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Final

import structlog
from prometheus_client import Counter
from starlette.types import Receive, Scope, Send

from api.addresses import read_account_token, webhook_url
from api.at_once import Answer, Answering, AtOnce, Headers
from api.bodies import BodyTooLarge, BodyTooSlow, Disconnected, receive_body
from api.config import ApiConfig
from api.rates import Rates
from api.webhooks.certificates import Certificates
from api.webhooks.failures import SignatureFailures
from api.webhooks.group_commit import GroupCommit
from api.webhooks.secrets import WebhookSecrets
from db.ids import uuid7
from db.inbox import NewDelivery
from db.pool import Database
from mail.errors import WebhookRejected
from mail.ids import AccountId, DeliveryId, PracticeId
from mail.providers import PROVIDERS
from mail.providers.base import CertificateSigned, Provider, TokenSigned, WebhookRequest
from workers.jobs import Jobs

_STORED = Counter("carepost_webhooks_stored_total", "Webhooks verified and stored.", ["provider"])
_REJECTED = Counter(
    "carepost_webhooks_rejected_total", "Webhooks whose signature or password did not hold.", ["provider"]
)
_UNAVAILABLE = Counter("carepost_webhooks_unavailable_total", "Webhooks that could not be stored.", ["provider"])
_LIMITED = Counter("carepost_webhooks_limited_total", "Webhooks of an account that posts too many.", ["provider"])
_STORE_TIMEOUT: Final = 2.0
_CHALLENGE: Final = ((b"www-authenticate", b'Basic realm="webhooks"'),)
_log = structlog.get_logger("carepost.webhooks")


class _TooMany(Exception):
    """Of one account; the ESP has to come again in so many seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__()
        self.wait = wait


class WebhookEndpoint:
    """An ASGI application, most of which is answered before. It stands before Starlette's routing, whose work a webhook
    doesn't need."""

    def __init__(self, config: ApiConfig, database: Database, jobs: Jobs, secrets: WebhookSecrets) -> None:
        self._config = config
        self._secrets = secrets
        self._certificates = Certificates(config.sns_url)
        self._failures = SignatureFailures(database, jobs)
        self._rates = Rates(config.limits.webhooks_per_second)
        self._inbox = GroupCommit(database, config.sealer, jobs.apply)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, headers, _ = await self._answer(scope, receive)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0"), *headers]})
        await send({"type": "http.response.body", "body": b""})

    def at_once(self, target: bytes) -> AtOnce | None:
        """What answers POSTs to a path (see api.at_once), where it is one of webhooks."""
        destination = _destination(target.decode("latin-1"), self._config.public_url)
        return partial(self._answer_at_once, destination) if destination else None

    async def close(self) -> None:
        """Waits for wake-ups under way; when the process ends."""
        await self._inbox.close()
        await self._failures.close()
        await self._certificates.close()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        destination = _destination(scope["path"], self._config.public_url)
        if destination is None:
            return Answer(404, ())
        esp = destination.esp
        method = scope["method"]
        if method != "POST" and method not in esp.probe_methods:
            return Answer(405, ((b"allow", ", ".join(["POST", *sorted(esp.probe_methods)]).encode()),))
        headers = _read_headers(scope["headers"])
        body = b""
        if method == "POST":
            try:
                body = await receive_body(headers, receive, self._longest(esp))
            except BodyTooLarge:
                return Answer(413, ())
            except BodyTooSlow:
                return Answer(esp.unavailable_status, ())  # not 408, after which Brevo throws an event away
            except Disconnected:
                return Answer(400, ())
        return await self._answer_whole(destination, WebhookRequest(method, destination.url, headers, body))

    def _answer_at_once(self, destination: "_Destination", headers: Headers, body: bytes) -> Answering | None:
        if len(body) > self._longest(destination.esp):
            return None
        request = WebhookRequest("POST", destination.url, _read_headers(headers), body)
        return partial(self._answer_whole, destination, request)

    def _longest(self, esp: Provider) -> int:
        return min(esp.webhook_bytes, self._config.limits.webhook_bytes)

    async def _answer_whole(self, destination: "_Destination", request: WebhookRequest) -> Answer:
        esp = destination.esp
        try:
            async with asyncio.timeout(_STORE_TIMEOUT):
                status = await self._take(destination, request)
        except _TooMany as error:
            _LIMITED.labels(esp.name).inc()
            return Answer(esp.unavailable_status, ((b"retry-after", str(math.ceil(error.wait)).encode()),))
        except Exception as error:  # noqa: BLE001 - whatever failed, nothing was kept, and the ESP has to come again
            _UNAVAILABLE.labels(esp.name).inc()
            _log.warning("a webhook could not be stored", provider=esp.name, error=type(error).__name__)
            return Answer(esp.unavailable_status, ())
        return Answer(status, _CHALLENGE if status == 401 else ())

    async def _take(self, destination: "_Destination", request: WebhookRequest) -> int:
        esp, practice_id, account_id = destination.esp, destination.practice_id, destination.account_id
        secrets = await self._secrets.find(practice_id, account_id, esp.name)
        if secrets is None:
            return 404
        if request.method != "POST":
            return 200  # a probe: the URL is there
        try:
            try:
                request = await self._verify(destination, request, secrets)
            except WebhookRejected:
                # It may have been rotated since the secrets were remembered.
                fresh = await self._secrets.look_again(practice_id, account_id, esp.name)
                if fresh is None or fresh == secrets:
                    raise
                request = await self._verify(destination, request, fresh)
        except WebhookRejected:
            _REJECTED.labels(esp.name).inc()
            self._failures.note(practice_id, account_id)
            return 401
        # After the signature: nobody but the ESP itself can use up what the account may.
        if wait := self._rates.take((practice_id, account_id)):
            raise _TooMany(wait)
        await self._inbox.store(
            NewDelivery(
                practice_id=practice_id,
                id=DeliveryId(uuid7(datetime.now(UTC))),
                account_id=account_id,
                provider=esp.name,
                headers={name: request.headers[name] for name in esp.kept_headers if name in request.headers},
                body=request.body,
                token=destination.tokens.webhook_token(request) if destination.tokens else None,
            )
        )
        _STORED.labels(esp.name).inc()
        return 200

    async def _verify(
        self, destination: "_Destination", request: WebhookRequest, secrets: Sequence[str]
    ) -> WebhookRequest:
        """Raises `WebhookRejected`; a certificate is fetched only from where the provider allows it."""
        if destination.certificates is not None and request.certificate is None:
            url = destination.certificates.certificate_url(request, secrets)
            request = replace(request, certificate=await self._certificates.find(url))
        destination.esp.verify_webhook(request, secrets)
        return request


def _read_headers(headers: Headers) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


@dataclass(frozen=True, slots=True)
class _Destination:
    """Whose webhooks are posted to a path, and by which URL the ESP knows it. The provider again, where its signature
    needs a certificate or covers a token alone."""

    esp: Provider
    practice_id: PracticeId
    account_id: AccountId
    url: str
    certificates: CertificateSigned | None
    tokens: TokenSigned | None


@lru_cache(maxsize=4096)
def _destination(path: str, public_url: str) -> _Destination | None:
    parts = path.split("/")
    if len(parts) != 4:
        return None
    esp, ids = PROVIDERS.get(parts[2]), read_account_token(parts[3])
    if esp is None or ids is None:
        return None
    return _Destination(
        esp,
        *ids,
        webhook_url(public_url, esp.name, *ids),
        esp if isinstance(esp, CertificateSigned) else None,
        esp if isinstance(esp, TokenSigned) else None,
    )
