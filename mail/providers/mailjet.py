"""Mailjet.

Pages, at dev.mailjet.com: guides "Send API v3.1" (and its errors), "Webhooks" (events, "Possible values for errors"),
"Statistics" (messages); reference "Message", "Messagehistory" and "Sender"; "Status codes" and "Rate limits".
At documentation.mailjet.com: "Event tracking API".
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

import orjson

from mail.failure import Failure, FailureKind, one_line
from mail.message import Address, Email
from mail.providers import exchange, mailjet_events, reading
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

_REGION: Final = "region"
_HOSTS: Mapping[str, str] = {"eu": "https://api.mailjet.com", "us": "https://api.us.mailjet.com"}


# "Send API errors": ErrorCode. Others go by the HTTP status.
_CODES: Mapping[str, FailureKind] = {
    "send-0003": FailureKind.CONTENT,
    "send-0004": FailureKind.CONTENT,
    "send-0006": FailureKind.ACCOUNT,  # the Sender header isn't permitted
    "send-0007": FailureKind.ACCOUNT,
    "send-0008": FailureKind.ACCOUNT,  # the From address isn't validated
    "send-0010": FailureKind.CONTENT,
    "send-0011": FailureKind.CONTENT,
    "send-0012": FailureKind.CONTENT,
    "send-0015": FailureKind.CONTENT,
    "send-0016": FailureKind.CONTENT,
    "mj-0001": FailureKind.ACCOUNT,  # the key is suspended
    "mj-0002": FailureKind.CONTENT,
    "mj-0003": FailureKind.CONTENT,
    "mj-0004": FailureKind.CONTENT,
    "mj-0005": FailureKind.CONTENT,
    "mj-0006": FailureKind.CONTENT,
    "mj-0007": FailureKind.CONTENT,
    "mj-0008": FailureKind.CONTENT,
    "mj-0011": FailureKind.TOO_LARGE,
    "mj-0012": FailureKind.CONTENT,
    "mj-0013": FailureKind.CONTENT,
    "mj-0015": FailureKind.ACCOUNT,
}
# The first part of ErrorRelatedTo, where the code says that a value is bad.
_FIELDS: Mapping[str, FailureKind] = {
    "To": FailureKind.ADDRESS_UNKNOWN,
    "From": FailureKind.ACCOUNT,
    "ReplyTo": FailureKind.ACCOUNT,
}
_BAD_VALUES = frozenset({"mj-0004", "mj-0012", "mj-0013"})


class Mailjet(PasswordAdapter):
    """Mailjet's Send API v3.1 and its event webhooks, single and grouped."""

    name: str = "mailjet"
    label: str = "Mailjet"
    # No field tells machine opens apart; Apple's are known by their user agent. The pages give no number for the rate
    # and none for how long a history is kept, so these are careful ones.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=False,
        tracking_switch=True,
        metadata=True,
        idempotency=False,
        proof=Proof.PASSWORD,
        asking=Asking(per_second=1, days=30),
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "API key", secret=False),
        CredentialField("secret_key", "Secret key"),
        CredentialField(_REGION, "Region", required=False, secret=False, choices=tuple(_HOSTS)),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "At Account settings > Sender domains & addresses, add the From domain, and validate it with SPF and DKIM.",
            "At Account settings > API key management, copy the API key and the secret key, and enter both.",
            "Enter us as region if the account is one of Mailjet's US architecture; it is eu otherwise.",
            "At Account settings > Event notifications (webhooks), enter {url} (it holds a password and is shown this "
            "once) for Sent, Open, Click, Bounce, Spam, Blocked and Unsub, and tick Group events for each.",
        ),
        spf="spf.mailjet.com",
        dkim=("mailjet",),
    )
    unavailable_status: int = 503  # whatever isn't 200 is tried again for a day
    webhook_bytes: int = 4 << 20

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        return exchange.json_post(
            f"{_host(credentials)}/v3.1/send", _authorization(credentials), {"Messages": [_payload(email)]}
        )

    def read_answer(self, response: HttpResponse) -> Answer:
        """One message was sent, so there is one status; a mistake in the whole request is answered without any."""
        answer = reading.decode_object(response.body)
        message = _first(answer, "Messages")
        if response.status in {200, 201} and reading.text(message, "Status").lower() == "success":
            return Accepted(mailjet_events.mailjet_id(_first(message, "To")))
        errors = reading.objects(message.get("Errors")) or [answer]
        said = (reading.text(error, "ErrorMessage") for error in errors)
        reason = one_line("; ".join(text for text in said if text)) or f"HTTP {response.status}"
        statuses = (error.get("StatusCode") for error in errors)
        status = max(response.status, *(each for each in statuses if isinstance(each, int) and each < 600), 0)
        known = [error for error in errors if reading.text(error, "ErrorCode") in _CODES]
        kind = _kind(known[0]) if known else exchange.STATUSES.get(status, FailureKind.OTHER)
        if exchange.for_now(status) or exchange.for_now(response.status) or (status < 400 and not known):
            return TryAgain(Failure(kind, reason=reason), exchange.wait(response.headers))
        return Refused(Failure(kind, reason=reason))

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        """The history of a message; where we don't have its id, first the message that has ours as its CustomID."""
        if question.provider_message_id:
            return _history(question.provider_message_id, credentials)
        query = urlencode({"CustomID": str(question.message_id)})
        return exchange.get(f"{_host(credentials)}/v3/REST/message?{query}", _authorization(credentials))

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        answer = reading.decode_object(response.body)
        listed = answer.get("Data")
        if response.status != 200 or not isinstance(listed, list):
            return exchange.not_told(response)
        first = _first(answer, "Data")
        if "EventType" not in first and (found := reading.text(first, "ID")):
            return Told(Reading(), _history(found, credentials))
        return Told(
            reading.read_each(listed, lambda entry: mailjet_events.event(mailjet_events.posted(entry, question)))
        )

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Reference, "Sender": every key may list the senders it may use."""
        return exchange.get(f"{_host(credentials)}/v3/REST/sender?Limit=1", _authorization(credentials))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if response.status == 200 and reading.decode_object(response.body).get("Count") == 0:
            return CredentialsCheck(True, "Mailjet takes the key. No sender is set up there: add the From domain.")
        return exchange.read_check(self.label, response)

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        """A list where events are grouped, one bare event where they aren't."""
        return reading.read_one_or_many(body, mailjet_events.event)


def _host(credentials: Mapping[str, str]) -> str:
    return exchange.base_url(credentials, _HOSTS.get(credentials.get(_REGION, ""), _HOSTS["eu"]))


def _authorization(credentials: Mapping[str, str]) -> dict[str, str]:
    pair = f"{credentials['api_key']}:{credentials['secret_key']}"
    return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _history(message_id: str, credentials: Mapping[str, str]) -> HttpRequest:
    url = f"{_host(credentials)}/v3/REST/messagehistory/{quote(message_id, safe='')}"
    return exchange.get(url, _authorization(credentials))


def _payload(email: Email) -> dict[str, object]:
    payload: dict[str, object] = {
        "From": _mailbox(email.sender),
        "To": [_mailbox(email.recipient)],
        "Subject": email.subject,
        # "Send API v3.1": the Message-ID is one of the headers that are Mailjet's alone.
        "Headers": {"Auto-Submitted": "auto-generated"},
        "CustomID": str(email.id),
        "EventPayload": orjson.dumps({reading.METADATA_KEY: str(email.id)}).decode(),
        "TrackOpens": "enabled" if email.track_opens else "disabled",
        "TrackClicks": "disabled",  # links in health mail are not ours to rewrite
    }
    if email.text:
        payload["TextPart"] = email.text
    if email.html is not None:
        payload["HTMLPart"] = email.html
    if email.reply_to:
        payload["ReplyTo"] = _mailbox(email.reply_to)
    return payload


def _mailbox(address: Address) -> dict[str, str]:
    return {"Email": address.email, "Name": address.name} if address.name else {"Email": address.email}


def _first(fields: reading.Fields, name: str) -> reading.Fields:
    """The first object of a list; empty when there is none."""
    return next(iter(reading.objects(fields.get(name))), {})


def _kind(error: reading.Fields) -> FailureKind:
    code, related = reading.text(error, "ErrorCode"), error.get("ErrorRelatedTo")
    if code in _BAD_VALUES and isinstance(related, list):
        fields = [field.partition(".")[0].partition("[")[0] for field in related if isinstance(field, str)]
        return next((_FIELDS[field] for field in fields if field in _FIELDS), _CODES[code])
    return _CODES[code]
