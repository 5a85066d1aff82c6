"""The shape of what the contract tests need of one provider, and the email that they send."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from mail.ids import MessageId
from mail.message import Address, Email
from mail.providers.base import HttpRequest, HttpResponse, Question, WebhookRequest

MESSAGE_ID: Final = MessageId(UUID("0199f3a2-7c1e-7b6a-9d3e-5a4b3c2d1e0f"))
URL: Final = "https://mail.example.org/webhooks/x/1"

EMAIL: Final = Email(
    id=MESSAGE_ID,
    sender=Address("desk@practice.example", "Practice, Ltd."),
    recipient=Address("ada@patient.example", 'Ada "Countess" Lovelace'),
    reply_to=Address("reception@practice.example", "Reception"),
    subject="Your appointment – Dienstag",
    text="See you on Tuesday.",
    html="<p>See you on <b>Tuesday</b>.</p>",
    date=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
)
PLAIN: Final = replace(EMAIL, html=None, reply_to=None, recipient=Address("ada@patient.example"), track_opens=False)
QUESTION: Final = Question(
    message_id=MESSAGE_ID,
    provider_message_id="0a129aee-e1cd-480d-b08d-4f48548ff48d",
    rfc_message_id=EMAIL.rfc_message_id,
    recipient=EMAIL.recipient.email,
    sent_at=datetime(2026, 3, 1, 9, 30, 1, tzinfo=UTC),
)


def payloads(provider: str) -> dict[str, bytes]:
    """The payload files of a provider by name, as its documentation shows them: bodies as they come over the wire."""
    folder = Path(__file__).parent / "payloads" / provider
    return {path.stem: path.read_bytes() for path in sorted(folder.iterdir())}


def as_it_is(body: bytes, _: str) -> bytes:
    return body


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def as_sent(request: HttpRequest) -> bytes:
    return request.body


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the contract tests need of one provider.

    `sign` makes the headers with which the ESP, holding `secret`, posts a body, and `seal` the body itself where the
    proof stands in it; `sign_url` makes those headers where the proof covers the URL too. `covers_body` says that the
    proof covers the content. `certificate` is for those whose key is fetched. `accepted` is the ESP's answer to a send,
    as documented, from which `provider_message_id` is read. `assert_documented` fails unless a send request of `EMAIL`
    is what the vendor's page asks for. `life` makes the webhooks of one message (our id, the ESP's id, a number that
    makes their event ids unique), in order, unsealed, each with the MessageStatus that it brings; the last is the
    greatest.
    """

    credentials: Mapping[str, str]
    secret: str
    other_secret: str
    sign: Callable[[bytes, str], Mapping[str, str]]
    sign_url: Callable[[bytes, str, str], Mapping[str, str]] | None = None
    seal: Callable[[bytes, str], bytes] = as_it_is
    decode: Callable[[bytes], Any] = json.loads
    encode: Callable[[Any], bytes] = as_json
    content: Callable[[HttpRequest], bytes] = as_sent
    covers_body: bool
    certificate: bytes | None = None
    certificate_url: str | None = None
    accepted: HttpResponse
    provider_message_id: str | None
    assert_documented: Callable[[HttpRequest, Email], None]
    life: Callable[[MessageId, str, int], Sequence[tuple[bytes, str]]]

    def request(self, body: bytes, secret: str | None = None, url: str = URL) -> WebhookRequest:
        """A document as the ESP posts it."""
        secret = secret or self.secret
        sealed = self.seal(body, secret)
        headers = self.sign_url(sealed, secret, url) if self.sign_url else self.sign(sealed, secret)
        return WebhookRequest("POST", url, headers, sealed, self.certificate)


def sign_basic(_: bytes, secret: str) -> Mapping[str, str]:
    """The header of a webhook whose URL holds a name and a password."""
    return {"authorization": "Basic " + base64.b64encode(secret.encode()).decode()}
