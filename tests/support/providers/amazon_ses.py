"""Amazon SES behind Amazon SNS, as their documentation has them."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers import sns
from tests.support.providers.sample import Sample

TOPIC: Final = "arn:aws:sns:eu-west-1:123456789012:email-events"
CERTIFICATE_URL: Final = (
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"
)
KEY_NAME: Final = "sns.amazonaws.com"
_PROVIDER_ID: Final = "01020199f3a27c1e-5f3a2b1c-9d3e-4f5a-8b7c-6d5e4f3a2b1c-000000"


def seal(body: bytes, secret: str) -> bytes:
    """The envelope as SNS posts it for the topic that the secret is."""
    envelope = {**json.loads(body), "TopicArn": secret, "SigningCertURL": CERTIFICATE_URL, "SignatureVersion": "2"}
    return json.dumps({**envelope, "Signature": sns.sign(envelope, sns.key(KEY_NAME), "2")}).encode()


def headers(body: bytes, _: str) -> Mapping[str, str]:
    """ "Parsing Amazon SNS message formats": the headers of a POST."""
    envelope = json.loads(body)
    return {
        "content-type": "text/plain; charset=UTF-8",
        "user-agent": "Amazon Simple Notification Service Agent",
        "x-amz-sns-message-type": envelope["Type"],
        "x-amz-sns-message-id": envelope["MessageId"],
        "x-amz-sns-topic-arn": envelope["TopicArn"],
    }


def notification(event: Mapping[str, Any], number: int = 1) -> bytes:
    """An event in its envelope, not yet signed."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": f"22b80b92-fdea-4c2c-8f9d-{number:012x}",
            "TopicArn": TOPIC,
            "Subject": "Amazon SES Email Event Notification",
            "Message": json.dumps(event),
            "Timestamp": "2026-03-01T09:31:02.114Z",
            "SignatureVersion": "2",
            "Signature": "",
            "SigningCertURL": CERTIFICATE_URL,
            "UnsubscribeURL": f"https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={TOPIC}:c9135db0",
        }
    ).encode()


def raw_email(request: HttpRequest) -> bytes:
    return base64.b64decode(json.loads(request.body)["Content"]["Raw"]["Data"])


def assert_documented(request: HttpRequest, email: Email) -> None:
    """APIReference-V2 "SendEmail"."""
    assert (request.method, request.url) == (
        "POST",
        "https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails",
    )
    body = json.loads(request.body)
    assert body["Destination"] == {"ToAddresses": [email.recipient.email]}
    assert body["EmailTags"] == [{"Name": "carepost_message_id", "Value": str(email.id)}]
    assert f"Message-ID: {email.rfc_message_id}\r\n".encode() in raw_email(request)
    # Signed as it leaves: over the wire the signature is there, before it who makes it.
    assert request.signer or request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=")


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    provider_id = provider_id if number == 1 else f"{provider_id}-{number}"
    mail = {
        "timestamp": "2026-03-01T09:30:01.002Z",
        "source": "desk@practice.example",
        "sourceArn": "arn:aws:ses:eu-west-1:123456789012:identity/practice.example",
        "sendingAccountId": "123456789012",
        "messageId": provider_id,
        "destination": ["ada@patient.example"],
        "headersTruncated": False,
        "tags": {"ses:configuration-set": ["ConfigSet"], "carepost_message_id": [str(message_id)]},
    }
    delivery = {
        "timestamp": "2026-03-01T09:31:00.133Z",
        "processingTimeMillis": 11893,
        "recipients": ["ada@patient.example"],
        "smtpResponse": "250 2.6.0 Message received",
        "reportingMTA": "a4-12.smtp-out.eu-west-1.amazonses.com",
    }
    opened = {
        "timestamp": "2026-03-01T10:00:00.652Z",
        "ipAddress": "192.0.2.1",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0",
        "isBotEvent": "Unlikely",
    }
    bounce = {
        "bounceType": "Permanent",
        "bounceSubType": "NoEmail",
        "bouncedRecipients": [
            {
                "emailAddress": "ada@patient.example",
                "action": "failed",
                "status": "5.1.1",
                "diagnosticCode": "smtp; 550 5.1.1 user unknown",
            }
        ],
        "timestamp": "2026-03-01T11:00:00.669Z",
        "feedbackId": f"01000157c44f053b-61b59c11-9236-11e6-8f96-{number:012x}-000000",
        "reportingMTA": "dsn; mta.example.com",
    }
    return [
        (notification({"eventType": "Delivery", "mail": mail, "delivery": delivery}, 3 * number), "DELIVERED"),
        (notification({"eventType": "Open", "mail": mail, "open": opened}, 3 * number + 1), "OPENED"),
        (notification({"eventType": "Bounce", "mail": mail, "bounce": bounce}, 3 * number + 2), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "session_token": "FwoGZXIvYXdzEXAMPLETOKEN",
        "region": "eu-west-1",
        "configuration_set": "carepost",
    },
    secret=TOPIC,
    other_secret="arn:aws:sns:eu-west-1:123456789012:another-topic",
    sign=headers,
    seal=seal,
    decode=sns.opened,
    encode=sns.closed,
    content=lambda request: request.body + raw_email(request),
    covers_body=True,
    certificate=sns.certificate(KEY_NAME),
    certificate_url=CERTIFICATE_URL,
    accepted=HttpResponse(200, {"content-type": "application/json"}, json.dumps({"MessageId": _PROVIDER_ID}).encode()),
    provider_message_id=_PROVIDER_ID,
    assert_documented=assert_documented,
    life=life,
)
