"""The practice's own mail servers: what an SMTP or Gmail account needs, and Google's OAuth 2.0 for the latter.

Sources: RFC 6409 (submission), RFC 8314 (TLS), Google "Using OAuth 2.0 to Access Google APIs" and "XOAUTH2 protocol".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlencode

import msgspec

from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind, failure_from_reply
from mail.providers.base import CredentialField, HttpRequest, HttpResponse
from mail.status import AccountKind


class Security(Enum):
    """How the connection is encrypted."""

    TLS = "tls"
    """From the first byte (RFC 8314 section 3.3), usually port 465."""
    STARTTLS = "starttls"
    """By the STARTTLS command (RFC 3207), usually port 587; refused when the server doesn't offer it."""
    NONE = "none"
    """Not at all: for a server on the same machine."""


@dataclass(frozen=True, slots=True)
class OAuthGrant:
    """What Google exchanges for a short-lived access token."""

    client_id: str
    client_secret: str
    refresh_token: str
    token_url: str


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where and how to hand an email over. With `oauth` the login is XOAUTH2, else AUTH PLAIN or LOGIN, or none
    without a username. `ca` is a PEM certificate to trust besides the system's."""

    host: str
    port: int
    security: Security
    username: str = ""
    password: str = ""
    oauth: OAuthGrant | None = None
    ca: str = ""


SMTP_FIELDS: Final[Sequence[CredentialField]] = (
    CredentialField("host", "Server", secret=False),
    CredentialField("port", "Port", required=False, secret=False),
    CredentialField("security", "Encryption: tls, starttls or none", required=False, secret=False),
    CredentialField("username", "User name", required=False, secret=False),
    CredentialField("password", "Password", required=False),
    CredentialField("ca", "Certificate authority to trust besides the system's, PEM", required=False, secret=False),
)
GMAIL_FIELDS: Final[Sequence[CredentialField]] = (
    CredentialField("username", "Google account", secret=False),
    CredentialField("app_password", "App password (instead of OAuth)", required=False),
    CredentialField("client_id", "OAuth client id", required=False, secret=False),
    CredentialField("client_secret", "OAuth client secret", required=False),
    CredentialField("refresh_token", "OAuth refresh token", required=False),
    CredentialField("host", "Server, if not smtp.gmail.com", required=False, secret=False),
    CredentialField("port", "Port, if not 587", required=False, secret=False),
    CredentialField("token_url", "OAuth token endpoint, if not Google's", required=False, secret=False),
    CredentialField("ca", "Certificate authority to trust besides the system's, PEM", required=False, secret=False),
)

_DEFAULT_PORT: Final = {Security.TLS: 465, Security.STARTTLS: 587, Security.NONE: 25}
_GOOGLE_TOKEN_URL: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address


def smtp_server(kind: AccountKind, credentials: Mapping[str, str]) -> SmtpServer:
    """The server of an SMTP or Gmail account; raises `CredentialsIncomplete`."""
    if kind is AccountKind.GMAIL:
        return _gmail(credentials)
    host = credentials.get("host", "")
    if not host:
        raise CredentialsIncomplete("host", "Name the mail server, for example mail.example.com.")
    try:
        security = Security(credentials.get("security") or "starttls")
    except ValueError as error:
        raise CredentialsIncomplete("security", "Choose tls, starttls or none.") from error
    username, password = credentials.get("username", ""), credentials.get("password", "")
    if bool(username) != bool(password):
        raise CredentialsIncomplete("password" if username else "username", "Give both a user name and a password.")
    return SmtpServer(
        host, _port(credentials, _DEFAULT_PORT[security]), security, username, password, ca=credentials.get("ca", "")
    )


def _gmail(credentials: Mapping[str, str]) -> SmtpServer:
    username = credentials.get("username", "")
    if not username:
        raise CredentialsIncomplete("username", "Name the Google account, for example practice@gmail.com.")
    host, port = credentials.get("host") or "smtp.gmail.com", _port(credentials, 587)
    ca = credentials.get("ca", "")
    if password := credentials.get("app_password", ""):
        return SmtpServer(host, port, Security.STARTTLS, username, password, ca=ca)
    for field in ("client_id", "client_secret", "refresh_token"):
        if not credentials.get(field):
            raise CredentialsIncomplete(
                field, "Give an app password, or all of client id, client secret, refresh token."
            )
    grant = OAuthGrant(
        credentials["client_id"],
        credentials["client_secret"],
        credentials["refresh_token"],
        credentials.get("token_url") or _GOOGLE_TOKEN_URL,
    )
    return SmtpServer(host, port, Security.STARTTLS, username, oauth=grant, ca=ca)


def _port(credentials: Mapping[str, str], default: int) -> int:
    given = credentials.get("port", "")
    if not given:
        return default
    if not (given.isascii() and given.isdigit() and len(given) <= 5 and 0 < int(given) < 65536):
        raise CredentialsIncomplete("port", "A port is a number from 1 to 65535.")
    return int(given)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token for XOAUTH2, good for `seconds` from when it was given."""

    value: str
    seconds: int


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: int = 3600


def token_request(grant: OAuthGrant) -> HttpRequest:
    """The refresh of an access token (RFC 6749 section 6)."""
    form = {
        "grant_type": "refresh_token",
        "client_id": grant.client_id,
        "client_secret": grant.client_secret,
        "refresh_token": grant.refresh_token,
    }
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    return HttpRequest("POST", grant.token_url, headers, urlencode(form).encode())


def read_token(response: HttpResponse) -> AccessToken | Failure:
    """The token, or why there is none. An expired or revoked grant answers 400 (RFC 6749 section 5.2)."""
    if response.status == 200:
        try:
            answer = msgspec.json.decode(response.body, type=_TokenAnswer)
        except msgspec.DecodeError:
            return Failure(FailureKind.ACCOUNT, reason="The token endpoint answered something unreadable.")
        return AccessToken(answer.access_token, answer.expires_in)
    text = response.body[:500].decode("utf-8", "replace")
    return failure_from_reply(f"OAuth token refused ({response.status}): {text}", kind=FailureKind.ACCOUNT)
