"""Resend.

Pages, at resend.com/docs: api-reference/emails/send-email and retrieve-email, api-reference/errors and rate-limit,
webhooks/event-types and emails/* (one page each), webhooks/retries-and-replays, dashboard/emails/tags and
idempotency-keys, dashboard/domains/tracking.
"""

import re
from collections.abc import Mapping, Sequence
from email.header import Header
from typing import Final
from urllib.parse import quote

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.message import Address, Email
from mail.providers import exchange, reading, resend_events, svix
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

_URL: Final = "https://api.resend.com"


# retrieve-email: `last_event`, as the event that a webhook would bring.
_LAST_EVENTS: Mapping[str, str] = {
    "scheduled": "email.scheduled",
    "sent": "email.sent",
    "delivered": "email.delivered",
    "delivery_delayed": "email.delivery_delayed",
    "bounced": "email.bounced",
    "suppressed": "email.suppressed",
    "failed": "email.failed",
    "opened": "email.opened",
    "clicked": "email.clicked",
    "complained": "email.complained",
}

# api-reference/errors: `name`. Others go by the HTTP status.
_ERRORS: Mapping[str, FailureKind] = {
    "invalid_idempotency_key": FailureKind.CONTENT,
    "validation_error": FailureKind.CONTENT,
    "missing_api_key": FailureKind.ACCOUNT,
    "restricted_api_key": FailureKind.ACCOUNT,
    "invalid_api_key": FailureKind.ACCOUNT,
    "not_found": FailureKind.ACCOUNT,
    "method_not_allowed": FailureKind.ACCOUNT,
    "invalid_attachment": FailureKind.CONTENT,
    "invalid_from_address": FailureKind.ACCOUNT,
    "invalid_access": FailureKind.ACCOUNT,
    "invalid_parameter": FailureKind.CONTENT,
    "invalid_region": FailureKind.ACCOUNT,
    "missing_required_field": FailureKind.CONTENT,
    "security_error": FailureKind.CONTENT,
    "concurrent_idempotent_requests": FailureKind.OTHER,
    "rate_limit_exceeded": FailureKind.ACCOUNT,
    "daily_quota_exceeded": FailureKind.ACCOUNT,
    "monthly_quota_exceeded": FailureKind.ACCOUNT,
    "application_error": FailureKind.UNREACHABLE,
    "internal_server_error": FailureKind.UNREACHABLE,
}
_CONCURRENT: Final = "concurrent_idempotent_requests"
_SENT_ALREADY: Final = "invalid_idempotent_request"
# What the message of a validation_error quotes.
_FIELDS: Mapping[str, FailureKind] = {
    "`to`": FailureKind.ADDRESS_UNKNOWN,
    "`from`": FailureKind.ACCOUNT,
    "`reply_to`": FailureKind.ACCOUNT,
}

_ATOMS: Final = re.compile(r"[A-Za-z0-9'&_-]+(?: [A-Za-z0-9'&_-]+)*", re.ASCII)


class Resend(SignedAdapter):
    """Resend's API and webhooks."""

    name: str = "resend"
    label: str = "Resend"
    # Amazon SES, by which Resend sends, replaces the Message-ID. An open tells nothing of who opened.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=False,
        tracking_switch=False,
        metadata=True,
        idempotency=True,
        proof=Proof.SIGNATURE,
        asking=Asking(per_second=5, days=30, needs="a key with full access"),
        tracking_warning="Leave open tracking off at the domain in Resend (its default) unless every patient agrees to "
        "it, since it can't be turned off for one email.",
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "API key"),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "At API Keys, make a key with full access and enter it as api_key; one with sending access sends as well, "
            "but can't ask what became of an email.",
            "At Domains, add and verify the From domain, and leave its open and click tracking off.",
            "At Webhooks, add {url} for all events that begin with email., other than email.received.",
            "Copy the webhook's signing secret (whsec_...) and enter it with rotateWebhookSecret; until then its "
            "webhooks are refused, and Resend tries them again for 27 hours.",
        ),
        dkim=("resend",),
    )
    kept_headers: Sequence[str] = svix.HEADERS
    webhook_bytes: int = 1 << 20

    def check_webhook_secret(self, secret: str) -> None:
        svix.check_secret(secret)

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        headers = {**exchange.bearer(credentials["api_key"]), "idempotency-key": str(email.id)}
        return exchange.json_post(f"{exchange.base_url(credentials, _URL)}/emails", headers, _payload(email))

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        message_id = reading.text(answer, "id")
        if response.status in {200, 201} and message_id:
            return Accepted(message_id)
        name = reading.text(answer, "name")
        reason = reading.text(answer, "message") or name or f"HTTP {response.status}"
        if response.status == 409 and name == _SENT_ALREADY:
            # The key is our message's own and was taken within 24 hours, so it is this email that was sent: by a
            # version of ours that wrote it in other bytes, and whose answer was lost.
            return Accepted(None, reason)
        kind = _ERRORS.get(name, exchange.STATUSES.get(response.status, FailureKind.OTHER))
        if name == "validation_error":
            quoted = (_FIELDS[field] for field in _FIELDS if field in reason)
            kind = next(quoted, FailureKind.ACCOUNT if response.status == 403 else kind)
        failure = Failure(kind, reason=reason)
        if name == _CONCURRENT or exchange.passes(response.status):
            return TryAgain(failure, exchange.wait(response.headers))
        return Refused(failure)

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        if not question.provider_message_id:
            return None
        path = f"/emails/{quote(question.provider_message_id, safe='')}"
        return exchange.get(exchange.base_url(credentials, _URL) + path, exchange.bearer(credentials["api_key"]))

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        """retrieve-email: the last event alone, and not when it was. It was before the answer, whose time stands for
        it, so that a webhook which comes later counts as the earlier one."""
        last = reading.text(reading.decode_object(response.body), "last_event")
        if response.status != 200 or not last:
            return exchange.not_told(response)
        if last == "queued":
            return Told(Reading())
        name = _LAST_EVENTS.get(last, last)
        kind, failure = resend_events.outcome(name, {})
        event = Event(
            kind=EventKind.REJECTED if last == "canceled" else kind,
            occurred_at=exchange.answered_at(response.headers) or question.sent_at,
            dedupe_key=reading.dedupe_key("last_event", question.provider_message_id, last),
            message_id=question.message_id,
            provider_message_id=question.provider_message_id,
            recipient=question.recipient,
            failure=failure,
            detail=name,
        )
        return Told(Reading((event,)))

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """api-reference/domains, "List domains"."""
        return exchange.get(f"{exchange.base_url(credentials, _URL)}/domains", exchange.bearer(credentials["api_key"]))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if (
            response.status == 401
            and reading.text(reading.decode_object(response.body), "name") == "restricted_api_key"
        ):
            return CredentialsCheck(
                None, "Resend takes the key for sending alone; to ask what became of an email it needs full access."
            )
        return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        svix.verify(request.headers, request.body, secrets)

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        return reading.read_one(body, lambda fields: resend_events.event(fields, svix.event_id(headers)))


def _payload(email: Email) -> dict[str, object]:
    payload: dict[str, object] = {
        "from": exchange.mailbox(exchange.with_ascii_domain(email.sender)),
        "to": [_mailbox(email.recipient)],
        "subject": email.subject,
        "text": email.text,
        "headers": {"Auto-Submitted": "auto-generated"},
        "tags": [{"name": reading.METADATA_KEY, "value": str(email.id)}],
    }
    if email.html is not None:
        payload["html"] = email.html
    if email.reply_to:
        payload["reply_to"] = [_mailbox(email.reply_to)]
    return payload


def _mailbox(address: Address) -> str:
    """Resend refuses a quoted name everywhere but in `from`, and there an RFC 2047 encoded word; so it is one here."""
    address = exchange.with_ascii_domain(address)
    if not address.name or _ATOMS.fullmatch(address.name):
        return f"{address.name} <{address.email}>" if address.name else address.email
    return f"{Header(address.name, 'utf-8').encode(linesep='')} <{address.email}>"
