"""Postmark, as its documentation has it."""

import json
from collections.abc import Sequence

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample, sign_basic


def assert_documented(request: HttpRequest, email: Email) -> None:
    """developer/api/email-api, "Send a single email"."""
    assert (request.method, request.url) == ("POST", "https://api.postmarkapp.com/email")
    assert request.headers["x-postmark-server-token"] == SAMPLE.credentials["server_token"]
    body = json.loads(request.body)
    assert body["To"].endswith(f"<{email.recipient.email}>")
    assert body["From"].endswith(f"<{email.sender.email}>")
    assert (body["Subject"], body["TextBody"], body["HtmlBody"]) == (email.subject, email.text, email.html)
    assert body["Metadata"] == {"carepost_message_id": str(email.id)}


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    common = {
        "MessageID": provider_id,
        "ServerID": 23,
        "MessageStream": "outbound",
        "Metadata": {"carepost_message_id": str(message_id)},
    }
    delivery = {
        **common,
        "RecordType": "Delivery",
        "Recipient": "ada@patient.example",
        "Tag": "",
        "DeliveredAt": "2026-03-01T09:31:00Z",
        "Details": "250 2.0.0 OK",
    }
    opened = {
        **common,
        "RecordType": "Open",
        "Recipient": "ada@patient.example",
        "FirstOpen": True,
        "ReceivedAt": "2026-03-01T10:00:00.1234567Z",
        "UserAgent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0",
    }
    bounce = {
        **common,
        "RecordType": "Bounce",
        "ID": 4323372036854775807 + number,
        "Type": "HardBounce",
        "TypeCode": 1,
        "Name": "Hard bounce",
        "Description": "The server was unable to deliver your message (ex: unknown user, mailbox not found).",
        "Details": "smtp;550 5.1.1 No such user here",
        "Email": "ada@patient.example",
        "BouncedAt": "2026-03-01T11:00:00Z",
        "Inactive": True,
    }
    return [
        (json.dumps(delivery).encode(), "DELIVERED"),
        (json.dumps(opened).encode(), "OPENED"),
        (json.dumps(bounce).encode(), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"server_token": "b3b3b3b3-0000-4000-8000-c3c3c3c3c3c3"},
    secret="carepost:s3cret/?@",
    other_secret="carepost:another",
    sign=sign_basic,
    covers_body=False,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json"},
        json.dumps(
            {
                "To": "ada@patient.example",
                "SubmittedAt": "2026-03-01T09:30:01.1234567-05:00",
                "MessageID": "0a129aee-e1cd-480d-b08d-4f48548ff48d",
                "ErrorCode": 0,
                "Message": "OK",
            }
        ).encode(),
    ),
    provider_message_id="0a129aee-e1cd-480d-b08d-4f48548ff48d",
    assert_documented=assert_documented,
    life=life,
)
