"""Scaleway Transactional Email behind Topics and Events, as their documentation has them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers import sns
from tests.support.providers.sample import Sample

ARN: Final = "arn:scw:sns:fr-par:project-8c8bfa06-9d5f-4a3e-a6a5-1a4a4f2f0b7e:email-events"
OTHER_ARN: Final = "arn:scw:sns:fr-par:project-8c8bfa06-9d5f-4a3e-a6a5-1a4a4f2f0b7e:another-topic"
CERTIFICATE_URL: Final = "https://messaging.s3.fr-par.scw.cloud/fr-par/sns/sns_certificate_5f1d2c3b4a.crt"
AUTHORITY: Final = sns.certificate("Authority of this run", authority=True)
KEY_NAME: Final = "sns.mnq.fr-par.scw.cloud"
# Scaleway's own authority can't issue one here, so the webhook secret names the authority of this run.
CERTIFICATE: Final = sns.certificate(KEY_NAME, "Authority of this run") + AUTHORITY
SECRET: Final = f"{ARN}#{sns.fingerprint(AUTHORITY)}"


def seal(body: bytes, secret: str) -> bytes:
    """The envelope as Topics and Events posts it for the topic that the secret names."""
    topic = secret.partition("#")[0]
    envelope = {**json.loads(body), "TopicArn": topic, "SigningCertURL": CERTIFICATE_URL, "SignatureVersion": "1"}
    return json.dumps({**envelope, "Signature": sns.sign(envelope, sns.key(KEY_NAME), "1")}).encode()


def headers(body: bytes, _: str) -> Mapping[str, str]:
    return {"content-type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": json.loads(body)["Type"]}


def notification(event: Mapping[str, Any], number: int = 1) -> bytes:
    """An event in its envelope, not yet signed."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": f"9ae5c56c-6c9c-42e5-b0b1-{number:012x}",
            "TopicArn": ARN,
            "Message": json.dumps(event),
            "Timestamp": "2026-03-01T09:31:01Z",
            "SignatureVersion": "1",
            "Signature": "",
            "SigningCertURL": CERTIFICATE_URL,
        }
    ).encode()


def assert_documented(request: HttpRequest, email: Email) -> None:
    """docs/transactional-email/api-cli/send-emails-with-api."""
    assert (request.method, request.url) == (
        "POST",
        "https://api.scaleway.com/transactional-email/v1alpha1/regions/fr-par/emails",
    )
    assert request.headers["x-auth-token"] == SAMPLE.credentials["secret_key"]
    body = json.loads(request.body)
    assert body["project_id"] == SAMPLE.credentials["project_id"]
    assert body["from"]["email"] == email.sender.email
    assert body["to"] == [{"email": email.recipient.email, "name": email.recipient.name}]
    assert (body["subject"], body["text"], body["html"]) == (email.subject, email.text, email.html)
    assert {"key": "X-Carepost-Message-ID", "value": str(email.id)} in body["additional_headers"]


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    common = {
        "organization_id": "6d7fa23a-1c4f-44f4-9a1c-4a5b1f8b8f1a",
        "project_id": "8c8bfa06-9d5f-4a3e-a6a5-1a4a4f2f0b7e",
        "domain_id": "b6a2f0a4-9d4f-46e3-9f1a-0b6a2f0a49d4",
        "domain_name": "practice.example",
        "email_id": provider_id if number == 1 else f"{provider_id}-{number}",
        "email_from": "desk@practice.example",
        "email_to": "ada@patient.example",
        "email_headers": [{"key": "X-Carepost-Message-Id", "value": str(message_id)}],
    }
    delivered = {
        **common,
        "id": f"af5c1aac-cf1b-4d4d-9e46-{2 * number:012x}",
        "type": "email_delivered",
        "created_at": "2026-03-01T09:31:00.123456789Z",
        "email_sent_at": "2026-03-01T09:30:58Z",
        "email_response_code": 250,
        "email_response_message": "2.0.0 OK",
    }
    dropped = {
        **common,
        "id": f"af5c1aac-cf1b-4d4d-9e46-{2 * number + 1:012x}",
        "type": "email_mailbox_not_found",
        "created_at": "2026-03-01T11:00:00Z",
        "email_sent_at": "2026-03-01T10:59:58Z",
        "email_response_code": 550,
        "email_response_message": "5.1.1 No such user here",
    }
    return [
        (notification(delivered, 2 * number), "DELIVERED"),
        (notification(dropped, 2 * number + 1), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={
        "secret_key": "3e44a89e-1f75-45f5-9b93-422db94165eb",
        "project_id": "8c8bfa06-9d5f-4a3e-a6a5-1a4a4f2f0b7e",
    },
    secret=SECRET,
    other_secret=f"{OTHER_ARN}#{sns.fingerprint(AUTHORITY)}",
    sign=headers,
    seal=seal,
    decode=sns.opened,
    encode=sns.closed,
    covers_body=True,
    certificate=CERTIFICATE,
    certificate_url=CERTIFICATE_URL,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json"},
        json.dumps(
            {
                "emails": [
                    {
                        "id": "655c27f2-b2a3-4a9f-8e1f-3e6dc268b1c4",
                        "message_id": "3d928e21-187a-4539-b303-403156e37911",
                        "project_id": "8c8bfa06-9d5f-4a3e-a6a5-1a4a4f2f0b7e",
                        "mail_from": "desk@practice.example",
                        "rcpt_to": "ada@patient.example",
                        "rcpt_type": "to",
                        "created_at": "2024-04-01T07:55:36.758671147Z",
                        "updated_at": "2024-04-01T07:55:36.758671147Z",
                        "status": "new",
                        "status_details": "not yet processed",
                        "try_count": 0,
                        "last_tries": [],
                    }
                ]
            }
        ).encode(),
    ),
    provider_message_id="655c27f2-b2a3-4a9f-8e1f-3e6dc268b1c4",
    assert_documented=assert_documented,
    life=life,
)
