"""Mailjet, as its documentation has it."""

import json
from base64 import b64encode
from collections.abc import Sequence

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample, sign_basic


def assert_documented(request: HttpRequest, email: Email) -> None:
    """Guide "Send API v3.1"."""
    assert (request.method, request.url) == ("POST", "https://api.mailjet.com/v3.1/send")
    pair = f"{SAMPLE.credentials['api_key']}:{SAMPLE.credentials['secret_key']}"
    assert request.headers["authorization"] == "Basic " + b64encode(pair.encode()).decode()
    (message,) = json.loads(request.body)["Messages"]
    assert message["From"] == {"Email": email.sender.email, "Name": email.sender.name}
    assert message["To"] == [{"Email": email.recipient.email, "Name": email.recipient.name}]
    assert (message["Subject"], message["TextPart"], message["HTMLPart"]) == (email.subject, email.text, email.html)
    assert json.loads(message["EventPayload"]) == {"carepost_message_id": str(email.id)}
    assert message["CustomID"] == str(email.id)


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def post(event: str, at: int, **more: object) -> bytes:
        fields = {
            "event": event,
            "time": at,
            "MessageID": int(provider_id) if provider_id.isdigit() else provider_id,
            "Message_GUID": f"1ab23cd4-e567-8901-2345-{number:012}",
            "email": "ada@patient.example",
            "mj_campaign_id": 7257,
            "mj_contact_id": 4,
            "customcampaign": "",
            "CustomID": str(message_id),
            "Payload": json.dumps({"carepost_message_id": str(message_id)}),
            **more,
        }
        return json.dumps(fields).encode()

    bounce = {
        "blocked": True,
        "hard_bounce": True,
        "error_related_to": "recipient",
        "error": "user unknown",
        "comment": "550 5.1.1 No such user",
    }
    return [
        (post("sent", 1772357460, smtp_reply="sent (250 2.0.0 OK)"), "DELIVERED"),
        (post("open", 1772359200, agent="Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0"), "OPENED"),
        (post("bounce", 1772362800, **bounce), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_key": "0123456789abcdef0123456789abcdef", "secret_key": "fedcba9876543210fedcba9876543210"},
    secret="carepost:s3cret/?@",
    other_secret="carepost:another",
    sign=sign_basic,
    covers_body=False,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json; charset=UTF-8"},
        json.dumps(
            {
                "Messages": [
                    {
                        "Status": "success",
                        "CustomID": "",
                        "To": [
                            {
                                "Email": "passenger1@mailjet.com",
                                "MessageUUID": "cb927469-36fd-4c02-bce4-0d199929a207",
                                "MessageID": 70650219165027410,
                                "MessageHref": "https://api.mailjet.com/v3/REST/message/70650219165027410",
                            }
                        ],
                        "Cc": [],
                        "Bcc": [],
                    }
                ]
            }
        ).encode(),
    ),
    provider_message_id="70650219165027410",
    assert_documented=assert_documented,
    life=life,
)
