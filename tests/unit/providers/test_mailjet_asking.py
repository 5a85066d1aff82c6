"""Mailjet: what became of one message, by its history."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.providers.base import HttpResponse, NotTold, Question, Reading, Told
from mail.providers.mailjet import Mailjet
from tests.support.providers.sample import MESSAGE_ID, QUESTION

MAILJET = Mailjet()
CREDENTIALS = {"api_key": "public", "secret_key": "private", "region": "us"}
ID = "16888509234525281"
ASKED = replace(QUESTION, provider_message_id=ID)
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
SENT = {"Comment": "", "EventAt": 1441112238, "EventType": "sent", "State": "", "Useragent": ""}
OPENED = {"Comment": "", "EventAt": 1441116490, "EventType": "opened", "State": "", "Useragent": GMAIL}


def told(body: Any, status: int = 200, question: Question = ASKED) -> Told | NotTold:
    return MAILJET.read_told(HttpResponse(status, {}, json.dumps(body).encode()), question, CREDENTIALS)


def history(*entries: Any) -> dict[str, Any]:
    return {"Count": len(entries), "Data": list(entries), "Total": len(entries)}


def test_a_message_is_asked_about_by_its_id() -> None:
    request = MAILJET.ask_request(ASKED, CREDENTIALS)
    assert request is not None
    assert (request.method, request.url) == ("GET", f"https://api.us.mailjet.com/v3/REST/messagehistory/{ID}")
    assert request.headers["authorization"] == "Basic cHVibGljOnByaXZhdGU="


def test_a_message_whose_id_never_reached_us_is_found_by_ours() -> None:
    """The connection may end before the answer; CustomID is a filter of Message."""
    unknown = replace(ASKED, provider_message_id=None)
    request = MAILJET.ask_request(unknown, CREDENTIALS)
    assert request is not None
    assert request.url == f"https://api.us.mailjet.com/v3/REST/message?CustomID={MESSAGE_ID}"
    answer = told(history({"ID": 16888509234525281, "Status": "sent", "StateID": 0}), question=unknown)
    assert answer == Told(Reading(), MAILJET.ask_request(ASKED, CREDENTIALS))
    answer = told(history(SENT), question=unknown)
    assert isinstance(answer, Told)
    assert [(event.kind, event.message_id) for event in answer.reading.events] == [(EventKind.DELIVERED, MESSAGE_ID)]


def test_the_documented_history_is_read() -> None:
    answer = told(history(SENT, OPENED))
    assert isinstance(answer, Told)
    assert answer.more is None
    sent, opened = answer.reading.events
    assert (sent.kind, sent.occurred_at) == (EventKind.DELIVERED, datetime(2015, 9, 1, 12, 57, 18, tzinfo=UTC))
    assert (opened.kind, opened.occurred_at) == (EventKind.OPENED, datetime(2015, 9, 1, 14, 8, 10, tzinfo=UTC))
    assert (sent.message_id, sent.provider_message_id, sent.recipient) == (MESSAGE_ID, ID, ASKED.recipient)
    assert not opened.machine


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"EventType": "clicked"}, EventKind.CLICKED),
        ({"EventType": "spam"}, EventKind.COMPLAINED),
        ({"EventType": "unsub"}, EventKind.UNSUBSCRIBED),
        ({"EventType": "unsubscribed"}, EventKind.UNSUBSCRIBED),
        ({"EventType": "blocked", "State": "preblocked"}, EventKind.REJECTED),
        ({"EventType": "bounced", "State": "user unknown"}, EventKind.SOFT_BOUNCED),
        ({"EventType": "bounced", "State": "user unknown", "Comment": "550 5.1.1 no"}, EventKind.BOUNCED),
        ({"EventType": "bounced", "State": "greylisted"}, EventKind.DEFERRED),
        ({"EventType": "softbounced", "State": "quota exceeded"}, EventKind.SOFT_BOUNCED),
        ({"EventType": "hardbounced", "State": "user unknown"}, EventKind.BOUNCED),
        ({"EventType": "of tomorrow"}, EventKind.UNKNOWN),
    ],
)
def test_each_entry_means_what_a_webhook_does(entry: dict[str, str], kind: EventKind) -> None:
    answer = told(history({**SENT, **entry}))
    assert isinstance(answer, Told)
    assert [event.kind for event in answer.reading.events] == [kind]


def test_apples_prefetching_is_a_machines_open_here_too() -> None:
    answer = told(history({**OPENED, "Useragent": "Mozilla/5.0"}))
    assert isinstance(answer, Told)
    assert [event.machine for event in answer.reading.events] == [True]


@pytest.mark.parametrize(
    ("entry", "posted"),
    [
        (SENT, {"event": "sent"}),
        (OPENED, {"event": "open", "agent": GMAIL}),
        ({**SENT, "EventType": "bounced"}, {"event": "bounce", "hard_bounce": True, "error": "user unknown"}),
        ({**SENT, "EventType": "blocked"}, {"event": "blocked", "error": "preblocked"}),
    ],
)
def test_an_event_of_the_history_has_the_key_that_it_has_in_a_webhook(
    entry: dict[str, Any], posted: dict[str, Any]
) -> None:
    ours = {"MessageID": int(ID), "CustomID": str(MESSAGE_ID), "time": entry["EventAt"]}
    (event,) = MAILJET.read_webhook(json.dumps({**ours, **posted}).encode(), {}).events
    for question in (ASKED, replace(ASKED, provider_message_id=None)):
        answer = told(history(entry), question=question)
        assert isinstance(answer, Told)
        assert [again.dedupe_key for again in answer.reading.events] == [event.dedupe_key]


def test_one_bad_entry_is_set_aside_alone() -> None:
    answer = told(history(SENT, 7, {**SENT, "EventAt": "soon"}, {**SENT, "EventType": ""}))
    assert isinstance(answer, Told)
    assert [part.index for part in answer.reading.unreadable] == [1, 2, 3]
    assert len(answer.reading.events) == 1


def test_no_history_yet_tells_nothing() -> None:
    assert told(history()) == Told(Reading())
    assert told(history(), question=replace(ASKED, provider_message_id=None)) == Told(Reading())


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {}, FailureKind.OTHER),
        (401, history(SENT), FailureKind.ACCOUNT),
        (404, {}, FailureKind.OTHER),
        (429, {}, FailureKind.ACCOUNT),
        (500, {}, FailureKind.OTHER),
    ],
)
def test_a_message_that_is_not_shown_is_not_told(status: int, body: dict[str, Any], kind: FailureKind) -> None:
    assert told(body, status) == NotTold(Failure(kind, reason=f"HTTP {status}"))
