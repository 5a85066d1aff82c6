"""Mandrill, as its documentation has it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import URL, Sample


def sign(body: bytes, secret: str, url: str = URL) -> Mapping[str, str]:
    """The guide, "Authenticating webhook requests"."""
    signed = url
    for name, value in sorted(parse_qsl(body.decode(), keep_blank_values=True)):
        signed += name + value
    mac = hmac.new(secret.encode(), signed.encode(), hashlib.sha1).digest()
    return {"x-mandrill-signature": base64.b64encode(mac).decode()}


def decode(body: bytes) -> Any:
    return json.loads(dict(parse_qsl(body.decode()))["mandrill_events"])


def encode(payload: Any) -> bytes:
    return urlencode({"mandrill_events": json.dumps(payload)}).encode()


def assert_documented(request: HttpRequest, email: Email) -> None:
    """Messages, "Send new message"."""
    assert (request.method, request.url) == ("POST", "https://mandrillapp.com/api/1.0/messages/send.json")
    body = json.loads(request.body)
    assert body["key"] == SAMPLE.credentials["api_key"]
    message = body["message"]
    assert message["to"] == [{"email": email.recipient.email, "name": email.recipient.name, "type": "to"}]
    assert (message["from_email"], message["from_name"]) == (email.sender.email, email.sender.name)
    assert (message["subject"], message["text"], message["html"]) == (email.subject, email.text, email.html)
    assert message["metadata"] == {"carepost_message_id": str(email.id)}


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def post(event: str, at: int, **more: object) -> bytes:
        msg = {
            "_id": provider_id,
            "_version": f"version-{number}",
            "ts": 1772357400,
            "email": "ada@patient.example",
            "metadata": {"carepost_message_id": str(message_id)},
            **more,
        }
        return encode([{"event": event, "msg": msg, "_id": provider_id, "ts": at}])

    refused: dict[str, object] = {"diag": "smtp;550 5.1.1 No such user", "bounce_description": "bad_mailbox"}
    return [
        (post("send", 1772357430, state="sent"), "SENT"),
        (post("delivered", 1772357460, state="sent"), "DELIVERED"),
        (post("open", 1772359200, state="sent"), "OPENED"),
        (post("hard_bounce", 1772362800, state="bounced", bgtools_code=10, **refused), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_key": "md-abcdefghijklmnopqrstuv"},
    secret="u5Xb0nqN3k2a1hJ9dQ7wZg",
    other_secret="A1b2C3d4E5f6G7h8I9j0Kl",
    sign=sign,
    sign_url=sign,
    decode=decode,
    encode=encode,
    covers_body=True,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json"},
        b'[{"email":"ada@patient.example","status":"sent","_id":"8db27a6b0ae2428cb6d1e29d5f1e1b2c",'
        b'"reject_reason":null,"queued_reason":null}]',
    ),
    provider_message_id="8db27a6b0ae2428cb6d1e29d5f1e1b2c",
    assert_documented=assert_documented,
    life=life,
)
