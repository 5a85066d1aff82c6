"""Unisender Go, as its documentation has it."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample

PLACE = "0" * 32


def seal(body: bytes, secret: str) -> bytes:
    """Webhook call, `auth`: the body's MD5 with the API key in its place."""
    placed = re.sub(rb'"auth"\s*:\s*"[0-9a-f]{32}"', f'"auth":"{PLACE}"'.encode(), body, count=1)
    digest = hashlib.md5(placed.replace(PLACE.encode(), secret.encode(), 1), usedforsecurity=False).hexdigest()
    return placed.replace(PLACE.encode(), digest.encode(), 1)


def unsigned(body: bytes, secret: str) -> Mapping[str, str]:
    return {"content-type": "application/json", "id": hashlib.sha256(body).hexdigest()[:16]}


def post(*events: Mapping[str, object]) -> bytes:
    """Events as they are posted, their `auth` still to be sealed."""
    named = [{"event_name": "transactional_email_status", "event_data": event} for event in events]
    user = {"user_id": 456, "project_id": "6432890213745872", "project_name": "MyProject", "events": named}
    return json.dumps({"auth": PLACE, "events_by_user": [user]}).encode()


def assert_documented(request: HttpRequest, email: Email) -> None:
    """email/send."""
    url = "https://goapi.unisender.ru/ru/transactional/api/v1/email/send.json"
    assert (request.method, request.url) == ("POST", url)
    assert request.headers["x-api-key"] == SAMPLE.credentials["api_key"]
    message = json.loads(request.body)["message"]
    (recipient,) = message["recipients"]
    assert (recipient["email"], recipient["substitutions"]) == (
        email.recipient.email,
        {"to_name": email.recipient.name},
    )
    assert (message["from_email"], message["subject"]) == (email.sender.email, email.subject)
    assert message["body"] == {"html": email.html, "plaintext": email.text}
    assert recipient["metadata"] == {"carepost_message_id": str(email.id)}


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def event(status: str, at: str, delivery_status: str, response: str = "") -> bytes:
        return post(
            {
                "job_id": provider_id,
                "metadata": {"carepost_message_id": str(message_id)},
                "email": "ada@patient.example",
                "status": status,
                "event_time": at,
                "url": f"https://practice.example/{number}",
                "delivery_info": {"delivery_status": delivery_status, "destination_response": response},
            }
        )

    return [
        (event("delivered", "2026-03-01 09:31:00", "ok_delivered", "250 OK"), "DELIVERED"),
        (event("opened", "2026-03-01 10:00:00", "ok_read"), "OPENED"),
        (event("hard_bounced", "2026-03-01 11:00:00", "err_user_unknown", "550 No such user"), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_key": "6q5z1kt7e3wy8obgnx1t9xp4kbkbnf6jzigqtazy"},
    secret="6q5z1kt7e3wy8obgnx1t9xp4kbkbnf6jzigqtazy",
    other_secret="5mt4xk1d8ehcp9ysmr4zx6n3hqsuzb4dfozwfyxa",
    sign=unsigned,
    seal=seal,
    covers_body=True,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json"},
        json.dumps({"status": "success", "job_id": "1ZymBc-00041N-9X", "emails": ["ada@patient.example"]}).encode(),
    ),
    provider_message_id="1ZymBc-00041N-9X",
    assert_documented=assert_documented,
    life=life,
)
