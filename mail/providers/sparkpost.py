"""SparkPost.

Pages, at developers.sparkpost.com: api (overview, errors, rate limiting), api/transmissions, api/template-language,
api/webhooks, api/events; at support.sparkpost.com: "Extended Error Codes". What its events mean stands in
`sparkpost_events`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, timedelta
from typing import Final
from urllib.parse import quote, urlencode

from mail.failure import Failure, FailureKind
from mail.message import Address, Email
from mail.providers import exchange, reading, sparkpost_events
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

_REGIONS: Mapping[str, str] = {"us": "https://api.sparkpost.com", "eu": "https://api.eu.sparkpost.com"}
_EVENTS: Final = "/api/v1/events/message"

# "Extended Error Codes": `code`. Others go by the HTTP status.
_CODES: Mapping[str, FailureKind] = {
    "1100": FailureKind.ACCOUNT,
    "1101": FailureKind.ACCOUNT,
    "1102": FailureKind.ACCOUNT,
    "1103": FailureKind.ACCOUNT,
    "1303": FailureKind.ACCOUNT,
    "1304": FailureKind.ACCOUNT,
    "1500": FailureKind.UNREACHABLE,
    "1501": FailureKind.UNREACHABLE,
    "1502": FailureKind.UNREACHABLE,
    "1600": FailureKind.ACCOUNT,
    "1601": FailureKind.ACCOUNT,
    "1900": FailureKind.UNREACHABLE,
    "1910": FailureKind.ACCOUNT,
    "2000": FailureKind.ADDRESS_UNKNOWN,
    "2101": FailureKind.ACCOUNT,
    "2102": FailureKind.ACCOUNT,
    "2103": FailureKind.ACCOUNT,
    "5002": FailureKind.ADDRESS_UNKNOWN,
    "7000": FailureKind.ACCOUNT,
    "7001": FailureKind.ACCOUNT,
}
_LATER: Final = frozenset({"1500", "1501", "1502", "1900", "2101", "2102"})
_SANDBOX_USED_UP: Final = "2103"  # five emails in an account's life
_SENDING_LIMIT: Final = 420  # api, "Errors": "Exceed Sending Limit"
_STATUSES: Mapping[int, FailureKind] = {
    **exchange.STATUSES,
    420: FailureKind.ACCOUNT,
}

# What SparkPost's template language reads as its own.
_BRACES: Final = re.compile(r"[{}]{2,}")


class SparkPost(PasswordAdapter):
    """SparkPost's transmissions, webhooks and Events API."""

    name: str = "sparkpost"
    label: str = "SparkPost"
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=True,
        tracking_switch=True,
        metadata=True,
        idempotency=False,
        proof=Proof.PASSWORD,
        asking=Asking(per_second=1, days=10, needs="a key with the permission Events: Read-only"),
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "API key"),
        CredentialField("region", "Region", required=False, secret=False, choices=tuple(_REGIONS)),
        CredentialField("subaccount_id", "Subaccount id", required=False, secret=False),
        CredentialField("webhook_id", "Webhook id", required=False, secret=False),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "Make an API key with the permissions Transmissions: Read/Write and Events: Read-only, and enter region eu "
            "if the account is at app.eu.sparkpost.com.",
            "Enter subaccount_id only if emails go out by a subaccount with the key of the main account.",
            "At Sending Domains, add and verify the From domain, and a bounce domain below it.",
            "At Webhooks, add {url} (its name and password may be entered apart, as Basic Auth), with all message, "
            "engagement, generation and unsubscribe events.",
            "To have SparkPost test the webhook from here, enter its id as webhook_id and give the key the permission "
            "Event Webhooks: Read/Write.",
        ),
    )
    webhook_bytes: int = 16 << 20  # "up to 10,000 events"

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        url = f"{_host(credentials)}/api/v1/transmissions"
        return exchange.json_post(url, _headers(credentials), _payload(email))

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        results = reading.nested(answer, "results")
        accepted, transmission_id = results.get("total_accepted_recipients"), reading.text(results, "id")
        if response.status == 200 and transmission_id and accepted != 0:
            return Accepted(transmission_id)
        errors = [*_listed(answer, "errors"), *_listed(results, "rcpt_to_errors")]
        codes = [code for code in (reading.text(error, "code") for error in errors) if code]
        failure = _failure(response.status, errors, codes)
        if _SANDBOX_USED_UP in codes or (response.status == 200 and accepted == 0):
            return Refused(failure)
        if _LATER.intersection(codes) or response.status == _SENDING_LIMIT or exchange.passes(response.status):
            return TryAgain(failure, exchange.wait(response.headers))
        return Refused(failure)

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest:
        """By the id of the transmission; where its answer never came, by the recipient, since it was sent."""
        asked = (
            {"transmission_ids": question.provider_message_id}
            if question.provider_message_id
            else {"recipients": question.recipient}
        )
        since = question.sent_at.astimezone(UTC) - timedelta(minutes=5)
        query = urlencode({**asked, "from": since.strftime("%Y-%m-%dT%H:%M"), "per_page": 1000})
        return exchange.get(f"{_host(credentials)}{_EVENTS}?{query}", _headers(credentials))

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        answer = reading.decode_object(response.body)
        results = answer.get("results")
        if response.status != 200 or not isinstance(results, list):
            return exchange.not_told(response)
        told = reading.read_each(results, sparkpost_events.event)
        asked = (question.message_id, None) if question.provider_message_id else (question.message_id,)
        ours = tuple(event for event in told.events if event.message_id in asked)
        following = (reading.text(link, "href") for link in _listed(answer, "links") if link.get("rel") == "next")
        href = next(following, "")
        # The key goes to SparkPost's events alone, whatever the link says.
        more = exchange.get(_host(credentials) + href, _headers(credentials)) if _follows(href) else None
        return Told(Reading(ours, told.unreadable), more)

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Events, "Search for Message Events", of a transmission that isn't there."""
        query = urlencode({"transmission_ids": "0", "per_page": 1})
        return exchange.get(f"{_host(credentials)}{_EVENTS}?{query}", _headers(credentials))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if response.status == 403:
            return CredentialsCheck(
                None, "SparkPost forbids the key to read events; give it the permission Events: Read-only, or new keys."
            )
        return exchange.read_check(self.label, response)

    def webhook_test_request(self, credentials: Mapping[str, str], url: str) -> HttpRequest | None:
        """Webhooks, "Validate": SparkPost posts this to the webhook's URL, which it knows by the webhook's id."""
        webhook_id = credentials.get("webhook_id")
        if not webhook_id:
            return None
        headers = {"accept": "application/json", "content-type": "application/json", **_headers(credentials)}
        path = f"/api/v1/webhooks/{quote(webhook_id, safe='')}/validate"
        return HttpRequest("POST", _host(credentials) + path, headers, b'[{"msys":{}}]')

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        return reading.read_one_or_many(body, sparkpost_events.posted)


def _host(credentials: Mapping[str, str]) -> str:
    return exchange.base_url(credentials, _REGIONS[credentials.get("region") or "us"])


def _headers(credentials: Mapping[str, str]) -> dict[str, str]:
    headers = {"authorization": credentials["api_key"]}
    if credentials.get("subaccount_id"):
        headers["x-msys-subaccount"] = credentials["subaccount_id"]
    return headers


def _payload(email: Email) -> dict[str, object]:
    sender, recipient = exchange.with_ascii_domain(email.sender), exchange.with_ascii_domain(email.recipient)
    written = {"subject": email.subject, "text": email.text}
    if email.html is not None:
        written["html"] = email.html
    if email.reply_to:
        written["reply_to"] = exchange.mailbox(exchange.with_ascii_domain(email.reply_to))
    names = _names([*written.values(), sender.name])
    content: dict[str, object] = {name: _literal(value, names) for name, value in written.items()}
    content["from"] = exchange.name_and_email(Address(sender.email, _literal(sender.name, names)))
    content["headers"] = {"Message-ID": email.rfc_message_id, "Auto-Submitted": "auto-generated"}
    payload: dict[str, object] = {
        "options": {
            "open_tracking": email.track_opens,
            # Links in health mail are not ours to rewrite.
            "click_tracking": False,
            "transactional": True,
        },
        "metadata": {reading.METADATA_KEY: str(email.id)},
        "recipients": [{"address": exchange.name_and_email(recipient)}],
        "content": content,
    }
    if names:
        payload["substitution_data"] = {name: braces for braces, name in names.items()}
    return payload


def _names(texts: Iterable[str]) -> dict[str, str]:
    """A variable for each run of braces in the texts.

    SparkPost reads every text as a template. What is in a variable it takes as it is; its macros for braces
    (`opening_double_curly`) would make a third one of a brace beside them.
    """
    runs = dict.fromkeys(braces for text in texts for braces in _BRACES.findall(text))
    return {braces: f"braces_{number}" for number, braces in enumerate(runs)}


def _literal(text: str, names: Mapping[str, str]) -> str:
    return _BRACES.sub(lambda found: "{{" + names[found[0]] + "}}", text)


def _listed(fields: reading.Fields, name: str) -> list[reading.Fields]:
    listed = fields.get(name)
    return [element for element in listed if isinstance(element, dict)] if isinstance(listed, list) else []


def _failure(status: int, errors: Sequence[reading.Fields], codes: Sequence[str]) -> Failure:
    said = [reading.text(error, "description") or reading.text(error, "message") for error in errors]
    reason = "; ".join(part for part in said if part)[:1000] or f"HTTP {status}"
    if "suppressed" in reason.lower():
        return Failure(FailureKind.SUPPRESSED, reason=reason)
    kind = next((_CODES[code] for code in codes if code in _CODES), _STATUSES.get(status, FailureKind.OTHER))
    return Failure(kind, reason=reason)


def _follows(href: str) -> bool:
    return href.startswith(f"{_EVENTS}?") and href.isascii() and href.isprintable() and " " not in href
