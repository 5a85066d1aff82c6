"""Mailjet.

Pages, at dev.mailjet.com: guides "Send API v3.1" (and its errors), "Webhooks" (events, "Possible values for errors"),
"Statistics" (messages); reference "Message", "Messagehistory" and "Sender"; "Status codes" and "Rate limits".
At documentation.mailjet.com: "Event tracking API".
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlencode

import orjson

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind, one_line
from mail.ids import MessageId
from mail.message import Address, Email
from mail.providers import exchange, reading
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

# "Webhooks": `event`. Sent means that the destination's server accepted the email. A bounce is told apart below.
_EVENTS: Mapping[str, EventKind] = {
    "sent": EventKind.DELIVERED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "bounce": EventKind.SOFT_BOUNCED,
    "blocked": EventKind.REJECTED,
    "spam": EventKind.COMPLAINED,
    "unsub": EventKind.UNSUBSCRIBED,
}
# Messagehistory: EventType, where it is another name for the same.
_ALIASES: Mapping[str, str] = {
    "opened": "open",
    "clicked": "click",
    "bounced": "bounce",
    "hardbounced": "bounce",
    "softbounced": "bounce",
    "unsubscribed": "unsub",
}
# "Possible values for errors": `error`. It says more than a reply that says little, and of a block all there is.
_ERRORS: Mapping[str, FailureKind] = {
    "user unknown": FailureKind.ADDRESS_UNKNOWN,
    "mailbox inactive": FailureKind.ADDRESS_UNKNOWN,
    "quota exceeded": FailureKind.MAILBOX_FULL,
    "blacklisted": FailureKind.SUPPRESSED,
    "spam reporter": FailureKind.SUPPRESSED,
    "invalid domain": FailureKind.DOMAIN_UNKNOWN,
    "no mail host": FailureKind.DOMAIN_UNKNOWN,
    "relay/access denied": FailureKind.POLICY,
    "greylisted": FailureKind.POLICY,
    "typofix": FailureKind.DOMAIN_UNKNOWN,
    "bad or empty template": FailureKind.CONTENT,
    "error in template language": FailureKind.CONTENT,
    "sender blocked": FailureKind.REPUTATION,
    "content blocked": FailureKind.SPAM,
    "policy issue": FailureKind.POLICY,
    "system issue": FailureKind.UNREACHABLE,
    "protocol issue": FailureKind.UNREACHABLE,
    "connection issue": FailureKind.UNREACHABLE,
    "preblocked": FailureKind.SUPPRESSED,
    "spam preblocked": FailureKind.SPAM,
    "duplicate in campaign": FailureKind.OTHER,
}
# The same page: `error_related_to`, for errors that we don't know.
_RELATED: Mapping[str, FailureKind] = {
    "recipient": FailureKind.ADDRESS_UNKNOWN,
    "domain": FailureKind.DOMAIN_UNKNOWN,
    "content": FailureKind.CONTENT,
    "spam": FailureKind.SPAM,
    "system": FailureKind.UNREACHABLE,
    "mailjet": FailureKind.SUPPRESSED,
}
_RETRIED: Final = "greylisted"  # "Delivery will be re-attempted"; of the other temporary ones the page doesn't say so

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
            return Accepted(_message_id(_first(message, "To")))
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
        return Told(reading.read_each(listed, lambda entry: _event(_posted(entry, question))))

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Reference, "Sender": every key may list the senders it may use."""
        return exchange.get(f"{_host(credentials)}/v3/REST/sender?Limit=1", _authorization(credentials))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if response.status == 200 and reading.decode_object(response.body).get("Count") == 0:
            return CredentialsCheck(True, "Mailjet takes the key. No sender is set up there: add the From domain.")
        return exchange.read_check(self.label, response)

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        """A list where events are grouped, one bare event where they aren't."""
        return reading.read_one_or_many(body, _event)


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


def _message_id(fields: reading.Fields) -> str | None:
    """A MessageID, a number beyond what a float holds, as text. It is 0 where nothing was sent (sandbox mode)."""
    message_id = reading.text(fields, "MessageID") or reading.text(fields, "mj_message_id")
    return message_id if message_id.strip("0") else None


def _kind(error: reading.Fields) -> FailureKind:
    code, related = reading.text(error, "ErrorCode"), error.get("ErrorRelatedTo")
    if code in _BAD_VALUES and isinstance(related, list):
        fields = [field.partition(".")[0].partition("[")[0] for field in related if isinstance(field, str)]
        return next((_FIELDS[field] for field in fields if field in _FIELDS), _CODES[code])
    return _CODES[code]


def _posted(entry: reading.Fields, question: Question) -> reading.Fields:
    """An entry of a message's history as a webhook would bring it; it may not say whether a bounce is final."""
    told = reading.text(entry, "EventType").lower()
    return {
        "event": _ALIASES.get(told, told),
        "time": entry.get("EventAt"),
        "MessageID": question.provider_message_id,
        "CustomID": str(question.message_id),
        "email": question.recipient,
        "agent": entry.get("Useragent"),
        "error": entry.get("State"),
        "comment": entry.get("Comment"),
        "hard_bounce": told == "hardbounced",
    }


def _event(fields: reading.Fields) -> Event | None:
    name = reading.text(fields, "event")
    if not name:
        raise reading.Malformed("the event has no type")
    message_id, provider_message_id = _our_id(fields), _message_id(fields)
    if message_id is None and provider_message_id is None:
        raise reading.Malformed("the event names no message")
    kind, detail, failure = _outcome(name, fields)
    occurred_at = reading.epoch_time(fields.get("time"))
    machine = kind is EventKind.OPENED and reading.prefetched(reading.text(fields, "agent"))
    # Events have no id. Two opens within one second become one, unless one is a machine's: no loss, since neither
    # says more than the other. Our id comes first, for we may ask without knowing Mailjet's.
    named = str(message_id) if message_id else provider_message_id
    key = reading.dedupe_key(named, name, occurred_at, machine, reading.text(fields, "url"))
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=key,
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "email") or None,
        machine=machine,
        failure=failure,
        detail=detail,
    )


def _outcome(name: str, fields: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    """Kind, detail and failure of an event by its name."""
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    if name not in {"bounce", "blocked"}:
        return kind, name, None
    error, comment = reading.text(fields, "error"), reading.text(fields, "comment")
    vendor = _ERRORS.get(error.lower(), _RELATED.get(reading.text(fields, "error_related_to"), FailureKind.OTHER))
    failure = reading.refusal(comment or error, vendor=vendor)
    detail = f"{name}/{error}" if error else name
    if name == "blocked":
        return kind, detail, replace(failure, kind=vendor)
    if fields.get("hard_bounce") is True or fields.get("blocked") is True:
        return EventKind.BOUNCED, detail, failure
    if error.lower() == _RETRIED:
        return EventKind.DEFERRED, detail, failure
    return reading.final(kind, failure), detail, failure


def _our_id(fields: reading.Fields) -> MessageId | None:
    """Our id in the payload of the event, or as the CustomID."""
    payload = fields.get("Payload")
    carried = reading.decode_object(payload.encode("utf-8", "replace")) if isinstance(payload, str) else {}
    return reading.our_id(carried) or reading.our_id({reading.METADATA_KEY: fields.get("CustomID")})
