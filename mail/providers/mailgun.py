"""Mailgun (Sinch).

Pages, at documentation.mailgun.com: "Messages", "Logs" and "Domains" (API reference); "Securing Webhooks", "Automatic
Retries", "Events", "Tracking Opens" (user manual). What its events mean stands in `mailgun_events`.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from email.utils import format_datetime
from typing import Final
from urllib.parse import quote

from mail.errors import WebhookRejected
from mail.failure import Failure, FailureKind
from mail.message import Email
from mail.providers import exchange, forms, mailgun_events, reading, signatures
from mail.providers.adapter import SignedAdapter
from mail.providers.base import (
    Accepted,
    Answer,
    Asking,
    Capabilities,
    CredentialField,
    CredentialsCheck,
    HttpRequest,
    HttpResponse,
    NotTold,
    Proof,
    Question,
    Reading,
    Refused,
    SetUp,
    Told,
    TryAgain,
    WebhookRequest,
)

_HOSTS: Mapping[str, str] = {"us": "https://api.mailgun.net", "eu": "https://api.eu.mailgun.net"}
_PAGE: Final = 100
_TIMESTAMP: Final = re.compile(r"\d{10}", re.ASCII)
_TOKEN: Final = re.compile(r"[!-~]{16,128}", re.ASCII)

# What the message of a 400 begins with.
_PARAMETERS: Mapping[str, FailureKind] = {
    "to parameter": FailureKind.ADDRESS_UNKNOWN,
    "'to' parameter": FailureKind.ADDRESS_UNKNOWN,
    "from parameter": FailureKind.ACCOUNT,
    "'from' parameter": FailureKind.ACCOUNT,
}


class Mailgun(SignedAdapter):
    """Mailgun's HTTP API and webhooks, today's and the older ones."""

    name: str = "mailgun"
    label: str = "Mailgun"
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=True,
        tracking_switch=True,
        metadata=True,
        idempotency=False,
        proof=Proof.TOKEN,
        # No rate is documented for the logs. A free account keeps them for a day, others for up to 30 ("Events").
        asking=Asking(per_second=2, days=30, needs="a plan that keeps its logs as long; the free one keeps them a day"),
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "API key"),
        CredentialField("domain", "Sending domain", secret=False),
        CredentialField("region", "Region", required=False, secret=False, choices=tuple(_HOSTS)),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "Verify the sending domain (Send > Sending > Domains) and enter its name as domain, as Mailgun shows it.",
            "Make an API key of the account (API Security): a domain's sending key can send, but can't ask what became "
            "of an email.",
            "Enter region eu if the domain was made in the EU; it is us by default.",
            "At Send > Sending > Webhooks, enter {url} for every event: Accepted, Delivered, Opened, Clicked, "
            "Permanent Failure, Temporary Failure, Unsubscribed and Spam Complaints.",
            "Copy the HTTP webhook signing key (it is not the API key) and enter it with rotateWebhookSecret; until "
            "then webhooks are refused, and Mailgun repeats all but Delivered for eight hours.",
        ),
        spf="mailgun.org",
    )
    kept_headers: Sequence[str] = ()  # the signature stands in the body
    unavailable_status: int = 503  # 406 would end the retries; Delivered is never repeated, and found by asking
    webhook_bytes: int = 4 << 20

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        url = f"{_host(credentials)}/v3/{quote(credentials['domain'], safe='')}/messages"
        return forms.post(url, _authorization(credentials), _form(email))

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        message = reading.text(answer, "message")
        message_id = mailgun_events.bare(reading.text(answer, "id"))
        if response.status == 200 and message_id:
            return Accepted(message_id, message)
        # 404 also says that there is no such domain in this region.
        kind = exchange.STATUSES.get(response.status, FailureKind.OTHER)
        if response.status == 400:
            kind = next((_PARAMETERS[start] for start in _PARAMETERS if message.startswith(start)), kind)
        failure = Failure(kind, reason=message or f"HTTP {response.status}")
        # A new or limited domain is told with a 4xx when it may go on.
        passes = exchange.passes(response.status) or "try again after" in message.lower()
        return TryAgain(failure, exchange.wait(response.headers)) if passes else Refused(failure)

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        return _logs_request(question, credentials)

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        """Logs: the same events that webhooks bring, under the same ids, a page at a time."""
        answer = reading.decode_object(response.body)
        items = answer.get("items")
        if response.status != 200 or not isinstance(items, list):
            return exchange.not_told(response)
        # An API that passed over a filter would tell of other patients' emails too.
        mine = [
            item for item in items if isinstance(item, dict) and mailgun_events.message_id(item) == _asked(question)
        ]
        if not mine:
            return NotTold(Failure(FailureKind.OTHER, reason="Mailgun has no log of it"))
        known = {reading.METADATA_KEY: str(question.message_id)}
        told = reading.read_each([{**item, "user-variables": known} for item in mine], mailgun_events.event)
        token = reading.text(reading.nested(answer, "pagination"), "next")
        more = _logs_request(question, credentials, token) if token and len(items) >= _PAGE else None
        return Told(told, more)

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Domains, "Get domain": its state, for a key of the account."""
        url = f"{_host(credentials)}/v4/domains/{quote(credentials['domain'], safe='')}"
        return exchange.get(url, _authorization(credentials))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        state = reading.text(reading.nested(reading.decode_object(response.body), "domain"), "state")
        match response.status:
            case 200 if state and state != "active":
                return CredentialsCheck(False, "Mailgun takes the key, but the domain isn't active there: verify it.")
            case 401 | 403:
                return CredentialsCheck(
                    None,
                    "Mailgun doesn't show the domain to this key: it is wrong, or a sending key, which only sends.",
                )
            case 404:
                return CredentialsCheck(
                    False, "Mailgun finds no such domain for this key; check the domain and its region."
                )
            case _:
                return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        """HMAC over time and token, which doesn't cover the content: see `webhook_token`. An event of a subaccount is
        signed by the account above it too ("Securing Webhooks")."""
        proof = _proof(request)
        signed = _signed(proof)
        keys = [secret.encode("utf-8", "surrogatepass") for secret in secrets]
        given = [reading.text(proof, "signature")]
        if parent := reading.text(proof, "parent-signature"):
            given.append(parent)
        matches = [signatures.mac_matches(keys, signed.encode(), signatures.decode_hex(each)) for each in given]
        if not any(matches):
            raise WebhookRejected("the signature is wrong")

    def webhook_token(self, request: WebhookRequest) -> str:
        """Time and token in one, as they are signed: there is nothing between them, so that a digit moved from one to
        the other leaves the signature right and the token another."""
        return _signed(_proof(request))

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        try:
            return reading.read_each([mailgun_events.parts(body)[1]], mailgun_events.event)
        except reading.Malformed as malformed:
            return reading.not_readable(str(malformed))


def _host(credentials: Mapping[str, str]) -> str:
    return exchange.base_url(credentials, _HOSTS[credentials.get("region") or "us"])


def _authorization(credentials: Mapping[str, str]) -> dict[str, str]:
    encoded = base64.b64encode(f"api:{credentials['api_key']}".encode()).decode()
    return {"authorization": f"Basic {encoded}"}


def _form(email: Email) -> list[tuple[str, str]]:
    form = [
        ("from", exchange.mailbox(email.sender)),
        ("to", exchange.mailbox(email.recipient)),
        ("subject", email.subject),
    ]
    if email.text or email.html is None:
        form.append(("text", email.text))
    if email.html is not None:
        form.append(("html", email.html))
    if email.reply_to:
        form.append(("h:Reply-To", exchange.mailbox(email.reply_to)))
    return [
        *form,
        ("h:Message-Id", email.rfc_message_id),
        ("h:Auto-Submitted", "auto-generated"),
        ("o:tracking-opens", "yes" if email.track_opens else "no"),
        ("o:tracking-clicks", "no"),  # links in health mail are not ours to rewrite
        (f"v:{reading.METADATA_KEY}", str(email.id)),
    ]


def _asked(question: Question) -> str | None:
    """The Message-ID is ours, so that a message can be found whose answer never came."""
    return mailgun_events.bare(question.provider_message_id or question.rfc_message_id)


def _logs_request(question: Question, credentials: Mapping[str, str], token: str = "") -> HttpRequest:
    """Logs, "List logs"."""

    def equals(attribute: str, value: str | None) -> dict[str, object]:
        return {"attribute": attribute, "comparator": "=", "values": [{"label": value, "value": value}]}

    page: dict[str, object] = {"sort": "timestamp:asc", "limit": _PAGE}
    return exchange.json_post(
        f"{_host(credentials)}/v1/analytics/logs",
        _authorization(credentials),
        {
            "start": format_datetime(question.sent_at - timedelta(hours=1)),  # clocks differ
            "filter": {"AND": [equals("domain", credentials["domain"]), equals("message_id", _asked(question))]},
            "include_totals": False,
            "pagination": {**page, "token": token} if token else page,
        },
    )


def _proof(request: WebhookRequest) -> reading.Fields:
    """The proof in a webhook; raises `WebhookRejected`."""
    try:
        return mailgun_events.parts(request.body)[0]
    except reading.Malformed as malformed:
        raise WebhookRejected(str(malformed)) from malformed


def _signed(proof: reading.Fields) -> str:
    """What is signed; raises `WebhookRejected`. The time has ten digits from 2001 to 2286."""
    timestamp, token = reading.text(proof, "timestamp"), reading.text(proof, "token")
    if not _TIMESTAMP.fullmatch(timestamp) or not _TOKEN.fullmatch(token):
        raise WebhookRejected("the time or the token is missing or malformed")
    return timestamp + token
