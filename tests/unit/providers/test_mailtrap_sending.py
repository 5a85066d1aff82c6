"""Mailtrap: exact requests, and what each answer means."""

import json
from datetime import timedelta

import pytest

from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Accepted, Checkable, HttpResponse, Refused, TryAgain
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

MAILTRAP = provider("mailtrap")
CREDENTIALS = {"api_token": "token"}


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return MAILTRAP.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = MAILTRAP.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://send.api.mailtrap.io/api/send")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "api-token": "token",
    }
    assert json.loads(request.body) == {
        "from": {"email": "desk@practice.example", "name": "Practice, Ltd."},
        "to": [{"email": "ada@patient.example", "name": 'Ada "Countess" Lovelace'}],
        "reply_to": {"email": "reception@practice.example", "name": "Reception"},
        "subject": "Your appointment – Dienstag",
        "text": "See you on Tuesday.",
        "html": "<p>See you on <b>Tuesday</b>.</p>",
        "headers": {"Auto-Submitted": "auto-generated"},
        "custom_variables": {"carepost_message_id": str(MESSAGE_ID)},
    }


def test_what_an_email_lacks_is_left_out() -> None:
    payload = json.loads(MAILTRAP.send_request(PLAIN, CREDENTIALS).body)
    assert payload["to"] == [{"email": "ada@patient.example"}]
    assert "html" not in payload
    assert "reply_to" not in payload


@pytest.mark.parametrize(
    ("more", "url"),
    [
        ({"stream": "transactional"}, "https://send.api.mailtrap.io/api/send"),
        ({"stream": "bulk"}, "https://bulk.api.mailtrap.io/api/send"),
        ({"sandbox_id": "12345"}, "https://sandbox.api.mailtrap.io/api/send/12345"),
        ({"sandbox_id": "1/../2", "stream": "bulk"}, "https://sandbox.api.mailtrap.io/api/send/1%2F..%2F2"),
        ({"stream": "bulk", "base_url": "http://127.0.0.1:8025/"}, "http://127.0.0.1:8025/api/send"),
        ({"sandbox_id": "12345", "base_url": "http://127.0.0.1:8025"}, "http://127.0.0.1:8025/api/send/12345"),
    ],
)
def test_stream_and_sandbox_have_hosts_of_their_own(more: dict[str, str], url: str) -> None:
    assert MAILTRAP.send_request(EMAIL, {**CREDENTIALS, **more}).url == url


def test_a_stream_is_one_of_mailtraps() -> None:
    with pytest.raises(CredentialsIncomplete, match="transactional, bulk"):
        MAILTRAP.check_credentials({**CREDENTIALS, "stream": "sandbox"})


def test_success_is_accepted_under_the_recipients_id() -> None:
    assert answer(200, {"success": True, "message_ids": ["0c7fd939"]}) == Accepted("0c7fd939")


@pytest.mark.parametrize(
    "body",
    [
        [],
        None,
        {},
        {"success": True},
        {"success": True, "message_ids": []},
        {"success": True, "message_ids": "a"},
        {"success": "true", "message_ids": ["a"]},
        {"success": False, "message_ids": ["a"]},
    ],
)
def test_a_success_without_mailtraps_word_is_no_acceptance(body: object) -> None:
    assert answer(200, body) == TryAgain(Failure(FailureKind.OTHER, reason="HTTP 200"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.CONTENT),
        (401, FailureKind.ACCOUNT),
        (403, FailureKind.ACCOUNT),
        (404, FailureKind.ACCOUNT),
        (413, FailureKind.TOO_LARGE),
        (422, FailureKind.CONTENT),
        (418, FailureKind.OTHER),
    ],
)
def test_a_refusal_is_for_good_and_says_why(status: int, kind: FailureKind) -> None:
    said = {"success": False, "errors": ["It says\nwhy.", "And more.", 7]}
    assert answer(status, said) == Refused(Failure(kind, reason="It says why.; And more."))
    assert answer(status, {"errors": "One text."}) == Refused(Failure(kind, reason="One text."))
    assert answer(status, {"error": "Another."}) == Refused(Failure(kind, reason="Another."))
    assert answer(status, "<html>") == Refused(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("'to' address is invalid", FailureKind.ADDRESS_UNKNOWN),
        ("'from' address is invalid", FailureKind.ACCOUNT),
        ("'reply_to' address is invalid", FailureKind.ACCOUNT),
        ("'subject' is required", FailureKind.CONTENT),
    ],
)
def test_a_bad_request_is_told_by_the_field_it_names(error: str, kind: FailureKind) -> None:
    assert answer(400, {"success": False, "errors": [error]}) == Refused(Failure(kind, reason=error))


@pytest.mark.parametrize("status", [302, 408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(answer(status, {"success": False, "errors": ["'to' is required"]}), TryAgain)


def test_a_rate_limit_is_waited_for_as_asked() -> None:
    said = answer(429, {"errors": "Rate limit exceeded"}, retry_after="10")
    assert said == TryAgain(Failure(FailureKind.ACCOUNT, reason="Rate limit exceeded"), timedelta(seconds=10))


def test_the_token_is_checked_by_listing_the_domains() -> None:
    assert isinstance(MAILTRAP, Checkable)
    request = MAILTRAP.check_request(CREDENTIALS)
    assert (request.method, request.url) == ("GET", "https://mailtrap.io/api/domains")
    assert request.headers["api-token"] == "token"


@pytest.mark.parametrize(
    ("status", "body", "ok", "words"),
    [
        (200, {"data": []}, True, "takes the key"),
        (200, {"data": [{"open_tracking_enabled": False, "click_tracking_enabled": False}]}, True, "takes the key"),
        (200, {"data": [{"open_tracking_enabled": True}]}, True, "Its open tracking is on"),
        (
            200,
            {"data": [{"open_tracking_enabled": True}, {"click_tracking_enabled": True}]},
            True,
            "Its open and click tracking is on",
        ),
        (401, {"error": "Incorrect API token"}, False, "refuses the key"),
        (403, {"errors": "Account access forbidden"}, None, "may or may not send"),
        (500, None, None, "HTTP 500"),
    ],
)
def test_what_a_check_says_of_the_token_and_of_tracking(status: int, body: object, ok: bool | None, words: str) -> None:
    assert isinstance(MAILTRAP, Checkable)
    said = MAILTRAP.read_check(HttpResponse(status, {}, json.dumps(body).encode()))
    assert said.ok is ok
    assert words in said.text
