"""Resend, as its documentation has it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample


def sign_svix(body: bytes, secret: str, identity: str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", at: int = 1614265330) -> str:
    """One signature, as docs.svix.com has it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{identity}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def sign_resend(body: bytes, secret: str) -> Mapping[str, str]:
    # An id of each document, as each event has one.
    identity = f"msg_{hashlib.sha256(body).hexdigest()[:27]}"
    return {
        "svix-id": identity,
        "svix-timestamp": "1614265330",
        "svix-signature": sign_svix(body, secret, identity),
    }


def assert_documented(request: HttpRequest, email: Email) -> None:
    """api-reference/emails/send-email."""
    assert (request.method, request.url) == ("POST", "https://api.resend.com/emails")
    assert request.headers["authorization"] == f"Bearer {SAMPLE.credentials['api_key']}"
    assert request.headers["idempotency-key"] == str(email.id)
    body = json.loads(request.body)
    assert body["from"].endswith(f"<{email.sender.email}>")
    assert body["to"][0].endswith(f"<{email.recipient.email}>")
    assert (body["subject"], body["text"], body["html"]) == (email.subject, email.text, email.html)
    assert body["tags"] == [{"name": "carepost_message_id", "value": str(email.id)}]


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def post(event: str, at: str, **more: Any) -> bytes:
        data = {
            "created_at": "2026-03-01 09:30:01.894719+00",
            "email_id": provider_id,
            "from": "Practice <desk@practice.example>",
            "to": ["ada@patient.example"],
            "subject": f"Appointment {number}",
            "tags": {"carepost_message_id": str(message_id)},
            **more,
        }
        return json.dumps({"type": event, "created_at": at, "data": data}).encode()

    bounce = {"message": "The recipient's address does not exist.", "subType": "NoEmail", "type": "Permanent"}
    return [
        (post("email.delivered", "2026-03-01T09:31:00.126Z"), "DELIVERED"),
        (post("email.opened", "2026-03-01T10:00:00.126Z"), "OPENED"),
        (post("email.bounced", "2026-03-01T11:00:00.126Z", bounce=bounce), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_key": "re_c1tpEyD8_NKFusih9vKVQknRAQfmFcWCv"},
    secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    other_secret="whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    sign=sign_resend,
    covers_body=True,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json; charset=utf-8"},
        json.dumps({"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"}).encode(),
    ),
    provider_message_id="49a3999c-0ce1-4ea6-ab68-afcd6dc2e794",
    assert_documented=assert_documented,
    life=life,
)
