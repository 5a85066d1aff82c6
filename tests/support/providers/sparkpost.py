"""SparkPost, as its documentation has it."""

import json
from collections.abc import Sequence

from mail.ids import MessageId
from mail.message import Email
from mail.providers.base import HttpRequest, HttpResponse
from tests.support.providers.sample import Sample, sign_basic


def assert_documented(request: HttpRequest, email: Email) -> None:
    """api/transmissions, "Send inline content"."""
    assert (request.method, request.url) == ("POST", "https://api.sparkpost.com/api/v1/transmissions")
    assert request.headers["authorization"] == SAMPLE.credentials["api_key"]
    body = json.loads(request.body)
    (recipient,) = body["recipients"]
    assert recipient["address"] == {"email": email.recipient.email, "name": email.recipient.name}
    content = body["content"]
    assert content["from"] == {"email": email.sender.email, "name": email.sender.name}
    assert (content["subject"], content["text"], content["html"]) == (email.subject, email.text, email.html)
    assert body["metadata"] == {"carepost_message_id": str(email.id)}


def life(message_id: MessageId, provider_id: str, number: int) -> Sequence[tuple[bytes, str]]:
    def post(event_class: str, event: str, at: int, **more: object) -> bytes:
        fields = {
            "type": event,
            "event_id": f"{number}{at}",
            "timestamp": str(at),
            "transmission_id": provider_id,
            "message_id": f"000443ee14578172{number:04x}",
            "rcpt_meta": {"carepost_message_id": str(message_id)},
            "rcpt_to": "ada@patient.example",
            "raw_rcpt_to": "ada@patient.example",
            **more,
        }
        return json.dumps([{"msys": {event_class: fields}}]).encode()

    reason = "550 5.1.1 No such user here"
    bounce = {"bounce_class": "10", "error_code": "550", "reason": reason, "raw_reason": reason}
    return [
        (post("message_event", "delivery", 1772357460, queue_time="12"), "DELIVERED"),
        (post("track_event", "open", 1772359200, user_agent_parsed={"is_prefetched": False}), "OPENED"),
        (post("message_event", "out_of_band", 1772362800, **bounce), "NOT_DELIVERED"),
    ]


SAMPLE = Sample(
    credentials={"api_key": "14ac5499cfdd2bb2859e4476d2e5b1d2bad079bf"},
    secret="carepost:s3cret/?@",
    other_secret="carepost:another",
    sign=sign_basic,
    covers_body=False,
    accepted=HttpResponse(
        200,
        {"content-type": "application/json"},
        json.dumps(
            {
                "results": {
                    "total_rejected_recipients": 0,
                    "total_accepted_recipients": 1,
                    "id": "11668787484950529",
                }
            }
        ).encode(),
    ),
    provider_message_id="11668787484950529",
    assert_documented=assert_documented,
    life=life,
)
