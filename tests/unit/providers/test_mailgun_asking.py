"""Mailgun: what its logs tell of one message."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Askable, HttpRequest, HttpResponse, NotTold, Told
from tests.support.providers.sample import MESSAGE_ID, QUESTION, payloads

MAILGUN = provider("mailgun")
CREDENTIALS = {"api_key": "key", "domain": "mg.practice.example", "region": "eu"}
ASKED = replace(QUESTION, provider_message_id="20260203192638.000be97f99f8cea1@sample.mailgun.com")


def request(question: Any = ASKED) -> HttpRequest:
    assert isinstance(MAILGUN, Askable)
    made = MAILGUN.ask_request(question, CREDENTIALS)
    assert made is not None
    return made


def tell(answer: Any, status: int = 200, **headers: str) -> Told | NotTold:
    assert isinstance(MAILGUN, Askable)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return MAILGUN.read_told(HttpResponse(status, named, json.dumps(answer).encode()), ASKED, CREDENTIALS)


def told(answer: Any) -> Told:
    said = tell(answer)
    assert isinstance(said, Told)
    return said


def log(name: str, **more: Any) -> dict[str, Any]:
    """A webhook's event as a log has it: its time in ISO 8601."""
    event = json.loads(payloads("mailgun")[name])["event-data"]
    at = datetime.fromtimestamp(event.pop("timestamp"), UTC).isoformat(timespec="milliseconds")
    return {**event, "@timestamp": at.replace("+00:00", "Z"), "user-variables": "", **more}


def test_the_logs_are_asked_for_one_message() -> None:
    made = request()
    assert (made.method, made.url) == ("POST", "https://api.eu.mailgun.net/v1/analytics/logs")
    assert made.headers["authorization"] == "Basic YXBpOmtleQ=="
    equal = "="
    assert json.loads(made.body) == {
        "start": "Sun, 01 Mar 2026 08:30:01 +0000",
        "filter": {
            "AND": [
                {
                    "attribute": "domain",
                    "comparator": equal,
                    "values": [{"label": "mg.practice.example", "value": "mg.practice.example"}],
                },
                {
                    "attribute": "message_id",
                    "comparator": equal,
                    "values": [
                        {
                            "label": "20260203192638.000be97f99f8cea1@sample.mailgun.com",
                            "value": "20260203192638.000be97f99f8cea1@sample.mailgun.com",
                        }
                    ],
                },
            ]
        },
        "include_totals": False,
        "pagination": {"sort": "timestamp:asc", "limit": 100},
    }


def test_a_message_whose_answer_never_came_is_asked_for_by_our_message_id() -> None:
    asked = json.loads(request(replace(ASKED, provider_message_id=None)).body)
    assert asked["filter"]["AND"][1]["values"][0]["value"] == "0199f3a27c1e7b6a9d3e5a4b3c2d1e0f@practice.example"


def test_a_log_tells_what_the_webhooks_told_under_the_same_keys() -> None:
    names = ["accepted", "temporary_failure", "delivered", "opened_by_apple", "opened"]
    said = told({"items": [log(name) for name in names], "pagination": {"next": "abc"}})
    webhooks = [event for name in names for event in MAILGUN.read_webhook(payloads("mailgun")[name], {}).events]
    assert [event.dedupe_key for event in said.reading.events] == [event.dedupe_key for event in webhooks]
    assert [event.kind for event in said.reading.events] == [event.kind for event in webhooks]
    assert [event.machine for event in said.reading.events] == [False, False, False, True, False]
    assert {event.message_id for event in said.reading.events} == {MESSAGE_ID}
    for logged, posted in zip(said.reading.events, webhooks, strict=True):
        assert abs(logged.occurred_at - posted.occurred_at) < timedelta(milliseconds=1)
    assert said.more is None


def test_a_full_page_asks_for_the_next_one() -> None:
    said = told({"items": [log("opened", id=f"id-{n}") for n in range(100)], "pagination": {"next": "abc"}})
    assert len(said.reading.events) == 100
    assert said.more is not None
    asked = json.loads(said.more.body)
    assert asked.pop("pagination") == {"sort": "timestamp:asc", "limit": 100, "token": "abc"}
    first = json.loads(request().body)
    first.pop("pagination")
    assert asked == first
    assert said.more.url == request().url


def test_the_last_page_asks_for_nothing_more() -> None:
    assert told({"items": [log("opened", id=f"id-{n}") for n in range(100)], "pagination": {}}).more is None


def test_what_is_told_of_another_message_is_left_out() -> None:
    other = log("delivered", message={"headers": {"message-id": "another@sample.mailgun.com"}})
    said = told({"items": [other, log("opened"), 7, None]})
    assert [event.kind for event in said.reading.events] == [EventKind.OPENED]
    assert tell({"items": [other]}) == NotTold(Failure(FailureKind.OTHER, reason="Mailgun has no log of it"))


def test_no_log_is_no_answer() -> None:
    assert tell({"items": []}) == NotTold(Failure(FailureKind.OTHER, reason="Mailgun has no log of it"))
    assert tell([]) == NotTold(Failure(FailureKind.OTHER, reason="HTTP 200"))


def test_a_refused_key_and_a_rate_limit_are_told_apart() -> None:
    assert tell("Forbidden", 401) == NotTold(Failure(FailureKind.ACCOUNT, reason="HTTP 401"))
    limited = tell({"message": "slow down"}, 429, retry_after="7")
    assert limited == NotTold(Failure(FailureKind.ACCOUNT, reason="HTTP 429"), timedelta(seconds=7))


def test_a_log_without_a_time_is_set_aside_alone() -> None:
    said = told({"items": [log("opened", **{"@timestamp": "yesterday"}), log("delivered")]})
    assert [event.kind for event in said.reading.events] == [EventKind.DELIVERED]
    assert [part.index for part in said.reading.unreadable] == [0]
