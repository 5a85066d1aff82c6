"""Brevo: exact requests, what each answer means, and what it tells of its key."""

import json
from dataclasses import replace
from datetime import timedelta
from email.header import decode_header, make_header
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.failure import Failure, FailureKind
from mail.ids import MessageId
from mail.message import Address
from mail.providers.base import Accepted, CredentialsCheck, HttpResponse, Refused, TryAgain
from mail.providers.brevo import Brevo
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

BREVO = Brevo()
CREDENTIALS = {"api_key": "xkeysib-secret"}


def answer(status: int, body: object = None, **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return BREVO.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = BREVO.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://api.brevo.com/v3/smtp/email")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "api-key": "xkeysib-secret",
    }
    assert json.loads(request.body) == {
        "sender": {"email": "desk@practice.example", "name": "Practice, Ltd."},
        "to": [{"email": "ada@patient.example", "name": 'Ada "Countess" Lovelace'}],
        "replyTo": {"email": "reception@practice.example", "name": "Reception"},
        "subject": "Your appointment – Dienstag",
        "textContent": "See you on Tuesday.",
        "htmlContent": "<p>See you on <b>Tuesday</b>.</p>",
        "headers": {
            "X-Mailin-custom": f'{{"carepost_message_id":"{MESSAGE_ID}"}}',
            "Auto-Submitted": "auto-generated",
            "idempotencyKey": str(MESSAGE_ID),
        },
    }


def test_what_an_email_lacks_is_left_out() -> None:
    payload = json.loads(BREVO.send_request(PLAIN, CREDENTIALS).body)
    assert payload["to"] == [{"email": "ada@patient.example"}]
    assert not {"htmlContent", "replyTo"} & payload.keys()
    assert "textContent" not in json.loads(BREVO.send_request(replace(EMAIL, text=""), CREDENTIALS).body)


def test_the_idempotency_key_is_a_uuid_that_no_other_message_has() -> None:
    other = replace(EMAIL, id=MessageId(UUID(int=1)))
    keys = [
        json.loads(BREVO.send_request(each, CREDENTIALS).body)["headers"]["idempotencyKey"] for each in (EMAIL, other)
    ]
    assert [UUID(key) for key in keys] == [MESSAGE_ID, UUID(int=1)]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Zoë", "Zoë"),
        ("Müller, Zoë", "=?utf-8?b?TcO8bGxlciwgWm/Dqw==?="),
        ('Ada "Countess" Lovelace', 'Ada "Countess" Lovelace'),
        ("n" * 200, "n" * 70),
        (
            "Gemeinschaftspraxis Dr. Müller, Dr. Schröder (Kinderärzte)",
            "Gemeinschaftspraxis Dr Müller Dr Schröder Kinderärzte",
        ),
    ],
)
def test_a_name_that_brevo_would_drop_goes_out_encoded(name: str, written: str) -> None:
    email = replace(EMAIL, recipient=Address("zoe@patient.example", name))
    assert json.loads(BREVO.send_request(email, CREDENTIALS).body)["to"][0]["name"] == written


@given(name=st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=200))
def test_whatever_the_name_it_is_one_that_brevo_keeps(name: str) -> None:
    email = replace(EMAIL, sender=Address("desk@practice.example", name))
    written = json.loads(BREVO.send_request(email, CREDENTIALS).body)["sender"].get("name", "")
    assert len(written) <= 70
    assert written.isascii() or not set(written) & set('()<>[]:;@\\,."')
    if written.startswith("=?utf-8?") and not name.startswith("=?"):
        assert str(make_header(decode_header(written))) == name
    else:
        assert set(written) <= set(name) | {" "}


def test_a_message_is_accepted_under_its_id_without_brackets() -> None:
    assert answer(201, {"messageId": "<201798300811.5787683@relay.domain.com>"}) == Accepted(
        "201798300811.5787683@relay.domain.com"
    )
    assert answer(202, {"messageId": "a@b"}) == Accepted("a@b")
    assert answer(201, {}) == Accepted(None)


def test_a_repeated_idempotency_key_says_that_an_earlier_attempt_was_taken() -> None:
    said = {"code": "duplicate_parameter", "message": "This idempotencyKey was used."}
    assert answer(400, said) == Accepted(None, "This idempotencyKey was used.")
    assert isinstance(answer(503, said), TryAgain)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_parameter", FailureKind.CONTENT),
        (400, "missing_parameter", FailureKind.CONTENT),
        (400, "out_of_range", FailureKind.CONTENT),
        (400, "bad_request", FailureKind.CONTENT),
        (406, "not_acceptable", FailureKind.CONTENT),
        (402, "not_enough_credits", FailureKind.ACCOUNT),
        (402, "account_under_validation", FailureKind.ACCOUNT),
        (403, "permission_denied", FailureKind.ACCOUNT),
        (403, "reseller_permission_denied", FailureKind.ACCOUNT),
        (401, "unauthorized", FailureKind.ACCOUNT),
        (405, "method_not_allowed", FailureKind.ACCOUNT),
        (404, "document_not_found", FailureKind.ACCOUNT),
        (400, "of_tomorrow", FailureKind.CONTENT),
        (401, "of_tomorrow", FailureKind.ACCOUNT),
        (413, "of_tomorrow", FailureKind.TOO_LARGE),
        (422, "of_tomorrow", FailureKind.CONTENT),
        (418, "of_tomorrow", FailureKind.OTHER),
    ],
)
def test_an_error_code_is_a_refusal_for_good_and_an_unknown_one_goes_by_the_status(
    status: int, code: str, kind: FailureKind
) -> None:
    assert answer(status, {"code": code, "message": "It says\nwhy."}) == Refused(Failure(kind, reason="It says why."))
    assert answer(status, {"code": code}) == Refused(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("email is not valid in to", FailureKind.ADDRESS_UNKNOWN),
        ("valid sender email is required", FailureKind.ACCOUNT),
        ("email is not valid in replyTo", FailureKind.ACCOUNT),
        ("subject is empty", FailureKind.CONTENT),
    ],
)
def test_an_invalid_parameter_is_told_by_what_it_names(message: str, kind: FailureKind) -> None:
    for code in ("invalid_parameter", "missing_parameter"):
        assert answer(400, {"code": code, "message": message}) == Refused(Failure(kind, reason=message))


@pytest.mark.parametrize("status", [200, 204, 302, 408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(answer(status, {"code": "invalid_parameter"}), TryAgain)


def test_a_rate_limit_is_waited_for_by_brevos_own_header() -> None:
    """Docs, "Rate limit headers": seconds, and no Retry-After."""
    too_many = Failure(FailureKind.ACCOUNT, reason="Too many requests")
    body = {"message": "Too many requests"}
    assert answer(429, body, x_sib_ratelimit_reset="42") == TryAgain(too_many, timedelta(seconds=42))
    assert answer(429, body, retry_after="7", x_sib_ratelimit_reset="42") == TryAgain(too_many, timedelta(seconds=7))
    assert answer(429, body, x_sib_ratelimit_reset="soon") == TryAgain(too_many)
    assert answer(429, body) == TryAgain(too_many)


def test_the_account_tells_whether_the_key_is_taken() -> None:
    request = BREVO.check_request(CREDENTIALS)
    assert (request.method, request.url) == ("GET", "https://api.brevo.com/v3/account")
    assert request.headers["api-key"] == "xkeysib-secret"


@pytest.mark.parametrize(
    ("status", "message", "ok", "text"),
    [
        (200, "", True, "Brevo takes the key."),
        (401, "Key not found", False, "Brevo refuses the key (HTTP 401); make a new one and enter it."),
        (
            401,
            "We have detected you are using an unrecognised IP address 203.0.113.9.",
            False,
            "Brevo refuses this server's address: add it at Security > Authorized IPs, or switch that off.",
        ),
        (429, "", None, "Brevo answered HTTP 429, which says nothing of the key."),
    ],
)
def test_a_check_says_what_to_do(status: int, message: str, ok: bool | None, text: str) -> None:
    said = HttpResponse(status, {}, json.dumps({"code": "unauthorized", "message": message}).encode())
    assert BREVO.read_check(said) == CredentialsCheck(ok, text)
