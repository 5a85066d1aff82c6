"""A webhook endpoint, and how Resend posts to it: by Svix, one event a POST.

Sources: Resend, docs/api-reference/webhooks/create-webhook, docs/webhooks/retries-and-replays; Svix, "Verifying
webhooks manually".
"""

import base64
import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from carepost.sandbox.message import SandboxEvent

_SCHEDULE = tuple(seconds * 1.0 for seconds in (5, 300, 1800, 7200, 18000, 36000, 36000))
_EVENTS = frozenset(
    f"email.{name}"
    for name in (
        *("sent", "scheduled", "delivered", "delivery_delayed", "complained", "bounced", "opened", "clicked"),
        *("received", "failed", "suppressed"),
    )
)


class SettingsRefused(Exception):
    """A webhook is asked for that can't be."""


class Endpoint:
    """One webhook; its secret is its own."""

    batch: int = 1

    def __init__(self, wish: Mapping[str, Any]) -> None:
        """Raises `SettingsRefused`."""
        endpoint, events = wish.get("endpoint"), wish.get("events")
        parts = urlsplit(endpoint) if isinstance(endpoint, str) else None
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsRefused("The `endpoint` field must be a URL.")
        if not isinstance(events, list) or not events or not _EVENTS.issuperset(events):
            raise SettingsRefused("The `events` field must be a list of event types.")
        self.id = str(uuid.uuid4())
        self.enabled = True
        self._url = str(endpoint)
        self._events = frozenset(events)
        self._key = secrets.token_bytes(24)
        self._created_at = time.time()

    @property
    def signing_secret(self) -> str:
        """What verifies its signatures."""
        return f"whsec_{base64.b64encode(self._key).decode()}"

    def wants(self, event: SandboxEvent) -> bool:
        return self.enabled and event.body["type"] in self._events

    def url(self) -> str:
        return self._url if self.enabled else ""

    def body(self, events: Sequence[SandboxEvent]) -> bytes:
        return orjson.dumps(events[0].body)

    def headers(self, events: Sequence[SandboxEvent], body: bytes) -> Mapping[str, str]:
        # The id is the event's, over all tries and endpoints; the timestamp is the try's.
        svix_id = f"msg_{hashlib.sha256(events[0].id.encode()).hexdigest()[:27]}"
        timestamp = str(int(time.time()))
        signed = f"{svix_id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, "sha256")).decode()
        return {
            "Content-Type": "application/json",
            "User-Agent": "Svix-Webhooks/1.68.0",
            "svix-id": svix_id,
            "svix-timestamp": timestamp,
            "svix-signature": f"v1,{signature}",
        }

    def pauses(self, events: Sequence[SandboxEvent]) -> Sequence[float]:
        return _SCHEDULE

    def settles(self, status: int) -> bool:
        return 200 <= status < 300
