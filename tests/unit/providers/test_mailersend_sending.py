"""MailerSend: exact requests, what each answer means, and what it tells of its token."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mail.failure import Failure, FailureKind
from mail.providers.base import Accepted, CredentialsCheck, HttpResponse, Refused, TryAgain
from mail.providers.mailersend import MailerSend
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

MAILERSEND = MailerSend()
CREDENTIALS = {"api_token": "mlsn.secret"}
SUPPRESSED = {
    "message": "There are some warnings for your request.",
    "warnings": [
        {
            "type": "ALL_SUPPRESSED",
            "message": "All of the recipients provided have been suppressed.",
            "recipients": [{"email": "hello@example.com", "name": None, "reasons": ["hard_bounced", "unsubscribed"]}],
        }
    ],
}


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return MAILERSEND.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = MAILERSEND.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://api.mailersend.com/v1/email")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "authorization": "Bearer mlsn.secret",
    }
    assert json.loads(request.body) == {
        "from": {"email": "desk@practice.example", "name": "Practice, Ltd."},
        "to": [{"email": "ada@patient.example", "name": 'Ada "Countess" Lovelace'}],
        "reply_to": {"email": "reception@practice.example", "name": "Reception"},
        "subject": "Your appointment – Dienstag",
        "text": "See you on Tuesday.",
        "html": "<p>See you on <b>Tuesday</b>.</p>",
        "tags": [str(MESSAGE_ID)],
        "settings": {"track_opens": True, "track_clicks": False, "track_content": False},
    }


def test_what_an_email_lacks_is_left_out() -> None:
    payload = json.loads(MAILERSEND.send_request(PLAIN, CREDENTIALS).body)
    assert payload["to"] == [{"email": "ada@patient.example"}]
    assert payload["settings"]["track_opens"] is False
    assert not {"html", "reply_to"} & payload.keys()
    assert "text" not in json.loads(MAILERSEND.send_request(replace(EMAIL, text=""), CREDENTIALS).body)


def test_no_header_is_asked_for_that_only_enterprise_plans_may_set() -> None:
    assert "headers" not in json.loads(MAILERSEND.send_request(EMAIL, CREDENTIALS).body)


def test_202_is_accepted_under_the_id_in_its_header() -> None:
    assert answer(202, x_message_id="5e42957d51f1d94a1070a733") == Accepted("5e42957d51f1d94a1070a733")
    assert answer(202) == Accepted(None)
    assert answer(202, {"warnings": [{"type": "OF_TOMORROW", "message": "x"}]}, x_message_id="a") == Accepted("a")


def test_a_paused_account_is_told() -> None:
    assert answer(202, x_message_id="a", x_send_paused="true") == Accepted(
        "a", "MailerSend has paused the sending of this account"
    )


def test_a_suppressed_recipient_is_refused_although_the_answer_is_202() -> None:
    """Help, "REST API response codes": always a 202, but the email won't be sent."""
    reason = "All of the recipients provided have been suppressed. (hard_bounced, unsubscribed)"
    assert answer(202, SUPPRESSED) == Refused(Failure(FailureKind.SUPPRESSED, reason=reason))
    shown = json.loads(json.dumps(SUPPRESSED).replace("ALL_SUPPRESSED", "ALLSUPPRESSED"))  # as the help page prints it
    assert answer(202, shown) == Refused(Failure(FailureKind.SUPPRESSED, reason=reason))


@pytest.mark.parametrize(
    ("warning", "reason"),
    [
        ({"type": "ALL_SUPPRESSED"}, "The recipient is suppressed."),
        ({"type": "SOME_SUPPRESSED", "message": "x\ny", "recipients": [7, {"reasons": [1, "b"]}]}, "x y (b)"),
        ({"type": "ALL_SUPPRESSED", "message": 5, "recipients": {}}, "5"),
    ],
)
def test_a_warning_of_another_shape_is_read(warning: dict[str, Any], reason: str) -> None:
    assert answer(202, {"warnings": [warning]}) == Refused(Failure(FailureKind.SUPPRESSED, reason=reason))


def test_a_warning_about_others_hides_no_acceptance() -> None:
    assert answer(202, SUPPRESSED, x_message_id="5e42957d51f1d94a1070a733") == Accepted("5e42957d51f1d94a1070a733")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.CONTENT),
        (401, FailureKind.ACCOUNT),
        (402, FailureKind.ACCOUNT),
        (403, FailureKind.ACCOUNT),
        (404, FailureKind.ACCOUNT),
        (405, FailureKind.ACCOUNT),
        (413, FailureKind.TOO_LARGE),
        (422, FailureKind.CONTENT),
        (418, FailureKind.OTHER),
    ],
)
def test_a_refusal_is_for_good_and_says_why(status: int, kind: FailureKind) -> None:
    assert answer(status, {"message": "This\nis it."}) == Refused(Failure(kind, reason="This is it."))
    assert answer(status, "<html>") == Refused(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("from.email", FailureKind.ACCOUNT),
        ("to.0.email", FailureKind.ADDRESS_UNKNOWN),
        ("reply_to.email", FailureKind.ACCOUNT),
        ("subject", FailureKind.CONTENT),
    ],
)
def test_a_validation_error_is_told_by_the_field_it_names(field: str, kind: FailureKind) -> None:
    said = {"message": "The given data was invalid.", "errors": {field: ["It is wrong. #MS42207", 7], "x": "y"}}
    assert answer(422, said) == Refused(Failure(kind, reason="It is wrong. #MS42207"))


def test_the_limits_of_a_trial_account_are_not_the_patients_fault() -> None:
    reason = "You have reached trial account unique recipients limit. #MS42225"
    said = {"message": reason, "errors": {"to": [reason]}}
    assert answer(422, said) == Refused(Failure(FailureKind.ACCOUNT, reason=reason))


@pytest.mark.parametrize("status", [200, 201, 204, 302, 408, 421, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(answer(status, {"message": "x"}), TryAgain)


def test_maintenance_is_waited_for() -> None:
    assert answer(421, retry_after="120") == TryAgain(
        Failure(FailureKind.UNREACHABLE, reason="HTTP 421"), timedelta(minutes=2)
    )


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ({"retry_after": "59"}, timedelta(seconds=59)),
        (
            {
                "date": "Mon, 06 Jul 2026 23:00:00 GMT",
                "x_apiquota_remaining": "0",
                "x_apiquota_reset": "2026-07-07T00:00:00Z",
            },
            timedelta(hours=1),
        ),
        (
            {
                "date": "Mon, 06 Jul 2026 23:00:00 GMT",
                "retry_after": "59",
                "x_apiquota_remaining": "0",
                "x_apiquota_reset": "2026-07-07T00:00:00Z",
            },
            timedelta(seconds=59),
        ),
        (
            {
                "date": "Mon, 06 Jul 2026 23:00:00 GMT",
                "x_apiquota_remaining": "-1",
                "x_apiquota_reset": "2026-07-07T00:00:00Z",
            },
            None,
        ),
        ({"x_apiquota_remaining": "0", "x_apiquota_reset": "2026-07-07T00:00:00Z"}, None),
        ({"date": "Mon, 06 Jul 2026 23:00:00 GMT", "x_apiquota_remaining": "0", "x_apiquota_reset": "soon"}, None),
        ({}, None),
    ],
)
def test_a_rate_limit_and_a_daily_quota_are_waited_for(headers: dict[str, str], after: timedelta | None) -> None:
    said = answer(429, {"message": "Too Many Attempts."}, **headers)
    assert said == TryAgain(Failure(FailureKind.ACCOUNT, reason="Too Many Attempts."), after)


def test_the_api_quota_tells_whether_the_token_is_taken() -> None:
    request = MAILERSEND.check_request(CREDENTIALS)
    assert (request.method, request.url) == ("GET", "https://api.mailersend.com/v1/api-quota")
    assert request.headers["authorization"] == "Bearer mlsn.secret"


@pytest.mark.parametrize(
    ("status", "body", "ok", "text"),
    [
        (200, {"quota": 1000, "remaining": 752, "reset": "2023-04-15T00:00:00Z"}, True, "MailerSend takes the key."),
        (
            200,
            {"quota": 1000, "remaining": 0, "reset": "2023-04-15T00:00:00Z"},
            True,
            "MailerSend takes the token. The account's requests of today are used up.",
        ),
        (401, {}, False, "MailerSend refuses the key (HTTP 401); make a new one and enter it."),
        (500, {}, None, "MailerSend answered HTTP 500, which says nothing of the key."),
    ],
)
def test_a_check_says_what_to_do(status: int, body: dict[str, Any], ok: bool | None, text: str) -> None:
    assert MAILERSEND.read_check(HttpResponse(status, {}, json.dumps(body).encode())) == CredentialsCheck(ok, text)
