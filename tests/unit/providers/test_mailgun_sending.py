"""Mailgun: exact requests, and what each answer means."""

import json
from datetime import timedelta
from urllib.parse import parse_qsl

import pytest

from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Accepted, Checkable, CredentialsCheck, HttpResponse, Refused, TryAgain
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN

MAILGUN = provider("mailgun")
CREDENTIALS = {"api_key": "key", "domain": "mg.practice.example"}


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return MAILGUN.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def check(status: int, body: object = None) -> CredentialsCheck:
    assert isinstance(MAILGUN, Checkable)
    return MAILGUN.read_check(HttpResponse(status, {}, json.dumps(body).encode()))


def test_an_email_is_sent_whole_to_one_recipient() -> None:
    request = MAILGUN.send_request(EMAIL, CREDENTIALS)
    assert (request.method, request.url) == ("POST", "https://api.mailgun.net/v3/mg.practice.example/messages")
    assert request.headers == {
        "accept": "application/json",
        "content-type": "application/x-www-form-urlencoded",
        "authorization": "Basic YXBpOmtleQ==",
    }
    assert parse_qsl(request.body.decode("ascii"), strict_parsing=True) == [
        ("from", '"Practice, Ltd." <desk@practice.example>'),
        ("to", '"Ada \\"Countess\\" Lovelace" <ada@patient.example>'),
        ("subject", "Your appointment – Dienstag"),
        ("text", "See you on Tuesday."),
        ("html", "<p>See you on <b>Tuesday</b>.</p>"),
        ("h:Reply-To", '"Reception" <reception@practice.example>'),
        ("h:Message-Id", "<0199f3a27c1e7b6a9d3e5a4b3c2d1e0f@practice.example>"),
        ("h:Auto-Submitted", "auto-generated"),
        ("o:tracking-opens", "yes"),
        ("o:tracking-clicks", "no"),
        ("v:carepost_message_id", str(MESSAGE_ID)),
    ]


def test_what_an_email_lacks_is_left_out() -> None:
    form = dict(parse_qsl(MAILGUN.send_request(PLAIN, CREDENTIALS).body.decode(), strict_parsing=True))
    assert form["to"] == "ada@patient.example"
    assert form["o:tracking-opens"] == "no"
    assert "html" not in form
    assert "h:Reply-To" not in form


@pytest.mark.parametrize(
    ("more", "host"),
    [
        ({"region": "us"}, "https://api.mailgun.net"),
        ({"region": "eu"}, "https://api.eu.mailgun.net"),
        ({"region": "eu", "base_url": "http://127.0.0.1:8025/"}, "http://127.0.0.1:8025"),
    ],
)
def test_the_region_chooses_the_host_and_a_base_url_replaces_it(more: dict[str, str], host: str) -> None:
    request = MAILGUN.send_request(EMAIL, {**CREDENTIALS, **more})
    assert request.url == f"{host}/v3/mg.practice.example/messages"


def test_a_region_is_one_of_mailguns() -> None:
    with pytest.raises(CredentialsIncomplete, match="us, eu"):
        MAILGUN.check_credentials({**CREDENTIALS, "region": "asia"})


def test_a_domain_cannot_leave_its_place_in_the_url() -> None:
    request = MAILGUN.send_request(EMAIL, {**CREDENTIALS, "domain": "../../x?y#z"})
    assert request.url == "https://api.mailgun.net/v3/..%2F..%2Fx%3Fy%23z/messages"


def test_200_is_accepted_under_the_id_that_events_give() -> None:
    body = {"id": "<20111114174239.25659.5817@samples.mailgun.org>", "message": "Queued. Thank you."}
    assert answer(200, body) == Accepted("20111114174239.25659.5817@samples.mailgun.org", "Queued. Thank you.")


@pytest.mark.parametrize("body", [[], "x", None, {}, {"id": ""}, {"id": 1.5}, {"message": "Queued. Thank you."}])
def test_a_success_without_an_id_is_no_acceptance(body: object) -> None:
    assert isinstance(answer(200, body), TryAgain)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.CONTENT),
        (401, FailureKind.ACCOUNT),
        (402, FailureKind.ACCOUNT),
        (403, FailureKind.ACCOUNT),
        (404, FailureKind.ACCOUNT),
        (413, FailureKind.TOO_LARGE),
        (418, FailureKind.OTHER),
    ],
)
def test_a_refusal_is_for_good_and_says_why(status: int, kind: FailureKind) -> None:
    assert answer(status, {"message": "It says\nwhy."}) == Refused(Failure(kind, reason="It says why."))
    assert answer(status, "Forbidden") == Refused(Failure(kind, reason=f"HTTP {status}"))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("to parameter is not a valid address. please check documentation", FailureKind.ADDRESS_UNKNOWN),
        ("'to' parameter is not a valid address. please check documentation", FailureKind.ADDRESS_UNKNOWN),
        ("from parameter is not a valid address. please check documentation", FailureKind.ACCOUNT),
        ("'from' parameter is not a valid address. please check documentation", FailureKind.ACCOUNT),
        ("Need at least one of 'text', 'html' or 'template' parameters specified", FailureKind.CONTENT),
    ],
)
def test_a_bad_request_is_told_by_the_parameter_it_names(message: str, kind: FailureKind) -> None:
    assert answer(400, {"message": message}) == Refused(Failure(kind, reason=message))


def test_a_limited_domain_is_tried_again() -> None:
    message = "Domain mg.practice.example is not allowed to send: recipient limit exceeded, try again after Sun, 1 Mar"
    assert answer(403, {"message": message}) == TryAgain(Failure(FailureKind.ACCOUNT, reason=message))


@pytest.mark.parametrize("status", [302, 408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert isinstance(answer(status, {"message": "to parameter is missing"}), TryAgain)


def test_a_rate_limit_is_waited_for_as_asked() -> None:
    said = answer(429, {"message": "Too many requests"}, retry_after="30")
    assert said == TryAgain(Failure(FailureKind.ACCOUNT, reason="Too many requests"), timedelta(seconds=30))


def test_the_key_is_checked_by_the_domain_it_sends_for() -> None:
    assert isinstance(MAILGUN, Checkable)
    request = MAILGUN.check_request({**CREDENTIALS, "region": "eu"})
    assert (request.method, request.url) == ("GET", "https://api.eu.mailgun.net/v4/domains/mg.practice.example")
    assert request.headers["authorization"] == "Basic YXBpOmtleQ=="


@pytest.mark.parametrize(
    ("status", "body", "ok", "words"),
    [
        (200, {"domain": {"state": "active"}}, True, "takes the key"),
        (200, {"domain": {"state": "unverified"}}, False, "isn't active"),
        (200, {"domain": {"state": "disabled"}}, False, "isn't active"),
        (401, "Forbidden", None, "sending key"),
        (403, "Forbidden", None, "sending key"),
        (404, {"message": "Domain not found"}, False, "region"),
        (429, None, None, "HTTP 429"),
        (500, None, None, "HTTP 500"),
    ],
)
def test_what_a_check_says_of_key_domain_and_region(status: int, body: object, ok: bool | None, words: str) -> None:
    said = check(status, body)
    assert said.ok is ok
    assert words in said.text
