"""SendGrid, as its documentation has it."""

import base64
import json
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample

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


def assert_documented(request: HttpRequest, email: Email) -> None:
    """v3 API, "Mail Send"."""
    assert (request.method, request.url) == ("POST", "https://api.sendgrid.com/v3/mail/send")
    assert request.headers["authorization"] == f"Bearer {SAMPLE.credentials['api_key']}"
    body = json.loads(request.body)
    assert body["personalizations"] == [{"to": [{"email": email.recipient.email, "name": email.recipient.name}]}]
    assert body["from"]["email"] == email.sender.email
    assert body["subject"] == email.subject
    assert [part["value"] for part in body["content"]] == [email.text, email.html]
    assert body["custom_args"] == {"carepost_message_id": str(email.id)}


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def post(event: str, at: int, **more: object) -> bytes:
        fields = {
            "event": event,
            "email": "ada@patient.example",
            "timestamp": at,
            "sg_message_id": f"{provider_id}.recvd-5d6c8b9f4-abcde-1-{number}.0",
            "sg_event_id": f"event-{number}-{event}",
            "carepost_message_id": str(message_id),
            **more,
        }
        return json.dumps([fields]).encode()

    return [
        (post("delivered", 1772357460, response="250 OK"), "DELIVERED"),
        (post("open", 1772359200, sg_machine_open=False), "OPENED"),
        (post("bounce", 1772362800, type="bounce", status="5.1.1", reason="550 5.1.1 No such user"), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_key": "SG.abcdefghij.klmnopqrst"},
    secret=p256_secret(),
    other_secret=p256_secret(),
    sign=sign_sendgrid,
    covers_body=True,
    accepted=HttpResponse(202, {"x-message-id": "14c5d75ce93"}, b""),
    provider_message_id="14c5d75ce93",
    assert_documented=assert_documented,
    life=life,
)
