"""MailerSend: what became of one message, by the state of its email."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.providers.base import HttpResponse, NotTold, Told
from mail.providers.mailersend import MailerSend
from mail.status import Verdict
from tests.support.providers.sample import MESSAGE_ID, QUESTION

MAILERSEND = MailerSend()
CREDENTIALS = {"api_token": "mlsn.secret"}
ID = "5ee0b183b251345e407c936a"
ASKED = replace(QUESTION, provider_message_id=ID)
EMAIL = {
    "id": "5ee0b183b251345e407c936b",
    "from": "colleen.wiza@example.net",
    "subject": "Magni aperiam sunt nam omnis.",
    "text": "Perferendis iure deleniti.",
    "html": "<html></html>",
    "status": "delivered",
    "tags": None,
    "created_at": "2020-06-10T10:10:11.231000Z",
    "updated_at": "2020-06-10T10:10:14.500000Z",
}


def told(data: Any, status: int = 200, **headers: str) -> Told | NotTold:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"data": data}).encode()
    return MAILERSEND.read_told(HttpResponse(status, named, body), ASKED, CREDENTIALS)


def message(*emails: Any) -> dict[str, Any]:
    return {"id": ID, "created_at": "2020-06-10T10:10:11.231000Z", "emails": list(emails), "domain": {"id": "7nxe3y"}}


def test_a_message_is_asked_about_by_the_id_of_its_answer() -> None:
    request = MAILERSEND.ask_request(ASKED, CREDENTIALS)
    assert request is not None
    assert (request.method, request.url) == ("GET", f"https://api.mailersend.com/v1/messages/{ID}")
    assert request.headers["authorization"] == "Bearer mlsn.secret"
    odd = MAILERSEND.ask_request(replace(ASKED, provider_message_id="a/../b?c"), CREDENTIALS)
    assert odd is not None
    assert odd.url == "https://api.mailersend.com/v1/messages/a%2F..%2Fb%3Fc"
    assert MAILERSEND.ask_request(replace(ASKED, provider_message_id=None), CREDENTIALS) is None


def test_the_documented_message_is_read() -> None:
    answer = told(message(EMAIL))
    assert isinstance(answer, Told)
    (event,) = answer.reading.events
    assert (event.kind, event.detail) == (EventKind.DELIVERED, "status/delivered")
    assert event.occurred_at == datetime(2020, 6, 10, 10, 10, 14, 500000, UTC)
    assert (event.message_id, event.provider_message_id, event.recipient) == (MESSAGE_ID, ID, ASKED.recipient)
    assert answer.more is None


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("queued", Verdict.SENT),
        ("sent", Verdict.SENT),
        ("deferred", Verdict.SENT),
        ("delivered", Verdict.DELIVERED),
        ("rejected", Verdict.RETURNED_SOFT),
        ("soft_bounced", Verdict.RETURNED_SOFT),
        ("hard_bounced", Verdict.RETURNED),
        ("of_tomorrow", Verdict.QUEUED),
    ],
)
def test_each_status_of_an_email(status: str, verdict: Verdict) -> None:
    answer = told(message({**EMAIL, "status": status}))
    assert isinstance(answer, Told)
    assert [event.verdict for event in answer.reading.events] == [verdict]


def test_asking_twice_tells_the_same_event() -> None:
    first, second = (
        told(message({**EMAIL, "updated_at": at})) for at in ("2020-06-10 10:10:14", "2020-06-11 09:00:00")
    )
    assert isinstance(first, Told)
    assert isinstance(second, Told)
    assert first.reading.events[0].dedupe_key == second.reading.events[0].dedupe_key
    assert first.reading.events[0].occurred_at == datetime(2020, 6, 10, 10, 10, 14, tzinfo=UTC)


def test_an_email_that_is_not_there_yet_tells_nothing() -> None:
    answer = told(message())
    assert isinstance(answer, Told)
    assert not answer.reading.events


def test_an_email_without_a_state_or_a_time_is_set_aside() -> None:
    answer = told(message(7, {**EMAIL, "status": None}, {**EMAIL, "updated_at": "soon"}, EMAIL))
    assert isinstance(answer, Told)
    assert [part.index for part in answer.reading.unreadable] == [0, 1, 2]
    assert len(answer.reading.events) == 1


def test_another_message_is_not_taken_for_ours() -> None:
    assert told({**message(EMAIL), "id": "other"}) == NotTold(Failure(FailureKind.OTHER, reason="HTTP 200"))


@pytest.mark.parametrize(
    ("status", "kind"), [(401, FailureKind.ACCOUNT), (403, FailureKind.ACCOUNT), (404, FailureKind.OTHER)]
)
def test_a_message_that_is_not_shown_is_not_told(status: int, kind: FailureKind) -> None:
    assert told({}, status) == NotTold(Failure(kind, reason=f"HTTP {status}"))


def test_a_used_up_quota_is_waited_for() -> None:
    said = told(
        {},
        429,
        date="Mon, 06 Jul 2026 22:30:00 GMT",
        x_apiquota_remaining="0",
        x_apiquota_reset="2026-07-07T00:00:00Z",
    )
    assert said == NotTold(Failure(FailureKind.ACCOUNT, reason="HTTP 429"), timedelta(minutes=90))
