"""Mailtrap.

Pages, at docs.mailtrap.io: "Transactional", "Email Logs", "Domains", "Webhooks" and "Rate limits" (developers);
"Webhooks", "Recipient Tracking Opt-Outs" (email-api-smtp). What its events mean stands in `mailtrap_events`.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import quote, urlencode

from mail.errors import WebhookRejected
from mail.failure import Failure, FailureKind, one_line
from mail.message import Email
from mail.providers import exchange, mailtrap_events, reading, signatures
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

_SIGNATURE: Final = "mailtrap-signature"
_ACCOUNT_URL: Final = "https://mailtrap.io"
_SANDBOX_URL: Final = "https://sandbox.api.mailtrap.io"
_STREAMS: Mapping[str, str] = {
    "transactional": "https://send.api.mailtrap.io",
    "bulk": "https://bulk.api.mailtrap.io",
}

# What the first error of a 400 begins with.
_FIELDS: Mapping[str, FailureKind] = {
    "'to'": FailureKind.ADDRESS_UNKNOWN,
    "'from'": FailureKind.ACCOUNT,
    "'reply_to'": FailureKind.ACCOUNT,
}


class Mailtrap(SignedAdapter):
    """Mailtrap's email API, webhooks and email logs."""

    name: str = "mailtrap"
    label: str = "Mailtrap"
    # No field tells machine opens apart; Apple's are known by their user agent. Every webhook is signed with the
    # secret that Mailtrap makes for it.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=False,
        tracking_switch=False,
        metadata=True,
        idempotency=False,
        proof=Proof.SIGNATURE,
        # Rate limits: one message 1,000 times a minute, lists 60 times a minute.
        asking=Asking(per_second=1, days=30, needs="a plan that keeps its email logs as long"),
        tracking_warning="Turn open tracking and click tracking off at the domain (Tracking Settings) unless every "
        "patient agrees: no message can turn them off.",
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_token", "API token"),
        CredentialField("stream", "Sending stream", required=False, secret=False, choices=tuple(_STREAMS)),
        CredentialField("sandbox_id", "Sandbox id", required=False, secret=False),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "Verify the From domain (Sending Domains), and turn click tracking off at its Tracking Settings, open "
            "tracking too unless every patient agrees: Mailtrap can't turn them off for one email.",
            "Make an API token (Settings > API Tokens) with admin access to the domain; viewing it lets us find "
            "missed events in the email logs.",
            "Enter stream bulk only if emails go out by the bulk stream; it is transactional by default. For a trial "
            "that reaches nobody, enter the number of a sandbox as sandbox_id; a sandbox sends no events.",
            "At Settings > Webhooks > Create New Webhook, enter {url}, choose JSON as payload format, Email Sending, "
            "the same stream and domain, and all events.",
            "Copy the webhook's signing secret (it is shown when it is made) and enter it with rotateWebhookSecret; "
            "until then webhooks are refused, and Mailtrap tries for three hours and then pauses the webhook.",
        ),
        spf="_spf.smtp.mailtrap.live",
    )
    kept_headers: Sequence[str] = (_SIGNATURE,)
    webhook_bytes: int = 4 << 20  # up to 500 events

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        sandbox = credentials.get("sandbox_id")
        host = exchange.base_url(
            credentials, _SANDBOX_URL if sandbox else _STREAMS[credentials.get("stream") or "transactional"]
        )
        url = f"{host}/api/send/{quote(sandbox, safe='')}" if sandbox else f"{host}/api/send"
        return exchange.json_post(url, _token(credentials), _payload(email))

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        ids = answer.get("message_ids")
        if response.status == 200 and answer.get("success") is True and isinstance(ids, list) and ids:
            return Accepted(reading.text({"id": ids[0]}, "id") or None)
        errors = _errors(answer)
        # 403 also says that the domain isn't verified, 404 that there is no such sandbox.
        kind = exchange.STATUSES.get(response.status, FailureKind.OTHER)
        if response.status == 400:
            kind = next((_FIELDS[start] for start in _FIELDS if errors.startswith(start)), kind)
        failure = Failure(kind, reason=errors or f"HTTP {response.status}")
        return (
            TryAgain(failure, exchange.wait(response.headers)) if exchange.passes(response.status) else Refused(failure)
        )

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        """Email Logs: the message by its id; where its answer never came, those to its recipient since it was sent."""
        if question.provider_message_id:
            return _log_request(question.provider_message_id, credentials)
        return _list_request(question, credentials)

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        answer = reading.decode_object(response.body)
        events, messages = answer.get("events"), answer.get("messages")
        provider_message_id = reading.text(answer, "message_id")
        if response.status != 200:
            return exchange.not_told(response)
        if isinstance(messages, list):
            return _found(messages, reading.text(answer, "next_page_cursor"), question, credentials)
        if not isinstance(events, list) or not provider_message_id:
            return exchange.not_told(response)
        if question.provider_message_id and provider_message_id != question.provider_message_id:
            return NotTold(Failure(FailureKind.OTHER, reason="Mailtrap told of another message"))
        common = {
            "message_id": provider_message_id,
            "email": answer.get("to"),
            "custom_variables": {reading.METADATA_KEY: str(question.message_id)},
        }
        logged = [{**mailtrap_events.as_posted(each), **common} if isinstance(each, dict) else each for each in events]
        return Told(reading.read_each(logged, mailtrap_events.event))

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Domains, "List domains"."""
        return exchange.get(f"{exchange.base_url(credentials, _ACCOUNT_URL)}/api/domains", _token(credentials))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if response.status == 403:
            return CredentialsCheck(
                None, "Mailtrap knows the token, but doesn't show it the domains, so it may or may not send."
            )
        domains = reading.decode_object(response.body).get("data")
        found = [each for each in domains if isinstance(each, dict)] if isinstance(domains, list) else []
        tracked = [name for name in ("open", "click") if any(each.get(f"{name}_tracking_enabled") for each in found)]
        if response.status == 200 and tracked:
            return CredentialsCheck(
                True,
                f"Mailtrap takes the token. Its {' and '.join(tracked)} tracking is on at a domain, for every patient: "
                "switch it off unless all agree.",
            )
        return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        """HMAC over the raw body. No time is signed, so the event ids make a replay harmless."""
        mac = signatures.decode_hex(request.headers.get(_SIGNATURE, ""))
        keys = [secret.encode("utf-8", "surrogatepass") for secret in secrets]
        if not signatures.mac_matches(keys, request.body, mac):
            raise WebhookRejected("the signature is wrong")

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        try:
            events = mailtrap_events.posted(body)
        except reading.Malformed as malformed:
            return reading.not_readable(str(malformed))
        return reading.read_each(events, mailtrap_events.event)


def _token(credentials: Mapping[str, str]) -> dict[str, str]:
    return {"api-token": credentials["api_token"]}


def _payload(email: Email) -> dict[str, object]:
    # Message-ID isn't set: some headers are reserved, the page doesn't say which, and a reserved one is refused.
    payload: dict[str, object] = {
        "from": exchange.name_and_email(email.sender),
        "to": [exchange.name_and_email(email.recipient)],
        "subject": email.subject,
        "headers": {"Auto-Submitted": "auto-generated"},
        "custom_variables": {reading.METADATA_KEY: str(email.id)},
    }
    if email.text or email.html is None:
        payload["text"] = email.text
    if email.html is not None:
        payload["html"] = email.html
    if email.reply_to:
        payload["reply_to"] = exchange.name_and_email(email.reply_to)
    return payload


def _errors(answer: reading.Fields) -> str:
    """The errors of a refusal on one line: a list from the sending API, one text from the rest."""
    errors = answer.get("errors")
    texts = [each for each in errors if isinstance(each, str)] if isinstance(errors, list) else []
    return one_line("; ".join(texts)) or reading.text(answer, "errors") or reading.text(answer, "error")


def _log_request(provider_message_id: str, credentials: Mapping[str, str]) -> HttpRequest:
    url = f"{exchange.base_url(credentials, _ACCOUNT_URL)}/api/email_logs/{quote(provider_message_id, safe='')}"
    return exchange.get(url, _token(credentials))


def _list_request(question: Question, credentials: Mapping[str, str], cursor: str = "") -> HttpRequest:
    since = (question.sent_at - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")  # clocks differ
    query = {
        "filters[sent_after]": since,
        "filters[to][operator]": "ci_equal",
        "filters[to][value]": question.recipient,
        **({"search_after": cursor} if cursor else {}),
    }
    url = f"{exchange.base_url(credentials, _ACCOUNT_URL)}/api/email_logs?{urlencode(query)}"
    return exchange.get(url, _token(credentials))


def _found(
    messages: Sequence[object], cursor: str, question: Question, credentials: Mapping[str, str]
) -> Told | NotTold:
    """The request for the one among listed messages that carries our id, or for the next page of them."""
    for each in messages:
        if not isinstance(each, dict) or reading.our_id(reading.nested(each, "custom_variables")) is None:
            continue
        provider_message_id = reading.text(each, "message_id")
        if reading.our_id(reading.nested(each, "custom_variables")) == question.message_id and provider_message_id:
            return Told(Reading(), _log_request(provider_message_id, credentials))
    if cursor:
        return Told(Reading(), _list_request(question, credentials, cursor))
    return NotTold(Failure(FailureKind.OTHER, reason="Mailtrap has no log of it"))
