"""Brevo, as its documentation has it."""

import json
from collections.abc import Sequence

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample, sign_basic


def assert_documented(request: HttpRequest, email: Email) -> None:
    """Reference, "Send a transactional email"."""
    assert (request.method, request.url) == ("POST", "https://api.brevo.com/v3/smtp/email")
    assert request.headers["api-key"] == SAMPLE.credentials["api_key"]
    body = json.loads(request.body)
    assert body["sender"] == {"email": email.sender.email, "name": email.sender.name}
    assert body["to"] == [{"email": email.recipient.email, "name": email.recipient.name}]
    assert (body["subject"], body["textContent"], body["htmlContent"]) == (email.subject, email.text, email.html)
    assert json.loads(body["headers"]["X-Mailin-custom"]) == {"carepost_message_id": str(email.id)}
    assert body["headers"]["idempotencyKey"] == str(email.id)


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def post(event: str, at: int, **more: object) -> bytes:
        fields = {
            "event": event,
            "email": "ada@patient.example",
            "id": 26224,
            "date": "2026-03-01 10:31:00",
            "ts": at,
            "ts_event": at,
            "ts_epoch": at * 1000 + number,
            "message-id": f"<{provider_id}>",
            "subject": "Your appointment",
            "X-Mailin-custom": json.dumps({"carepost_message_id": str(message_id)}),
            **more,
        }
        return json.dumps(fields).encode()

    return [
        (post("delivered", 1772357460), "DELIVERED"),
        (post("unique_opened", 1772359200), "OPENED"),
        (post("hard_bounce", 1772362800, reason="550 5.1.1 No such user"), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_key": "xkeysib-0123456789abcdef-AbCdEf"},
    secret="carepost:s3cret/?@",
    other_secret="carepost:another",
    sign=sign_basic,
    covers_body=False,
    accepted=HttpResponse(
        201,
        {"content-type": "application/json"},
        b'{"messageId":"<201798300811.5787683@relay.domain.com>"}',
    ),
    provider_message_id="201798300811.5787683@relay.domain.com",
    assert_documented=assert_documented,
    life=life,
)
