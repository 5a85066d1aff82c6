"""MailerSend.

Pages, at developers.mailersend.com: "General API resources"; "Email", "Messages" and "Other endpoints" (API quota) of
api/v1; "Webhooks" of api/v1/account. At mailersend.com: "What's new: webhooks 2.0", help "REST API response codes" and
"Webhooks".
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from mail.errors import WebhookRejected
from mail.failure import Failure, FailureKind, one_line
from mail.message import Email
from mail.providers import exchange, mailersend_events, reading, signatures
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

_URL: Final = "https://api.mailersend.com"
_SIGNATURE: Final = "signature"
# "Webhooks": MailerSend saves a webhook once its URL has answered a test, signed by this key, which is public. It
# proves nothing, so it signs that test alone, and that test says nothing.
_TEST_KEY: Final = b"test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G"
_LONGEST_TEST: Final = 1024


# "General API resources", HTTP status codes.
_ANSWERS: Mapping[int, FailureKind] = {
    **exchange.STATUSES,
    421: FailureKind.UNREACHABLE,
}
_MAINTENANCE: Final = 421
# The first part of a field that a 422 names.
_FIELDS: Mapping[str, FailureKind] = {
    "from": FailureKind.ACCOUNT,
    "to": FailureKind.ADDRESS_UNKNOWN,
    "reply_to": FailureKind.ACCOUNT,
}


class MailerSend(SignedAdapter):
    """MailerSend's email API and its signed webhooks, of both versions."""

    name: str = "mailersend"
    label: str = "MailerSend"
    # There is no metadata; a tag carries our id, and every event lists the tags. No field tells machine opens apart;
    # Apple's are known by their user agent. An email's history is kept for 1 to 30 days, as the plan has it.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=False,
        tracking_switch=True,
        metadata=True,
        idempotency=False,
        proof=Proof.SIGNATURE,
        asking=Asking(per_second=1, days=30),
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_token", "API token"),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "At Domains, add the From domain, enter the DNS records that are shown, and verify it.",
            "At Integrations > API tokens, make a token for this domain with full access, or with custom access that "
            "has Email (full) and Activity (read), and enter it.",
            "At Domains > Manage > Webhooks > Add webhook, enter {url}, leave version 2.0, and choose all events. "
            "MailerSend tests the URL when you save it.",
            "Copy the webhook's signing secret and enter it with rotateWebhookSecret at once: its events are refused "
            "until then, and MailerSend pauses a webhook that fails 20 times a day.",
        ),
        spf="_spf.mailersend.net",
        dkim=("mlsend2",),
    )
    kept_headers: Sequence[str] = (_SIGNATURE,)
    unavailable_status: int = 503  # tried again; a 4xx other than 429 may not be
    webhook_bytes: int = 1 << 20

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        url = f"{exchange.base_url(credentials, _URL)}/v1/email"
        return exchange.json_post(url, exchange.bearer(credentials["api_token"]), _payload(email))

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        if response.status == 202:
            message_id = one_line(response.headers.get("x-message-id", "")) or None
            suppressed = _suppression(answer)
            if suppressed and message_id is None:
                return Refused(Failure(FailureKind.SUPPRESSED, reason=suppressed))
            paused = response.headers.get("x-send-paused", "").strip().lower() == "true"
            return Accepted(message_id, "MailerSend has paused the sending of this account" if paused else "")
        fields, messages = _errors(answer)
        reason = one_line("; ".join(messages)) or reading.text(answer, "message") or f"HTTP {response.status}"
        kind = _ANSWERS.get(response.status, FailureKind.OTHER)
        if exchange.passes(response.status) or response.status == _MAINTENANCE:
            return TryAgain(Failure(kind, reason=reason), exchange.wait(_headers(response)))
        if response.status == 422:
            kind = next((_FIELDS[name] for name in fields if name in _FIELDS), kind)
        if "trial account" in reason.lower():
            kind = FailureKind.ACCOUNT
        return Refused(Failure(kind, reason=reason))

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        """Page "Messages", "Get info for a single message": the activity of a domain can't be asked for one message."""
        if not question.provider_message_id:
            return None
        url = f"{exchange.base_url(credentials, _URL)}/v1/messages/{quote(question.provider_message_id, safe='')}"
        return exchange.get(url, exchange.bearer(credentials["api_token"]))

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        message = reading.nested(reading.decode_object(response.body), "data")
        emails = message.get("emails")
        known = reading.text(message, "id") == question.provider_message_id
        if response.status != 200 or not isinstance(emails, list) or not known:
            return exchange.not_told(HttpResponse(response.status, _headers(response), response.body))
        return Told(reading.read_each(emails, lambda email: mailersend_events.state(email, question)))

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Page "Other endpoints", "Get API quota": it doesn't count towards the quota."""
        return exchange.get(
            f"{exchange.base_url(credentials, _URL)}/v1/api-quota", exchange.bearer(credentials["api_token"])
        )

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if response.status == 200 and reading.decode_object(response.body).get("remaining") == 0:
            return CredentialsCheck(True, "MailerSend takes the token. The account's requests of today are used up.")
        return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        """HMAC-SHA256 over the raw body. There is no timestamp; the dedupe key makes a replay harmless."""
        mac = signatures.decode_hex(request.headers.get(_SIGNATURE, ""))
        keys = [secret.encode("utf-8", "surrogatepass") for secret in secrets]
        if signatures.mac_matches(keys, request.body, mac):
            return
        if not (_is_test(request.body) and signatures.mac_matches([_TEST_KEY], request.body, mac)):
            raise WebhookRejected("the signature is wrong")

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        return reading.read_one(body, mailersend_events.event)


def _headers(response: HttpResponse) -> Mapping[str, str]:
    """Page "General API resources": once the day's quota is used up, x-apiquota-reset says when the next begins."""
    used_up = response.status == 429 and response.headers.get("x-apiquota-remaining", "").strip() == "0"
    if not used_up:
        return response.headers
    try:
        until = reading.iso_time(response.headers.get("x-apiquota-reset"))
    except reading.Malformed:
        return response.headers
    return {"x-ratelimit-reset": str(int(until.timestamp())), **response.headers}


def _payload(email: Email) -> dict[str, object]:
    # Headers of our own are for Enterprise plans alone, so there is neither Message-ID nor Auto-Submitted.
    payload: dict[str, object] = {
        "from": exchange.name_and_email(email.sender),
        "to": [exchange.name_and_email(email.recipient)],
        "subject": email.subject,
        "tags": [str(email.id)],
        "settings": {
            "track_opens": email.track_opens,
            "track_clicks": False,  # links in health mail are not ours to rewrite
            "track_content": False,  # and its text is not MailerSend's to show
        },
    }
    if email.text:
        payload["text"] = email.text
    if email.html is not None:
        payload["html"] = email.html
    if email.reply_to:
        payload["reply_to"] = exchange.name_and_email(email.reply_to)
    return payload


def _suppression(answer: reading.Fields) -> str:
    """Why our one recipient is suppressed; empty when nobody is. "REST API response codes": such an email is answered
    by 202 with a warning, and is not sent."""
    for warning in reading.objects(answer.get("warnings")):
        if reading.text(warning, "type").replace("_", "").upper() in {"ALLSUPPRESSED", "SOMESUPPRESSED"}:
            listed = [each.get("reasons") for each in reading.objects(warning.get("recipients"))]
            reasons = [
                reason for each in listed if isinstance(each, list) for reason in each if isinstance(reason, str)
            ]
            said = reading.text(warning, "message") or "The recipient is suppressed."
            return one_line(f"{said} ({', '.join(reasons)})" if reasons else said)
    return ""


def _errors(answer: reading.Fields) -> tuple[list[str], list[str]]:
    """The first part of each field that a validation error names, and what it says of them."""
    errors = reading.nested(answer, "errors")
    messages = [message for each in errors.values() if isinstance(each, list) for message in each]
    return [name.partition(".")[0] for name in errors], [message for message in messages if isinstance(message, str)]


def _is_test(body: bytes) -> bool:
    return len(body) <= _LONGEST_TEST and reading.decode_object(body).get("type") == mailersend_events.TEST
