"""The practice's own mail servers: what an account must say, and Google's tokens."""

from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind
from mail.providers.base import HttpResponse
from mail.servers import (
    GMAIL_FIELDS,
    SMTP_FIELDS,
    AccessToken,
    OAuthGrant,
    Security,
    SmtpServer,
    read_token,
    smtp_server,
    token_request,
)
from mail.status import AccountKind

GRANT = OAuthGrant("id", "secret & more", "refresh", "https://oauth2.googleapis.com/token")


def missing(kind: AccountKind, **credentials: str) -> str:
    with pytest.raises(CredentialsIncomplete) as caught:
        smtp_server(kind, credentials)
    return caught.value.field


@pytest.mark.parametrize(
    ("credentials", "server"),
    [
        ({"host": "mx.example"}, SmtpServer("mx.example", 587, Security.STARTTLS)),
        ({"host": "mx.example", "security": "tls"}, SmtpServer("mx.example", 465, Security.TLS)),
        ({"host": "mx.example", "security": "none"}, SmtpServer("mx.example", 25, Security.NONE)),
        (
            {"host": "mx.example", "port": "2525", "username": "u", "password": "p", "ca": "PEM"},
            SmtpServer("mx.example", 2525, Security.STARTTLS, "u", "p", ca="PEM"),
        ),
        ({"host": "mx.example", "port": "", "security": ""}, SmtpServer("mx.example", 587, Security.STARTTLS)),
        ({"host": "mx.example", "port": "65535"}, SmtpServer("mx.example", 65535, Security.STARTTLS)),
        ({"host": "mx.example", "port": "00025"}, SmtpServer("mx.example", 25, Security.STARTTLS)),
    ],
)
def test_an_smtp_account_names_its_server(credentials: dict[str, str], server: SmtpServer) -> None:
    assert smtp_server(AccountKind.SMTP, credentials) == server


@pytest.mark.parametrize("port", ["0", "65536", "-1", "25.0", "smtp", " 25", "²", "٢٥", "000001" + "0" * 9, "9" * 5000])
def test_a_port_is_a_number_from_1_to_65535(port: str) -> None:
    assert missing(AccountKind.SMTP, host="mx.example", port=port) == "port"
    assert missing(AccountKind.GMAIL, username="a@gmail.com", app_password="p", port=port) == "port"


def test_what_an_smtp_account_lacks_is_named() -> None:
    assert missing(AccountKind.SMTP) == "host"
    assert missing(AccountKind.SMTP, host="mx.example", security="ssl") == "security"
    assert missing(AccountKind.SMTP, host="mx.example", username="u") == "password"
    assert missing(AccountKind.SMTP, host="mx.example", password="p") == "username"


def test_a_gmail_account_logs_in_with_an_app_password_or_by_oauth() -> None:
    assert smtp_server(AccountKind.GMAIL, {"username": "a@gmail.com", "app_password": "p"}) == SmtpServer(
        "smtp.gmail.com", 587, Security.STARTTLS, "a@gmail.com", "p"
    )
    oauth = {"client_id": "id", "client_secret": "secret & more", "refresh_token": "refresh"}
    assert smtp_server(AccountKind.GMAIL, {"username": "a@gmail.com", **oauth}) == SmtpServer(
        "smtp.gmail.com", 587, Security.STARTTLS, "a@gmail.com", oauth=GRANT
    )
    elsewhere = {"host": "localhost", "port": "2525", "token_url": "http://localhost/token", "ca": "PEM"}
    server = smtp_server(AccountKind.GMAIL, {"username": "a@gmail.com", **oauth, **elsewhere})
    assert (server.host, server.port, server.ca) == ("localhost", 2525, "PEM")
    assert server.oauth is not None
    assert server.oauth.token_url == "http://localhost/token"


def test_what_a_gmail_account_lacks_is_named() -> None:
    assert missing(AccountKind.GMAIL) == "username"
    assert missing(AccountKind.GMAIL, username="a@gmail.com") == "client_id"
    assert missing(AccountKind.GMAIL, username="a@gmail.com", client_id="id") == "client_secret"
    assert missing(AccountKind.GMAIL, username="a@gmail.com", client_id="i", client_secret="s") == "refresh_token"


def test_every_password_and_token_is_a_secret_field() -> None:
    secrets = {field.name for field in (*SMTP_FIELDS, *GMAIL_FIELDS) if field.secret}
    assert secrets == {"password", "app_password", "client_secret", "refresh_token"}


def test_a_token_is_asked_for_by_a_form() -> None:
    request = token_request(GRANT)
    assert (request.method, request.url) == ("POST", "https://oauth2.googleapis.com/token")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(request.body.decode(), strict_parsing=True) == {
        "grant_type": ["refresh_token"],
        "client_id": ["id"],
        "client_secret": ["secret & more"],
        "refresh_token": ["refresh"],
    }


def test_a_token_comes_with_its_lifetime() -> None:
    answer = HttpResponse(200, {}, b'{"access_token":"ya29","expires_in":3599,"scope":"x","token_type":"Bearer"}')
    assert read_token(answer) == AccessToken("ya29", 3599)
    assert read_token(HttpResponse(200, {}, b'{"access_token":"ya29"}')) == AccessToken("ya29", 3600)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"access_token":1}', b"\xff", b"<html>", b"[" * 100_000]
)
def test_an_unreadable_answer_is_a_problem_of_the_account(body: bytes) -> None:
    assert read_token(HttpResponse(200, {}, body)) == Failure(
        FailureKind.ACCOUNT, reason="The token endpoint answered something unreadable."
    )


def test_a_revoked_grant_is_a_problem_of_the_account_and_says_so() -> None:
    answer = HttpResponse(400, {}, b'{"error":"invalid_grant","error_description":"Token has been revoked."}')
    failure = read_token(answer)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.ACCOUNT
    assert failure.reason == (
        'OAuth token refused (400): {"error":"invalid_grant","error_description":"Token has been revoked."}'
    )


@given(st.integers(100, 599), st.binary(max_size=900))
def test_any_answer_is_a_token_or_a_bounded_failure(status: int, body: bytes) -> None:
    answer = read_token(HttpResponse(status, {}, body))
    assert isinstance(answer, AccessToken) or len(answer.reason) <= 1000
