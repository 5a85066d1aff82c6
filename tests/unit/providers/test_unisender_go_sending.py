"""Unisender Go: exact requests, addresses that it leaves out, and every row of its error codes."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind
from mail.message import Address
from mail.providers.base import Accepted, HttpResponse, Refused, TryAgain
from mail.providers.unisender_go import UnisenderGo
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

GO = UnisenderGo()
CREDENTIALS = {"api_key": "6q5z1kt7"}


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return GO.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def error(status: int, code: object) -> Accepted | Refused | TryAgain:
    return answer(status, {"status": "error", "code": code, "message": "It says why."})


def message(**changes: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(GO.send_request(replace(EMAIL, **changes), CREDENTIALS).body)["message"]
    return read


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = GO.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == (
        "POST",
        "https://goapi.unisender.ru/ru/transactional/api/v1/email/send.json",
    )
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "x-api-key": "6q5z1kt7",
    }
    assert json.loads(request.body) == {
        "message": {
            "recipients": [
                {
                    "email": "ada@patient.example",
                    "substitutions": {"to_name": 'Ada "Countess" Lovelace'},
                    "metadata": {"carepost_message_id": str(MESSAGE_ID)},
                }
            ],
            "from_email": "desk@practice.example",
            "from_name": "Practice, Ltd.",
            "reply_to": "reception@practice.example",
            "reply_to_name": "Reception",
            "subject": "Your appointment – Dienstag",
            "body": {"plaintext": "See you on Tuesday.", "html": "<p>See you on <b>Tuesday</b>.</p>"},
            "template_engine": "none",
            "track_read": 1,
            "track_links": 0,
            "idempotence_key": str(MESSAGE_ID),
        }
    }


def test_what_an_email_lacks_is_left_out() -> None:
    read = json.loads(GO.send_request(PLAIN, CREDENTIALS).body)["message"]
    assert read["body"] == {"plaintext": "See you on Tuesday."}
    assert read["track_read"] == 0
    assert "substitutions" not in read["recipients"][0]
    assert not {"reply_to", "reply_to_name"} & read.keys()
    bare = message(sender=Address("desk@practice.example"), reply_to=Address("desk@practice.example"))
    assert not {"from_name", "reply_to_name"} & bare.keys()


def test_a_name_that_is_too_long_is_left_out() -> None:
    for length, taken in ((78, True), (79, False)):
        read = message(recipient=Address("ada@patient.example", "A" * length))
        assert ("substitutions" in read["recipients"][0]) is taken


def test_a_domain_that_isnt_ascii_is_written_in_ascii() -> None:
    read = message(
        recipient=Address("ada@bücher.example"),
        sender=Address("desk@bücher.example"),
        reply_to=Address("desk@bücher.example"),
    )
    assert read["recipients"][0]["email"] == "ada@xn--bcher-kva.example"
    assert read["from_email"] == read["reply_to"] == "desk@xn--bcher-kva.example"


def test_the_data_centre() -> None:
    for name in ("go1", "go2"):
        request = GO.send_request(EMAIL, {**CREDENTIALS, "data_centre": name})
        assert request.url == f"https://{name}.unisender.ru/ru/transactional/api/v1/email/send.json"
    with pytest.raises(CredentialsIncomplete):
        GO.check_credentials({**CREDENTIALS, "data_centre": "go3"})


def test_the_idempotence_key_fits_the_limit() -> None:
    assert len(message()["idempotence_key"]) <= 64


def test_a_job_is_an_acceptance_and_nothing_else_is() -> None:
    accepted = {"status": "success", "job_id": "1ZymBc-00041N-9X", "emails": ["ada@patient.example"]}
    assert answer(200, accepted) == Accepted("1ZymBc-00041N-9X")
    assert answer(200, {**accepted, "failed_emails": {}}) == Accepted("1ZymBc-00041N-9X")
    assert answer(200, {**accepted, "status": "error"}) == TryAgain(Failure(FailureKind.OTHER, reason="HTTP 200"))
    assert isinstance(answer(200, {"status": "success"}), TryAgain)
    assert isinstance(answer(500, accepted), TryAgain)


@pytest.mark.parametrize(
    ("why", "kind"),
    [
        ("unsubscribed", FailureKind.SUPPRESSED),
        ("complained", FailureKind.SUPPRESSED),
        ("blocked", FailureKind.SUPPRESSED),
        ("permanent_unavailable", FailureKind.SUPPRESSED),
        ("temporary_unavailable", FailureKind.SUPPRESSED),
        ("invalid", FailureKind.ADDRESS_UNKNOWN),
        ("of_tomorrow", FailureKind.OTHER),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_an_address_that_is_left_out_is_refused(status: int, why: str, kind: FailureKind) -> None:
    body = {"status": "success", "job_id": "1ZymBc", "emails": [], "failed_emails": {"ada@patient.example": why}}
    assert answer(status, body) == Refused(Failure(kind, reason=why))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        *((401, code, FailureKind.ACCOUNT) for code in (101, 102, 105, 106, 114)),
        (400, 111, FailureKind.CONTENT),
        (413, 199, FailureKind.TOO_LARGE),
        (400, 203, FailureKind.CONTENT),
        (400, 204, FailureKind.SUPPRESSED),
        *((400, code, FailureKind.ACCOUNT) for code in (205, 206, 215, 1519, 1520, 1574, 1575, 1598, 1599)),
        *((403, code, FailureKind.ACCOUNT) for code in (901, 902, 903, 904, 905, 906)),
        (400, 1588, FailureKind.CONTENT),
        (400, 9999, FailureKind.CONTENT),
    ],
)
def test_an_error_is_a_refusal_for_good(status: int, code: int, kind: FailureKind) -> None:
    assert error(status, code) == Refused(Failure(kind, reason=f"{code}: It says why."))


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
def test_an_error_without_a_code_goes_by_its_status(status: int, kind: FailureKind) -> None:
    assert error(status, "none") == Refused(Failure(kind, reason="It says why."))


@pytest.mark.parametrize(("status", "code"), [(400, 120), (500, 150), (500, 908)])
def test_a_failure_of_unisender_go_passes(status: int, code: int) -> None:
    assert error(status, code) == TryAgain(Failure(FailureKind.UNREACHABLE, reason=f"{code}: It says why."))


def test_a_rate_is_waited_for() -> None:
    assert answer(429, retry_after="7") == TryAgain(
        Failure(FailureKind.ACCOUNT, reason="HTTP 429"), timedelta(seconds=7)
    )


def test_an_email_that_was_taken_a_moment_ago_was_sent() -> None:
    assert error(400, 1573) == Accepted(None, "It says why.")


def test_the_key_is_checked_by_a_request_that_only_reads() -> None:
    request = GO.check_request(CREDENTIALS)
    assert (request.method, request.body) == ("POST", b"{}")
    assert request.url == "https://goapi.unisender.ru/ru/transactional/api/v1/system/info.json"
    assert request.headers["x-api-key"] == "6q5z1kt7"
    assert [GO.read_check(HttpResponse(status, {}, b"{}")).ok for status in (200, 401, 500)] == [True, False, None]
