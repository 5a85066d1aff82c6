"""Amazon SES: what it tells of one message when it is asked (GetMessageInsights)."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.providers.amazon_ses import AmazonSes
from mail.providers.base import Asking, HttpResponse, NotTold, Told
from tests.support.providers.amazon_ses import notification
from tests.support.providers.sample import MESSAGE_ID, QUESTION

SES = AmazonSes()
CREDENTIALS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret", "region": "eu-west-1"}
SECOND = 1772362800.669  # 2026-03-01T11:00:00.669Z


def told(*events: dict[str, Any], status: int = 200) -> Told | NotTold:
    body = {
        "MessageId": QUESTION.provider_message_id,
        "FromEmailAddress": "desk@practice.example",
        "Subject": "Your appointment",
        "EmailTags": [{"Name": "ses:configuration-set", "Value": "ConfigSet"}],
        "Insights": [{"Destination": "ada@patient.example", "Isp": "Gmail", "Events": list(events)}],
    }
    return SES.read_told(HttpResponse(status, {}, json.dumps(body).encode()), QUESTION, CREDENTIALS)


def event(kind: str, **details: Any) -> dict[str, Any]:
    return {"Timestamp": SECOND, "Type": kind, **({"Details": details} if details else {})}


def bounce(bounce_type: str, subtype: str, diagnostic: str | None = None) -> dict[str, Any]:
    return event("BOUNCE", Bounce={"BounceType": bounce_type, "BounceSubType": subtype, "DiagnosticCode": diagnostic})


def test_it_can_be_asked_once_a_second_for_thirty_days_where_a_feature_is_bought() -> None:
    assert SES.capabilities.asking == Asking(1, 30, "Virtual Deliverability Manager")


def test_it_is_asked_by_its_own_id_and_signed() -> None:
    request = SES.ask_request(replace(QUESTION, provider_message_id="0102/../x"), CREDENTIALS)
    assert request is not None
    assert (request.method, request.body) == ("GET", b"")
    assert request.url == "https://email.eu-west-1.amazonaws.com/v2/email/insights/0102%2F..%2Fx/"
    assert request.signer is not None
    assert SES.ask_request(replace(QUESTION, provider_message_id=None), CREDENTIALS) is None


@pytest.mark.parametrize(
    ("given", "kind", "detail", "failure"),
    [
        (event("SEND"), EventKind.QUEUED, "Send", None),
        (event("DELIVERY"), EventKind.DELIVERED, "Delivery", None),
        (event("DELIVERY_DELAY"), EventKind.DEFERRED, "DeliveryDelay", Failure(FailureKind.OTHER)),
        (event("REJECT"), EventKind.REJECTED, "Reject", Failure(FailureKind.CONTENT)),
        (event("RENDERING_FAILURE"), EventKind.REJECTED, "Rendering Failure", Failure(FailureKind.CONTENT)),
        (
            bounce("PERMANENT", "General", "smtp; 550 5.1.1 user unknown"),
            EventKind.BOUNCED,
            "Bounce/Permanent/General",
            Failure(FailureKind.ADDRESS_UNKNOWN, 550, "5.1.1", "smtp; 550 5.1.1 user unknown"),
        ),
        (
            bounce("PERMANENT", "OnAccountSuppressionList"),
            EventKind.REJECTED,
            "Bounce/Permanent/OnAccountSuppressionList",
            Failure(FailureKind.SUPPRESSED),
        ),
        (bounce("TRANSIENT", "General"), EventKind.AUTO_REPLIED, "Bounce/Transient/General", None),
        (
            bounce("TRANSIENT", "General", "smtp; 550 5.3.0 denied"),
            EventKind.BOUNCED,
            "Bounce/Transient/General",
            Failure(FailureKind.OTHER, 550, "5.3.0", "smtp; 550 5.3.0 denied"),
        ),
        (
            bounce("UNDETERMINED", "Undetermined"),
            EventKind.SOFT_BOUNCED,
            "Bounce/Undetermined/Undetermined",
            Failure(FailureKind.OTHER),
        ),
        (
            event("COMPLAINT", Complaint={"ComplaintSubType": None, "ComplaintFeedbackType": "abuse"}),
            EventKind.COMPLAINED,
            "Complaint/abuse",
            None,
        ),
        (
            event("COMPLAINT", Complaint={"ComplaintSubType": "OnAccountSuppressionList"}),
            EventKind.REJECTED,
            "Complaint/OnAccountSuppressionList",
            Failure(FailureKind.SUPPRESSED),
        ),
    ],
)
def test_each_event_is_what_a_webhook_would_bring(
    given: dict[str, Any], kind: EventKind, detail: str, failure: Failure | None
) -> None:
    answer = told(given)
    assert isinstance(answer, Told)
    (read,) = answer.reading.events
    assert (read.kind, read.detail, read.failure) == (kind, detail, failure)
    assert read.occurred_at == datetime(2026, 3, 1, 11, 0, 0, 669000, UTC)
    assert (read.message_id, read.provider_message_id) == (MESSAGE_ID, QUESTION.provider_message_id)
    assert read.recipient == "ada@patient.example"
    assert answer.more is None


@pytest.mark.parametrize("kind", ["OPEN", "CLICK", "SUBSCRIPTION", "OF_TOMORROW"])
def test_an_open_is_left_out_since_it_does_not_say_here_whether_a_machine_made_it(kind: str) -> None:
    answer = told(event(kind), event("DELIVERY"))
    assert isinstance(answer, Told)
    assert [read.kind for read in answer.reading.events] == [EventKind.DELIVERED]


def test_keys_agree_with_the_webhooks() -> None:
    mail = {"messageId": QUESTION.provider_message_id, "timestamp": "2026-03-01T11:00:00.669Z"}
    time = {"timestamp": "2026-03-01T11:00:00.669Z"}
    posted = [
        {"eventType": "Send", "mail": mail, "send": {}},
        {"eventType": "Delivery", "mail": mail, "delivery": time},
        {"eventType": "DeliveryDelay", "mail": mail, "deliveryDelay": {**time, "delayType": "MailboxFull"}},
        {
            "eventType": "Bounce",
            "mail": mail,
            "bounce": {**time, "bounceType": "Permanent", "bounceSubType": "NoEmail", "bouncedRecipients": []},
        },
        {"eventType": "Complaint", "mail": mail, "complaint": {**time, "complaintFeedbackType": "abuse"}},
    ]
    by_webhook = [SES.read_webhook(notification(each), {}).events[0].dedupe_key for each in posted]
    answer = told(
        event("SEND"),
        event("DELIVERY"),
        event("DELIVERY_DELAY"),
        bounce("PERMANENT", "NOEMAIL"),
        event("COMPLAINT", Complaint={"ComplaintFeedbackType": "abuse"}),
    )
    assert isinstance(answer, Told)
    assert [read.dedupe_key for read in answer.reading.events] == by_webhook


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"message": "Message not found"}, FailureKind.OTHER),
        (400, {"message": "VDM is not enabled"}, FailureKind.OTHER),
        (403, {"message": "not authorized"}, FailureKind.ACCOUNT),
        (429, {"message": "Too many requests"}, FailureKind.ACCOUNT),
        (200, {"message": "x"}, FailureKind.OTHER),
        (200, [], FailureKind.OTHER),
    ],
)
def test_an_answer_that_tells_nothing(status: int, body: object, kind: FailureKind) -> None:
    response = HttpResponse(status, {}, json.dumps(body).encode())
    assert SES.read_told(response, QUESTION, CREDENTIALS) == NotTold(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize("broken", [None, 1, "x", {}, {"Type": "DELIVERY"}, {"Type": "DELIVERY", "Timestamp": None}])
def test_one_event_that_can_not_be_read_leaves_the_others(broken: Any) -> None:
    answer = told(broken, event("DELIVERY"))
    assert isinstance(answer, Told)
    assert [read.kind for read in answer.reading.events] == [EventKind.DELIVERED]
