"""The keys of an identity provider (JWKS, RFC 7517), fetched when needed and no more often than it bears.

While the provider is away, keys that are known go on being taken; what an unknown key signed can't be judged.
"""

import asyncio
import time
from typing import Final

import httpx2
import jwt
import orjson
import structlog

_FRESH: Final = 300.0
"""Seconds. So long at most goes a key on that the provider withdrew, unless the provider is away."""
_PAUSE: Final = 10.0
"""Seconds between two questions, whatever made-up keys tokens name."""
_LONGEST: Final = 1 << 20
_TIMEOUT: Final = httpx2.Timeout(5)
_log = structlog.get_logger("carepost.sign_in")


class KeyUnknown(Exception):
    """The provider has no such key."""


class KeysUnavailable(Exception):
    """The provider is away, and the key isn't among those that are known."""


class KeySet:
    """The signing keys at a URL; no redirect is followed, and no URL that a token names is ever asked."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def find(self, kid: object) -> jwt.PyJWK:
        """Raises `KeyUnknown` and `KeysUnavailable`."""
        if not isinstance(kid, str):
            raise KeyUnknown
        if kid not in self._keys or time.monotonic() >= self._fetched_at + _FRESH:
            await self._refresh()
        if kid in self._keys:
            return self._keys[kid]
        if self._fetched_at < self._asked_at:
            raise KeysUnavailable
        raise KeyUnknown

    async def _refresh(self) -> None:
        """Asks the provider, unless it was asked just now; those who come meanwhile wait for the same answer."""
        if self._asking is None:
            if time.monotonic() < self._asked_at + _PAUSE:
                return
            self._asking = asyncio.create_task(self._fetch(), name="jwks")
            self._asking.add_done_callback(self._done)
        await asyncio.shield(self._asking)

    def _done(self, _: object) -> None:
        self._asking = None

    async def _fetch(self) -> None:
        self._asked_at = time.monotonic()
        try:
            async with asyncio.timeout(10):
                keys = _read(await _get(self._url))
        except (httpx2.HTTPError, TimeoutError, ValueError, TypeError, RecursionError, jwt.PyJWTError) as error:
            _log.warning("the keys of the identity provider could not be fetched", error=type(error).__name__)
            return
        self._keys = keys
        self._fetched_at = time.monotonic()


async def _get(url: str) -> bytes:
    body = bytearray()
    async with (
        httpx2.AsyncClient(timeout=_TIMEOUT, follow_redirects=False) as client,
        client.stream("GET", url, headers={"accept": "application/json"}) as response,
    ):
        response.raise_for_status()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _LONGEST:
                raise ValueError("more than a set of keys")
    return bytes(body)


def _read(body: bytes) -> dict[str, jwt.PyJWK]:
    """The keys that sign, by their ids; those of a kind that isn't known are left out."""
    found = jwt.PyJWKSet.from_dict(orjson.loads(body)).keys
    return {key.key_id: key for key in found if key.key_id and key.public_key_use in {"sig", None}}
