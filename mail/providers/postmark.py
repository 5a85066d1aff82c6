"""Postmark.

Pages, at postmarkapp.com: developer/api/email-api and overview (error codes), bounce-api (bounce types),
developer/webhooks (one page each), developer/user-guide/tracking-opens, support/article/1159 (soft bounces).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.message import Email
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

_URL: Final = "https://api.postmarkapp.com"
_STREAM: Final = "outbound"
_ANY: Final = "*"

# developer/webhooks: RecordType, and the field that holds its time. Bounce and SubscriptionChange are told
# apart below.
_RECORDS: Mapping[str, tuple[EventKind, str]] = {
    "Delivery": (EventKind.DELIVERED, "DeliveredAt"),
    "Bounce": (EventKind.UNKNOWN, "BouncedAt"),
    "SpamComplaint": (EventKind.COMPLAINED, "BouncedAt"),
    "Open": (EventKind.OPENED, "ReceivedAt"),
    "Click": (EventKind.CLICKED, "ReceivedAt"),
    "SubscriptionChange": (EventKind.UNKNOWN, "ChangedAt"),
}
_TIMES: Final = ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt")

# bounce-api, "Bounce types". The second column counts where the destination's reply says little, and always
# for REJECTED, since no destination was asked. SOFT_BOUNCED becomes final by the destination's own 5yz code, and
# (as an unknown type does) when Postmark has made the address inactive.
_BOUNCES: Mapping[str, tuple[EventKind, FailureKind | None]] = {
    "HardBounce": (EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
    "Transient": (EventKind.DEFERRED, FailureKind.UNREACHABLE),  # "message delayed"
    "Unsubscribe": (EventKind.UNSUBSCRIBED, None),
    "Subscribe": (EventKind.RESUBSCRIBED, None),
    "AutoResponder": (EventKind.AUTO_REPLIED, None),
    "AddressChange": (EventKind.AUTO_REPLIED, None),
    "DnsError": (EventKind.SOFT_BOUNCED, FailureKind.UNREACHABLE),  # called temporary; nothing says it is retried
    "SpamNotification": (EventKind.SOFT_BOUNCED, FailureKind.SPAM),
    "OpenRelayTest": (EventKind.AUTO_REPLIED, None),  # a stranger's test, no statement about our email
    "Unknown": (EventKind.SOFT_BOUNCED, FailureKind.OTHER),  # came back, and Postmark can't tell why
    "SoftBounce": (EventKind.BOUNCED, FailureKind.OTHER),  # reported once it has ceased trying (article 1159)
    "VirusNotification": (EventKind.SOFT_BOUNCED, FailureKind.POLICY),
    "ChallengeVerification": (EventKind.AUTO_REPLIED, None),
    "BadEmailAddress": (EventKind.REJECTED, FailureKind.ADDRESS_UNKNOWN),
    "SpamComplaint": (EventKind.COMPLAINED, None),
    "ManuallyDeactivated": (EventKind.REJECTED, FailureKind.SUPPRESSED),
    "Unconfirmed": (EventKind.REJECTED, FailureKind.SUPPRESSED),
    "Blocked": (EventKind.SOFT_BOUNCED, FailureKind.REPUTATION),
    "SMTPApiError": (EventKind.REJECTED, FailureKind.CONTENT),
    "InboundError": (EventKind.UNKNOWN, None),  # of incoming mail, which is not ours
    "DMARCPolicy": (EventKind.REJECTED, FailureKind.AUTHENTICATION),
    "TemplateRenderingFailed": (EventKind.REJECTED, FailureKind.CONTENT),
}

# subscription-change-webhook: SuppressionReason and Origin. A manual suppression by the recipient is an
# unsubscription; by the customer or Postmark it says nothing of an email.
_SUPPRESSIONS: Mapping[tuple[str, str], EventKind] = {
    ("HardBounce", _ANY): EventKind.BOUNCED,
    ("SpamComplaint", _ANY): EventKind.COMPLAINED,
    ("ManualSuppression", "Recipient"): EventKind.UNSUBSCRIBED,
    ("ManualSuppression", "Customer"): EventKind.UNKNOWN,
    ("ManualSuppression", "Admin"): EventKind.UNKNOWN,
}

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
# messages-api, "Outbound message details": Type of MessageEvents, as the record that a webhook would bring. Bounces are
# read from the bounces themselves, which say more.
_HISTORY: Mapping[str, str] = {"Delivered": "Delivery", "Opened": "Open", "LinkClicked": "Click"}


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
            return Told(reading.read_each(records, _event))
        if not isinstance(history, list):
            return exchange.not_told(response)
        events = [each for each in history if isinstance(each, dict)]
        records = [{**ids, **record} for each in events if (record := _record(each))]
        more = None
        if any(each.get("Type") == "Bounced" for each in events):
            query = urlencode({"count": 50, "offset": 0, "messageID": question.provider_message_id or ""})
            more = exchange.get(f"{exchange.base_url(credentials, _URL)}/bounces?{query}", _token(credentials))
        return Told(reading.read_each(records, _event), more)

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """Server API, "Get the server"."""
        return exchange.get(f"{exchange.base_url(credentials, _URL)}/server", _token(credentials))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if response.status == 200 and reading.decode_object(response.body).get("TrackOpens") is True:
            return CredentialsCheck(True, "Postmark takes the token. Open tracking is on at the server: switch it off.")
        return exchange.read_check(self.label, response)

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        return reading.read_one(body, _event)


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


def _record(event: Mapping[str, object]) -> dict[str, object] | None:
    """An entry of a message's history as the record that a webhook would bring; None for what says nothing here."""
    record = _HISTORY.get(reading.text(event, "Type"))
    if record is None:
        return None
    return {"RecordType": record, "Recipient": event.get("Recipient"), _RECORDS[record][1]: event.get("ReceivedAt")}


def _event(fields: reading.Fields) -> Event | None:
    record = reading.text(fields, "RecordType")
    if not record:
        raise reading.Malformed("the event has no type")
    message_id = reading.our_id(reading.nested(fields, "Metadata"))
    provider_message_id = reading.text(fields, "MessageID") or None
    if message_id is None and provider_message_id is None:
        if record == "SubscriptionChange":
            return None  # an address was suppressed or reactivated by hand; no email caused it
        raise reading.Malformed("the event names no message")
    kind, time_field = _RECORDS.get(record, (EventKind.UNKNOWN, ""))
    occurred_at = reading.iso_time(_time(fields, time_field))
    detail, failure = record, None
    if record == "Bounce":
        kind, detail, failure = _bounce(fields)
    elif record == "SubscriptionChange":
        kind, detail, failure = _subscription_change(fields)
    return Event(
        kind=kind,
        occurred_at=occurred_at,
        dedupe_key=_key(fields, record, occurred_at),
        message_id=message_id,
        provider_message_id=provider_message_id,
        recipient=reading.text(fields, "Recipient") or reading.text(fields, "Email") or None,
        machine=kind is EventKind.OPENED and reading.prefetched(reading.text(fields, "UserAgent")),
        failure=failure,
        detail=detail,
    )


def _time(fields: reading.Fields, name: str) -> object:
    return fields.get(name) if name else next((fields[time] for time in _TIMES if time in fields), None)


def _bounce(fields: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    bounce = reading.text(fields, "Type")
    kind, vendor = _BOUNCES.get(bounce, (EventKind.UNKNOWN, FailureKind.OTHER))
    detail = f"Bounce/{bounce}" if bounce else "Bounce"
    if vendor is None:
        return kind, detail, None
    failure = reading.refusal(
        reading.text(fields, "Details") or reading.text(fields, "Description"),
        vendor=vendor,
    )
    if kind is EventKind.REJECTED:
        return kind, detail, replace(failure, kind=vendor)
    if kind in {EventKind.SOFT_BOUNCED, EventKind.UNKNOWN} and fields.get("Inactive") is True:
        return EventKind.BOUNCED, detail, failure
    return reading.final(kind, failure), detail, failure


def _subscription_change(fields: reading.Fields) -> tuple[EventKind, str, Failure | None]:
    if fields.get("SuppressSending") is False:
        return EventKind.RESUBSCRIBED, "SubscriptionChange/Reactivated", None
    reason = reading.text(fields, "SuppressionReason")
    by_origin = _SUPPRESSIONS.get((reason, reading.text(fields, "Origin")), EventKind.UNKNOWN)
    kind = _SUPPRESSIONS.get((reason, _ANY), by_origin)
    failure = Failure(FailureKind.ADDRESS_UNKNOWN) if kind is EventKind.BOUNCED else None
    return kind, f"SubscriptionChange/{reason}" if reason else "SubscriptionChange", failure


def _key(fields: reading.Fields, record: str, occurred_at: datetime) -> str:
    """Bounces and complaints have an id, the same over retries; a complaint is the bounce of that id. Other
    records have none and are told apart by what they say; their times are to the microsecond."""
    number = fields.get("ID")
    if record in {"Bounce", "SpamComplaint"} and isinstance(number, int) and not isinstance(number, bool):
        return f"bounce-{number}"
    link, first, suppress = reading.text(fields, "OriginalLink"), fields.get("FirstOpen"), fields.get("SuppressSending")
    return reading.dedupe_key(
        reading.text(fields, "MessageID"),
        str(reading.our_id(reading.nested(fields, "Metadata"))),
        record,
        occurred_at,
        link,
        first is True,
        suppress is True,
    )
