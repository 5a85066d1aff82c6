"""The webhook of a message stream, and how Postmark posts to it: one record a POST, the password in the URL.

Sources: Postmark, developer/api/webhooks-api, developer/webhooks/webhooks-overview ("Retries").
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from carepost.sandbox.message import SandboxEvent

# The trigger that lets each record through.
TRIGGERS: Mapping[str, str] = {
    "Delivery": "Delivery",
    "Bounce": "Bounce",
    "SpamComplaint": "SpamComplaint",
    "Open": "Open",
    "Click": "Click",
    "SubscriptionChange": "SubscriptionChange",
}
_MINUTE = 60.0
_FEW = (1 * _MINUTE, 5 * _MINUTE, 15 * _MINUTE)
_MANY = tuple(minutes * _MINUTE for minutes in (1, 5, 10, 10, 10, 15, 30, 60, 120, 360))
# Bounces are tried again ten times, the others three times. "Not allowed here" is taken at its word.
_SCHEDULES: Mapping[str, Sequence[float]] = {"Bounce": _MANY, "SpamComplaint": _MANY}
_STOPS = 403


class SettingsRefused(Exception):
    """A webhook is asked for that can't be."""


class StreamWebhook:
    """One webhook."""

    batch: int = 1

    def __init__(self, number: int, wish: Mapping[str, Any]) -> None:
        """Raises `SettingsRefused`."""
        self.id = number
        self._url = ""
        self._triggers = dict.fromkeys(TRIGGERS.values(), False)
        self.update(wish)

    def update(self, wish: Mapping[str, Any]) -> None:
        """Sets what is given; raises `SettingsRefused`, and sets nothing."""
        url, auth = wish.get("Url", self._url), wish.get("HttpAuth")
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsRefused("'Url' must be an http or https address.")
        if isinstance(auth, dict) and not parts.username:
            host = parts.netloc.rpartition("@")[2]
            url = parts._replace(netloc=f"{auth.get('Username')}:{auth.get('Password')}@{host}").geturl()
        triggers = wish.get("Triggers", {})
        if not isinstance(triggers, dict) or triggers.keys() - self._triggers.keys():
            raise SettingsRefused(f"'Triggers' are {', '.join(self._triggers)}.")
        for name, trigger in triggers.items():
            if not isinstance(trigger, dict) or not isinstance(trigger.get("Enabled"), bool):
                raise SettingsRefused(f"'{name}' needs Enabled, true or false.")
        self._url = url
        self._triggers.update({name: trigger["Enabled"] for name, trigger in triggers.items()})

    def as_json(self) -> Mapping[str, object]:
        """As a GET shows it, without the password."""
        parts = urlsplit(self._url)
        return {
            "ID": self.id,
            "Url": parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
            "MessageStream": "outbound",
            "HttpHeaders": [],
            "Triggers": {name: {"Enabled": enabled} for name, enabled in self._triggers.items()},
        }

    def wants(self, event: SandboxEvent) -> bool:
        return self._triggers[TRIGGERS[event.body["RecordType"]]]

    def url(self) -> str:
        return self._url

    def body(self, events: Sequence[SandboxEvent]) -> bytes:
        return orjson.dumps(events[0].body)

    def headers(self, events: Sequence[SandboxEvent], body: bytes) -> Mapping[str, str]:
        return {"Content-Type": "application/json", "User-Agent": "Postmark"}

    def pauses(self, events: Sequence[SandboxEvent]) -> Sequence[float]:
        return _SCHEDULES.get(events[0].body["RecordType"], _FEW)

    def settles(self, status: int) -> bool:
        return 200 <= status < 300 or status == _STOPS
