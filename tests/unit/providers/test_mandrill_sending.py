"""Mandrill: exact requests, and what each answer means."""

import json
from datetime import timedelta
from typing import Any

import pytest

from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Accepted, Answer, Checkable, HttpResponse, Refused, TryAgain
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

MANDRILL = provider("mandrill")
CREDENTIALS = {"api_key": "md-key"}


def answer(status: int, body: object = "", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return MANDRILL.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def result(**fields: Any) -> Answer:
    return answer(200, [{"email": "ada@patient.example", "_id": "8db27a6b", "reject_reason": None, **fields}])


def error(status: int, name: str, **headers: str) -> Answer:
    return answer(status, {"status": "error", "code": -1, "name": name, "message": "It says\nwhy."}, **headers)


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = MANDRILL.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://mandrillapp.com/api/1.0/messages/send.json")
    assert request.headers == {"accept": "application/json", "content-type": "application/json"}
    assert json.loads(request.body) == {
        "key": "md-key",
        "async": False,
        "message": {
            "from_email": "desk@practice.example",
            "from_name": "Practice, Ltd.",
            "to": [{"email": "ada@patient.example", "type": "to", "name": 'Ada "Countess" Lovelace'}],
            "subject": "Your appointment – Dienstag",
            "text": "See you on Tuesday.",
            "html": "<p>See you on <b>Tuesday</b>.</p>",
            "headers": {
                "Message-ID": "<0199f3a27c1e7b6a9d3e5a4b3c2d1e0f@practice.example>",
                "Auto-Submitted": "auto-generated",
                "Reply-To": '"Reception" <reception@practice.example>',
            },
            "track_opens": True,
            "track_clicks": False,
            "auto_html": False,
            "auto_text": False,
            "inline_css": False,
            "merge": False,
            "view_content_link": False,
            "metadata": {"carepost_message_id": str(MESSAGE_ID)},
        },
    }


def test_the_metadata_fit_mandrills_limit() -> None:
    """Messages, "metadata": 200 bytes of JSON."""
    metadata = json.loads(MANDRILL.send_request(EMAIL, CREDENTIALS).body)["message"]["metadata"]
    assert len(json.dumps(metadata)) <= 200


def test_what_an_email_lacks_is_left_out() -> None:
    message = json.loads(MANDRILL.send_request(PLAIN, CREDENTIALS).body)["message"]
    assert message["to"] == [{"email": "ada@patient.example", "type": "to"}]
    assert message["track_opens"] is False
    assert "html" not in message
    assert "Reply-To" not in message["headers"]


def test_a_subaccount_and_another_host_can_be_chosen() -> None:
    chosen = {**CREDENTIALS, "subaccount": "cust-123", "base_url": "http://127.0.0.1:8025/"}
    request = MANDRILL.send_request(EMAIL, chosen)
    assert request.url == "http://127.0.0.1:8025/api/1.0/messages/send.json"
    assert json.loads(request.body)["message"]["subaccount"] == "cust-123"


@pytest.mark.parametrize("status", ["sent", "queued", "scheduled", "of tomorrow"])
def test_an_acceptance_has_the_id_that_events_give(status: str) -> None:
    assert result(status=status) == Accepted("8db27a6b", status)
    assert result(status=status, _id=None) == Accepted(None, status)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("hard-bounce", FailureKind.SUPPRESSED),
        ("soft-bounce", FailureKind.SUPPRESSED),
        ("spam", FailureKind.SUPPRESSED),
        ("unsub", FailureKind.SUPPRESSED),
        ("custom", FailureKind.SUPPRESSED),
        ("invalid", FailureKind.ADDRESS_UNKNOWN),
        ("invalid-sender", FailureKind.ACCOUNT),
        ("test-mode-limit", FailureKind.ACCOUNT),
        ("rule", FailureKind.ACCOUNT),
        ("unsigned", FailureKind.AUTHENTICATION),
        ("of-tomorrow", FailureKind.OTHER),
    ],
)
def test_a_rejection_says_why(reason: str, kind: FailureKind) -> None:
    assert result(status="rejected", reject_reason=reason) == Refused(Failure(kind, reason=reason))


def test_a_rejection_without_a_reason_and_an_invalid_address_are_refusals() -> None:
    assert result(status="rejected") == Refused(Failure(FailureKind.OTHER, reason="Mandrill gave no reason"))
    invalid = Failure(FailureKind.ADDRESS_UNKNOWN, reason="Mandrill takes the address for invalid")
    assert result(status="invalid") == Refused(invalid)


@pytest.mark.parametrize("body", [[], {}, None, "x", [7], [[]], [{}], [{"_id": "a"}], [{"status": 1.5}]])
def test_a_success_without_a_status_is_no_acceptance(body: object) -> None:
    assert isinstance(answer(200, body), TryAgain)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Invalid_Key", FailureKind.ACCOUNT),
        ("PaymentRequired", FailureKind.ACCOUNT),
        ("Unknown_Subaccount", FailureKind.ACCOUNT),
        ("ValidationError", FailureKind.CONTENT),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401, 422, 500])
def test_an_error_is_for_good_by_its_name_whatever_the_status(status: int, name: str, kind: FailureKind) -> None:
    assert error(status, name) == Refused(Failure(kind, reason="It says why."))


@pytest.mark.parametrize(
    ("name", "kind"), [("GeneralError", FailureKind.OTHER), ("ServiceUnavailable", FailureKind.UNREACHABLE)]
)
@pytest.mark.parametrize("status", [200, 400, 500, 503])
def test_an_error_for_now_is_tried_again(status: int, name: str, kind: FailureKind) -> None:
    said = error(status, name, retry_after="7")
    assert said == TryAgain(Failure(kind, reason="It says why."), timedelta(seconds=7))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.ACCOUNT),
        (403, FailureKind.ACCOUNT),
        (404, FailureKind.ACCOUNT),
        (413, FailureKind.TOO_LARGE),
        (422, FailureKind.CONTENT),
        (418, FailureKind.OTHER),
    ],
)
def test_an_unknown_error_goes_by_the_status(status: int, kind: FailureKind) -> None:
    assert error(status, "OfTomorrow") == Refused(Failure(kind, reason="It says why."))
    assert answer(status, "<html>") == Refused(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize("status", [302, 408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(error(status, "OfTomorrow"), TryAgain)
    assert isinstance(answer(status, "<html>"), TryAgain)


def test_the_key_is_checked_by_a_ping() -> None:
    assert isinstance(MANDRILL, Checkable)
    request = MANDRILL.check_request(CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://mandrillapp.com/api/1.0/users/ping2.json")
    assert json.loads(request.body) == {"key": "md-key"}


@pytest.mark.parametrize(
    ("status", "body", "ok", "words"),
    [
        (200, {"PING": "PONG!"}, True, "takes the key"),
        (200, {}, None, "nothing of the key"),
        (200, "PONG!", None, "nothing of the key"),
        (500, {"status": "error", "name": "Invalid_Key"}, False, "doesn't know the key"),
        (401, {"status": "error", "name": "Invalid_Key"}, False, "doesn't know the key"),
        (401, None, False, "refuses the key"),
        (500, {"status": "error", "name": "GeneralError"}, None, "HTTP 500"),
    ],
)
def test_what_a_ping_says_of_the_key(status: int, body: object, ok: bool | None, words: str) -> None:
    assert isinstance(MANDRILL, Checkable)
    said = MANDRILL.read_check(HttpResponse(status, {}, json.dumps(body).encode()))
    assert said.ok is ok
    assert words in said.text
