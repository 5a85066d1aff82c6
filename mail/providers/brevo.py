"""Brevo (Sendinblue until 2023).

Pages, at developers.brevo.com: reference "Send a transactional email", "Get all your transactional email activity"
and "Get your account information"; docs "Idempotency for batch emails", "Transactional webhooks", "Batched webhooks",
"Secure webhook calls", "Retry mechanism", "Rate limits", "Rate limit headers". At help.brevo.com: "What is a bounce?".
"""

from collections.abc import Mapping, Sequence
from email.header import Header
from typing import Final
from urllib.parse import urlencode

import orjson

from mail.event import Event
from mail.failure import Failure, FailureKind
from mail.message import Address, Email
from mail.providers import brevo_events, exchange, reading
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

_URL: Final = "https://api.brevo.com"
_NAME_LIMIT: Final = 70  # of a sender's and a recipient's name
_SPECIALS = frozenset('()<>[]:;@\\,."')
_MOST_EVENTS: Final = 2500


# Reference, "Send a transactional email": `code` of an error. Others go by the HTTP status.
_ERRORS: Mapping[str, FailureKind] = {
    "invalid_parameter": FailureKind.CONTENT,
    "missing_parameter": FailureKind.CONTENT,
    "out_of_range": FailureKind.CONTENT,
    "bad_request": FailureKind.CONTENT,
    "not_acceptable": FailureKind.CONTENT,
    "not_enough_credits": FailureKind.ACCOUNT,
    "permission_denied": FailureKind.ACCOUNT,
    "reseller_permission_denied": FailureKind.ACCOUNT,
    "unauthorized": FailureKind.ACCOUNT,
    "account_under_validation": FailureKind.ACCOUNT,
    "method_not_allowed": FailureKind.ACCOUNT,
    "document_not_found": FailureKind.ACCOUNT,
}
# What the message of an invalid_parameter names, by its end or anywhere.
_INVALID: Mapping[str, FailureKind] = {
    "sender": FailureKind.ACCOUNT,
    "replyto": FailureKind.ACCOUNT,
    " in to": FailureKind.ADDRESS_UNKNOWN,
}
# Docs, "Idempotency for batch emails": the key was used within half an hour, and the email is not sent again.
_REPEATED: Final = "duplicate_parameter"


class Brevo(PasswordAdapter):
    """Brevo's email API v3 and its transactional webhooks, single and batched."""

    name: str = "brevo"
    label: str = "Brevo"
    # "Rate limits": 300 requests an hour under /v3/smtp. The report goes back 30 days unless told otherwise.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=True,
        tracking_switch=False,
        metadata=True,
        idempotency=True,
        proof=Proof.PASSWORD,
        asking=Asking(per_second=0.08, days=30),
        tracking_warning="Brevo tracks the opens of every email and can't leave one out: unless all your patients "
        "agree, switch on Anonymous email tracking in the transactional settings at Brevo.",
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "API key"),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "At Settings > Senders, domains, IPs, add the From domain and authenticate it.",
            "At Settings > SMTP & API > API keys, make an API key (xkeysib-..., not an SMTP key) and enter it.",
            "At Security > Authorized IPs, add the address of this server, or switch the check off for API keys.",
            "At Transactional > Settings > Webhook, add {url} (it holds a password and is shown this once) and tick "
            "all events: Sent, Delivered, Deferred, Soft bounced, Hard bounced, Invalid email, Blocked, Error, "
            "First opening, Opened, Loaded by proxy, Clicked, Complaint and Unsubscribed.",
            "At Transactional > Settings, switch on Anonymous email tracking unless all patients agree to open "
            "tracking: Brevo can't leave out a single email.",
        ),
        dkim=("brevo1", "brevo2"),
    )
    unavailable_status: int = 429  # "Retry mechanism": any other 4xx, and any 5xx, throws the event away
    webhook_bytes: int = 4 << 20  # a batch is 500 events

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        url = f"{exchange.base_url(credentials, _URL)}/v3/smtp/email"
        return exchange.json_post(url, _key(credentials), _payload(email))

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        if response.status in {201, 202}:
            return Accepted(brevo_events.bare(reading.text(answer, "messageId")))
        code, message = reading.text(answer, "code"), reading.text(answer, "message")
        reason = message or f"HTTP {response.status}"
        if exchange.passes(response.status):
            kind = exchange.STATUSES.get(response.status, FailureKind.OTHER)
            return TryAgain(Failure(kind, reason=reason), exchange.wait(_headers(response)))
        if code == _REPEATED:
            # Its id was in the answer that didn't reach us; its events bring ours.
            return Accepted(None, reason)
        kind = _ERRORS.get(code, exchange.STATUSES.get(response.status, FailureKind.OTHER))
        if code in {"invalid_parameter", "missing_parameter"}:
            kind = next((_INVALID[named] for named in _INVALID if named in message.lower()), kind)
        return Refused(Failure(kind, reason=reason))

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        """Reference, "Get all your transactional email activity"; one message has far fewer events than a page."""
        if not question.provider_message_id:
            return None
        query = urlencode({"messageId": f"<{question.provider_message_id}>", "limit": _MOST_EVENTS, "sort": "asc"})
        url = f"{exchange.base_url(credentials, _URL)}/v3/smtp/statistics/events?{query}"
        return exchange.get(url, _key(credentials))

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        events = reading.decode_object(response.body).get("events")
        if response.status != 200 or not isinstance(events, list):
            return exchange.not_told(HttpResponse(response.status, _headers(response), response.body))

        def reported(fields: reading.Fields) -> Event | None:
            message_id = brevo_events.bare(reading.text(fields, "messageId"))
            if message_id != question.provider_message_id:
                return None
            return brevo_events.event_at(fields, reading.iso_time(fields.get("date")), question.message_id, message_id)

        return Told(reading.read_each(events, reported))

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Reference, "Get your account information"."""
        return exchange.get(f"{exchange.base_url(credentials, _URL)}/v3/account", _key(credentials))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        message = reading.text(reading.decode_object(response.body), "message")
        if response.status == 401 and "IP address" in message:
            return CredentialsCheck(
                False, "Brevo refuses this server's address: add it at Security > Authorized IPs, or switch that off."
            )
        return exchange.read_check(self.label, response)

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        """One event, or a list of them where the webhook is batched."""
        return reading.read_one_or_many(body, brevo_events.event)


def _key(credentials: Mapping[str, str]) -> dict[str, str]:
    return {"api-key": credentials["api_key"]}


def _headers(response: HttpResponse) -> Mapping[str, str]:
    """ "Rate limit headers": x-sib-ratelimit-reset is the number of seconds to wait; there is no Retry-After."""
    return {**response.headers, "x-ratelimit-reset": response.headers.get("x-sib-ratelimit-reset", "")}


def _payload(email: Email) -> dict[str, object]:
    payload: dict[str, object] = {
        "sender": _mailbox(email.sender),
        "to": [_mailbox(email.recipient)],
        "subject": email.subject,
        # Custom headers alone: the Message-ID is Brevo's. Their values go out as they stand, so they are ASCII.
        "headers": {
            brevo_events.CUSTOM: orjson.dumps({reading.METADATA_KEY: str(email.id)}).decode(),
            "Auto-Submitted": "auto-generated",
            "idempotencyKey": str(email.id),  # a UUID, kept for half an hour
        },
    }
    if email.text:
        payload["textContent"] = email.text
    if email.html is not None:
        payload["htmlContent"] = email.html
    if email.reply_to:
        payload["replyTo"] = _mailbox(email.reply_to)
    return payload


def _mailbox(address: Address) -> dict[str, str]:
    """An address with its name, cut at Brevo's limit.

    Brevo drops a name that is neither ASCII nor free of specials (RFC 5322 section 3.2.3), as django-anymail found; so
    it goes out encoded (RFC 2047), or without the specials where that would be too long.
    """
    name = address.name
    if not name.isascii() and _SPECIALS.intersection(name):
        encoded = Header(name, "utf-8").encode(linesep="")
        plain = " ".join("".join(" " if character in _SPECIALS else character for character in name).split())
        name = encoded if len(encoded) <= _NAME_LIMIT else plain
    name = name[:_NAME_LIMIT].strip()
    return {"email": address.email, "name": name} if name else {"email": address.email}
