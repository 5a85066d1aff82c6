"""Postal, a mail server of the practice's own.

Pages, at docs.postalserver.io: developer/api, developer/webhooks, features/mail-server-settings (held messages, the
suppression list, retention), features/click-and-open-tracking, other/auto-responders-and-bounces; the API's own at
apiv1.postalserver.io: send/raw, messages/deliveries, messages/message.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Final

from mail import mime
from mail.errors import WebhookRejected
from mail.failure import Failure, FailureKind
from mail.message import Email
from mail.providers import exchange, postal_events, postal_key, reading, signatures
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

_SHA256: Final = "x-postal-signature-256"
_SHA1: Final = "x-postal-signature"  # before 3.0 the only one


# Error codes of the API, which come with HTTP 200.
_ERRORS: Mapping[str, FailureKind] = {
    "AccessDenied": FailureKind.ACCOUNT,
    "InvalidServerAPIKey": FailureKind.ACCOUNT,
    "ServerSuspended": FailureKind.ACCOUNT,
    "FromAddressMissing": FailureKind.ACCOUNT,
    "UnauthenticatedFromAddress": FailureKind.ACCOUNT,
    "NoRecipients": FailureKind.CONTENT,
    "NoContent": FailureKind.CONTENT,
    "TooManyToAddresses": FailureKind.CONTENT,
    "TooManyCCAddresses": FailureKind.CONTENT,
    "TooManyBCCAddresses": FailureKind.CONTENT,
    "AttachmentMissingName": FailureKind.CONTENT,
    "AttachmentMissingData": FailureKind.CONTENT,
}
_KEY_ERRORS = frozenset({"AccessDenied", "InvalidServerAPIKey"})
# Of what stands before it: no such host, no such path, a body too large for its proxy.
_HTTP: Mapping[int, FailureKind] = {
    401: FailureKind.ACCOUNT,
    403: FailureKind.ACCOUNT,
    404: FailureKind.ACCOUNT,
    405: FailureKind.ACCOUNT,
    413: FailureKind.TOO_LARGE,
}

_NUMBER: Final = re.compile(r"(\d{1,18})-.+")


class Postal(SignedAdapter):
    """Postal's legacy API (v1) and webhooks."""

    name: str = "postal"
    label: str = "Postal"
    # The header `X-AMP: skip` turns tracking off for one email by the documentation; in the source of the versions up
    # to 3.3 it compares a list with a text and does nothing. Postal tells no machine opens; Apple's are known by
    # their user agent.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=False,
        tracking_switch=False,
        metadata=True,
        idempotency=False,
        proof=Proof.SIGNATURE,
        asking=Asking(per_second=5, days=60),
        tracking_warning="Leave Track Loads off at the tracking domain in Postal unless every patient agrees to it, "
        "since many versions ignore the header that turns it off for one email.",
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "Server API key"),
        CredentialField(exchange.BASE_URL, "URL of the Postal server", secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "Enter https:// and the host of Postal's web interface as base_url.",
            "At the mail server's Credentials, add one of the type API that doesn't hold messages, and copy its key as "
            "api_key.",
            "At Domains, add the From domain and publish the records that Postal shows; leave click tracking off.",
            "At Webhooks, add {url} with Send all events; Postal must be allowed to reach it "
            "(postal.allowed_request_destinations, where it stands in your own network).",
            "Copy all that https://<Postal's host>/.well-known/jwks.json shows, or what the command `postal "
            "default-dkim-record` prints, and enter it with rotateWebhookSecret.",
            "Where Postal itself sends by a relay, it calls delivered what the relay took.",
        ),
    )
    kept_headers: Sequence[str] = (_SHA256, _SHA1)
    unavailable_status: int = 503  # tried six times within 36 minutes, whatever the status
    webhook_bytes: int = 1 << 20

    def check_webhook_secret(self, secret: str) -> None:
        postal_key.keys(secret)

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        """send/raw, since send/message gives every email a Message-ID of Postal's own."""
        headers = {"X-Postal-Tag": str(email.id)} | ({} if email.track_opens else {"X-AMP": "skip"})
        raw = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + mime.render(email)
        payload = {
            "mail_from": email.sender.email,
            "rcpt_to": [email.recipient.email],
            "data": base64.b64encode(raw).decode(),
        }
        return _call(credentials, "send/raw", payload)

    def read_answer(self, response: HttpResponse) -> Answer:
        status, data = _read(response)
        if status == "success" and isinstance(data, dict):
            messages = reading.nested(data, "messages")
            message = next((each for each in messages.values() if isinstance(each, dict)), {})
            return Accepted(postal_events.provider_id(message))
        fields: reading.Fields = data if isinstance(data, dict) else {}
        code, text = reading.text(fields, "code"), reading.text(fields, "message")
        reason = ": ".join(part for part in (code, text) if part) or f"HTTP {response.status}"
        if status == "error":
            return Refused(Failure(_ERRORS.get(code, FailureKind.OTHER), reason=reason))
        if status == "parameter-error":
            return Refused(Failure(FailureKind.CONTENT, reason=reason))
        failure = Failure(_HTTP.get(response.status, FailureKind.OTHER), reason=f"HTTP {response.status}")
        if exchange.passes(response.status):
            return TryAgain(failure, exchange.wait(response.headers))
        return Refused(failure)

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        number = _NUMBER.fullmatch(question.provider_message_id or "")
        return _call(credentials, "messages/deliveries", {"id": int(number[1])}) if number else None

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        """messages/deliveries: the attempts, and bounces; opens and clicks aren't among them."""
        status, data = _read(response)
        if status == "success" and isinstance(data, list):
            return Told(reading.read_each(data, lambda delivery: postal_events.told(delivery, question)))
        code = reading.text(data, "code") if isinstance(data, dict) else ""
        if status == "error" and code:
            return NotTold(Failure(_ERRORS.get(code, FailureKind.OTHER), reason=code))
        return exchange.not_told(response)

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """messages/message, of a message that can't exist."""
        return _call(credentials, "messages/message", {"id": 0})

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        status, data = _read(response)
        code = reading.text(data, "code") if isinstance(data, dict) else ""
        if status == "success" or code == "MessageNotFound":
            return CredentialsCheck(True, "Postal takes the key.")
        if code in _KEY_ERRORS:
            return CredentialsCheck(False, "Postal refuses the key; make a new credential of the type API.")
        if code == "ServerSuspended":
            return CredentialsCheck(False, "Postal knows the key, but the mail server is suspended; unsuspend it.")
        if response.status == 200:
            return CredentialsCheck(None, "What answered is no Postal API; check base_url.")
        return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        """RSA (PKCS 1 v1.5) over the raw body. Where the SHA-256 signature is there, it counts alone."""
        modern = request.headers.get(_SHA256, "")
        signature = signatures.decode(modern or request.headers.get(_SHA1, ""))
        if not any(postal_key.signed_by(each, signature, request.body, legacy=not modern) for each in secrets):
            raise WebhookRejected("the signature is wrong")

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        return reading.read_one(body, postal_events.event)


def _call(credentials: Mapping[str, str], method: str, payload: Mapping[str, object]) -> HttpRequest:
    url = f"{exchange.base_url(credentials, '')}/api/v1/{method}"
    return exchange.json_post(url, {"x-server-api-key": credentials["api_key"]}, payload)


def _read(response: HttpResponse) -> tuple[str, object]:
    """`status` and `data` of an answer, which is always an HTTP 200 when Postal gave it."""
    answer = reading.decode_object(response.body) if response.status == 200 else {}
    return reading.text(answer, "status"), answer.get("data")
