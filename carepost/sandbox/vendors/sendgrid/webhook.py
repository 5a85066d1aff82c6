"""EventWebhook: where the events of one API key go, and its settings as SendGrid's API shows them.

Source: Twilio SendGrid, "Webhooks: update an Event Webhook" and "toggle signature verification".
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import orjson

from carepost.sandbox.message import SandboxEvent
from carepost.sandbox.vendors.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, SigningKey

SWITCHES: Mapping[str, str] = {
    "processed": "processed",
    "dropped": "dropped",
    "deferred": "deferred",
    "delivered": "delivered",
    "bounce": "bounce",
    "open": "open",
    "click": "click",
    "spamreport": "spam_report",
    "unsubscribe": "unsubscribe",
    "group_unsubscribe": "group_unsubscribe",
    "group_resubscribe": "group_resubscribe",
}
"""The setting that lets each event through: names differ for `spamreport`."""


class SettingsRefused(Exception):
    """A setting has a value that it can't have."""


class EventWebhook:
    """One webhook, and how SendGrid posts to it. It starts off, with every event selected (SendGrid selects none)."""

    batch: int = 1000

    def __init__(self, key: SigningKey) -> None:
        self.id = str(uuid.uuid4())
        self.key = key
        self._url = ""
        self.enabled = False
        self.signed = False
        self._friendly_name = ""
        self._switches = dict.fromkeys(SWITCHES.values(), True)
        self._created = self._updated = datetime.now(UTC)

    def wants(self, event: SandboxEvent) -> bool:
        return self.enabled and bool(self._url) and self._switches[SWITCHES[event.body["event"]]]

    def url(self) -> str:
        return self._url if self.enabled else ""

    def body(self, events: Sequence[SandboxEvent]) -> bytes:
        # SendGrid's own way with line ends: a verifier must take the raw bytes, the last two included.
        return b"[" + b",\r\n".join(orjson.dumps(event.body) for event in events) + b"]\r\n"

    def headers(self, events: Sequence[SandboxEvent], body: bytes) -> Mapping[str, str]:
        headers = {"Content-Type": "application/json;charset=utf-8", "User-Agent": "SendGrid Event API"}
        if self.signed:
            timestamp = str(int(time.time()))
            headers |= {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: self.key.sign(timestamp, body)}
        return headers

    def pauses(self, events: Sequence[SandboxEvent]) -> Iterator[float]:
        """For 24 hours; the pauses are not documented."""
        pause = 60.0
        while True:
            yield pause
            pause *= 2

    def settles(self, status: int) -> bool:
        return 200 <= status < 300

    def update(self, settings: Mapping[str, object]) -> None:
        """Sets what is given and leaves the rest; raises `SettingsRefused` and sets nothing. Unknown names
        (OAuth) are ignored."""
        for name, value in settings.items():
            if name in {"enabled", *self._switches} and not isinstance(value, bool):
                raise SettingsRefused(f"{name} must be true or false")
            if name in {"url", "friendly_name"} and not isinstance(value, str):
                raise SettingsRefused(f"{name} must be a string")
        url = str(settings.get("url", self._url))
        enabled = bool(settings.get("enabled", self.enabled))
        if (url or enabled) and not _is_web_address(url):
            raise SettingsRefused("url must be an http or https address")
        self._url, self.enabled = url, enabled
        self._friendly_name = str(settings.get("friendly_name", self._friendly_name))
        self._switches.update({name: bool(value) for name, value in settings.items() if name in self._switches})
        self._updated = datetime.now(UTC)

    @property
    def public_key(self) -> str:
        """What verifies the signatures; empty while they are switched off."""
        return self.key.public_key if self.signed else ""

    def as_json(self) -> Mapping[str, object]:
        """The settings as a GET shows them."""
        return {
            "id": self.id,
            "enabled": self.enabled,
            "url": self._url,
            "friendly_name": self._friendly_name,
            **self._switches,
            **({"public_key": self.public_key} if self.signed else {}),
            "created_date": _date(self._created),
            "updated_date": _date(self._updated),
        }


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
