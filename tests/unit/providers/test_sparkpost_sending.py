"""SparkPost: exact requests, texts that look like templates, and every row of its error codes."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind
from mail.message import Address
from mail.providers.base import Accepted, HttpResponse, Refused, TryAgain
from mail.providers.sparkpost import SparkPost
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN, URL

SPARKPOST = SparkPost()
CREDENTIALS = {"api_key": "14ac5499"}
REJECTED = {"total_rejected_recipients": 1, "total_accepted_recipients": 0, "id": "11668787484950529"}


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SPARKPOST.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def error(status: int, code: str | None, description: str = "It says why.") -> Accepted | Refused | TryAgain:
    return answer(status, {"errors": [{"message": "Something", "description": description, "code": code}]})


def payload(**changes: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(SPARKPOST.send_request(replace(EMAIL, **changes), CREDENTIALS).body)
    return read


def rendered(template: str, data: dict[str, str]) -> str:
    """As SparkPost renders it: triple braces first, and what isn't there is empty (api/template-language)."""
    return re.sub(r"\{\{\{?\s*(\w*)[^}]*\}?\}\}", lambda found: data.get(found[1], ""), template)


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = SPARKPOST.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://api.sparkpost.com/api/v1/transmissions")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/json",
        "authorization": "14ac5499",
    }
    assert json.loads(request.body) == {
        "options": {"open_tracking": True, "click_tracking": False, "transactional": True},
        "metadata": {"carepost_message_id": str(MESSAGE_ID)},
        "recipients": [{"address": {"email": "ada@patient.example", "name": 'Ada "Countess" Lovelace'}}],
        "content": {
            "from": {"email": "desk@practice.example", "name": "Practice, Ltd."},
            "reply_to": '"Reception" <reception@practice.example>',
            "subject": "Your appointment – Dienstag",
            "text": "See you on Tuesday.",
            "html": "<p>See you on <b>Tuesday</b>.</p>",
            "headers": {"Message-ID": EMAIL.rfc_message_id, "Auto-Submitted": "auto-generated"},
        },
    }


def test_what_an_email_lacks_is_left_out() -> None:
    read = json.loads(SPARKPOST.send_request(PLAIN, CREDENTIALS).body)
    assert read["recipients"] == [{"address": {"email": "ada@patient.example"}}]
    assert read["options"]["open_tracking"] is False
    assert not {"html", "reply_to"} & read["content"].keys()


def test_the_region_and_the_subaccount() -> None:
    credentials = {**CREDENTIALS, "region": "eu", "subaccount_id": "101"}
    request = SPARKPOST.send_request(EMAIL, credentials)
    assert request.url == "https://api.eu.sparkpost.com/api/v1/transmissions"
    assert request.headers["x-msys-subaccount"] == "101"
    with pytest.raises(CredentialsIncomplete):
        SPARKPOST.check_credentials({**CREDENTIALS, "region": "mars"})


def test_a_domain_that_isnt_ascii_is_written_in_ascii() -> None:
    read = payload(recipient=Address("ada@bücher.example"), sender=Address("desk@bücher.example", "Desk"))
    assert read["recipients"] == [{"address": {"email": "ada@xn--bcher-kva.example"}}]
    assert read["content"]["from"]["email"] == "desk@xn--bcher-kva.example"


def test_double_braces_stay_what_they_are() -> None:
    read = payload(
        subject="{{name}}",
        text="a {{{b}}} c",
        html="<style>@media screen{p{color:red}}</style>",
        sender=Address("desk@practice.example", "{{desk}}"),
        reply_to=Address("desk@practice.example", "{{desk}}"),
    )
    assert read["content"]["subject"] == "{{braces_0}}name{{braces_1}}"
    assert read["content"]["text"] == "a {{braces_2}}b{{braces_3}} c"
    assert read["content"]["html"] == "<style>@media screen{p{color:red{{braces_1}}</style>"
    assert read["content"]["from"]["name"] == "{{braces_0}}desk{{braces_1}}"
    assert read["content"]["reply_to"] == '"{{braces_0}}desk{{braces_1}}" <desk@practice.example>'
    assert read["substitution_data"] == {"braces_0": "{{", "braces_1": "}}", "braces_2": "{{{", "braces_3": "}}}"}


@given(st.text(st.sampled_from("{}#a \n"), max_size=40))
def test_any_text_comes_out_of_the_template_as_it_went_in(text: str) -> None:
    read = payload(text=text)
    assert rendered(read["content"]["text"], read.get("substitution_data", {})) == text


def test_an_id_of_an_accepted_transmission_is_an_acceptance_and_nothing_else_is() -> None:
    accepted = {"total_rejected_recipients": 0, "total_accepted_recipients": 1, "id": "11668787484950529"}
    assert answer(200, {"results": accepted}) == Accepted("11668787484950529")
    assert answer(200, {"results": 5}) == TryAgain(Failure(FailureKind.OTHER, reason="HTTP 200"))
    assert isinstance(answer(500, {"results": accepted}), TryAgain)


def test_a_transmission_that_took_nobody_is_a_refusal() -> None:
    error = {"message": "Transmission resulted in rejected recipients", "code": "2000"}
    refused = Failure(FailureKind.ADDRESS_UNKNOWN, reason="Transmission resulted in rejected recipients")
    assert answer(200, {"results": REJECTED, "errors": [error]}) == Refused(refused)
    told = {**REJECTED, "rcpt_to_errors": [{"message": "required field is missing", "code": "1400"}]}
    assert answer(200, {"results": told}) == Refused(Failure(FailureKind.OTHER, reason="required field is missing"))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "1100", FailureKind.ACCOUNT),
        (405, "1101", FailureKind.ACCOUNT),
        (415, "1102", FailureKind.ACCOUNT),
        (415, "1103", FailureKind.ACCOUNT),
        (422, "1200", FailureKind.CONTENT),
        (422, "1300", FailureKind.CONTENT),
        (403, "1303", FailureKind.ACCOUNT),
        (403, "1304", FailureKind.ACCOUNT),
        (422, "1400", FailureKind.CONTENT),
        (404, "1600", FailureKind.ACCOUNT),
        (409, "1601", FailureKind.ACCOUNT),
        (409, "1602", FailureKind.OTHER),
        (400, "1910", FailureKind.ACCOUNT),
        (420, "2103", FailureKind.ACCOUNT),
        (422, "3005", FailureKind.CONTENT),
        (400, "5002", FailureKind.ADDRESS_UNKNOWN),
        (400, "7000", FailureKind.ACCOUNT),
        (400, "7001", FailureKind.ACCOUNT),
        (401, None, FailureKind.ACCOUNT),
        (403, None, FailureKind.ACCOUNT),
        (404, None, FailureKind.ACCOUNT),
        (405, None, FailureKind.ACCOUNT),
        (413, None, FailureKind.TOO_LARGE),
        (415, None, FailureKind.CONTENT),
        (418, None, FailureKind.OTHER),
        (422, None, FailureKind.CONTENT),
    ],
)
def test_an_error_is_a_refusal_for_good(status: int, code: str | None, kind: FailureKind) -> None:
    assert error(status, code) == Refused(Failure(kind, reason="It says why."))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "1500", FailureKind.UNREACHABLE),
        (400, "1501", FailureKind.UNREACHABLE),
        (400, "1502", FailureKind.UNREACHABLE),
        (400, "1900", FailureKind.UNREACHABLE),
        (420, "2101", FailureKind.ACCOUNT),
        (420, "2102", FailureKind.ACCOUNT),
        (420, None, FailureKind.ACCOUNT),
        (429, None, FailureKind.ACCOUNT),
        (503, None, FailureKind.OTHER),
    ],
)
def test_a_limit_and_a_failure_of_sparkpost_pass(status: int, code: str | None, kind: FailureKind) -> None:
    assert error(status, code) == TryAgain(Failure(kind, reason="It says why."))


def test_a_suppressed_address_is_known_by_the_words() -> None:
    failure = Failure(FailureKind.SUPPRESSED, reason="recipient address suppressed due to customer policy")
    assert error(400, "1902", failure.reason) == Refused(failure)


def test_a_wait_is_kept() -> None:
    assert answer(429, retry_after="3") == TryAgain(
        Failure(FailureKind.ACCOUNT, reason="HTTP 429"), timedelta(seconds=3)
    )


def test_the_key_is_checked_by_a_search_that_finds_nothing() -> None:
    request = SPARKPOST.check_request(CREDENTIALS)
    assert (request.method, request.body) == ("GET", b"")
    assert request.url == "https://api.sparkpost.com/api/v1/events/message?transmission_ids=0&per_page=1"
    checks = {status: SPARKPOST.read_check(HttpResponse(status, {}, b"{}")).ok for status in (200, 401, 403, 500)}
    assert checks == {200: True, 401: False, 403: None, 500: None}


def test_a_webhook_is_tested_by_its_id() -> None:
    assert SPARKPOST.webhook_test_request(CREDENTIALS, URL) is None
    request = SPARKPOST.webhook_test_request({**CREDENTIALS, "webhook_id": "12affc24-f183"}, URL)
    assert request is not None
    assert (request.method, request.url) == (
        "POST",
        "https://api.sparkpost.com/api/v1/webhooks/12affc24-f183/validate",
    )
    assert json.loads(request.body) == [{"msys": {}}]
