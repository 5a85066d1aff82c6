"""Mailgun, as its documentation has it."""

import hashlib
import hmac
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from mail.ids import MessageId
from mail.message import Email
from mail.providers import forms
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample

_COUNTER = itertools.count()
TIMESTAMP = "1770146800"


def no_headers(_: bytes, __: str) -> Mapping[str, str]:
    """The proof stands in the body."""
    return {}


def proof(secret: str, timestamp: str = TIMESTAMP, token: str = "") -> dict[str, str]:
    """A token that comes once, and its signature ("Securing Webhooks")."""
    token = token or f"{next(_COUNTER):050x}"
    signature = hmac.new(secret.encode(), (timestamp + token).encode(), hashlib.sha256).hexdigest()
    return {"timestamp": timestamp, "token": token, "signature": signature}


def seal(body: bytes, secret: str) -> bytes:
    if body.startswith(b"{"):
        return json.dumps({**json.loads(body), "signature": proof(secret)}).encode()
    return encode({**decode(body), **proof(secret)})


def decode(body: bytes) -> Any:
    return json.loads(body) if body.startswith(b"{") else dict(forms.fields(body))


def encode(payload: Any) -> bytes:
    if not isinstance(payload, dict) or "event-data" in payload:
        return json.dumps(payload).encode()
    written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in payload.items()}
    return urlencode(written, errors="replace").encode()


def content(request: HttpRequest) -> bytes:
    return "\n".join(value for _, value in forms.fields(request.body)).encode()


def assert_documented(request: HttpRequest, email: Email) -> None:
    """Messages, "Send an email"."""
    assert (request.method, request.url) == ("POST", "https://api.mailgun.net/v3/mg.practice.example/messages")
    assert request.headers["authorization"] == "Basic YXBpOmtleS0zYXg2eG5qcDI5amQ2ZmRz"  # api:key-3ax6xnjp29jd6fds
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    form = dict(parse_qsl(request.body.decode(), strict_parsing=True))
    assert form["to"].endswith(f"<{email.recipient.email}>")
    assert form["from"].endswith(f"<{email.sender.email}>")
    assert (form["subject"], form["text"], form["html"]) == (email.subject, email.text, email.html)
    assert form["v:carepost_message_id"] == str(email.id)


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def post(event: str, at: float, **more: object) -> bytes:
        fields = {
            "event": event,
            "id": f"{event}-{number}",
            "timestamp": at,
            "recipient": "ada@patient.example",
            "message": {"headers": {"message-id": provider_id}},
            "user-variables": {"carepost_message_id": str(message_id)},
            **more,
        }
        return json.dumps({"event-data": fields}).encode()

    refused = {"code": 550, "enhanced-code": "5.1.1", "message": "5.1.1 No such user"}
    bounce: dict[str, object] = {"severity": "permanent", "reason": "bounce", "delivery-status": refused}
    return [
        (post("delivered", 1772357460.153125), "DELIVERED"),
        (post("opened", 1772359200.5), "OPENED"),
        (post("failed", 1772362800.25, **bounce), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_key": "key-3ax6xnjp29jd6fds", "domain": "mg.practice.example"},
    secret="8f2c1d4e5b6a79808f2c1d4e5b6a7980",
    other_secret="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    sign=no_headers,
    seal=seal,
    decode=decode,
    encode=encode,
    content=content,
    covers_body=False,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json"},
        b'{"id":"<20111114174239.25659.5817@samples.mailgun.org>","message":"Queued. Thank you."}',
    ),
    provider_message_id="20111114174239.25659.5817@samples.mailgun.org",
    assert_documented=assert_documented,
    life=life,
)
