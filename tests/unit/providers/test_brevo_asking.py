"""Brevo: what became of one message, by its activity report."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.providers.base import HttpResponse, NotTold, Reading, Told
from mail.providers.brevo import Brevo
from tests.support.providers.sample import MESSAGE_ID, QUESTION

BREVO = Brevo()
CREDENTIALS = {"api_key": "xkeysib-secret"}
ID = "201798300811.5787683@example.domain.com"
ASKED = replace(QUESTION, provider_message_id=ID)
DEFERRED = {
    "date": "2017-03-12T12:30:00.000Z",
    "email": "john.smith@example.com",
    "event": "deferred",
    "messageId": f"<{ID}>",
    "from": "john@example.com",
    "reason": "Error connection timeout",
    "tag": "OrderConfirmation",
    "templateId": 4,
}


def told(body: Any, status: int = 200, **headers: str) -> Told | NotTold:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return BREVO.read_told(HttpResponse(status, named, json.dumps(body).encode()), ASKED, CREDENTIALS)


def reported(event: str, **more: Any) -> tuple[EventKind, bool]:
    answer = told({"events": [{**DEFERRED, "event": event, **more}]})
    assert isinstance(answer, Told)
    (read,) = answer.reading.events
    assert (read.message_id, read.provider_message_id, read.detail) == (MESSAGE_ID, ID, event)
    return read.kind, read.machine


def test_a_message_is_asked_about_by_the_id_that_its_answer_gave() -> None:
    request = BREVO.ask_request(ASKED, CREDENTIALS)
    assert request is not None
    assert (request.method, request.headers["api-key"]) == ("GET", "xkeysib-secret")
    assert request.url == (
        "https://api.brevo.com/v3/smtp/statistics/events?messageId="
        "%3C201798300811.5787683%40example.domain.com%3E&limit=2500&sort=asc"
    )
    assert BREVO.ask_request(replace(ASKED, provider_message_id=None), CREDENTIALS) is None


def test_the_documented_report_is_read() -> None:
    delivered = {**DEFERRED, "event": "delivered", "date": "2017-03-13T16:30:00.000Z", "reason": None}
    answer = told({"events": [DEFERRED, delivered]})
    assert isinstance(answer, Told)
    assert answer.more is None
    first, second = answer.reading.events
    assert (first.kind, first.occurred_at) == (EventKind.DEFERRED, datetime(2017, 3, 12, 12, 30, tzinfo=UTC))
    assert first.failure == Failure(FailureKind.UNREACHABLE, reason="Error connection timeout")
    assert (second.kind, second.occurred_at) == (EventKind.DELIVERED, datetime(2017, 3, 13, 16, 30, tzinfo=UTC))
    assert second.recipient == "john.smith@example.com"


@pytest.mark.parametrize(
    ("event", "kind", "machine"),
    [
        ("requests", EventKind.QUEUED, False),
        ("delivered", EventKind.DELIVERED, False),
        ("deferred", EventKind.DEFERRED, False),
        ("softBounces", EventKind.BOUNCED, False),
        ("hardBounces", EventKind.BOUNCED, False),
        ("invalid", EventKind.BOUNCED, False),
        ("blocked", EventKind.REJECTED, False),
        ("error", EventKind.SOFT_BOUNCED, False),
        ("opened", EventKind.OPENED, False),
        ("loadedByProxy", EventKind.OPENED, True),
        ("clicks", EventKind.CLICKED, False),
        ("spam", EventKind.COMPLAINED, False),
        ("unsubscribed", EventKind.UNSUBSCRIBED, False),
        ("ofTomorrow", EventKind.UNKNOWN, False),
    ],
)
def test_the_reports_names_mean_what_the_webhooks_do(event: str, kind: EventKind, machine: bool) -> None:
    assert reported(event) == (kind, machine)


@pytest.mark.parametrize(
    ("report", "webhook"),
    [("opened", "unique_opened"), ("clicks", "click"), ("hardBounces", "hard_bounce"), ("loadedByProxy", "proxy_open")],
)
def test_an_event_of_the_report_has_the_key_that_it_has_in_a_webhook(report: str, webhook: str) -> None:
    posted = {"event": webhook, "message-id": f"<{ID}>", "ts_epoch": 1489321800417, "link": "https://a.example"}
    (event,) = BREVO.read_webhook(json.dumps(posted).encode(), {}).events
    answer = told({"events": [{**DEFERRED, "event": report, "link": "https://a.example"}]})
    assert isinstance(answer, Told)
    assert [again.dedupe_key for again in answer.reading.events] == [event.dedupe_key]


def test_an_event_of_another_message_is_left_alone() -> None:
    assert told(
        {"events": [{**DEFERRED, "messageId": "<other@example.domain.com>"}, {**DEFERRED, "messageId": None}]}
    ) == (Told(Reading()))


def test_one_bad_event_is_set_aside_alone() -> None:
    answer = told({"events": [7, {**DEFERRED, "date": "yesterday"}, DEFERRED]})
    assert isinstance(answer, Told)
    assert [part.index for part in answer.reading.unreadable] == [0, 1]
    assert len(answer.reading.events) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, FailureKind.OTHER), (401, FailureKind.ACCOUNT), (404, FailureKind.OTHER), (500, FailureKind.OTHER)],
)
def test_a_message_that_brevo_does_not_know_yet_is_not_told(status: int, kind: FailureKind) -> None:
    assert told({}, status) == NotTold(Failure(kind, reason=f"HTTP {status}"))


def test_a_rate_limit_is_waited_for() -> None:
    assert told({}, 429, x_sib_ratelimit_reset="1800") == NotTold(
        Failure(FailureKind.ACCOUNT, reason="HTTP 429"), timedelta(minutes=30)
    )
