"""SparkPost: what became of one message, by the search for its events."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mail.event import EventKind
from mail.failure import Failure, FailureKind
from mail.providers.base import HttpResponse, NotTold, Told
from mail.providers.sparkpost import SparkPost
from tests.support.providers.sample import MESSAGE_ID, QUESTION

SPARKPOST = SparkPost()
CREDENTIALS = {"api_key": "14ac5499"}
ASKED = replace(QUESTION, provider_message_id="65832150921904138")
OURS = {"carepost_message_id": str(MESSAGE_ID)}
DELIVERY = {
    "type": "delivery",
    "event_id": "92356927693813856",
    "timestamp": "2016-04-18T14:25:07.000+00:00",
    "transmission_id": "65832150921904138",
    "rcpt_meta": OURS,
    "rcpt_to": "ada@patient.example",
}


def told(results: Any, *links: Any, status: int = 200, question: Any = ASKED) -> Told | NotTold:
    body = {"results": results, "total_count": 1, "links": list(links)}
    return SPARKPOST.read_told(HttpResponse(status, {}, json.dumps(body).encode()), question, CREDENTIALS)


def test_a_message_is_asked_about_by_its_transmission() -> None:
    request = SPARKPOST.ask_request(ASKED, {**CREDENTIALS, "region": "eu", "subaccount_id": "101"})
    assert request.method == "GET"
    assert request.url == (
        "https://api.eu.sparkpost.com/api/v1/events/message"
        "?transmission_ids=65832150921904138&from=2026-03-01T09%3A25&per_page=1000"
    )
    assert (request.headers["authorization"], request.headers["x-msys-subaccount"]) == ("14ac5499", "101")


def test_a_message_whose_answer_was_lost_is_asked_about_by_its_recipient() -> None:
    request = SPARKPOST.ask_request(replace(ASKED, provider_message_id=None), CREDENTIALS)
    assert "/events/message?recipients=ada%40patient.example&from=2026-03-01T09%3A25" in request.url


def test_an_event_has_the_key_that_it_has_in_a_webhook() -> None:
    answer = told([DELIVERY])
    assert isinstance(answer, Told)
    posted = json.dumps([{"msys": {"message_event": {**DELIVERY, "timestamp": "1460989507"}}}]).encode()
    assert answer.reading == SPARKPOST.read_webhook(posted, {})
    assert answer.reading.events[0].kind is EventKind.DELIVERED
    assert answer.more is None


def test_what_isnt_ours_is_left_out() -> None:
    others = {**DELIVERY, "rcpt_meta": {"carepost_message_id": "0199f3a2-7c1e-7b6a-9d3e-000000000000"}}
    bare = {**DELIVERY, "rcpt_meta": {}}
    for question, expected in ((ASKED, 2), (replace(ASKED, provider_message_id=None), 1)):
        answer = told([DELIVERY, others, bare], question=question)
        assert isinstance(answer, Told)
        assert len(answer.reading.events) == expected


def test_the_next_page_is_asked_for() -> None:
    href = "/api/v1/events/message?per_page=1000&cursor=WycyMDE4LTExLTA1VDIyOjQ1OjM5LjAwMFonXQ=="
    answer = told([], {"rel": "first", "href": "/api/v1/events/message?x=1"}, {"rel": "next", "href": href})
    assert isinstance(answer, Told)
    assert answer.more is not None
    assert answer.more.url == f"https://api.sparkpost.com{href}"
    assert answer.more.headers["authorization"] == "14ac5499"


@pytest.mark.parametrize(
    "href",
    [
        "https://evil.example/api/v1/events/message?x",
        "//evil.example/api/v1/events/message?x",
        ".evil.example/api/v1/events/message?x",
        "@evil.example/",
        "/api/v1/account?x",
        "/api/v1/events/message?a b",
        "/api/v1/events/message?é",
        "",
        None,
    ],
)
def test_a_link_to_anywhere_else_is_not_followed(href: str | None) -> None:
    answer = told([], {"rel": "next", "href": href})
    assert isinstance(answer, Told)
    assert answer.more is None


def test_an_event_that_cant_be_read_is_set_aside() -> None:
    answer = told([7, {**DELIVERY, "timestamp": "soon"}, DELIVERY])
    assert isinstance(answer, Told)
    assert [part.index for part in answer.reading.unreadable] == [0, 1]
    assert len(answer.reading.events) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(403, FailureKind.ACCOUNT), (429, FailureKind.ACCOUNT), (500, FailureKind.OTHER)]
)
def test_an_answer_without_events_is_not_told(status: int, kind: FailureKind) -> None:
    assert told([DELIVERY], status=status) == NotTold(Failure(kind, reason=f"HTTP {status}"))
    assert told("none") == NotTold(Failure(FailureKind.OTHER, reason="HTTP 200"))
