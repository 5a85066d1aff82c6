"""Scaleway: what it tells of one message when it is asked (Get an email)."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.providers.base import HttpResponse, NotTold, Told
from mail.providers.scaleway import Scaleway
from tests.support.providers.sample import MESSAGE_ID, QUESTION
from tests.support.providers.scaleway import notification

SCALEWAY = Scaleway()
CREDENTIALS = {"secret_key": "secret-key", "project_id": "project-id"}
ADA = "ada@patient.example"


def attempt(rank: int, code: int, message: str) -> dict[str, Any]:
    return {"rank": rank, "tried_at": f"2026-03-01T09:3{rank}:00Z", "code": code, "message": message}


def told(status: str, *tries: dict[str, Any], http: int = 200, **changed: Any) -> Told | NotTold:
    """developers/api/transactional-email, "Email"."""
    email = {
        "id": QUESTION.provider_message_id,
        "message_id": "3d928e21-187a-4539-b303-403156e37911",
        "project_id": "8c8bfa06-9d5f-4a3e-a6a5-1a4a4f2f0b7e",
        "mail_from": "desk@practice.example",
        "mail_rcpt": ADA,
        "rcpt_to": ADA,
        "rcpt_type": "to",
        "subject": "Your appointment",
        "created_at": "2026-03-01T09:30:00Z",
        "updated_at": "2026-03-01T09:45:00Z",
        "status": status,
        "status_details": "details",
        "try_count": len(tries),
        "last_tries": list(tries),
        "flags": [],
        **changed,
    }
    return SCALEWAY.read_told(HttpResponse(http, {}, json.dumps(email).encode()), QUESTION, CREDENTIALS)


def happened(answer: Told | NotTold) -> list[tuple[EventKind, str, int, FailureKind | None]]:
    assert isinstance(answer, Told)
    assert answer.more is None
    for event in answer.reading.events:
        assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, QUESTION.provider_message_id)
        assert event.recipient == ADA
    return [
        (event.kind, event.detail, event.occurred_at.minute, event.failure.kind if event.failure else None)
        for event in answer.reading.events
    ]


def test_it_is_asked_by_its_technical_id() -> None:
    request = SCALEWAY.ask_request(replace(QUESTION, provider_message_id="a/../b"), CREDENTIALS)
    assert request is not None
    assert request.url == "https://api.scaleway.com/transactional-email/v1alpha1/regions/fr-par/emails/a%2F..%2Fb"
    assert request.headers["x-auth-token"] == "secret-key"
    assert SCALEWAY.ask_request(replace(QUESTION, provider_message_id=None), CREDENTIALS) is None


GREYLISTED = attempt(1, 451, "4.7.1 greylisted")
DEFERRED = (EventKind.DEFERRED, "email_deferred", 31, FailureKind.POLICY)


@pytest.mark.parametrize(
    ("status", "tries", "flags", "expected"),
    [
        ("new", [], [], []),
        ("sending", [GREYLISTED], ["greylisted"], [DEFERRED]),
        ("sent", [attempt(1, 250, "Ok")], [], [(EventKind.DELIVERED, "email_delivered", 31, None)]),
        (
            "sent",
            [attempt(2, 250, "Ok"), GREYLISTED],
            [],
            [DEFERRED, (EventKind.DELIVERED, "email_delivered", 32, None)],
        ),
        ("sent", [], [], [(EventKind.DELIVERED, "email_delivered", 45, None)]),
        (
            "failed",
            [GREYLISTED, attempt(2, 550, "5.1.1 no such user")],
            ["hard_bounce", "mailbox_not_found"],
            [DEFERRED, (EventKind.BOUNCED, "email_mailbox_not_found", 32, FailureKind.ADDRESS_UNKNOWN)],
        ),
        (
            "failed",
            [attempt(1, 550, "5.7.1 refused")],
            ["spam", "hard_bounce"],
            [(EventKind.BOUNCED, "email_spam", 31, FailureKind.SPAM)],
        ),
        (
            "failed",
            [attempt(3, 452, "4.2.2 over quota")],
            ["mailbox_full", "soft_bounce"],
            [(EventKind.BOUNCED, "email_dropped", 33, FailureKind.MAILBOX_FULL)],
        ),
        (
            "failed",
            [attempt(1, 0, "unable to connect")],
            [],
            [(EventKind.BOUNCED, "email_dropped", 31, FailureKind.UNREACHABLE)],
        ),
        (
            "failed",
            [],
            ["blocklisted"],
            [(EventKind.REJECTED, "email_blocklisted", 45, FailureKind.SUPPRESSED)],
        ),
        ("failed", [], [], [(EventKind.BOUNCED, "email_dropped", 45, FailureKind.OTHER)]),
        ("canceled", [], [], [(EventKind.REJECTED, "email_canceled", 45, FailureKind.ACCOUNT)]),
        ("unknown", [], [], []),
        ("of_tomorrow", [GREYLISTED], [], [DEFERRED]),
    ],
)
def test_each_status_with_its_tries_and_flags(
    status: str, tries: list[dict[str, Any]], flags: list[str], expected: list[object]
) -> None:
    assert happened(told(status, *tries, flags=flags)) == expected


def test_what_was_said_comes_along() -> None:
    answer = told("failed", attempt(1, 550, "5.1.1 no such user"), flags=["mailbox_not_found"])
    assert isinstance(answer, Told)
    (event,) = answer.reading.events
    assert event.failure == Failure(FailureKind.ADDRESS_UNKNOWN, 550, "5.1.1", "5.1.1 no such user")
    assert event.occurred_at == datetime(2026, 3, 1, 9, 31, tzinfo=UTC)
    blocked = told("failed", flags=["blocklisted"])
    assert isinstance(blocked, Told)
    assert blocked.reading.events[0].failure == Failure(FailureKind.SUPPRESSED, reason="details")


def test_keys_agree_with_the_webhooks() -> None:
    common = {
        "id": "af5c1aac-cf1b-4d4d-9e46-e6d0cd40b81c",
        "email_id": QUESTION.provider_message_id,
        "email_headers": [{"key": "X-Carepost-Message-Id", "value": str(MESSAGE_ID)}],
        "created_at": "2026-03-01T09:31:07Z",
    }
    posted = [
        {**common, "type": "email_deferred", "email_try_count": 1},
        {**common, "type": "email_delivered"},
        {**common, "type": "email_mailbox_not_found"},
        {key: value for key, value in {**common, "type": "email_blocklisted"}.items() if key != "email_id"},
    ]
    by_webhook = [SCALEWAY.read_webhook(notification(each), {}).events[0].dedupe_key for each in posted]
    asked = [
        told("sent", GREYLISTED, attempt(2, 250, "Ok")),
        told("failed", attempt(1, 550, "no"), flags=["mailbox_not_found"]),
        told("failed", flags=["blocklisted"]),
    ]
    by_asking = [event.dedupe_key for each in asked if isinstance(each, Told) for event in each.reading.events]
    assert by_asking == by_webhook


@pytest.mark.parametrize("tries", ["x", None, {}, [None, 1, "x"], [{}], [{"rank": "2"}], [{"rank": None}]])
def test_tries_of_any_shape_crash_nothing(tries: object) -> None:
    answer = told("sent", last_tries=tries)
    assert isinstance(answer, Told)
    assert answer.reading.events[-1].kind is EventKind.DELIVERED


@pytest.mark.parametrize(
    ("http", "kind"), [(404, FailureKind.OTHER), (401, FailureKind.ACCOUNT), (403, FailureKind.ACCOUNT)]
)
def test_an_answer_that_tells_nothing(http: int, kind: FailureKind) -> None:
    assert told("sent", http=http) == NotTold(Failure(kind, reason=f"HTTP {http}"))
    assert told("") == NotTold(Failure(FailureKind.OTHER, reason="HTTP 200"))
