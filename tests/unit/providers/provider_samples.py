"""What the contract tests need of each provider: one row per ESP, and its payloads beside this file."""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mail.ids import MessageId
from mail.message import Address, Email
from mail.providers import PROVIDERS
from mail.providers.base import Reading, WebhookRequest

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


def payloads(provider: str) -> dict[str, bytes]:
    """The payload files of a provider by name, as its documentation shows them."""
    folder = Path(__file__).parent / "payloads" / provider
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.json"))}


@dataclass(frozen=True)
class Sample:
    """`sign` makes the headers with which the ESP, holding `secret`, posts a body."""

    credentials: Mapping[str, str]
    secret: str
    other_secret: str
    sign: Callable[[bytes, str], Mapping[str, str]]
    covers_body: bool

    def request(self, body: bytes, secret: str | None = None) -> WebhookRequest:
        return WebhookRequest("POST", URL, self.sign(body, secret or self.secret), body)


_KEYS: dict[str, ec.EllipticCurvePrivateKey] = {}


def p256_secret() -> str:
    """A new key pair's public half, as SendGrid shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    secret = base64.b64encode(der).decode()
    _KEYS[secret] = key
    return secret


def sign_sendgrid(body: bytes, secret: str, timestamp: str = "1588788367") -> Mapping[str, str]:
    signature = _KEYS[secret].sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
    return {
        "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
        "x-twilio-email-event-webhook-timestamp": timestamp,
    }


def sign_basic(_: bytes, secret: str) -> Mapping[str, str]:
    return {"authorization": "Basic " + base64.b64encode(secret.encode()).decode()}


SAMPLES: Final[Mapping[str, Sample]] = {
    "postmark": Sample(
        {"server_token": "b3b3b3b3-0000-4000-8000-c3c3c3c3c3c3"},
        "carepost:s3cret/?@",
        "carepost:another",
        sign_basic,
        covers_body=False,
    ),
    "sendgrid": Sample(
        {"api_key": "SG.abcdefghij.klmnopqrst"}, p256_secret(), p256_secret(), sign_sendgrid, covers_body=True
    ),
}

each_provider = pytest.mark.parametrize("each", PROVIDERS.values(), ids=list(PROVIDERS))


def documents(name: str) -> list[bytes]:
    return list(payloads(name).values())


def elements(value: Any) -> Iterator[dict[str, Any]]:
    """The objects in a payload, outermost first."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from elements(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from elements(inner)


def assert_storable(reading: Reading) -> None:
    assert isinstance(reading, Reading)
    for event in reading.events:
        assert event.occurred_at.utcoffset() == timedelta(0)
        assert event.message_id or event.provider_message_id
        assert 0 < len(event.dedupe_key) <= 128
        for text in (event.dedupe_key, event.provider_message_id, event.recipient, event.detail):
            assert text is None or ("\x00" not in text and text.encode() is not None)
        if event.failure:
            assert "\x00" not in event.failure.reason
            assert event.failure.reason.encode() is not None
