"""MailerSend, as its documentation has it."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample


def sign_mailersend(body: bytes, secret: str) -> Mapping[str, str]:
    """Page "Webhooks", "Security"."""
    return {"signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def assert_documented(request: HttpRequest, email: Email) -> None:
    """Page "Email", "Send an email"."""
    assert (request.method, request.url) == ("POST", "https://api.mailersend.com/v1/email")
    assert request.headers["authorization"] == f"Bearer {SAMPLE.credentials['api_token']}"
    body = json.loads(request.body)
    assert body["from"] == {"email": email.sender.email, "name": email.sender.name}
    assert body["to"] == [{"email": email.recipient.email, "name": email.recipient.name}]
    assert (body["subject"], body["text"], body["html"]) == (email.subject, email.text, email.html)
    assert body["tags"] == [str(email.id)]


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def post(event: str, at: str, meta: object) -> bytes:
        data = {
            "id": f"6892766a5b66e2daf3dc{number:04x}-{event}",
            "domain_id": "yv69oxl5kl785kw2",
            "message_id": provider_id,
            "email_id": "6892766a8d52ba62543d5e71",
            "type": event,
            "subject": "Your appointment",
            "recipient": "ada@patient.example",
            "tags": [str(message_id)],
            "meta": meta,
        }
        return json.dumps({"type": f"activity.{event}", "created_at": at, "data": data}).encode()

    bounce = {"bounce_reason": "550 5.1.1 No such user", "bounce_code": "550", "bounce_type": "hard"}
    return [
        (post("delivered", "2026-03-01T09:31:00.000000Z", []), "DELIVERED"),
        (post("opened", "2026-03-01T10:00:00.000000Z", {"user_agent": "Mozilla/5.0 (X11) Firefox/148.0"}), "OPENED"),
        (post("hard_bounced", "2026-03-01T11:00:00.000000Z", bounce), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_token": "mlsn.0123456789abcdef0123456789abcdef"},
    secret="JXRHYr0hEp90BiPoNv1WqSQkrtNTL0Id",
    other_secret="Zq8sK2mW4xV6bN0cL1dF3gH5jT7yR9uP",
    sign=sign_mailersend,
    covers_body=True,
    accepted=HttpResponse(
        202, {"x-message-id": "5e42957d51f1d94a1070a733", "content-type": "text/html; charset=UTF-8"}, b""
    ),
    provider_message_id="5e42957d51f1d94a1070a733",
    assert_documented=assert_documented,
    life=life,
)
