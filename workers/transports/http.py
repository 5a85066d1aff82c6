"""HTTP to ESPs: kept-alive connections, one pool for the process."""

import re
from datetime import UTC, datetime
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

import httpx2

from mail.failure import Failure, FailureKind, one_line
from mail.providers.base import HttpRequest, HttpResponse
from workers.errors import TransportAmbiguous, TransportUnavailable
from workers.transports.outgoing import Outgoing, checked_transport

_TIMEOUT: Final = httpx2.Timeout(30.0, connect=10.0, pool=30.0)
_LIMITS: Final = httpx2.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=30.0)
_BODY_LIMIT: Final = 1 << 20
_SNS: Final = re.compile(r"sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", re.ASCII)


class HttpTransport:
    """Makes the requests that providers build. Use as an async context manager.

    `sns_url`, where it is set, stands in for AWS's own hosts of SNS: for a sandbox.
    """

    def __init__(self, outgoing: Outgoing, *, sns_url: str | None = None) -> None:
        self._sns_url = sns_url
        # No redirects: an ESP's API doesn't use them, and a credential must not follow one.
        self._client = httpx2.AsyncClient(
            timeout=_TIMEOUT, transport=checked_transport(outgoing, _LIMITS), follow_redirects=False, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, request: HttpRequest) -> HttpResponse:
        """The answer, its body cut at 1 MiB. Raises `TransportUnavailable`, `TransportAmbiguous`, and
        `TransportRefused` for an address that is not allowed."""
        headers = dict(request.headers)
        if request.signer is not None:
            headers |= request.signer.sign(request, datetime.now(UTC))
        try:
            async with self._client.stream(
                request.method, self._where(request.url), headers=headers, content=request.body
            ) as response:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _BODY_LIMIT:
                        break
                answered = {name.lower(): value for name, value in response.headers.items()}
                return HttpResponse(response.status_code, answered, bytes(body[:_BODY_LIMIT]))
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol) as error:
            raise TransportUnavailable(_failure(error)) from error
        except httpx2.TransportError as error:
            raise TransportAmbiguous(_failure(error)) from error

    def _where(self, url: str) -> str:
        if self._sns_url is None:
            return url
        parts = urlsplit(url)
        if not _SNS.fullmatch(parts.netloc):
            return url
        return self._sns_url.rstrip("/") + urlunsplit(("", "", parts.path, parts.query, ""))


def _failure(error: Exception) -> Failure:
    return Failure(FailureKind.UNREACHABLE, reason=one_line(f"{type(error).__name__}: {error}"))
