"""Unisender Go.

Pages, at godocs.unisender.ru: web-api-ref ("Web API", "email/send", "webhook/set", "Webhook call", "system/info", "API
errors") and "Email statuses".
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Final

from mail.errors import WebhookRejected
from mail.failure import Failure, FailureKind
from mail.message import Email
from mail.providers import exchange, reading, unisender_go_events
from mail.providers.adapter import SignedAdapter
from mail.providers.base import (
    Accepted,
    Answer,
    Capabilities,
    CredentialField,
    CredentialsCheck,
    HttpRequest,
    HttpResponse,
    Proof,
    Reading,
    Refused,
    SetUp,
    TryAgain,
    WebhookRequest,
)

_DATA_CENTRES: Mapping[str, str] = {
    "any": "https://goapi.unisender.ru",
    "go1": "https://go1.unisender.ru",
    "go2": "https://go2.unisender.ru",
}
_PATH: Final = "/ru/transactional/api/v1"


# email/send, `failed_emails`: why an address was left out. The event that would say so never comes.
_LEFT_OUT: Mapping[str, FailureKind] = {
    "unsubscribed": FailureKind.SUPPRESSED,
    "complained": FailureKind.SUPPRESSED,
    "blocked": FailureKind.SUPPRESSED,
    "permanent_unavailable": FailureKind.SUPPRESSED,
    "temporary_unavailable": FailureKind.SUPPRESSED,
    "invalid": FailureKind.ADDRESS_UNKNOWN,
}

# API errors: `code`. Others go by the HTTP status.
_CODES: Mapping[int, FailureKind] = {
    **dict.fromkeys((101, 102, 105, 106, 114), FailureKind.ACCOUNT),  # the key, and what it may do
    **dict.fromkeys((120, 150, 908), FailureKind.UNREACHABLE),
    199: FailureKind.TOO_LARGE,
    204: FailureKind.SUPPRESSED,  # no recipient is left
    **dict.fromkeys((205, 206, 215), FailureKind.ACCOUNT),  # From
    **dict.fromkeys((1519, 1520), FailureKind.ACCOUNT),  # Reply-To
    **dict.fromkeys((1574, 1575, 1598, 1599), FailureKind.ACCOUNT),
    **dict.fromkeys((901, 902, 903, 904, 905, 906), FailureKind.ACCOUNT),  # limits, and what isn't paid
}
_LATER: Final = frozenset({120, 150, 908})
_SENT_ALREADY: Final = 1573

_LONGEST_NAME: Final = 78
_AUTH: Final = re.compile(rb'("auth"\s*:\s*")([0-9a-fA-F]{32})"')


class UnisenderGo(SignedAdapter):
    """Unisender Go's Web API and webhooks."""

    name: str = "unisender_go"
    label: str = "Unisender Go"
    # It takes a key against repeats and forgets it after a minute. Its event dumps are made later, so it can't be asked
    # of one message. Machine opens aren't told apart; Apple's are known by their user agent.
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=False,
        tracking_switch=False,
        metadata=True,
        idempotency=False,
        proof=Proof.SIGNATURE,
        tracking_warning="Ask Unisender Go's support to allow track_read=0 and track_links=0 for the account; until "
        "then it tracks opens and links of every email.",
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("api_key", "API key"),
        CredentialField("data_centre", "Data centre", required=False, secret=False, choices=tuple(_DATA_CENTRES)),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "Copy the API key of the account or project; enter data_centre only if emails are to go to go1 or go2 "
            "alone.",
            "Verify the From domain, with the SPF and DKIM records that Unisender Go shows for it.",
            "Ask the support to allow track_read=0, track_links=0 and skip_unsubscribe=1; until then every email has "
            "tracked links and an unsubscribe footer.",
            "Add a webhook for {url} with all statuses of an email, delivery info on, and the format json_post.",
            "Enter the API key with rotateWebhookSecret too: Unisender Go proves its webhooks by it. Until then they "
            "are refused, and tried again for a day.",
        ),
    )
    webhook_bytes: int = 4 << 20
    probe_methods: frozenset[str] = frozenset({"HEAD", "GET"})

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        return _post("email/send", credentials, {"message": _message(email)})

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        left_out = reading.nested(answer, "failed_emails")
        job_id, code = reading.text(answer, "job_id"), answer.get("code")
        if left_out:
            # One recipient was asked for, so whatever is left out is all.
            why = reading.text(left_out, next(iter(left_out)))
            return Refused(Failure(_LEFT_OUT.get(why, FailureKind.OTHER), reason=why or "left out"))
        if response.status == 200 and answer.get("status") == "success" and job_id:
            return Accepted(job_id)
        reason = reading.text(answer, "message") or f"HTTP {response.status}"
        if code == _SENT_ALREADY:
            # The key is our message's own, so this email was taken a moment ago and the answer was lost.
            return Accepted(None, reason)
        known = code if isinstance(code, int) else 0
        failure = Failure(
            _CODES.get(known, exchange.STATUSES.get(response.status, FailureKind.OTHER)),
            reason=f"{known}: {reason}" if known else reason,
        )
        if known in _LATER or exchange.passes(response.status):
            return TryAgain(failure, exchange.wait(response.headers))
        return Refused(failure)

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """system/info, which only reads."""
        return _post("system/info", credentials, {})

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        """Webhook call, `auth`: the MD5 of the raw body with the API key in the place of `auth` itself."""
        found = _AUTH.search(request.body)
        if found is None:
            raise WebhookRejected("the body carries no auth")
        before, after = request.body[: found.start(2)], request.body[found.end(2) :]
        matches = [
            hmac.compare_digest(_md5(before + secret.encode("utf-8", "surrogatepass") + after), found[2].lower())
            for secret in secrets
        ]
        if not any(matches):
            raise WebhookRejected("the auth is wrong")

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        try:
            posted = reading.decode(body)
        except reading.Malformed as malformed:
            return reading.not_readable(str(malformed))
        return reading.read_each(unisender_go_events.elements(posted), unisender_go_events.event)


def _md5(signed: bytes) -> bytes:
    """MD5 is what Unisender Go proves its webhooks by."""
    return hashlib.md5(signed, usedforsecurity=False).hexdigest().encode()


def _post(method: str, credentials: Mapping[str, str], payload: Mapping[str, object]) -> HttpRequest:
    host = exchange.base_url(credentials, _DATA_CENTRES[credentials.get("data_centre") or "any"])
    return exchange.json_post(f"{host}{_PATH}/{method}.json", {"x-api-key": credentials["api_key"]}, payload)


def _message(email: Email) -> dict[str, object]:
    """email/send, `message`. Of headers it takes only those that begin with X-, so Message-ID is its own."""
    sender, recipient = exchange.with_ascii_domain(email.sender), exchange.with_ascii_domain(email.recipient)
    addressee: dict[str, object] = {
        "email": recipient.email,
        "metadata": {reading.METADATA_KEY: str(email.id)},
    }
    if 0 < len(recipient.name) <= _LONGEST_NAME:
        addressee["substitutions"] = {"to_name": recipient.name}
    message: dict[str, object] = {
        "recipients": [addressee],
        "from_email": sender.email,
        "subject": email.subject,
        "body": {"plaintext": email.text} if email.html is None else {"plaintext": email.text, "html": email.html},
        # Else "{{" in a text would be read as a template's.
        "template_engine": "none",
        "track_read": int(email.track_opens),
        # Links in health mail are not ours to rewrite.
        "track_links": 0,
        "idempotence_key": str(email.id),
    }
    if sender.name:
        message["from_name"] = sender.name
    if email.reply_to:
        reply_to = exchange.with_ascii_domain(email.reply_to)
        message["reply_to"] = reply_to.email
        if reply_to.name:
            message["reply_to_name"] = reply_to.name
    return message
