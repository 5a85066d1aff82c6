"""Resend: exact requests, and every row of its error names."""

import json
from dataclasses import replace
from datetime import timedelta
from email.header import decode_header, make_header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.failure import Failure, FailureKind
from mail.message import Address
from mail.providers.base import Accepted, CredentialsCheck, HttpResponse, Refused, TryAgain
from mail.providers.resend import Resend
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

RESEND = Resend()
CREDENTIALS = {"api_key": "re_secret"}


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RESEND.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def error(status: int, name: str, message: str = "It says why.") -> Accepted | Refused | TryAgain:
    return answer(status, {"statusCode": status, "message": message, "name": name})


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = RESEND.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://api.resend.com/emails")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "authorization": "Bearer re_secret",
        "idempotency-key": str(MESSAGE_ID),
    }
    assert json.loads(request.body) == {
        "from": '"Practice, Ltd." <desk@practice.example>',
        "to": ["=?utf-8?q?Ada_=22Countess=22_Lovelace?= <ada@patient.example>"],
        "reply_to": ["Reception <reception@practice.example>"],
        "subject": "Your appointment – Dienstag",
        "text": "See you on Tuesday.",
        "html": "<p>See you on <b>Tuesday</b>.</p>",
        "headers": {"Auto-Submitted": "auto-generated"},
        "tags": [{"name": "carepost_message_id", "value": str(MESSAGE_ID)}],
    }


def test_what_an_email_lacks_is_left_out() -> None:
    payload = json.loads(RESEND.send_request(PLAIN, CREDENTIALS).body)
    assert payload["to"] == ["ada@patient.example"]
    assert "html" not in payload
    assert "reply_to" not in payload


def test_a_domain_that_isnt_ascii_is_written_in_ascii() -> None:
    email = replace(EMAIL, recipient=Address("ada@bücher.example"), sender=Address("desk@bücher.example", "Desk"))
    payload = json.loads(RESEND.send_request(email, CREDENTIALS).body)
    assert payload["to"] == ["ada@xn--bcher-kva.example"]
    assert payload["from"] == '"Desk" <desk@xn--bcher-kva.example>'


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=200))
def test_a_recipients_name_is_plain_or_encoded_and_never_quoted(name: str) -> None:
    email = replace(EMAIL, recipient=Address("ada@patient.example", name))
    (to,) = json.loads(RESEND.send_request(email, CREDENTIALS).body)["to"]
    phrase, _, mailbox = to.rpartition(" ")
    assert mailbox == "<ada@patient.example>"
    assert phrase.isascii()
    assert not set(phrase) & set('"(),:;<>@[\\]\r\n')
    assert str(make_header(decode_header(phrase))) == name


def test_the_idempotency_key_fits_resends_limit() -> None:
    assert 1 <= len(RESEND.send_request(EMAIL, CREDENTIALS).headers["idempotency-key"]) <= 256


def test_an_id_is_an_acceptance_and_nothing_else_is() -> None:
    assert answer(200, {"id": "49a3999c"}) == Accepted("49a3999c")
    assert answer(200, {"data": 5}) == TryAgain(Failure(FailureKind.OTHER, reason="HTTP 200"))
    assert isinstance(answer(500, {"id": "49a3999c"}), TryAgain)


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "invalid_idempotency_key", FailureKind.CONTENT),
        (400, "validation_error", FailureKind.CONTENT),
        (401, "missing_api_key", FailureKind.ACCOUNT),
        (401, "restricted_api_key", FailureKind.ACCOUNT),
        (403, "invalid_api_key", FailureKind.ACCOUNT),
        (403, "validation_error", FailureKind.ACCOUNT),
        (404, "not_found", FailureKind.ACCOUNT),
        (405, "method_not_allowed", FailureKind.ACCOUNT),
        (422, "invalid_attachment", FailureKind.CONTENT),
        (422, "invalid_from_address", FailureKind.ACCOUNT),
        (422, "invalid_access", FailureKind.ACCOUNT),
        (422, "invalid_parameter", FailureKind.CONTENT),
        (422, "invalid_region", FailureKind.ACCOUNT),
        (422, "missing_required_field", FailureKind.CONTENT),
        (451, "security_error", FailureKind.CONTENT),
        (413, "of_tomorrow", FailureKind.TOO_LARGE),
        (418, "of_tomorrow", FailureKind.OTHER),
    ],
)
def test_an_error_is_a_refusal_for_good(status: int, name: str, kind: FailureKind) -> None:
    assert error(status, name) == Refused(Failure(kind, reason="It says why."))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Invalid `to` field. The email address needs to follow ...", FailureKind.ADDRESS_UNKNOWN),
        ("Invalid `from` field. The email address needs to follow ...", FailureKind.ACCOUNT),
        ("Invalid `reply_to` field.", FailureKind.ACCOUNT),
        ("Missing `subject` field.", FailureKind.CONTENT),
    ],
)
def test_an_invalid_email_is_told_by_the_field_it_quotes(message: str, kind: FailureKind) -> None:
    assert error(422, "validation_error", message) == Refused(Failure(kind, reason=message))


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (409, "concurrent_idempotent_requests", FailureKind.OTHER),
        (429, "rate_limit_exceeded", FailureKind.ACCOUNT),
        (429, "daily_quota_exceeded", FailureKind.ACCOUNT),
        (429, "monthly_quota_exceeded", FailureKind.ACCOUNT),
        (500, "application_error", FailureKind.UNREACHABLE),
        (500, "internal_server_error", FailureKind.UNREACHABLE),
        (503, "of_tomorrow", FailureKind.OTHER),
    ],
)
def test_what_may_pass_is_tried_again(status: int, name: str, kind: FailureKind) -> None:
    assert error(status, name) == TryAgain(Failure(kind, reason="It says why."))


def test_a_rate_limit_is_waited_for_as_asked() -> None:
    said = {"statusCode": 429, "message": "Too many requests.", "name": "rate_limit_exceeded"}
    failure = Failure(FailureKind.ACCOUNT, reason="Too many requests.")
    assert answer(429, said, retry_after="1", ratelimit_reset="1") == TryAgain(failure, timedelta(seconds=1))


def test_a_key_that_was_taken_with_other_bytes_says_that_this_email_was_sent() -> None:
    said = "Same idempotency key used with a different request payload."
    assert error(409, "invalid_idempotent_request", said) == Accepted(None, said)
    assert error(409, "of_tomorrow", said) == Refused(Failure(FailureKind.OTHER, reason=said))


def test_the_key_is_checked_by_listing_the_domains() -> None:
    request = RESEND.check_request(CREDENTIALS)
    assert (request.method, request.url, request.body) == ("GET", "https://api.resend.com/domains", b"")
    assert request.headers["authorization"] == "Bearer re_secret"


@pytest.mark.parametrize(
    ("status", "body", "ok", "text"),
    [
        (200, {"data": []}, True, "Resend takes the key."),
        (
            401,
            {
                "statusCode": 401,
                "name": "restricted_api_key",
                "message": "This API key is restricted to only send emails",
            },
            None,
            "Resend takes the key for sending alone; to ask what became of an email it needs full access.",
        ),
        (
            403,
            {"statusCode": 403, "name": "invalid_api_key"},
            False,
            "Resend refuses the key (HTTP 403); make a new one and enter it.",
        ),
        (500, "", None, "Resend answered HTTP 500, which says nothing of the key."),
    ],
)
def test_each_answer_to_the_check(status: int, body: object, ok: bool | None, text: str) -> None:
    answered = HttpResponse(status, {}, json.dumps(body).encode())
    assert RESEND.read_check(answered) == CredentialsCheck(ok, text)
