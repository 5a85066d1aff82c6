"""Mandrill (Mailchimp Transactional).

Pages, at mailchimp.com/developer/transactional: "Messages" and "Users" (API), "Track and Respond to Email Activity
with Webhooks" (guide). What its events mean stands in `mandrill_events`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mail.errors import WebhookRejected
from mail.failure import Failure, FailureKind
from mail.message import Email
from mail.providers import exchange, forms, mandrill_events, reading, signatures
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

_URL: Final = "https://mandrillapp.com"
_SIGNATURE: Final = "x-mandrill-signature"

# The guide, "Authenticating webhook requests": what a test is signed with before the webhook's own key exists. All the
# world knows it, so that it proves a test without events and nothing more.
_TEST_KEY: Final = b"test-webhook"
_TEST: Mapping[bytes, bytes] = {b"mandrill_events": b"[]"}

# Messages, "Send new message": `name` of an error. They come with HTTP 500 as a rule, so that the name counts.
_ERRORS: Mapping[str, FailureKind] = {
    "Invalid_Key": FailureKind.ACCOUNT,
    "PaymentRequired": FailureKind.ACCOUNT,
    "Unknown_Subaccount": FailureKind.ACCOUNT,
    "ValidationError": FailureKind.CONTENT,
}
_ERRORS_FOR_NOW: Mapping[str, FailureKind] = {
    "GeneralError": FailureKind.OTHER,
    "ServiceUnavailable": FailureKind.UNREACHABLE,
}


class Mandrill(SignedAdapter):
    """Mandrill's API 1.0 and webhooks."""

    name: str = "mandrill"
    label: str = "Mandrill"
    # Deliveries are reported since 2022, to webhooks that ask for them.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=False,
        tracking_switch=True,
        metadata=True,
        idempotency=False,
        proof=Proof.SIGNATURE,
        # No rate is documented. Emails are kept for 30 days ("About Email Content Storage").
        asking=Asking(per_second=1, days=30),
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "API key"),
        CredentialField("subaccount", "Subaccount", required=False, secret=False),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "Verify the sending domain and its DKIM (Settings > Domains), and make an API key (Settings > SMTP & API "
            "Info); a test key sends nothing.",
            "Enter the id of a subaccount as subaccount if emails go out by one.",
            "At Settings > Webhooks > Add a Webhook, enter {url} exactly so, and choose all message events: Sent, "
            "Delivered, Delayed, Bounced, Soft-Bounced, Opened, Clicked, Marked As Spam, Unsubscribed and Rejected. A "
            "webhook of before 2022 has Delivered switched off.",
            "Copy the webhook's key and enter it with rotateWebhookSecret; until then webhooks are refused, and "
            "Mandrill tries them again.",
        ),
        spf="spf.mandrillapp.com",
        dkim=("mte1", "mte2"),
    )
    kept_headers: Sequence[str] = (_SIGNATURE,)
    webhook_bytes: int = 8 << 20  # up to 1,000 events

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        message = _message(email)
        if subaccount := credentials.get("subaccount"):
            message["subaccount"] = subaccount
        return _request("messages/send", credentials, {"message": message, "async": False})

    def read_answer(self, response: HttpResponse) -> Answer:
        results = _decoded(response.body)
        if response.status == 200 and isinstance(results, list) and results and isinstance(results[0], dict):
            return _result(results[0])
        error = results if isinstance(results, dict) else {}
        name = reading.text(error, "name")
        by_status = exchange.STATUSES.get(response.status, FailureKind.OTHER)
        kind = _ERRORS.get(name) or _ERRORS_FOR_NOW.get(name, by_status)
        failure = Failure(kind, reason=reading.text(error, "message") or f"HTTP {response.status}")
        if name not in _ERRORS and (name in _ERRORS_FOR_NOW or exchange.passes(response.status)):
            return TryAgain(failure, exchange.wait(response.headers))
        return Refused(failure)

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        """Messages, "Get message info"."""
        if not question.provider_message_id:
            return None
        return _request("messages/info", credentials, {"id": question.provider_message_id})

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        info = reading.decode_object(response.body)
        if response.status != 200:
            kind = _ERRORS.get(reading.text(info, "name"), FailureKind.OTHER)
            nothing = exchange.not_told(response)
            reason = reading.text(info, "message")
            return NotTold(Failure(kind, reason=reason), nothing.after) if reason else nothing
        if reading.text(info, "_id") != question.provider_message_id:
            return NotTold(Failure(FailureKind.OTHER, reason="Mandrill told of no message or another one"))
        known = {**info, "metadata": {reading.METADATA_KEY: str(question.message_id)}}
        return Told(reading.read_each(mandrill_events.history(known), mandrill_events.event))

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Users, "Ping 2"."""
        return _request("users/ping2", credentials, {})

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        answer = reading.decode_object(response.body)
        if reading.text(answer, "name") == "Invalid_Key":
            return CredentialsCheck(False, "Mandrill doesn't know the key; make a new one and enter it.")
        if response.status == 200 and reading.text(answer, "PING") != "PONG!":
            return CredentialsCheck(None, "Mandrill's answer says nothing of the key.")
        return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        """HMAC-SHA1 over the URL as it was entered and the form's fields, sorted, names and values run together. No
        time is signed, so what makes an event itself makes a replay harmless."""
        mac = signatures.decode(request.headers.get(_SIGNATURE, ""))
        form = dict(forms.encoded(request.body))
        signed = request.url.encode() + b"".join(name + value for name, value in sorted(form.items()))
        keys = [secret.encode("utf-8", "surrogatepass") for secret in secrets]
        if form == _TEST:
            keys.append(_TEST_KEY)
        if not signatures.mac_matches(keys, signed, mac, "sha1"):
            raise WebhookRejected("the signature is wrong, or the webhook was entered with another URL")

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        events = dict(forms.encoded(body)).get(b"mandrill_events")
        if events is None:
            return reading.not_readable("the body has no mandrill_events")
        try:
            whole = reading.decode(events)
        except reading.Malformed:
            return reading.not_readable("mandrill_events is not JSON")
        if not isinstance(whole, list):
            return reading.not_readable("mandrill_events is not a list of events")
        return reading.read_each(whole, mandrill_events.event)


def _request(call: str, credentials: Mapping[str, str], payload: Mapping[str, object]) -> HttpRequest:
    """A call of API 1.0, in whose body the key stands."""
    url = f"{exchange.base_url(credentials, _URL)}/api/1.0/{call}.json"
    return exchange.json_post(url, {}, {"key": credentials["api_key"], **payload})


def _message(email: Email) -> dict[str, object]:
    headers = {"Message-ID": email.rfc_message_id, "Auto-Submitted": "auto-generated"}
    if email.reply_to:
        headers["Reply-To"] = exchange.mailbox(email.reply_to)
    to = {"email": email.recipient.email, "type": "to"}
    message: dict[str, object] = {
        "from_email": email.sender.email,
        "to": [{**to, "name": email.recipient.name} if email.recipient.name else to],
        "subject": email.subject,
        "text": email.text,
        "headers": headers,
        "track_opens": email.track_opens,
        "track_clicks": False,  # links in health mail are not ours to rewrite
        # What the account may have on: each would change what staff wrote, or keep it where others can read it.
        "auto_html": False,
        "auto_text": False,
        "inline_css": False,
        "merge": False,
        "view_content_link": False,
        "metadata": {reading.METADATA_KEY: str(email.id)},
    }
    if email.sender.name:
        message["from_name"] = email.sender.name
    if email.html is not None:
        message["html"] = email.html
    return message


def _decoded(body: bytes) -> object:
    try:
        return reading.decode(body)
    except reading.Malformed:
        return None


def _result(result: reading.Fields) -> Answer:
    """What became of the one recipient. A status of tomorrow is taken for an acceptance: to send again would be worse
    than to wait for its events."""
    status, reason = reading.text(result, "status"), reading.text(result, "reject_reason")
    match status:
        case "rejected":
            return Refused(mandrill_events.rejection(reason))
        case "invalid":
            return Refused(Failure(FailureKind.ADDRESS_UNKNOWN, reason="Mandrill takes the address for invalid"))
        case "" | "error":
            return TryAgain(Failure(FailureKind.OTHER, reason=reading.text(result, "message") or "no status was given"))
        case _:
            return Accepted(reading.text(result, "_id") or None, status)
