"""Scaleway: exact requests, and every row of its errors."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from mail.failure import Failure, FailureKind
from mail.message import Address
from mail.providers.base import Accepted, CredentialsCheck, HttpResponse, Refused, TryAgain
from mail.providers.scaleway import Scaleway
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN
from tests.support.providers.scaleway import SAMPLE

SCALEWAY = Scaleway()
CREDENTIALS = {"secret_key": "secret-key", "project_id": "project-id"}
API = "https://api.scaleway.com/transactional-email/v1alpha1/regions/fr-par"


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SCALEWAY.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = SCALEWAY.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", f"{API}/emails")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "x-auth-token": "secret-key",
    }
    assert json.loads(request.body) == {
        "project_id": "project-id",
        "from": {"email": "desk@practice.example", "name": "Practice, Ltd."},
        "to": [{"email": "ada@patient.example", "name": 'Ada "Countess" Lovelace'}],
        "subject": "Your appointment – Dienstag",
        "text": "See you on Tuesday.",
        "html": "<p>See you on <b>Tuesday</b>.</p>",
        "additional_headers": [
            {"key": "X-Carepost-Message-ID", "value": str(MESSAGE_ID)},
            {"key": "Auto-Submitted", "value": "auto-generated"},
            {"key": "Reply-To", "value": "Reception <reception@practice.example>"},
        ],
    }


def test_what_an_email_lacks_is_left_out() -> None:
    payload = json.loads(SCALEWAY.send_request(PLAIN, CREDENTIALS).body)
    assert payload["to"] == [{"email": "ada@patient.example"}]
    assert "html" not in payload
    assert [header["key"] for header in payload["additional_headers"]] == ["X-Carepost-Message-ID", "Auto-Submitted"]


def test_headers_and_domains_are_ascii() -> None:
    email = replace(
        EMAIL,
        sender=Address("desk@bücher.example", "Bücher"),
        recipient=Address("ada@bücher.example", "Ada"),
        reply_to=Address("team@bücher.example", "Büro, links"),
    )
    payload = json.loads(SCALEWAY.send_request(email, CREDENTIALS).body)
    assert payload["from"] == {"email": "desk@xn--bcher-kva.example", "name": "Bücher"}
    assert payload["to"] == [{"email": "ada@xn--bcher-kva.example", "name": "Ada"}]
    (reply_to,) = [header["value"] for header in payload["additional_headers"] if header["key"] == "Reply-To"]
    assert reply_to == "=?utf-8?b?QsO8cm8sIGxpbmtz?= <team@xn--bcher-kva.example>"


def test_a_reply_to_that_can_not_be_ascii_goes_as_it_is() -> None:
    email = replace(EMAIL, reply_to=Address("büro@practice.example", "Büro"))
    payload = json.loads(SCALEWAY.send_request(email, CREDENTIALS).body)
    assert payload["additional_headers"][-1] == {"key": "Reply-To", "value": "büro@practice.example"}


def test_a_region_can_be_named_and_another_host_chosen() -> None:
    chosen = {**CREDENTIALS, "region": "fr-par", "base_url": "http://127.0.0.1:8025/"}
    SCALEWAY.check_credentials(chosen)
    request = SCALEWAY.send_request(EMAIL, chosen)
    assert request.url == "http://127.0.0.1:8025/transactional-email/v1alpha1/regions/fr-par/emails"


def test_the_documented_answer_is_accepted_under_its_technical_id() -> None:
    assert SCALEWAY.read_answer(SAMPLE.accepted) == Accepted("655c27f2-b2a3-4a9f-8e1f-3e6dc268b1c4")
    assert answer(201, {"emails": [{"status": "new"}]}) == Accepted(None)


@pytest.mark.parametrize("body", [{}, [], "x", None, {"emails": []}, {"emails": {}}, {"emails": ["x"]}])
def test_a_success_without_an_email_is_no_acceptance(body: object) -> None:
    assert answer(200, body) == TryAgain(Failure(FailureKind.OTHER, reason="HTTP 200"))


@pytest.mark.parametrize(
    ("status", "body", "kind", "reason"),
    [
        (
            400,
            {
                "type": "invalid_arguments",
                "message": "invalid argument(s)",
                "details": [
                    {"argument_name": "to[0].email", "reason": "format", "help_message": "must be a valid email"}
                ],
            },
            FailureKind.ADDRESS_UNKNOWN,
            "invalid argument(s): to[0].email must be a valid email",
        ),
        (
            400,
            {
                "type": "invalid_arguments",
                "message": "invalid argument(s)",
                "details": [{"argument_name": "from.email", "reason": "constraint", "help_message": "unknown domain"}],
            },
            FailureKind.ACCOUNT,
            "invalid argument(s): from.email unknown domain",
        ),
        (
            400,
            {
                "type": "invalid_arguments",
                "message": "invalid argument(s)",
                "details": [{"argument_name": "subject", "reason": "constraint", "help_message": "at least 10"}],
            },
            FailureKind.CONTENT,
            "invalid argument(s): subject at least 10",
        ),
        (
            400,
            {"type": "invalid_arguments", "details": [{"argument_name": "project_id", "reason": "required"}]},
            FailureKind.ACCOUNT,
            "invalid_arguments: project_id",
        ),
        (
            401,
            {"type": "denied_authentication", "method": "api_key", "reason": "invalid_argument", "message": "denied"},
            FailureKind.ACCOUNT,
            "denied",
        ),
        (
            403,
            {
                "type": "permissions_denied",
                "message": "insufficient permissions",
                "details": [{"resource": "tem", "action": "write"}],
            },
            FailureKind.ACCOUNT,
            "insufficient permissions",
        ),
        (404, {"type": "not_found", "resource": "project"}, FailureKind.ACCOUNT, "not_found"),
        (
            412,
            {
                "type": "precondition_failed",
                "precondition": "resource_not_usable",
                "help_message": "domain not verified",
            },
            FailureKind.ACCOUNT,
            "domain not verified",
        ),
        (423, {"type": "resource_locked"}, FailureKind.ACCOUNT, "resource_locked"),
        (400, {"type": "of_tomorrow", "message": "x"}, FailureKind.OTHER, "x"),
        (413, "<html>", FailureKind.TOO_LARGE, "HTTP 413"),
        (401, "", FailureKind.ACCOUNT, "HTTP 401"),
    ],
)
def test_each_error_that_is_a_refusal_for_good(status: int, body: object, kind: FailureKind, reason: str) -> None:
    assert answer(status, body) == Refused(Failure(kind, reason=reason))


@pytest.mark.parametrize(
    ("status", "error"), [(403, "quotas_exceeded"), (409, "transient_state"), (429, "too_many_requests")]
)
def test_each_error_that_may_pass(status: int, error: str) -> None:
    again = answer(status, {"type": error, "message": "Later."}, retry_after="30")
    assert again == TryAgain(Failure(FailureKind.ACCOUNT, reason="Later."), timedelta(seconds=30))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again_whatever_it_says(status: int) -> None:
    assert isinstance(answer(status, {"type": "invalid_arguments", "message": "x"}), TryAgain)
    assert isinstance(answer(status, "<html>"), TryAgain)


def test_a_check_asks_for_numbers_alone() -> None:
    request = SCALEWAY.check_request(CREDENTIALS)
    assert (request.method, request.url) == ("GET", f"{API}/statistics?project_id=project-id")
    assert request.headers["x-auth-token"] == "secret-key"


@pytest.mark.parametrize(
    ("status", "body", "check"),
    [
        (200, {"total_count": 3}, CredentialsCheck(True, "Scaleway takes the key.")),
        (
            401,
            {"type": "denied_authentication", "method": "api_key", "reason": "expired"},
            CredentialsCheck(False, "The key has expired; make a new one and enter it."),
        ),
        (
            401,
            {"type": "denied_authentication", "method": "api_key", "reason": "not_found"},
            CredentialsCheck(False, "Scaleway refuses the key (HTTP 401); make a new one and enter it."),
        ),
        (
            403,
            {"type": "permissions_denied"},
            CredentialsCheck(
                False,
                "Scaleway knows the key, but it may not read the project's emails: check the project ID, and that "
                "the key has the permission set TransactionalEmailEmailFullAccess.",
            ),
        ),
        (500, "", CredentialsCheck(None, "Scaleway answered HTTP 500, which says nothing of the key.")),
    ],
)
def test_a_check_says_what_is_wrong_with_the_key(status: int, body: object, check: CredentialsCheck) -> None:
    assert SCALEWAY.read_check(HttpResponse(status, {}, json.dumps(body).encode())) == check


def test_nothing_is_tracked() -> None:
    assert not SCALEWAY.capabilities.opens
    assert SCALEWAY.send_request(EMAIL, CREDENTIALS) == SCALEWAY.send_request(
        replace(EMAIL, track_opens=False), CREDENTIALS
    )
