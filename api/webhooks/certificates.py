"""Certificates of webhook signatures, fetched once a day from where the provider says they are."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import httpx2
from cryptography import x509

from mail.errors import WebhookRejected

_REMEMBER: Final = 86_400.0
_REMEMBERED: Final = 256
_LONGEST: Final = 64 << 10
_TIMEOUT: Final = httpx2.Timeout(1.5)


class CertificateUnavailable(Exception):
    """It can't be had now, so nothing can be said of the webhook: the ESP has to come again."""


class Certificates:
    """`sns_url`, where it is set, stands in for the host of every URL: for a sandbox.

    URLs come from `CertificateSigned.certificate_url`, which admits the ESP's own alone; no redirect is followed.
    """

    def __init__(self, sns_url: str | None = None) -> None:
        self._instead = sns_url
        self._client: httpx2.AsyncClient | None = None
        self._known: dict[str, tuple[bytes, float]] = {}
        self._under_way: dict[str, asyncio.Task[bytes]] = {}

    async def find(self, url: str) -> bytes:
        """The certificate in PEM. Raises `CertificateUnavailable`, and `WebhookRejected` for an invalid one."""
        known = self._known.get(url)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        task = self._under_way.get(url)
        if task is None:
            task = self._under_way[url] = asyncio.create_task(self._fetch(url))
            task.add_done_callback(lambda _: self._under_way.pop(url, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _fetch(self, url: str) -> bytes:
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=_TIMEOUT, follow_redirects=False, trust_env=False)
        where = url if self._instead is None else self._instead.rstrip("/") + urlsplit(url).path
        try:
            async with self._client.stream("GET", where) as response:
                if response.status_code != 200:
                    raise CertificateUnavailable(f"HTTP {response.status_code}")
                pem = bytearray()
                async for chunk in response.aiter_bytes():
                    pem += chunk
                    if len(pem) > _LONGEST:
                        raise WebhookRejected("the certificate is too long")
        except httpx2.HTTPError as error:
            raise CertificateUnavailable(type(error).__name__) from error
        _check(bytes(pem))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[url] = (bytes(pem), time.monotonic() + _REMEMBER)
        return bytes(pem)


def _check(pem: bytes) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise WebhookRejected("the certificate is malformed") from error
    if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
        raise WebhookRejected("the certificate is not valid now")
