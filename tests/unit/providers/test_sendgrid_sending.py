"""SendGrid: exact requests, and what each answer means."""

import json
from datetime import timedelta

import pytest

from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Accepted, HttpResponse, Refused, TryAgain
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

SENDGRID = provider("sendgrid")
CREDENTIALS = {"api_key": "SG.secret"}


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SENDGRID.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = SENDGRID.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://api.sendgrid.com/v3/mail/send")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "authorization": "Bearer SG.secret",
    }
    assert json.loads(request.body) == {
        "personalizations": [{"to": [{"email": "ada@patient.example", "name": 'Ada "Countess" Lovelace'}]}],
        "from": {"email": "desk@practice.example", "name": "Practice, Ltd."},
        "reply_to": {"email": "reception@practice.example", "name": "Reception"},
        "subject": "Your appointment – Dienstag",
        "content": [
            {"type": "text/plain", "value": "See you on Tuesday."},
            {"type": "text/html", "value": "<p>See you on <b>Tuesday</b>.</p>"},
        ],
        "headers": {
            "Message-ID": "<0199f3a27c1e7b6a9d3e5a4b3c2d1e0f@practice.example>",
            "Auto-Submitted": "auto-generated",
        },
        "custom_args": {"carepost_message_id": str(MESSAGE_ID)},
        "tracking_settings": {
            "open_tracking": {"enable": True},
            "click_tracking": {"enable": False, "enable_text": False},
        },
    }


def test_what_an_email_lacks_is_left_out() -> None:
    payload = json.loads(SENDGRID.send_request(PLAIN, CREDENTIALS).body)
    assert payload["personalizations"] == [{"to": [{"email": "ada@patient.example"}]}]
    assert payload["content"] == [{"type": "text/plain", "value": "See you on Tuesday."}]
    assert payload["tracking_settings"]["open_tracking"] == {"enable": False}
    assert "reply_to" not in payload


def test_the_european_host_is_a_base_url() -> None:
    request = SENDGRID.send_request(EMAIL, {**CREDENTIALS, "base_url": "https://api.eu.sendgrid.com/"})
    assert request.url == "https://api.eu.sendgrid.com/v3/mail/send"


def test_202_is_accepted_under_the_first_part_of_its_id() -> None:
    assert answer(202, x_message_id="14c5d75ce93") == Accepted("14c5d75ce93")
    assert answer(202, x_message_id="14c5d75ce93.filter0001") == Accepted("14c5d75ce93")
    assert answer(202) == Accepted(None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.CONTENT),
        (401, FailureKind.ACCOUNT),
        (403, FailureKind.ACCOUNT),
        (404, FailureKind.ACCOUNT),
        (405, FailureKind.ACCOUNT),
        (413, FailureKind.TOO_LARGE),
        (451, FailureKind.ACCOUNT),
        (418, FailureKind.OTHER),
    ],
)
def test_a_refusal_is_for_good_and_says_why(status: int, kind: FailureKind) -> None:
    errors = {"errors": [{"message": "One\nthing.", "field": None, "help": None}, {"message": "Another."}]}
    assert answer(status, errors) == Refused(Failure(kind, reason="One thing.; Another."))
    assert answer(status, "<html>") == Refused(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("personalizations.0.to.0.email", FailureKind.ADDRESS_UNKNOWN),
        ("personalizations[0].to", FailureKind.ADDRESS_UNKNOWN),
        ("from.email", FailureKind.ACCOUNT),
        ("reply_to.email", FailureKind.ACCOUNT),
        ("content.0.value", FailureKind.CONTENT),
    ],
)
def test_a_bad_request_is_told_by_the_field_it_names(field: str, kind: FailureKind) -> None:
    errors = {"errors": [{"message": "Does not contain a valid address.", "field": field}]}
    assert answer(400, errors) == Refused(Failure(kind, reason="Does not contain a valid address."))


@pytest.mark.parametrize("status", [200, 302, 408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(answer(status), TryAgain)


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ({"retry_after": "30"}, timedelta(seconds=30)),
        ({"retry_after": "999999999"}, timedelta(days=1)),
        ({"retry_after": "9" * 5000}, None),
        ({"retry_after": "soon"}, None),
        (
            {"date": "Sun, 01 Mar 2026 10:00:00 GMT", "retry_after": "Sun, 01 Mar 2026 10:01:00 GMT"},
            timedelta(minutes=1),
        ),
        ({"retry_after": "Sun, 01 Mar 2026 10:01:00 GMT"}, None),
        ({"date": "Sun, 01 Mar 2026 10:00:00 GMT", "x_ratelimit_reset": "1772359230"}, timedelta(seconds=30)),
        ({"date": "Sun, 01 Mar 2026 10:00:00 GMT", "x_ratelimit_reset": "1772359000"}, timedelta(0)),
        ({"x_ratelimit_reset": "1772359230"}, None),
        ({"x_ratelimit_reset": "12"}, timedelta(seconds=12)),
        ({}, None),
    ],
)
def test_a_rate_limit_is_waited_for_as_asked(headers: dict[str, str], after: timedelta | None) -> None:
    errors = {"errors": [{"message": "too many requests", "field": None}]}
    assert answer(429, errors, **headers) == TryAgain(Failure(FailureKind.ACCOUNT, reason="too many requests"), after)
