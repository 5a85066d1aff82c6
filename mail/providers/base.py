"""Provider: what the adapter of one ESP does. It turns values into values and does no IO.

A provider builds the request that sends one email, reads the ESP's answer, verifies a webhook on its raw
bytes, and reads the events in it. `workers.transports.http` opens the connections, `api.webhooks` takes
the POSTs. What only some ESPs can do stands in a protocol of its own at the end of this file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Protocol, runtime_checkable

from mail.event import Event
from mail.failure import Failure
from mail.ids import MessageId
from mail.message import Email


class Proof(Enum):
    """How a webhook shows who sent it."""

    SIGNATURE = "signature"
    """A signature over the raw body (and what stands beside it)."""
    TOKEN = "token"  # noqa: S105 - the name of a kind of proof
    """A signature over a time and a token alone: it shows who sent it and doesn't cover the content."""
    PASSWORD = "password"  # noqa: S105 - the name of a kind of proof
    """A name and a password (HTTP basic authentication), in the URL that is entered at the ESP."""


@dataclass(frozen=True, slots=True)
class Asking:
    """That an ESP can be asked what became of one message: at most `per_second` times a second, for `days` after it
    was sent. `needs` is what has to be bought or switched on there first; empty where nothing has."""

    per_second: float
    days: int
    needs: str = ""


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
    proof: Proof
    """How its webhooks show who sent them."""
    asking: Asking | None = None
    """Set where it is `Askable`: missed webhooks are found again by asking."""
    tracking_warning: str = ""
    """Where opens are reported and can't be turned off for one message: what to set at the ESP, one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """How an account is set up at the ESP. `steps` are sentences, in order, in which `{url}` stands for the webhook's
    URL. `spf` is what the SPF record of the From domain has to include there, `dkim` the selectors under which its
    DKIM keys stand; both empty where the ESP gives each customer its own."""

    steps: Sequence[str]
    spf: str = ""
    dkim: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One value that an account of this provider needs; `secret` ones are never shown again. Where there are `choices`
    it is one of them, the first by default."""

    name: str
    label: str
    required: bool = True
    secret: bool = True
    choices: Sequence[str] = ()


class RequestSigner(Protocol):
    """What signs a request with the time at which it leaves, which is the transport's to know."""

    def sign(self, request: "HttpRequest", now: datetime) -> Mapping[str, str]:
        """The headers to send beside the request's own."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to be made: header names in lower case, `body` as it goes over the wire. The transport asks the
    `signer`, where there is one, right before it sends, and again for each attempt."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    signer: RequestSigner | None = None


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
    (made from PUBLIC_URL, since some signatures cover it). `certificate` is the PEM found at the URL that
    `CertificateSigned.certificate_url` named."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One part of a webhook that couldn't be read: kept, visible, and read again after an upgrade.
    `error` names what was wrong and quotes nothing of the content."""

    index: int
    error: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What one webhook holds: the events, and what couldn't be read beside them. `confirmation` is the request that
    confirms the webhook's own subscription, where this is what the ESP wants."""

    events: Sequence[Event] = ()
    unreadable: Sequence[Unreadable] = field(default=())
    confirmation: HttpRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which message an ESP is asked about: the ids by which it may know it, and when it was sent."""

    message_id: MessageId
    provider_message_id: str | None
    rfc_message_id: str
    recipient: str
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """What the ESP said of a message: its events so far, and the request for the next page if there is one."""

    reading: Reading
    more: HttpRequest | None = None


@dataclass(frozen=True, slots=True)
class NotTold:
    """The ESP said nothing: it doesn't know the message (yet), refused the key, or asked us to wait `after`."""

    failure: Failure
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class CredentialsCheck:
    """Whether an ESP takes an account's key; `text` is one sentence for the operator, with what to do when it isn't
    taken. `ok` is None where the answer doesn't tell. `expires_at` is when the key ends, where the ESP says so."""

    ok: bool | None
    text: str
    expires_at: datetime | None = None


class Provider(Protocol):
    """The adapter of one ESP; implementations are stateless and shared."""

    name: str
    """As it stands in the webhook URL: `sendgrid`."""
    label: str
    """As people know it: `SendGrid`."""
    capabilities: Capabilities
    credential_fields: Sequence[CredentialField]
    set_up: SetUp
    kept_headers: Sequence[str]
    """Webhook headers needed to verify and read it again, in lower case; the others are not stored."""
    generates_webhook_secret: bool
    """True where the secret is ours to make (basic auth), False where the ESP hands it out (a key)."""
    unavailable_status: int
    """The status that makes this ESP try again later, answered when a webhook can't be stored."""
    webhook_bytes: int
    """The longest webhook body that is taken; more than this ESP ever posts."""
    probe_methods: frozenset[str]
    """Methods by which this ESP looks whether the webhook's URL is there: answered 200, with nothing stored."""

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


@runtime_checkable
class CertificateSigned(Protocol):
    """A provider whose webhooks are signed by a key in a certificate that has to be fetched."""

    def certificate_url(self, request: WebhookRequest, secrets: Sequence[str]) -> str:
        """Where the certificate of this webhook is. Raises `WebhookRejected` for a webhook that isn't addressed to this
        account, and for any URL but the ESP's own, so that nothing is fetched for a stranger."""


@runtime_checkable
class TokenSigned(Protocol):
    """A provider whose proof covers a token and not the content (`Proof.TOKEN`): an account takes each token once."""

    def webhook_token(self, request: WebhookRequest) -> str:
        """The token of a verified webhook, at most 200 characters: what comes with it again is not stored again."""


@runtime_checkable
class Askable(Protocol):
    """A provider that can be asked what became of one message; `Capabilities.asking` is set."""

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        """The request that asks about one message; None when it lacks the id that the ESP would know it by."""

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        """What the answer tells. Any status and any bytes are an answer. Events have the keys that the same events
        have in a webhook, where the ESP gives both the same id."""


@runtime_checkable
class Checkable(Protocol):
    """A provider that has a request which needs the key and changes nothing."""

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """The request."""

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        """What its answer says of the key. Any status and any bytes are an answer."""


@runtime_checkable
class WebhookTestable(Protocol):
    """A provider that can be told to post a test to a webhook's URL."""

    def webhook_test_request(self, credentials: Mapping[str, str], url: str) -> HttpRequest | None:
        """The request that has the ESP post a test event to `url`; None when these credentials can't ask for it."""
