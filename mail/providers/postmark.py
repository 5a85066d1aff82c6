"""Postmark.

Pages, at postmarkapp.com: developer/api/email-api and overview (error codes), bounce-api (bounce types),
developer/webhooks (one page each), developer/user-guide/tracking-opens, support/article/1159 (soft bounces).
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from mail.failure import Failure, FailureKind
from mail.message import Email
from mail.providers import exchange, postmark_events, reading
from mail.providers.adapter import PasswordAdapter
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
)

_URL: Final = "https://api.postmarkapp.com"
_STREAM: Final = "outbound"


# developer/api/overview, "Error codes": those that POST /email can answer with. Others go by the HTTP status.
_ERRORS: Mapping[int, FailureKind] = {
    10: FailureKind.ACCOUNT,  # bad or missing token
    300: FailureKind.CONTENT,  # invalid email request
    400: FailureKind.ACCOUNT,  # sender signature not found
    401: FailureKind.ACCOUNT,  # sender signature not confirmed
    402: FailureKind.CONTENT,  # invalid JSON
    403: FailureKind.CONTENT,  # incompatible JSON
    405: FailureKind.ACCOUNT,  # not allowed to send: out of credits
    406: FailureKind.SUPPRESSED,  # inactive recipient
    409: FailureKind.CONTENT,  # JSON required
    411: FailureKind.CONTENT,  # forbidden attachment type
    412: FailureKind.ACCOUNT,  # account is pending
    413: FailureKind.ACCOUNT,  # account may not send
}
_ERRORS_FOR_NOW: Mapping[int, FailureKind] = {
    100: FailureKind.UNREACHABLE,  # maintenance
    429: FailureKind.ACCOUNT,  # rate limit
}
# What the message of a 300 quotes.
_INVALID: Mapping[str, FailureKind] = {
    "'To'": FailureKind.ADDRESS_UNKNOWN,
    "'From'": FailureKind.ACCOUNT,
    "'ReplyTo'": FailureKind.ACCOUNT,
}


class Postmark(PasswordAdapter):
    """Postmark's email API and webhooks."""

    name: str = "postmark"
    label: str = "Postmark"
    # TrackOpens false can't turn off what the server has on ("Tracking opens per email"): keep the server's off.
    # No field tells machine opens apart; Apple's are known by their user agent.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=False,
        tracking_switch=False,
        metadata=True,
        idempotency=False,
        proof=Proof.PASSWORD,
        asking=Asking(per_second=5, days=45),
        tracking_warning="Keep open tracking off at the Postmark server (its default): a message can turn it on and "
        "can't turn it off.",
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("server_token", "Server API token"),
        CredentialField("message_stream", "Message stream", required=False, secret=False),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "Copy the Server API token (Servers > API Tokens), and verify the From domain with DKIM and Return-Path.",
            "Enter message_stream if emails don't go out by the stream outbound, and leave open tracking off at the "
            "server: we turn it on for each email whose patient agrees.",
            "At Message Stream > Webhooks, enter {url} (it holds a password and is shown this once) for Delivery, "
            "Bounce, Spam Complaint, Open, Link Click and Subscription Change.",
        ),
        spf="spf.mtasv.net",
    )
    unavailable_status: int = 503  # 403 would end the retries
    webhook_bytes: int = 1 << 20

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        payload = _payload(email, credentials.get("message_stream") or _STREAM)
        return exchange.json_post(f"{exchange.base_url(credentials, _URL)}/email", _token(credentials), payload)

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        code = answer.get("ErrorCode")
        code = code if isinstance(code, int) and not isinstance(code, bool) else -1
        if response.status == 200 and code == 0:
            return Accepted(reading.text(answer, "MessageID") or None)
        reason = reading.text(answer, "Message") or f"HTTP {response.status}"
        by_status = exchange.STATUSES.get(response.status, FailureKind.OTHER)
        if code in _ERRORS and not exchange.for_now(response.status):
            invalid = (_INVALID[field] for field in _INVALID if code == 300 and field in reason)
            return Refused(Failure(next(invalid, _ERRORS[code]), reason=reason))
        if code in _ERRORS_FOR_NOW or exchange.passes(response.status):
            kind = _ERRORS_FOR_NOW.get(code, by_status)
            return TryAgain(Failure(kind, reason=reason), exchange.wait(response.headers))
        return Refused(Failure(by_status, reason=reason))

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        if not question.provider_message_id:
            return None
        url = f"{exchange.base_url(credentials, _URL)}/messages/outbound/{quote(question.provider_message_id, safe='')}"
        return exchange.get(f"{url}/details", _token(credentials))

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        """messages-api: what happened to it; then bounce-api, where something bounced."""
        answer = reading.decode_object(response.body)
        history, bounces = answer.get("MessageEvents"), answer.get("Bounces")
        ids = {"MessageID": question.provider_message_id, "Metadata": {reading.METADATA_KEY: str(question.message_id)}}
        if response.status != 200:
            return exchange.not_told(response)
        if isinstance(bounces, list):
            records = [{**each, **ids, "RecordType": "Bounce"} for each in bounces if isinstance(each, dict)]
            return Told(reading.read_each(records, postmark_events.event))
        if not isinstance(history, list):
            return exchange.not_told(response)
        events = [each for each in history if isinstance(each, dict)]
        records = [{**ids, **record} for each in events if (record := postmark_events.as_record(each))]
        more = None
        if any(each.get("Type") == "Bounced" for each in events):
            query = urlencode({"count": 50, "offset": 0, "messageID": question.provider_message_id or ""})
            more = exchange.get(f"{exchange.base_url(credentials, _URL)}/bounces?{query}", _token(credentials))
        return Told(reading.read_each(records, postmark_events.event), more)

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Server API, "Get the server"."""
        return exchange.get(f"{exchange.base_url(credentials, _URL)}/server", _token(credentials))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if response.status == 200 and reading.decode_object(response.body).get("TrackOpens") is True:
            return CredentialsCheck(True, "Postmark takes the token. Open tracking is on at the server: switch it off.")
        return exchange.read_check(self.label, response)

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        return reading.read_one(body, postmark_events.event)


def _payload(email: Email, stream: str) -> dict[str, object]:
    headers = {
        "Message-ID": email.rfc_message_id,
        "X-PM-KeepID": "true",  # without it Postmark writes a Message-ID of its own
        "Auto-Submitted": "auto-generated",
    }
    payload: dict[str, object] = {
        "From": exchange.mailbox(email.sender),
        "To": exchange.mailbox(email.recipient),
        "Subject": email.subject,
        "TextBody": email.text,
        "MessageStream": stream,
        "Metadata": {reading.METADATA_KEY: str(email.id)},
        "TrackOpens": email.track_opens,
        "TrackLinks": "None",  # links in health mail are not ours to rewrite
        "Headers": [{"Name": name, "Value": value} for name, value in headers.items()],
    }
    if email.html is not None:
        payload["HtmlBody"] = email.html
    if email.reply_to:
        payload["ReplyTo"] = exchange.mailbox(email.reply_to)
    return payload


def _token(credentials: Mapping[str, str]) -> dict[str, str]:
    return {"x-postmark-server-token": credentials["server_token"]}
