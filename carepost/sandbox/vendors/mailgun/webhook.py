"""A domain's webhooks, and how Mailgun posts to them: an event a POST, signed in the body.

Sources: Mailgun, user manual "Webhooks", "Securing webhooks" and "Automatic retries".
"""

import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import orjson

from carepost.sandbox.message import SandboxEvent

# Name of a webhook: event and severity that it lets through.
WEBHOOKS: Mapping[str, tuple[str, str]] = {
    "accepted": ("accepted", ""),
    "delivered": ("delivered", ""),
    "opened": ("opened", ""),
    "clicked": ("clicked", ""),
    "unsubscribed": ("unsubscribed", ""),
    "complained": ("complained", ""),
    "temporary_fail": ("failed", "temporary"),
    "permanent_fail": ("failed", "permanent"),
}
_SCHEDULE = tuple(minutes * 60.0 for minutes in (5, 10, 15, 60, 120, 240))
_OK, _NOT_ACCEPTABLE = 200, 406


class SettingsRefused(Exception):
    """A webhook is asked for that can't be."""


class DomainWebhook:
    """One URL, and the webhooks of which it is."""

    batch: int = 1

    def __init__(self, url: str, names: Sequence[str], signing_key: str) -> None:
        """Raises `SettingsRefused`."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsRefused("url is not valid")
        if not names or not WEBHOOKS.keys() >= set(names):
            raise SettingsRefused(f"event types are {', '.join(WEBHOOKS)}")
        self.names = frozenset(names)
        self._url = url
        self._key = signing_key.encode()

    def wants(self, event: SandboxEvent) -> bool:
        kind = (event.body["event"], event.body.get("severity", ""))
        return kind in {WEBHOOKS[name] for name in self.names}

    def url(self) -> str:
        return self._url

    def body(self, events: Sequence[SandboxEvent]) -> bytes:
        # The signature is part of the body, so the body of each try is the same.
        timestamp, token = str(int(time.time())), secrets.token_hex(25)
        signature = hmac.digest(self._key, f"{timestamp}{token}".encode(), "sha256").hex()
        signed = {"timestamp": timestamp, "token": token, "signature": signature}
        return orjson.dumps({"signature": signed, "event-data": events[0].body})

    def headers(self, events: Sequence[SandboxEvent], body: bytes) -> Mapping[str, str]:
        return {"Content-Type": "application/json", "User-Agent": "mailgun/treq-20.9.0"}

    def pauses(self, events: Sequence[SandboxEvent]) -> Sequence[float]:
        """None for deliveries: those are posted once, come what may."""
        return () if events[0].body["event"] == "delivered" else _SCHEDULE

    def settles(self, status: int) -> bool:
        return status in {_OK, _NOT_ACCEPTABLE}
