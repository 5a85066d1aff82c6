"""Mailjet: exact requests, every row of its error codes, and what it tells of its key."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind
from mail.providers.base import Accepted, CredentialsCheck, HttpResponse, Refused, TryAgain
from mail.providers.mailjet import Mailjet
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

MAILJET = Mailjet()
CREDENTIALS = {"api_key": "public", "secret_key": "private"}
AUTHORIZATION = "Basic cHVibGljOnByaXZhdGU="


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return MAILJET.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def of_message(*errors: Any, status: str = "error") -> dict[str, Any]:
    return {"Messages": [{"Status": status, "Errors": list(errors)}]}


def error(code: str, status: int = 400, *related: Any) -> dict[str, Any]:
    return {"ErrorCode": code, "StatusCode": status, "ErrorMessage": "It says\nwhy.", "ErrorRelatedTo": list(related)}


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = MAILJET.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://api.mailjet.com/v3.1/send")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "authorization": AUTHORIZATION,
    }
    assert json.loads(request.body) == {
        "Messages": [
            {
                "From": {"Email": "desk@practice.example", "Name": "Practice, Ltd."},
                "To": [{"Email": "ada@patient.example", "Name": 'Ada "Countess" Lovelace'}],
                "ReplyTo": {"Email": "reception@practice.example", "Name": "Reception"},
                "Subject": "Your appointment – Dienstag",
                "TextPart": "See you on Tuesday.",
                "HTMLPart": "<p>See you on <b>Tuesday</b>.</p>",
                "Headers": {"Auto-Submitted": "auto-generated"},
                "CustomID": str(MESSAGE_ID),
                "EventPayload": f'{{"carepost_message_id":"{MESSAGE_ID}"}}',
                "TrackOpens": "enabled",
                "TrackClicks": "disabled",
            }
        ]
    }


def test_what_an_email_lacks_is_left_out() -> None:
    (message,) = json.loads(MAILJET.send_request(PLAIN, CREDENTIALS).body)["Messages"]
    assert message["To"] == [{"Email": "ada@patient.example"}]
    assert message["TrackOpens"] == "disabled"
    assert not {"HTMLPart", "ReplyTo"} & message.keys()
    (message,) = json.loads(MAILJET.send_request(replace(EMAIL, text=""), CREDENTIALS).body)["Messages"]
    assert "TextPart" not in message


@pytest.mark.parametrize(
    ("chosen", "host"),
    [
        ({}, "https://api.mailjet.com"),
        ({"region": ""}, "https://api.mailjet.com"),
        ({"region": "eu"}, "https://api.mailjet.com"),
        ({"region": "us"}, "https://api.us.mailjet.com"),
        ({"region": "us", "base_url": "http://127.0.0.1:8025/"}, "http://127.0.0.1:8025"),
    ],
)
def test_the_region_and_a_base_url_choose_the_host(chosen: dict[str, str], host: str) -> None:
    credentials = {**CREDENTIALS, **chosen}
    MAILJET.check_credentials(credentials)
    assert MAILJET.send_request(EMAIL, credentials).url == f"{host}/v3.1/send"
    assert MAILJET.check_request(credentials).url == f"{host}/v3/REST/sender?Limit=1"


def test_a_region_that_mailjet_lacks_is_refused() -> None:
    with pytest.raises(CredentialsIncomplete, match="eu, us") as raised:
        MAILJET.check_credentials({**CREDENTIALS, "region": "mars"})
    assert raised.value.field == "region"


def test_a_message_is_accepted_under_its_id_as_text() -> None:
    """A number beyond 2**53, which a float would round."""
    body = {"Messages": [{"Status": "success", "To": [{"Email": "a@b.example", "MessageID": 19421777835146491}]}]}
    assert answer(200, body) == Accepted("19421777835146491")
    sandbox = {"Messages": [{"Status": "success", "To": [{"Email": "a@b.example", "MessageID": 0}]}]}
    assert answer(200, sandbox) == Accepted(None)
    assert answer(200, {"Messages": [{"Status": "success"}]}) == Accepted(None)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("send-0003", 400, FailureKind.CONTENT),
        ("send-0004", 400, FailureKind.CONTENT),
        ("send-0006", 403, FailureKind.ACCOUNT),
        ("send-0007", 403, FailureKind.ACCOUNT),
        ("send-0008", 403, FailureKind.ACCOUNT),
        ("send-0010", 400, FailureKind.CONTENT),
        ("send-0011", 400, FailureKind.CONTENT),
        ("send-0012", 400, FailureKind.CONTENT),
        ("send-0015", 400, FailureKind.CONTENT),
        ("send-0016", 400, FailureKind.CONTENT),
        ("mj-0001", 401, FailureKind.ACCOUNT),
        ("mj-0002", 400, FailureKind.CONTENT),
        ("mj-0003", 400, FailureKind.CONTENT),
        ("mj-0004", 400, FailureKind.CONTENT),
        ("mj-0005", 400, FailureKind.CONTENT),
        ("mj-0006", 400, FailureKind.CONTENT),
        ("mj-0007", 400, FailureKind.CONTENT),
        ("mj-0008", 400, FailureKind.CONTENT),
        ("mj-0011", 400, FailureKind.TOO_LARGE),
        ("mj-0012", 400, FailureKind.CONTENT),
        ("mj-0013", 400, FailureKind.CONTENT),
        ("mj-0015", 401, FailureKind.ACCOUNT),
        ("of-tomorrow", 400, FailureKind.CONTENT),
        ("of-tomorrow", 403, FailureKind.ACCOUNT),
    ],
)
def test_an_error_is_a_refusal_for_good_whether_of_the_message_or_of_the_request(
    code: str, status: int, kind: FailureKind
) -> None:
    refused = Refused(Failure(kind, reason="It says why."))
    assert answer(status, of_message(error(code, status))) == refused
    assert answer(200, of_message(error(code, status))) == refused  # as in a request of several messages
    assert answer(status, error(code, status)) == refused


@pytest.mark.parametrize(
    ("related", "kind"),
    [
        (["To[0].Email"], FailureKind.ADDRESS_UNKNOWN),
        (["To"], FailureKind.ADDRESS_UNKNOWN),
        (["From.Email"], FailureKind.ACCOUNT),
        (["ReplyTo.Email"], FailureKind.ACCOUNT),
        (["HTMLPart", 7, "To[0].Email"], FailureKind.ADDRESS_UNKNOWN),
        (["Subject"], FailureKind.CONTENT),
        ([], FailureKind.CONTENT),
    ],
)
def test_a_bad_value_is_told_by_the_property_it_stands_in(related: list[Any], kind: FailureKind) -> None:
    for code in ("mj-0004", "mj-0012", "mj-0013"):
        assert answer(400, of_message(error(code, 400, *related))) == Refused(Failure(kind, reason="It says why."))
    missing = of_message(error("mj-0003", 400, *related))
    assert answer(400, missing) == Refused(Failure(FailureKind.CONTENT, reason="It says why."))


def test_all_errors_of_a_message_are_told_and_the_first_known_one_counts() -> None:
    both = of_message({"ErrorMessage": "One."}, 7, {**error("send-0008", 403), "ErrorMessage": "Another."})
    assert answer(403, both) == Refused(Failure(FailureKind.ACCOUNT, reason="One.; Another."))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.CONTENT),
        (401, FailureKind.ACCOUNT),
        (403, FailureKind.ACCOUNT),
        (404, FailureKind.ACCOUNT),
        (405, FailureKind.ACCOUNT),
        (413, FailureKind.TOO_LARGE),
        (418, FailureKind.OTHER),
    ],
)
def test_an_answer_without_a_code_goes_by_the_status(status: int, kind: FailureKind) -> None:
    bodies: tuple[object, ...] = ("<html>", {}, {"Messages": []}, {"Messages": [7]}, of_message())
    for body in bodies:
        assert answer(status, body) == Refused(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize("status", [302, 408, 425, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(answer(status, "<html>"), TryAgain)
    assert isinstance(answer(status if status >= 400 else 500, of_message(error("send-0008", 403))), TryAgain)


@pytest.mark.parametrize("inner", [408, 429, 500, 503])
def test_an_error_of_mailjets_own_inside_an_answer_is_tried_again(inner: int) -> None:
    assert isinstance(answer(200, of_message(error("of-tomorrow", inner))), TryAgain)


@pytest.mark.parametrize("body", [[], "x", None, {}, {"Messages": {}}, of_message(status="of tomorrow")])
def test_a_success_without_mailjets_word_is_no_acceptance(body: object) -> None:
    assert answer(200, body) == TryAgain(Failure(FailureKind.OTHER, reason="HTTP 200"))


def test_a_rate_limit_is_waited_for_as_asked() -> None:
    limited = Failure(FailureKind.ACCOUNT, reason="HTTP 429")
    assert answer(429, retry_after="30") == TryAgain(limited, timedelta(seconds=30))
    assert answer(429) == TryAgain(limited)


@pytest.mark.parametrize(
    ("status", "body", "ok", "text"),
    [
        (200, {"Count": 1, "Data": [{"Email": "*@practice.example"}], "Total": 1}, True, "Mailjet takes the key."),
        (
            200,
            {"Count": 0, "Data": [], "Total": 0},
            True,
            "Mailjet takes the key. No sender is set up there: add the From domain.",
        ),
        (401, {}, False, "Mailjet refuses the key (HTTP 401); make a new one and enter it."),
        (503, {}, None, "Mailjet answered HTTP 503, which says nothing of the key."),
    ],
)
def test_a_check_says_what_to_do(status: int, body: dict[str, Any], ok: bool | None, text: str) -> None:
    assert MAILJET.check_request(CREDENTIALS).headers["authorization"] == AUTHORIZATION
    assert MAILJET.read_check(HttpResponse(status, {}, json.dumps(body).encode())) == CredentialsCheck(ok, text)
