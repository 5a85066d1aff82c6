"""SendGrid (Twilio).

Pages, at twilio.com/docs/sendgrid: "Mail Send" and "Errors" (v3 API), "Event Webhook Reference", "Getting
Started with the Event Webhook Security Features", glossary "Blocks" and "Throttling".
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mail.errors import WebhookRejected
from mail.failure import Failure, FailureKind, one_line
from mail.message import Email
from mail.providers import exchange, reading, sendgrid_events, signatures
from mail.providers.adapter import SignedAdapter
from mail.providers.base import (
    Accepted,
    Answer,
    Capabilities,
    CredentialField,
    CredentialsCheck,
    HttpRequest,
    HttpResponse,
    Proof,
    Reading,
    Refused,
    SetUp,
    TryAgain,
    WebhookRequest,
)

_GLOBAL_URL: Final = "https://api.sendgrid.com"  # the EU's is https://api.eu.sendgrid.com
_SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
_TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"


# v3 "Errors". 401 also says that credits are used up, 403 that the From address isn't verified.
_ANSWERS: Mapping[int, FailureKind] = {
    **exchange.STATUSES,
    451: FailureKind.ACCOUNT,  # data residency: the key belongs to the other region
}

# v3 "Errors": `field` of a 400, by its beginning.
_FIELDS: Mapping[str, FailureKind] = {
    "personalizations": FailureKind.ADDRESS_UNKNOWN,
    "from": FailureKind.ACCOUNT,
    "reply_to": FailureKind.ACCOUNT,
}


class SendGrid(SignedAdapter):
    """SendGrid's v3 API and Signed Event Webhook."""

    name: str = "sendgrid"
    label: str = "SendGrid"
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=True,
        tracking_switch=True,
        metadata=True,
        idempotency=False,
        proof=Proof.SIGNATURE,
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "API key"),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "Make an API key with the permission Mail Send, and authenticate the From domain.",
            "For the EU region, enter https://api.eu.sendgrid.com as base_url.",
            "At Settings > Mail Settings > Event Webhook, enter {url}, choose all events, and switch Signed Event "
            "Webhook on.",
            "Copy its verification key (MFkw...) and enter it with rotateWebhookSecret; until then its webhooks are "
            "refused, and SendGrid tries them again for a day.",
        ),
        spf="sendgrid.net",
        dkim=("s1", "s2"),
    )
    kept_headers: Sequence[str] = (_SIGNATURE, _TIMESTAMP)
    webhook_bytes: int = 4 << 20

    def check_webhook_secret(self, secret: str) -> None:
        signatures.p256_key(secret)

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        url = f"{exchange.base_url(credentials, _GLOBAL_URL)}/v3/mail/send"
        return exchange.json_post(url, exchange.bearer(credentials["api_key"]), _payload(email))

    def read_answer(self, response: HttpResponse) -> Answer:
        if response.status == 202:
            return Accepted(sendgrid_events.before_dot(one_line(response.headers.get("x-message-id", ""))))
        messages, fields = _errors(response.body)
        kind = _ANSWERS.get(response.status, FailureKind.OTHER)
        if response.status == 400:
            kind = next((_FIELDS[name] for name in fields if name in _FIELDS), kind)
        failure = Failure(kind, reason=one_line("; ".join(messages)) or f"HTTP {response.status}")
        # 200 means checked and not queued (sandbox mode), so it is no acceptance.
        return (
            TryAgain(failure, exchange.wait(response.headers)) if exchange.passes(response.status) else Refused(failure)
        )

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """API Keys, "Retrieve a list of scopes for which this user has access"."""
        return exchange.get(
            f"{exchange.base_url(credentials, _GLOBAL_URL)}/v3/scopes", exchange.bearer(credentials["api_key"])
        )

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        scopes = reading.decode_object(response.body).get("scopes")
        if response.status == 200 and isinstance(scopes, list) and "mail.send" not in scopes:
            return CredentialsCheck(False, "SendGrid knows the key, but it lacks the permission Mail Send.")
        return exchange.read_check(self.label, response)

    def webhook_test_request(self, credentials: Mapping[str, str], url: str) -> HttpRequest | None:
        """Event Webhook, "Test Event Notification Settings": it posts one event of each kind."""
        test = f"{exchange.base_url(credentials, _GLOBAL_URL)}/v3/user/webhooks/event/test"
        return exchange.json_post(test, exchange.bearer(credentials["api_key"]), {"url": url})

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        """ECDSA over timestamp and raw body. No age limit: retries come for a day, and the dedupe key
        makes a replay harmless."""
        signature = signatures.decode(request.headers.get(_SIGNATURE, ""))
        timestamp = request.headers.get(_TIMESTAMP, "")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 20):
            raise WebhookRejected("the timestamp is missing or malformed")
        signed = timestamp.encode() + request.body
        if not any(signatures.signed_by(secret, signature, signed) for secret in secrets):
            raise WebhookRejected("the signature is wrong")

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        try:
            events = reading.decode(body)
        except reading.Malformed as malformed:
            return reading.not_readable(str(malformed))
        if not isinstance(events, list):
            return reading.not_readable("the body is not a list of events")
        return reading.read_each(events, sendgrid_events.event)


def _payload(email: Email) -> dict[str, object]:
    content = [{"type": "text/plain", "value": email.text}]
    if email.html is not None:
        # Mail Send: text/plain stands first, and no part may be empty.
        content = [part for part in content if part["value"]] + [{"type": "text/html", "value": email.html}]
    payload: dict[str, object] = {
        "personalizations": [{"to": [exchange.name_and_email(email.recipient)]}],
        "from": exchange.name_and_email(email.sender),
        "subject": email.subject,
        "content": content,
        "headers": {"Message-ID": email.rfc_message_id, "Auto-Submitted": "auto-generated"},
        "custom_args": {reading.METADATA_KEY: str(email.id)},
        "tracking_settings": {
            "open_tracking": {"enable": email.track_opens},
            # Links in health mail are not ours to rewrite.
            "click_tracking": {"enable": False, "enable_text": False},
        },
    }
    if email.reply_to:
        payload["reply_to"] = exchange.name_and_email(email.reply_to)
    return payload


def _errors(body: bytes) -> tuple[list[str], list[str]]:
    """The messages of an error answer, and the first part of each field that they name."""
    listed = reading.decode_object(body).get("errors")
    errors = [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []
    messages = [reading.text(error, "message") for error in errors]
    fields = [reading.text(error, "field").partition(".")[0].partition("[")[0] for error in errors]
    return [message for message in messages if message], fields
