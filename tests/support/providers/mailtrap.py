"""Mailtrap, as its documentation has it."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample


def sign(body: bytes, secret: str) -> Mapping[str, str]:
    """Webhooks, "Webhook signature verification"."""
    return {"mailtrap-signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def decode(body: bytes) -> Any:
    """JSON, or a list of the lines of JSON Lines."""
    if body.startswith(b'{"event":'):
        return [json.loads(line) for line in body.splitlines()]
    return json.loads(body)


def encode(payload: Any) -> bytes:
    if isinstance(payload, list):
        return b"\n".join(json.dumps(line).encode() for line in payload)
    return json.dumps(payload).encode()


def assert_documented(request: HttpRequest, email: Email) -> None:
    """Transactional, "Send transactional email"."""
    assert (request.method, request.url) == ("POST", "https://send.api.mailtrap.io/api/send")
    assert request.headers["api-token"] == SAMPLE.credentials["api_token"]
    body = json.loads(request.body)
    assert body["to"] == [{"email": email.recipient.email, "name": email.recipient.name}]
    assert body["from"] == {"email": email.sender.email, "name": email.sender.name}
    assert (body["subject"], body["text"], body["html"]) == (email.subject, email.text, email.html)
    assert body["custom_variables"] == {"carepost_message_id": str(email.id)}


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def post(event: str, at: int, **more: object) -> bytes:
        fields = {
            "event": event,
            "timestamp": at,
            "sending_stream": "transactional",
            "custom_variables": {"carepost_message_id": str(message_id)},
            "message_id": provider_id,
            "email": "ada@patient.example",
            "event_id": f"{event}-{number}",
            "sending_domain_name": "practice.example",
            **more,
        }
        return json.dumps({"events": [fields]}).encode()

    refused: dict[str, object] = {"response": "5.1.1 No such user", "response_code": 550}
    return [
        (post("delivery", 1772357460), "DELIVERED"),
        (post("open", 1772359200, ip="192.0.2.1", user_agent="Mozilla/5.0 (X11; Linux x86_64)"), "OPENED"),
        (post("bounce", 1772362800, bounce_category="badrecipient", **refused), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_token": "c3f1a2b4d5e6f708192a3b4c5d6e7f80"},
    secret="a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6",
    other_secret="ffeeddccbbaa99887766554433221100",
    sign=sign,
    decode=decode,
    encode=encode,
    covers_body=True,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json"},
        b'{"success":true,"message_ids":["0c7fd939-02cf-11ed-88c2-0a58a9feac02"]}',
    ),
    provider_message_id="0c7fd939-02cf-11ed-88c2-0a58a9feac02",
    assert_documented=assert_documented,
    life=life,
)
