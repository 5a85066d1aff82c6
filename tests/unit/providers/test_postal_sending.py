"""Postal: exact requests, and what each answer means."""

import json
from datetime import timedelta
from email import message_from_bytes, policy

import pytest

from mail.failure import Failure, FailureKind
from mail.providers.base import Accepted, CredentialsCheck, HttpResponse, Refused, TryAgain
from mail.providers.postal import Postal
from tests.support.providers.postal import raw_email
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

POSTAL = Postal()
CREDENTIALS = {"api_key": "s3cret", "base_url": "https://postal.practice.example/"}


def answered(status: str, data: object, http: int = 200) -> HttpResponse:
    body = {"status": status, "time": 0.02, "flags": {}, "data": data}
    return HttpResponse(http, {}, json.dumps(body).encode())


def test_an_email_is_sent_raw_so_that_its_message_id_is_ours() -> None:
    request = POSTAL.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://postal.practice.example/api/v1/send/raw")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "x-server-api-key": "s3cret",
    }
    body = json.loads(request.body)
    assert {**body, "data": ""} == {
        "mail_from": "desk@practice.example",
        "rcpt_to": ["ada@patient.example"],
        "data": "",
    }
    message = message_from_bytes(raw_email(request), policy=policy.default)
    assert dict(message.items()) == {
        "X-Postal-Tag": str(MESSAGE_ID),
        "From": '"Practice, Ltd." <desk@practice.example>',
        "To": '"Ada \\"Countess\\" Lovelace" <ada@patient.example>',
        "Reply-To": "Reception <reception@practice.example>",
        "Subject": "Your appointment – Dienstag",
        "Date": "Sun, 01 Mar 2026 09:30:00 +0000",
        "Message-ID": "<0199f3a27c1e7b6a9d3e5a4b3c2d1e0f@practice.example>",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/alternative; boundary="=_{MESSAGE_ID.hex}"',
    }
    assert [part.get_content() for part in message.iter_parts()] == [
        "See you on Tuesday.\r\n",
        "<p>See you on <b>Tuesday</b>.</p>\r\n",
    ]


def test_an_email_that_must_not_be_tracked_says_so() -> None:
    message = message_from_bytes(raw_email(POSTAL.send_request(PLAIN, CREDENTIALS)), policy=policy.default)
    assert message["X-AMP"] == "skip"
    assert "Reply-To" not in message
    assert message.get_content() == "See you on Tuesday.\r\n"


def test_headers_and_body_are_parted_as_postal_splits_them() -> None:
    head, body = raw_email(POSTAL.send_request(PLAIN, CREDENTIALS)).split(b"\r\n\r\n", 1)
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert body == b"See you on Tuesday.\r\n"


def test_success_is_accepted_under_its_number_and_token() -> None:
    answer = answered(
        "success", {"message_id": "x", "messages": {"ada@patient.example": {"id": 37171, "token": "a4u"}}}
    )
    assert POSTAL.read_answer(answer) == Accepted("37171-a4u")
    assert POSTAL.read_answer(answered("success", {"messages": {}})) == Accepted(None)
    assert POSTAL.read_answer(answered("success", {"messages": {"a@b.example": {"id": 1}}})) == Accepted(None)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDenied", FailureKind.ACCOUNT),
        ("InvalidServerAPIKey", FailureKind.ACCOUNT),
        ("ServerSuspended", FailureKind.ACCOUNT),
        ("FromAddressMissing", FailureKind.ACCOUNT),
        ("UnauthenticatedFromAddress", FailureKind.ACCOUNT),
        ("NoRecipients", FailureKind.CONTENT),
        ("NoContent", FailureKind.CONTENT),
        ("TooManyToAddresses", FailureKind.CONTENT),
        ("TooManyCCAddresses", FailureKind.CONTENT),
        ("TooManyBCCAddresses", FailureKind.CONTENT),
        ("AttachmentMissingName", FailureKind.CONTENT),
        ("AttachmentMissingData", FailureKind.CONTENT),
        ("OfTomorrow", FailureKind.OTHER),
    ],
)
def test_an_error_in_an_http_200_is_a_refusal_that_never_quotes_the_key(code: str, kind: FailureKind) -> None:
    answer = answered("error", {"code": code, "message": "It says\nwhy.", "token": "s3cret"})
    assert POSTAL.read_answer(answer) == Refused(Failure(kind, reason=f"{code}: It says why."))
    assert POSTAL.read_answer(answered("error", {"code": code})) == Refused(Failure(kind, reason=code))


def test_a_wrong_parameter_is_the_content() -> None:
    said = "`data` parameter is required but is missing"
    answer = POSTAL.read_answer(answered("parameter-error", {"message": said}))
    assert answer == Refused(Failure(FailureKind.CONTENT, reason=said))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FailureKind.ACCOUNT),
        (403, FailureKind.ACCOUNT),
        (404, FailureKind.ACCOUNT),
        (405, FailureKind.ACCOUNT),
        (413, FailureKind.TOO_LARGE),
        (418, FailureKind.OTHER),
    ],
)
def test_another_status_is_of_what_stands_before_postal(status: int, kind: FailureKind) -> None:
    answer = POSTAL.read_answer(answered("success", {"messages": {}}, status))
    assert answer == Refused(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize("status", [200, 302, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(status: int) -> None:
    answer = POSTAL.read_answer(HttpResponse(status, {"retry-after": "7"}, b"<html>"))
    assert answer == TryAgain(Failure(FailureKind.OTHER, reason=f"HTTP {status}"), timedelta(seconds=7))


def test_the_key_is_checked_by_asking_for_a_message_that_is_not_there() -> None:
    request = POSTAL.check_request(CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://postal.practice.example/api/v1/messages/message")
    assert json.loads(request.body) == {"id": 0}


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        (answered("error", {"code": "MessageNotFound"}), CredentialsCheck(True, "Postal takes the key.")),
        (answered("success", {"id": 0}), CredentialsCheck(True, "Postal takes the key.")),
        (
            answered("error", {"code": "InvalidServerAPIKey", "token": "s3cret"}),
            CredentialsCheck(False, "Postal refuses the key; make a new credential of the type API."),
        ),
        (
            answered("error", {"code": "AccessDenied"}),
            CredentialsCheck(False, "Postal refuses the key; make a new credential of the type API."),
        ),
        (
            answered("error", {"code": "ServerSuspended"}),
            CredentialsCheck(False, "Postal knows the key, but the mail server is suspended; unsuspend it."),
        ),
        (
            HttpResponse(200, {}, b"<html>"),
            CredentialsCheck(None, "What answered is no Postal API; check base_url."),
        ),
        (
            HttpResponse(502, {}, b""),
            CredentialsCheck(None, "Postal answered HTTP 502, which says nothing of the key."),
        ),
    ],
)
def test_each_answer_to_the_check(answer: HttpResponse, check: CredentialsCheck) -> None:
    assert POSTAL.read_check(answer) == check
