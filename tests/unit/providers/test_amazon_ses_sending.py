"""Amazon SES: exact requests and their signature, what each answer means, and what a check of the account says."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind
from mail.message import Address
from mail.mime import render
from mail.providers import provider
from mail.providers.amazon_ses import AmazonSes
from mail.providers.base import Accepted, CredentialsCheck, HttpRequest, HttpResponse, Refused, TryAgain
from mail.providers.sigv4 import SigV4
from tests.support.providers.amazon_ses import raw_email
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN, QUESTION

SES = AmazonSes()
CREDENTIALS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret", "region": "eu-west-1"}
NOW = datetime(2026, 3, 1, 9, 31, 5, tzinfo=UTC)


def answer(status: int, body: object = "", **headers: str) -> Accepted | Refused | TryAgain:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SES.read_answer(HttpResponse(status, named, json.dumps(body).encode()))


def checked(status: int, body: object, **headers: str) -> CredentialsCheck:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SES.read_check(HttpResponse(status, named, json.dumps(body).encode()))


def test_an_email_is_sent_raw_to_one_recipient() -> None:
    request = SES.send_request(EMAIL, {**CREDENTIALS, "configuration_set": "carepost"})
    assert (request.method, request.url) == ("POST", "https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails")
    assert request.headers == {"accept": "application/json", "content-type": "application/json"}
    assert json.loads(request.body) == {
        "Destination": {"ToAddresses": ["ada@patient.example"]},
        "Content": {"Raw": {"Data": base64.b64encode(render(EMAIL)).decode()}},
        "EmailTags": [{"Name": "carepost_message_id", "Value": str(MESSAGE_ID)}],
        "ConfigurationOverrides": {
            "Tracking": {"OpenTrackingEnabled": "ENABLED", "ClickTrackingEnabled": "DISABLED"},
        },
        "ConfigurationSetName": "carepost",
    }
    raw = raw_email(request)
    assert b"Message-ID: <0199f3a27c1e7b6a9d3e5a4b3c2d1e0f@practice.example>\r\n" in raw
    assert b"Auto-Submitted: auto-generated\r\n" in raw
    assert b'Reply-To: "Reception" <reception@practice.example>\r\n' in raw


def test_a_patient_who_does_not_agree_is_not_tracked_and_no_set_is_named_where_there_is_none() -> None:
    payload = json.loads(SES.send_request(PLAIN, CREDENTIALS).body)
    assert payload["ConfigurationOverrides"] == {
        "Tracking": {"OpenTrackingEnabled": "DISABLED", "ClickTrackingEnabled": "DISABLED"}
    }
    assert "ConfigurationSetName" not in payload


def test_domains_go_in_ascii_since_ses_does_not_speak_smtputf8() -> None:
    email = replace(EMAIL, sender=Address("desk@praxis-müller.example"), recipient=Address("ada@bücher.example", "Ada"))
    request = SES.send_request(email, CREDENTIALS)
    assert json.loads(request.body)["Destination"] == {"ToAddresses": ["ada@xn--bcher-kva.example"]}
    raw = raw_email(request)
    assert raw.isascii()
    assert b"From: desk@xn--praxis-mller-klb.example\r\n" in raw
    assert b"Message-ID: <0199f3a27c1e7b6a9d3e5a4b3c2d1e0f@xn--praxis-mller-klb.example>\r\n" in raw


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "email.us-east-1.amazonaws.com"),
        ("ap-southeast-7", "email.ap-southeast-7.amazonaws.com"),
        ("us-gov-west-1", "email.us-gov-west-1.amazonaws.com"),
        ("eusc-de-east-1", "email.eusc-de-east-1.amazonaws.eu"),
        ("cn-northwest-1", "email.cn-northwest-1.amazonaws.com.cn"),
    ],
)
def test_each_region_has_its_host(region: str, host: str) -> None:
    credentials = {**CREDENTIALS, "region": region}
    SES.check_credentials(credentials)
    request = SES.send_request(EMAIL, credentials)
    assert request.url == f"https://{host}/v2/email/outbound-emails"
    assert request.signer == SigV4("AKIDEXAMPLE", "secret", None, region, "ses")


@pytest.mark.parametrize(
    "region", ["", "eu", "EU-west-1", "eu-west-1.evil.example", "eu-west-1/", "eu_west_1", "eu-west-0"]
)
def test_a_region_that_is_none_is_refused(region: str) -> None:
    with pytest.raises(CredentialsIncomplete) as raised:
        SES.check_credentials({**CREDENTIALS, "region": region})
    assert raised.value.field == "region"


@pytest.mark.parametrize("name", ["a.b", "x" * 65, "set/1"])
def test_a_configuration_set_has_a_name_as_aws_allows_it(name: str) -> None:
    SES.check_credentials({**CREDENTIALS, "configuration_set": "Carepost_set-1"})
    with pytest.raises(CredentialsIncomplete) as raised:
        SES.check_credentials({**CREDENTIALS, "configuration_set": name})
    assert raised.value.field == "configuration_set"


def test_a_session_token_may_be_as_long_as_aws_makes_them() -> None:
    SES.check_credentials({**CREDENTIALS, "session_token": "F" * 2000})


def test_a_missing_signer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mail.providers.sigv4.is_installed", lambda: False)
    with pytest.raises(CredentialsIncomplete, match="install Carepost with the extra ses"):
        SES.check_credentials(CREDENTIALS)


def test_the_signature_is_the_one_of_awss_own_test_suite() -> None:
    """ "Signature Version 4 test suite": get-vanilla."""
    signer = SigV4("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, "us-east-1", "service")
    request = HttpRequest("GET", "https://example.amazonaws.com/", {}, b"")
    assert signer.sign(request, datetime(2015, 8, 30, 12, 36, tzinfo=UTC)) == {
        "x-amz-date": "20150830T123600Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, "
        "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    }


def test_the_request_is_the_same_at_every_attempt_and_its_signature_names_the_time() -> None:
    request = SES.send_request(EMAIL, {**CREDENTIALS, "session_token": "token"})
    assert request.signer is not None
    first, later = (request.signer.sign(request, NOW + timedelta(minutes=minutes)) for minutes in (0, 9))
    assert (first["x-amz-date"], later["x-amz-date"]) == ("20260301T093105Z", "20260301T094005Z")
    assert first["authorization"] != later["authorization"]
    assert first == request.signer.sign(request, NOW.astimezone(timezone(timedelta(hours=5))))
    assert first["x-amz-security-token"] == "token"
    assert (
        "Credential=AKIDEXAMPLE/20260301/eu-west-1/ses/aws4_request, "
        "SignedHeaders=accept;content-type;host;x-amz-date;x-amz-security-token, " in first["authorization"]
    )


def test_the_signature_covers_host_path_and_body_and_depends_on_the_key() -> None:
    request = SES.send_request(EMAIL, CREDENTIALS)
    other_key = SES.send_request(EMAIL, {**CREDENTIALS, "secret_access_key": "another"})
    variants = [
        request,
        other_key,
        replace(request, body=request.body + b" "),
        replace(request, url=request.url + "/"),
        replace(request, url=request.url.replace("eu-west-1", "eu-west-2")),
        SES.send_request(EMAIL, {**CREDENTIALS, "base_url": "http://127.0.0.1:8025"}),
    ]
    signed = [each.signer.sign(each, NOW)["authorization"] for each in variants if each.signer]
    assert len(set(signed)) == len(variants)


def test_no_secret_shows_when_a_request_is_written_out() -> None:
    request = SES.send_request(EMAIL, {**CREDENTIALS, "secret_access_key": "S3CR3T", "session_token": "T0K3N"})
    assert "S3CR3T" not in repr(request)
    assert "T0K3N" not in repr(request)


def test_the_documented_answer_is_accepted_under_its_id() -> None:
    assert answer(200, {"MessageId": "0102-000000"}) == Accepted("0102-000000")
    assert answer(200, {}) == TryAgain(Failure(FailureKind.OTHER, reason="HTTP 200"))


@pytest.mark.parametrize(
    ("status", "error", "message", "kind"),
    [
        (400, "MessageRejected", "Email address is not verified. x@y.example", FailureKind.ACCOUNT),
        (400, "MessageRejected", "Bad content", FailureKind.CONTENT),
        (400, "BadRequestException", "Missing final '@domain'", FailureKind.ADDRESS_UNKNOWN),
        (400, "BadRequestException", "Illegal address", FailureKind.ADDRESS_UNKNOWN),
        (400, "BadRequestException", "Local address contains control or whitespace", FailureKind.ADDRESS_UNKNOWN),
        (400, "BadRequestException", "Domain starts with dot", FailureKind.ADDRESS_UNKNOWN),
        (400, "BadRequestException", "Message length exceeds", FailureKind.CONTENT),
        (400, "MailFromDomainNotVerifiedException", "x", FailureKind.ACCOUNT),
        (400, "AccountSuspendedException", "x", FailureKind.ACCOUNT),
        (404, "NotFoundException", "Configuration set <x> does not exist.", FailureKind.ACCOUNT),
        (403, "AccessDeniedException", "User is not authorized to perform ses:SendEmail", FailureKind.ACCOUNT),
        (403, "UnrecognizedClientException", "The security token is invalid.", FailureKind.ACCOUNT),
        (403, "InvalidSignatureException", "The request signature we calculated does not match", FailureKind.ACCOUNT),
        (403, "ExpiredTokenException", "The security token included in the request is expired", FailureKind.ACCOUNT),
        (403, "OfTomorrowException", "x", FailureKind.OTHER),
        (413, "OfTomorrowException", "x", FailureKind.OTHER),
    ],
)
def test_each_error_that_is_a_refusal_for_good(status: int, error: str, message: str, kind: FailureKind) -> None:
    refused = Refused(Failure(kind, reason=f"{error}: {message}"))
    assert answer(status, {"message": message}, x_amzn_errortype=error) == refused
    assert answer(status, {"Message": message}, x_amzn_errortype=f"{error}:http://internal/") == refused
    assert answer(status, {"__type": f"com.amazonaws.ses#{error}", "message": message}) == refused


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (429, "TooManyRequestsException", "Maximum sending rate exceeded."),
        (400, "TooManyRequestsException", "Daily message quota exceeded."),
        (400, "LimitExceededException", "x"),
        (400, "ThrottlingException", "Rate exceeded"),
        (400, "SendingPausedException", "Sending paused for this account."),
        (403, "InvalidSignatureException", "Signature expired: 20260301T090000Z is now earlier than"),
        (403, "InvalidSignatureException", "Signature not yet current: 20260301T100000Z is still later than"),
        (400, "RequestExpired", "x"),
    ],
)
def test_each_error_that_may_pass(status: int, error: str, message: str) -> None:
    again = answer(status, {"message": message}, x_amzn_errortype=error, retry_after="7")
    assert again == TryAgain(Failure(FailureKind.ACCOUNT, reason=f"{error}: {message}"), timedelta(seconds=7))


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_whatever_it_says(status: int) -> None:
    assert isinstance(answer(status, {"message": "x"}, x_amzn_errortype="MessageRejected"), TryAgain)
    assert answer(status) == TryAgain(Failure(FailureKind.OTHER, reason=f"HTTP {status}"))


def test_a_check_asks_for_the_account() -> None:
    request = SES.check_request(CREDENTIALS)
    assert (request.method, request.url) == ("GET", "https://email.eu-west-1.amazonaws.com/v2/email/account")
    assert request.signer == SigV4("AKIDEXAMPLE", "secret", None, "eu-west-1", "ses")


@pytest.mark.parametrize(
    ("changed", "ok", "part"),
    [
        ({}, True, "takes the key."),
        ({"ProductionAccessEnabled": False}, False, "request production access"),
        ({"SendingEnabled": False}, False, "has paused"),
        ({"EnforcementStatus": "SHUTDOWN"}, False, "has paused"),
        ({"EnforcementStatus": "PROBATION"}, True, "under review"),
        ({"VdmAttributes": {"VdmEnabled": "DISABLED"}}, True, "Virtual Deliverability Manager is off"),
    ],
)
def test_the_account_tells_whether_emails_go_out(changed: dict[str, object], ok: bool, part: str) -> None:
    account = {
        "DedicatedIpAutoWarmupEnabled": False,
        "EnforcementStatus": "HEALTHY",
        "ProductionAccessEnabled": True,
        "SendQuota": {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": 12.0},
        "SendingEnabled": True,
        "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
        "VdmAttributes": {"VdmEnabled": "ENABLED"},
    }
    check = checked(200, {**account, **changed})
    assert check.ok is ok
    assert part in check.text


@pytest.mark.parametrize(
    ("status", "error", "ok", "part"),
    [
        (403, "AccessDeniedException", None, "lacks ses:GetAccount"),
        (403, "ExpiredTokenException", False, "session token has expired"),
        (403, "UnrecognizedClientException", False, "refuses the key"),
        (403, "InvalidSignatureException", False, "refuses the key"),
        (429, "TooManyRequestsException", None, "says nothing of the key"),
        (503, "", None, "says nothing of the key"),
    ],
)
def test_a_refused_check_says_what_is_wrong_with_the_key(status: int, error: str, ok: bool | None, part: str) -> None:
    check = checked(status, {"message": "x"}, x_amzn_errortype=error)
    assert check.ok is ok
    assert part in check.text


def test_the_registered_provider_asks_and_checks() -> None:
    assert isinstance(provider("amazon_ses"), AmazonSes)
    asked = SES.ask_request(QUESTION, CREDENTIALS)
    assert asked is not None
    assert asked.url == (
        "https://email.eu-west-1.amazonaws.com/v2/email/insights/0a129aee-e1cd-480d-b08d-4f48548ff48d/"
    )
