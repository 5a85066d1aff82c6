"""Provider: what the adapter of one ESP does. It turns values into values and does no IO.

A provider builds the request that sends one email, reads the ESP's answer, verifies a webhook on its raw
bytes, and reads the events in it. `workers.transports.http` opens the connections, `api.webhooks` takes
the POSTs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from mail.event import Event
from mail.failure import Failure
from mail.message import Email


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What can be known and asked of an ESP; explanations, the API and the docs are made from it."""

    delivery: bool
    """Reports that the destination accepted an email."""
    opens: bool
    """Reports opens."""
    machine_opens: bool
    """Tells opens by machines from opens by people."""
    tracking_switch: bool
    """Open tracking can be turned off for one message."""
    metadata: bool
    """Carries our opaque id back in every event."""
    idempotency: bool
    """Takes an idempotency key, so that a repeated send is one email."""


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One value that an account of this provider needs; `secret` ones are never shown again."""

    name: str
    label: str
    required: bool = True
    secret: bool = True


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to be made: header names in lower case, `body` as it goes over the wire."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer: header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took the email. `provider_message_id` is how an ESP's events will name it, `reply` what it said."""

    provider_message_id: str | None
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The ESP will never take this email as it is."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The ESP can't take it now; `after` is what it asked us to wait, if it said."""

    failure: Failure
    after: timedelta | None = None


Answer = Accepted | Refused | TryAgain


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One POST to our webhook endpoint: header names in lower case, raw body, `url` as the ESP knows it
    (made from PUBLIC_URL, since some signatures cover it)."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One part of a webhook that couldn't be read: kept, visible, and read again after an upgrade.
    `error` names what was wrong and quotes nothing of the content."""

    index: int
    error: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What one webhook holds: the events, and what couldn't be read beside them."""

    events: Sequence[Event] = ()
    unreadable: Sequence[Unreadable] = field(default=())


class Provider(Protocol):
    """The adapter of one ESP; implementations are stateless and shared."""

    name: str
    """As it stands in the webhook URL: `sendgrid`."""
    label: str
    """As people know it: `SendGrid`."""
    capabilities: Capabilities
    credential_fields: Sequence[CredentialField]
    kept_headers: Sequence[str]
    """Webhook headers needed to verify and read it again, in lower case; the others are not stored."""
    generates_webhook_secret: bool
    """True where the secret is ours to make (basic auth), False where the ESP hands it out (a key)."""
    unavailable_status: int
    """The status that makes this ESP try again later, answered when a webhook can't be stored."""

    def check_credentials(self, credentials: Mapping[str, str]) -> None:
        """Raises `CredentialsIncomplete` when something is missing or malformed."""

    def check_webhook_secret(self, secret: str) -> None:
        """Raises `CredentialsIncomplete` when a webhook secret is malformed."""

    def webhook_url(self, url: str, secret: str | None) -> str:
        """The URL to enter at the ESP, made from our plain one; basic auth stands inside it."""

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        """The request that sends one email."""

    def read_answer(self, response: HttpResponse) -> Answer:
        """What the ESP's answer to `send_request` means; any status and any bytes are an answer."""

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        """Raises `WebhookRejected` unless one of the secrets proves who sent it."""

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        """The events in a verified body. Any bytes are read or set aside; nothing is raised."""
