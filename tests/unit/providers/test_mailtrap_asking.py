"""Mailtrap: what its email logs tell of one message."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Askable, HttpRequest, HttpResponse, NotTold, Question, Reading, Told
from tests.support.providers.sample import MESSAGE_ID, QUESTION

MAILTRAP = provider("mailtrap")
CREDENTIALS = {"api_token": "token"}
ASKED = replace(QUESTION, provider_message_id="a1b2c3d4-e5f6-7890-abcd-ef1234567890")
UNANSWERED = replace(QUESTION, provider_message_id=None)
# Email Logs, "Get an email log message by ID".
LOG: dict[str, Any] = {
    "message_id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "status": "delivered",
    "subject": "Welcome to our service",
    "from": "sender@example.com",
    "to": "recipient@example.com",
    "sent_at": "2025-01-15T10:30:00Z",
    "client_ip": "203.0.113.42",
    "category": "Welcome Email",
    "custom_variables": {},
    "sending_stream": "transactional",
    "domain_id": 3938,
    "opens_count": 2,
    "clicks_count": 1,
    "events": [],
}


def request(question: Question = ASKED) -> HttpRequest:
    assert isinstance(MAILTRAP, Askable)
    made = MAILTRAP.ask_request(question, CREDENTIALS)
    assert made is not None
    return made


def tell(body: Any, status: int = 200, question: Question = ASKED, **headers: str) -> Told | NotTold:
    assert isinstance(MAILTRAP, Askable)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return MAILTRAP.read_told(HttpResponse(status, named, json.dumps(body).encode()), question, CREDENTIALS)


def told(body: Any, question: Question = ASKED) -> Told:
    said = tell(body, question=question)
    assert isinstance(said, Told)
    return said


def logged(event_type: str, **details: Any) -> dict[str, Any]:
    return {"event_type": event_type, "created_at": "2025-01-15T10:35:00Z", "details": details}


def test_one_message_is_asked_for_by_its_id() -> None:
    made = request()
    assert (made.method, made.url) == (
        "GET",
        "https://mailtrap.io/api/email_logs/a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    )
    assert made.headers == {"accept": "application/json", "api-token": "token"}
    assert request(replace(ASKED, provider_message_id="../x?y")).url == "https://mailtrap.io/api/email_logs/..%2Fx%3Fy"


@pytest.mark.parametrize(
    ("event_type", "details", "kind", "detail", "failure"),
    [
        ("delivery", {"sending_ip": "192.0.2.1"}, EventKind.DELIVERED, "delivery", None),
        ("open", {"web_ip_address": "198.51.100.50"}, EventKind.OPENED, "open", None),
        ("click", {"click_url": "https://example.com/x"}, EventKind.CLICKED, "click", None),
        ("spam", {"spam_feedback_type": "abuse"}, EventKind.COMPLAINED, "spam", None),
        ("unsubscribe", {"web_ip_address": "198.51.100.50"}, EventKind.UNSUBSCRIBED, "unsubscribe", None),
        (
            "soft_bounce",
            {
                "email_service_provider_status": "4.2.2",
                "email_service_provider_response": "over quota",
                "bounce_category": "overquota",
            },
            EventKind.DEFERRED,
            "soft bounce/overquota",
            Failure(FailureKind.MAILBOX_FULL, None, "4.2.2", "over quota"),
        ),
        (
            "bounce",
            {
                "email_service_provider_status": "5.7.1",
                "email_service_provider_response": "User unknown",
                "bounce_category": "invalid_recipient",
            },
            EventKind.BOUNCED,
            "bounce",
            Failure(FailureKind.ADDRESS_UNKNOWN, None, "5.7.1", "User unknown"),
        ),
        (
            "suspension",
            {"reject_reason": "Domain is not verified"},
            EventKind.DEFERRED,
            "suspension",
            Failure(FailureKind.ACCOUNT, reason="Domain is not verified"),
        ),
        (
            "reject",
            {"reject_reason": "Recipient in suppression list. Reason: hard bounce"},
            EventKind.REJECTED,
            "reject",
            Failure(FailureKind.SUPPRESSED, reason="Recipient in suppression list. Reason: hard bounce"),
        ),
        ("of_tomorrow", {}, EventKind.UNKNOWN, "of tomorrow", None),
    ],
)
def test_each_event_of_a_log(
    event_type: str, details: dict[str, Any], kind: EventKind, detail: str, failure: Failure | None
) -> None:
    said = told({**LOG, "events": [logged(event_type, **details)]})
    (event,) = said.reading.events
    assert (event.kind, event.detail, event.failure) == (kind, detail, failure)
    assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, LOG["message_id"])
    assert (event.recipient, event.occurred_at) == (
        "recipient@example.com",
        datetime(2025, 1, 15, 10, 35, tzinfo=UTC),
    )
    assert said.more is None


def test_an_event_has_the_same_key_whenever_it_is_told() -> None:
    log = {
        **LOG,
        "events": [logged("click", click_url="https://a.example"), logged("click", click_url="b"), logged("open")],
    }
    keys = [event.dedupe_key for event in told(log).reading.events]
    assert len(set(keys)) == 3
    assert [event.dedupe_key for event in told(log).reading.events] == keys


def test_a_broken_event_is_set_aside_alone() -> None:
    said = told({**LOG, "events": [7, {"event_type": "open", "created_at": "x"}, logged("delivery"), None]})
    assert [event.kind for event in said.reading.events] == [EventKind.DELIVERED]
    assert [part.index for part in said.reading.unreadable] == [0, 1, 3]


def test_a_message_without_events_was_told_of_all_the_same() -> None:
    assert told(LOG) == Told(Reading())


def test_another_message_than_the_one_asked_for_is_not_taken() -> None:
    other = {**LOG, "message_id": "another", "events": [logged("delivery")]}
    assert tell(other) == NotTold(Failure(FailureKind.OTHER, reason="Mailtrap told of another message"))


def test_a_message_whose_answer_never_came_is_looked_for_among_those_to_its_recipient() -> None:
    parts = urlsplit(request(UNANSWERED).url)
    assert (parts.netloc, parts.path) == ("mailtrap.io", "/api/email_logs")
    assert parse_qsl(parts.query) == [
        ("filters[sent_after]", "2026-03-01T08:30:01Z"),
        ("filters[to][operator]", "ci_equal"),
        ("filters[to][value]", "ada@patient.example"),
    ]


def test_it_is_found_by_our_id_and_then_asked_for_by_its_own() -> None:
    listed = [
        {"message_id": "first", "custom_variables": {}},
        {"message_id": "second", "custom_variables": {"carepost_message_id": "0199f3a2-7c1e-7b6a-9d3e-5a4b3c2d1e00"}},
        7,
        {"message_id": "third", "custom_variables": {"carepost_message_id": str(MESSAGE_ID)}},
    ]
    said = told({"messages": listed, "total_count": 4, "next_page_cursor": "second"}, UNANSWERED)
    assert said.reading == Reading()
    assert said.more is not None
    assert said.more.url == "https://mailtrap.io/api/email_logs/third"
    found = told({**LOG, "message_id": "third", "events": [logged("delivery")]}, UNANSWERED)
    assert [event.provider_message_id for event in found.reading.events] == ["third"]


def test_the_list_is_paged_through_to_its_end() -> None:
    said = told({"messages": [{"message_id": "first"}], "next_page_cursor": "first"}, UNANSWERED)
    assert said.more is not None
    assert said.more.url == request(UNANSWERED).url + "&search_after=first"
    last = tell({"messages": [], "next_page_cursor": None}, question=UNANSWERED)
    assert last == NotTold(Failure(FailureKind.OTHER, reason="Mailtrap has no log of it"))


def test_what_tells_nothing_says_why() -> None:
    assert tell({"error": "Not Found"}, 404) == NotTold(Failure(FailureKind.OTHER, reason="HTTP 404"))
    assert tell({"error": "Incorrect API token"}, 401) == NotTold(Failure(FailureKind.ACCOUNT, reason="HTTP 401"))
    assert tell({}) == NotTold(Failure(FailureKind.OTHER, reason="HTTP 200"))
    limited = tell({"errors": "Rate limit exceeded"}, 429, retry_after="60")
    assert limited == NotTold(Failure(FailureKind.ACCOUNT, reason="HTTP 429"), timedelta(seconds=60))
