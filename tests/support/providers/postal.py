"""Postal, as its documentation has it."""

import base64
import json
from collections.abc import Mapping, Sequence
from email import message_from_bytes, policy
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample

_KEYS: dict[str, rsa.RSAPrivateKey] = {}


def signing_key(bits: int = 2048) -> str:
    """A new key pair's public half, as the `p=` of Postal's DKIM record."""
    key = rsa.generate_private_key(65537, bits)
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    secret = base64.b64encode(der).decode()
    _KEYS[secret] = key
    return secret


def jwk(secret: str) -> dict[str, str]:
    """The same key as /.well-known/jwks.json shows it."""

    def number(value: int) -> str:
        return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()

    numbers = _KEYS[secret].public_key().public_numbers()
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), "kid": "0f3c"}


def sign_postal(body: bytes, secret: str) -> Mapping[str, str]:
    def signed(algorithm: SHA1 | SHA256) -> str:
        return base64.b64encode(_KEYS[secret].sign(body, padding.PKCS1v15(), algorithm)).decode()

    return {
        "x-postal-signature": signed(SHA1()),
        "x-postal-signature-256": signed(SHA256()),
        "x-postal-signature-kid": "0f3c",
    }


def raw_email(request: HttpRequest) -> bytes:
    """The email in a request."""
    return base64.b64decode(json.loads(request.body)["data"])


def assert_documented(request: HttpRequest, email: Email) -> None:
    """developer/api, "Sending an RFC 2822 message"."""
    assert (request.method, request.url) == ("POST", "https://postal.practice.example/api/v1/send/raw")
    assert request.headers["x-server-api-key"] == SAMPLE.credentials["api_key"]
    assert request.headers["content-type"] == "application/json"
    body = json.loads(request.body)
    assert body["mail_from"] == email.sender.email
    assert body["rcpt_to"] == [email.recipient.email]
    message = message_from_bytes(raw_email(request), policy=policy.default)
    assert message["Subject"] == email.subject
    assert message["Message-ID"] == email.rfc_message_id
    assert message["X-Postal-Tag"] == str(email.id)


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    identity, _, token = provider_id.partition("-")
    message = {
        "id": int(identity) if identity.isdigit() else identity,
        "token": token,
        "direction": "outgoing",
        "message_id": f"{message_id.hex}@practice.example",
        "to": "ada@patient.example",
        "from": "desk@practice.example",
        "subject": "Your appointment",
        "timestamp": 1772357400.5,
        "spam_status": "NotChecked",
        "tag": str(message_id),
    }

    def post(event: str, at: float, **payload: Any) -> bytes:
        envelope = {"event": event, "timestamp": at, "payload": payload, "uuid": f"{event}-{number}"}
        return json.dumps(envelope).encode()

    sent = {"status": "Sent", "details": "Accepted", "output": "250 2.0.0 OK", "time": 0.3, "sent_with_ssl": True}
    bounce = {
        "id": 7 + number,
        "token": "b",
        "direction": "incoming",
        "subject": "Undeliverable",
        "timestamp": 1772362800.25,
    }
    return [
        (post("MessageSent", 1772357460.5, **sent, timestamp=1772357460.125, message=message), "DELIVERED"),
        (
            post("MessageLoaded", 1772359200.5, ip_address="192.0.2.1", user_agent="Thunderbird", message=message),
            "OPENED",
        ),
        (post("MessageBounced", 1772362801.5, original_message=message, bounce=bounce), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_key": "t0pS3cretKey", "base_url": "https://postal.practice.example"},
    secret=signing_key(),
    other_secret=signing_key(),
    sign=sign_postal,
    content=raw_email,
    covers_body=True,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json; charset=utf-8"},
        json.dumps(
            {
                "status": "success",
                "time": 0.02,
                "flags": {},
                "data": {
                    "message_id": "0199f3a27c1e7b6a9d3e5a4b3c2d1e0f@practice.example",
                    "messages": {"ada@patient.example": {"id": 37171, "token": "a4udnay1"}},
                },
            }
        ).encode(),
    ),
    provider_message_id="37171-a4udnay1",
    assert_documented=assert_documented,
    life=life,
)
