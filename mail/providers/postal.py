"""Postal, a mail server of the practice's own.

Pages, at docs.postalserver.io: developer/api, developer/webhooks, features/mail-server-settings (held messages, the
suppression list, retention), features/click-and-open-tracking, other/auto-responders-and-bounces; the API's own at
apiv1.postalserver.io: send/raw, messages/deliveries, messages/message.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Final
from uuid import UUID

from mail import mime
from mail.errors import WebhookRejected
from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from mail.message import Email
from mail.providers import exchange, postal_key, reading, signatures
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

_SHA256: Final = "x-postal-signature-256"
_SHA1: Final = "x-postal-signature"  # before 3.0 the only one

# developer/webhooks: `event`.
_EVENTS: Mapping[str, EventKind] = {
    "MessageSent": EventKind.DELIVERED,
    "MessageDelayed": EventKind.DEFERRED,
    "MessageDeliveryFailed": EventKind.BOUNCED,  # "will not be retried"
    "MessageHeld": EventKind.QUEUED,  # waits for a person, unless the address is suppressed: see below
    "MessageBounced": EventKind.BOUNCED,
    "MessageLinkClicked": EventKind.CLICKED,
    "MessageLoaded": EventKind.OPENED,
    "HoldCancelled": EventKind.REJECTED,  # told in deliveries alone: "The message is not delivered"
}
_ABOUT_SERVER = frozenset({"DomainDNSError", "SendLimitApproaching", "SendLimitExceeded"})

# messages/deliveries: `status`, as the event that a webhook would bring.
_STATUSES: Mapping[str, str] = {
    "Sent": "MessageSent",
    "SoftFail": "MessageDelayed",
    "HardFail": "MessageDeliveryFailed",
    "Held": "MessageHeld",
    "Bounced": "MessageBounced",
}

_SUPPRESSED: Final = re.compile(r"Recipient \(.*\) is on the suppression list")

# `details` of a failure, by its beginning. Postal never tried the first four; of the last two the destination's reply
# says more, where there is one.
_DETAILS: Mapping[str, tuple[EventKind, FailureKind | None]] = {
    "Message's domain no longer exist": (EventKind.REJECTED, FailureKind.ACCOUNT),
    "Message doesn't have an RCPT to": (EventKind.REJECTED, FailureKind.CONTENT),
    "Message is likely spam": (EventKind.REJECTED, FailureKind.SPAM),
    "Raw message has been removed": (EventKind.REJECTED, FailureKind.OTHER),
    "Maximum number of delivery attempts": (EventKind.BOUNCED, FailureKind.UNREACHABLE),
    "No SMTP servers were available": (EventKind.DEFERRED, FailureKind.UNREACHABLE),
}

# other/auto-responders-and-bounces: whatever comes to the return path and quotes our headers is called a bounce, and
# only its subject tells what it is.
_RETURNED: Final = re.compile(
    r"undeliver|returned|fail|could ?n[o']t be delivered|rejected|unzustellbar", re.IGNORECASE
)
_NOTICES: tuple[tuple[re.Pattern[str], EventKind], ...] = (
    (
        re.compile(
            r"out of (the )?office|auto(matic|mated)?[ -]?(reply|response)|vacation|abwesen|automatische antwort"
            r"|r[ée]ponse automatique|respuesta autom[áa]tica|risposta automatica|automatisch antwoord",
            re.IGNORECASE,
        ),
        EventKind.AUTO_REPLIED,
    ),
    (re.compile(r"\bdelay|still being retried|warning: (could not|message)", re.IGNORECASE), EventKind.DEFERRED),
)
_BOUNCE_MESSAGE: Final = re.compile(r"<msg:(\d{1,18})>")

# Error codes of the API, which come with HTTP 200.
_ERRORS: Mapping[str, FailureKind] = {
    "AccessDenied": FailureKind.ACCOUNT,
    "InvalidServerAPIKey": FailureKind.ACCOUNT,
    "ServerSuspended": FailureKind.ACCOUNT,
    "FromAddressMissing": FailureKind.ACCOUNT,
    "UnauthenticatedFromAddress": FailureKind.ACCOUNT,
    "NoRecipients": FailureKind.CONTENT,
    "NoContent": FailureKind.CONTENT,
    "TooManyToAddresses": FailureKind.CONTENT,
    "TooManyCCAddresses": FailureKind.CONTENT,
    "TooManyBCCAddresses": FailureKind.CONTENT,
    "AttachmentMissingName": FailureKind.CONTENT,
    "AttachmentMissingData": FailureKind.CONTENT,
}
_KEY_ERRORS = frozenset({"AccessDenied", "InvalidServerAPIKey"})
# Of what stands before it: no such host, no such path, a body too large for its proxy.
_HTTP: Mapping[int, FailureKind] = {
    401: FailureKind.ACCOUNT,
    403: FailureKind.ACCOUNT,
    404: FailureKind.ACCOUNT,
    405: FailureKind.ACCOUNT,
    413: FailureKind.TOO_LARGE,
}

_NUMBER: Final = re.compile(r"(\d{1,18})-.+")
_OUR_MESSAGE_ID: Final = re.compile(r"<?([0-9a-f]{32})@.*")


class Postal(SignedAdapter):
    """Postal's legacy API (v1) and webhooks."""

    name: str = "postal"
    label: str = "Postal"
    # The header `X-AMP: skip` turns tracking off for one email by the documentation; in the source of the versions up
    # to 3.3 it compares a list with a text and does nothing. Postal tells no machine opens; Apple's are known by
    # their user agent.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=False,
        tracking_switch=False,
        metadata=True,
        idempotency=False,
        proof=Proof.SIGNATURE,
        asking=Asking(per_second=5, days=60),
        tracking_warning="Leave Track Loads off at the tracking domain in Postal unless every patient agrees to it, "
        "since many versions ignore the header that turns it off for one email.",
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "Server API key"),
        CredentialField(exchange.BASE_URL, "URL of the Postal server", secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "Enter https:// and the host of Postal's web interface as base_url.",
            "At the mail server's Credentials, add one of the type API that doesn't hold messages, and copy its key as "
            "api_key.",
            "At Domains, add the From domain and publish the records that Postal shows; leave click tracking off.",
            "At Webhooks, add {url} with Send all events; Postal must be allowed to reach it "
            "(postal.allowed_request_destinations, where it stands in your own network).",
            "Copy all that https://<Postal's host>/.well-known/jwks.json shows, or what the command `postal "
            "default-dkim-record` prints, and enter it with rotateWebhookSecret.",
            "Where Postal itself sends by a relay, it calls delivered what the relay took.",
        ),
    )
    kept_headers: Sequence[str] = (_SHA256, _SHA1)
    unavailable_status: int = 503  # tried six times within 36 minutes, whatever the status
    webhook_bytes: int = 1 << 20

    def check_webhook_secret(self, secret: str) -> None:
        postal_key.keys(secret)

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        """send/raw, since send/message gives every email a Message-ID of Postal's own."""
        headers = {"X-Postal-Tag": str(email.id)} | ({} if email.track_opens else {"X-AMP": "skip"})
        raw = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + mime.render(email)
        payload = {
            "mail_from": email.sender.email,
            "rcpt_to": [email.recipient.email],
            "data": base64.b64encode(raw).decode(),
        }
        return _call(credentials, "send/raw", payload)

    def read_answer(self, response: HttpResponse) -> Answer:
        status, data = _read(response)
        if status == "success" and isinstance(data, dict):
            messages = reading.nested(data, "messages")
            message = next((each for each in messages.values() if isinstance(each, dict)), {})
            return Accepted(_provider_id(message))
        fields: reading.Fields = data if isinstance(data, dict) else {}
        code, text = reading.text(fields, "code"), reading.text(fields, "message")
        reason = ": ".join(part for part in (code, text) if part) or f"HTTP {response.status}"
        if status == "error":
            return Refused(Failure(_ERRORS.get(code, FailureKind.OTHER), reason=reason))
        if status == "parameter-error":
            return Refused(Failure(FailureKind.CONTENT, reason=reason))
        failure = Failure(_HTTP.get(response.status, FailureKind.OTHER), reason=f"HTTP {response.status}")
        if exchange.passes(response.status):
            return TryAgain(failure, exchange.wait(response.headers))
        return Refused(failure)

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        number = _NUMBER.fullmatch(question.provider_message_id or "")
        return _call(credentials, "messages/deliveries", {"id": int(number[1])}) if number else None

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        """messages/deliveries: the attempts, and bounces; opens and clicks aren't among them."""
        status, data = _read(response)
        if status == "success" and isinstance(data, list):
            return Told(reading.read_each(data, lambda delivery: _told(delivery, question)))
        code = reading.text(data, "code") if isinstance(data, dict) else ""
        if status == "error" and code:
            return NotTold(Failure(_ERRORS.get(code, FailureKind.OTHER), reason=code))
        return exchange.not_told(response)

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """messages/message, of a message that can't exist."""
        return _call(credentials, "messages/message", {"id": 0})

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        status, data = _read(response)
        code = reading.text(data, "code") if isinstance(data, dict) else ""
        if status == "success" or code == "MessageNotFound":
            return CredentialsCheck(True, "Postal takes the key.")
        if code in _KEY_ERRORS:
            return CredentialsCheck(False, "Postal refuses the key; make a new credential of the type API.")
        if code == "ServerSuspended":
            return CredentialsCheck(False, "Postal knows the key, but the mail server is suspended; unsuspend it.")
        if response.status == 200:
            return CredentialsCheck(None, "What answered is no Postal API; check base_url.")
        return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        """RSA (PKCS 1 v1.5) over the raw body. Where the SHA-256 signature is there, it counts alone."""
        modern = request.headers.get(_SHA256, "")
        signature = signatures.decode(modern or request.headers.get(_SHA1, ""))
        if not any(postal_key.signed_by(each, signature, request.body, legacy=not modern) for each in secrets):
            raise WebhookRejected("the signature is wrong")

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        return reading.read_one(body, _event)


def _call(credentials: Mapping[str, str], method: str, payload: Mapping[str, object]) -> HttpRequest:
    url = f"{exchange.base_url(credentials, '')}/api/v1/{method}"
    return exchange.json_post(url, {"x-server-api-key": credentials["api_key"]}, payload)


def _read(response: HttpResponse) -> tuple[str, object]:
    """`status` and `data` of an answer, which is always an HTTP 200 when Postal gave it."""
    answer = reading.decode_object(response.body) if response.status == 200 else {}
    return reading.text(answer, "status"), answer.get("data")


def _provider_id(message: reading.Fields) -> str | None:
    """How a message is named: its number, which counts within one mail server and is what the API asks for, and its
    token, which makes it this server's."""
    number, token = reading.text(message, "id"), reading.text(message, "token")
    return f"{number}-{token}" if number and token else None


def _our_id(message: reading.Fields) -> MessageId | None:
    """Our id: the tag, or our Message-ID where Postal held the email before it looked for a tag."""
    for found in (reading.text(message, "tag"), _OUR_MESSAGE_ID.fullmatch(reading.text(message, "message_id"))):
        try:
            ours = UUID(found if isinstance(found, str) else found[1] if found else "")
        except ValueError:
            continue
        if ours.version == 7:
            return MessageId(ours)
    return None


def _event(fields: reading.Fields) -> Event | None:
    name, payload = reading.text(fields, "event"), reading.nested(fields, "payload")
    if not name:
        raise reading.Malformed("the event has no type")
    message = reading.nested(payload, "message") or reading.nested(payload, "original_message")
    if name in _ABOUT_SERVER or reading.text(message, "direction") == "incoming":
        return None
    bounce = reading.nested(payload, "bounce")
    at = next((part["timestamp"] for part in (payload, bounce, fields) if "timestamp" in part), None)
    told = {**payload, "subject": bounce.get("subject"), "about": message.get("subject"), "bounce": bounce.get("id")}
    event = _made(name, told, at, _our_id(message), _provider_id(message), reading.text(message, "to"))
    # An open or click has no id of its own; the request's uuid is the same at every attempt.
    uuid = reading.text(fields, "uuid") if name not in _STATUSES.values() else ""
    return replace(event, dedupe_key=reading.dedupe_key("uuid", uuid)) if uuid else event


def _told(delivery: reading.Fields, question: Question) -> Event:
    status = reading.text(delivery, "status")
    if not status:
        raise reading.Malformed("the event has no type")
    bounce = _BOUNCE_MESSAGE.search(reading.text(delivery, "details"))
    fields = {**delivery, "bounce": int(bounce[1]) if bounce else None}
    ids = question.message_id, question.provider_message_id, question.recipient
    return _made(_STATUSES.get(status, status), fields, delivery.get("timestamp"), *ids)


def _made(
    name: str, fields: reading.Fields, at: object, ours: MessageId | None, theirs: str | None, recipient: str
) -> Event:
    if ours is None and theirs is None:
        raise reading.Malformed("the event names no message")
    occurred_at = reading.epoch_time(at)
    # One attempt has the same time in a webhook, as Ruby writes a float, and in the API, as MySQL rounds it.
    exact = str(Decimal(str(at).strip()).quantize(Decimal("0.000001"), ROUND_HALF_UP))
    bounce, url = reading.text(fields, "bounce"), reading.text(fields, "url")
    kind, failure = _outcome(name, fields)
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=reading.dedupe_key(theirs or str(ours), name, bounce or exact, url),
        message_id=ours,
        provider_message_id=theirs,
        recipient=recipient or None,
        machine=kind is EventKind.OPENED and reading.prefetched(reading.text(fields, "user_agent")),
        failure=failure,
        detail=name,
    )


def _outcome(name: str, fields: reading.Fields) -> tuple[EventKind, Failure | None]:
    kind = _EVENTS.get(name, EventKind.UNKNOWN)
    details, output = reading.text(fields, "details"), reading.text(fields, "output")
    match name:
        case "MessageHeld" if _SUPPRESSED.match(details):
            return EventKind.REJECTED, Failure(FailureKind.SUPPRESSED, reason=details)
        case "MessageHeld" | "HoldCancelled":
            return kind, Failure(FailureKind.ACCOUNT, reason=details)
        case "MessageDelayed" | "MessageDeliveryFailed":
            known = (row for start, row in _DETAILS.items() if details.startswith(start))
            said, vendor = next(known, (kind, None))
            if said is EventKind.REJECTED and vendor is not None:
                return said, Failure(vendor, reason=details)
            return kind, reading.refusal(output or details, vendor=vendor)
        case "MessageBounced":
            return _bounce(reading.text(fields, "subject"), reading.text(fields, "about"), details)
        case _:
            return kind, None


def _bounce(subject: str, about: str, details: str) -> tuple[EventKind, Failure | None]:
    """What came back, by its subject without that of our email."""
    own = subject.replace(about, "") if about else subject
    if not _RETURNED.search(own):
        for pattern, kind in _NOTICES:
            if pattern.search(own):
                return kind, None
    return EventKind.BOUNCED, reading.refusal(own.strip() or details)
