"""Postmark: exact requests, and every row of its error codes."""

import json
from datetime import timedelta

import pytest

from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Accepted, HttpResponse, Refused, TryAgain
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

POSTMARK = provider("postmark")
CREDENTIALS = {"server_token": "server-token"}


def answer(status: int, body: object, **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return POSTMARK.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = POSTMARK.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://api.postmarkapp.com/email")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "x-postmark-server-token": "server-token",
    }
    assert json.loads(request.body) == {
        "From": '"Practice, Ltd." <desk@practice.example>',
        "To": '"Ada \\"Countess\\" Lovelace" <ada@patient.example>',
        "ReplyTo": '"Reception" <reception@practice.example>',
        "Subject": "Your appointment – Dienstag",
        "TextBody": "See you on Tuesday.",
        "HtmlBody": "<p>See you on <b>Tuesday</b>.</p>",
        "MessageStream": "outbound",
        "Metadata": {"carepost_message_id": str(MESSAGE_ID)},
        "TrackOpens": True,
        "TrackLinks": "None",
        "Headers": [
            {"Name": "Message-ID", "Value": "<0199f3a27c1e7b6a9d3e5a4b3c2d1e0f@practice.example>"},
            {"Name": "X-PM-KeepID", "Value": "true"},
            {"Name": "Auto-Submitted", "Value": "auto-generated"},
        ],
    }


def test_the_metadata_fit_postmarks_limits() -> None:
    """Email API, "Metadata": names of at most 20 characters, values of at most 80."""
    ((name, value),) = json.loads(POSTMARK.send_request(EMAIL, CREDENTIALS).body)["Metadata"].items()
    assert len(name) <= 20
    assert len(value) <= 80


def test_what_an_email_lacks_is_left_out() -> None:
    payload = json.loads(POSTMARK.send_request(PLAIN, CREDENTIALS).body)
    assert payload["To"] == "ada@patient.example"
    assert payload["TrackOpens"] is False
    assert "HtmlBody" not in payload
    assert "ReplyTo" not in payload


def test_another_stream_and_host_can_be_chosen() -> None:
    chosen = {**CREDENTIALS, "message_stream": "reminders", "base_url": "http://127.0.0.1:8025/"}
    request = POSTMARK.send_request(EMAIL, chosen)
    assert request.url == "http://127.0.0.1:8025/email"
    assert json.loads(request.body)["MessageStream"] == "reminders"


def test_error_code_0_is_accepted_under_its_id() -> None:
    body = {"To": "a@b.example", "SubmittedAt": "2014-02-17T07:25:01.4178645-05:00", "ErrorCode": 0, "Message": "OK"}
    assert answer(200, {**body, "MessageID": "0a129aee"}) == Accepted("0a129aee")
    assert answer(200, body) == Accepted(None)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (10, FailureKind.ACCOUNT),
        (300, FailureKind.CONTENT),
        (400, FailureKind.ACCOUNT),
        (401, FailureKind.ACCOUNT),
        (402, FailureKind.CONTENT),
        (403, FailureKind.CONTENT),
        (405, FailureKind.ACCOUNT),
        (406, FailureKind.SUPPRESSED),
        (409, FailureKind.CONTENT),
        (411, FailureKind.CONTENT),
        (412, FailureKind.ACCOUNT),
        (413, FailureKind.ACCOUNT),
    ],
)
@pytest.mark.parametrize("status", [200, 401, 422])
def test_an_error_code_is_a_refusal_for_good(status: int, code: int, kind: FailureKind) -> None:
    assert answer(status, {"ErrorCode": code, "Message": "It says\nwhy."}) == Refused(
        Failure(kind, reason="It says why.")
    )


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Invalid 'To' address: 'x'.", FailureKind.ADDRESS_UNKNOWN),
        ("Invalid 'From' address: 'x'.", FailureKind.ACCOUNT),
        ("Error parsing 'ReplyTo': Illegal email address 'x'.", FailureKind.ACCOUNT),
        ("Provide either email TextBody or HtmlBody or both.", FailureKind.CONTENT),
    ],
)
def test_an_invalid_email_is_told_by_the_field_it_quotes(message: str, kind: FailureKind) -> None:
    assert answer(422, {"ErrorCode": 300, "Message": message}) == Refused(Failure(kind, reason=message))


@pytest.mark.parametrize(("code", "kind"), [(100, FailureKind.UNREACHABLE), (429, FailureKind.ACCOUNT)])
def test_an_error_code_for_now_is_tried_again(code: int, kind: FailureKind) -> None:
    said = {"ErrorCode": code, "Message": "Later."}
    assert answer(422, said, retry_after="7") == TryAgain(Failure(kind, reason="Later."), timedelta(seconds=7))


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
def test_an_unknown_code_goes_by_the_status(status: int, kind: FailureKind) -> None:
    assert answer(status, {"ErrorCode": 99999}) == Refused(Failure(kind, reason=f"HTTP {status}"))
    assert answer(status, "<html>") == Refused(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(answer(status, "<html>"), TryAgain)
    assert isinstance(answer(status, {"ErrorCode": 406, "Message": "x"}), TryAgain)


@pytest.mark.parametrize("body", [[], "x", None, {}, {"ErrorCode": "0"}, {"ErrorCode": False}, {"ErrorCode": 0.0}])
def test_a_success_without_postmarks_word_is_no_acceptance(body: object) -> None:
    assert answer(200, body) == TryAgain(Failure(FailureKind.OTHER, reason="HTTP 200"))
