"""What asking an ESP to send has in common: credentials, requests in JSON, and answers that ask to wait."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import orjson
from email_validator import EmailNotValidError, validate_email

from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind
from mail.message import Address
from mail.providers.base import CredentialField, CredentialsCheck, HttpRequest, HttpResponse, NotTold

BASE_URL = "base_url"
"""The credential that replaces the ESP's own host: another region, or a sandbox."""

_TOKEN = re.compile(r"[!-~]{1,4000}", re.ASCII)  # AWS's session tokens are the longest
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LONGEST_WAIT = timedelta(days=1)
_EARLIEST_EPOCH = 1_000_000_000  # a smaller "reset" is a number of seconds to wait


STATUSES: Mapping[int, FailureKind] = {
    400: FailureKind.CONTENT,
    401: FailureKind.ACCOUNT,
    402: FailureKind.ACCOUNT,
    403: FailureKind.ACCOUNT,
    404: FailureKind.ACCOUNT,
    405: FailureKind.ACCOUNT,
    408: FailureKind.UNREACHABLE,
    413: FailureKind.TOO_LARGE,
    415: FailureKind.CONTENT,
    422: FailureKind.CONTENT,
    429: FailureKind.ACCOUNT,
}
"""What a refusal says by its status alone (RFC 9110 section 15.5, RFC 6585 section 4), where a vendor's own words say
no more. To us 404 and 405 mean an account that points at the wrong place."""


def check_credentials(fields: Sequence[CredentialField], credentials: Mapping[str, str]) -> None:
    """Raises `CredentialsIncomplete` unless all that is required is there and can stand in a header or URL."""
    for field in fields:
        value = credentials.get(field.name, "")
        if not value:
            if field.required:
                raise CredentialsIncomplete(field.name, f"Enter the {field.label}.")
            continue
        if not _TOKEN.fullmatch(value):
            raise CredentialsIncomplete(
                field.name, f"The {field.label} holds ASCII characters without spaces; copy it whole, and alone."
            )
        if field.choices and value not in field.choices:
            raise CredentialsIncomplete(field.name, f"The {field.label} is one of {', '.join(field.choices)}.")
        if field.name == BASE_URL:
            _check_base_url(value)


def _check_base_url(url: str) -> None:
    """HTTPS, for the key goes with every request; plain HTTP to this machine alone."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise CredentialsIncomplete(BASE_URL, "Enter a URL such as https://api.example.com.") from error
    if not host or "@" in parts.netloc or parts.query or parts.fragment:
        raise CredentialsIncomplete(BASE_URL, "Enter scheme and host alone, such as https://api.example.com.")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise CredentialsIncomplete(BASE_URL, "Use https:// (http:// is for a sandbox on this machine).")


def json_post(url: str, headers: Mapping[str, str], payload: Mapping[str, object]) -> HttpRequest:
    """A POST of JSON that asks for JSON."""
    body = orjson.dumps(payload)
    return HttpRequest("POST", url, {"accept": "application/json", "content-type": "application/json", **headers}, body)


def get(url: str, headers: Mapping[str, str]) -> HttpRequest:
    """A GET that asks for JSON."""
    return HttpRequest("GET", url, {"accept": "application/json", **headers}, b"")


def base_url(credentials: Mapping[str, str], default: str) -> str:
    """The ESP's host, or what stands in for it; without a slash at its end."""
    return (credentials.get(BASE_URL) or default).rstrip("/")


def read_check(label: str, response: HttpResponse) -> CredentialsCheck:
    """What the answer to a request that needs the key says of the key (RFC 9110 sections 15.5.2 and 15.5.4)."""
    if 200 <= response.status < 300:
        return CredentialsCheck(True, f"{label} takes the key.")
    if response.status in {401, 403}:
        return CredentialsCheck(
            False, f"{label} refuses the key (HTTP {response.status}); make a new one and enter it."
        )
    return CredentialsCheck(None, f"{label} answered HTTP {response.status}, which says nothing of the key.")


def not_told(response: HttpResponse) -> NotTold:
    """An answer to `ask_request` that tells nothing, by its status alone."""
    kind = FailureKind.ACCOUNT if response.status in {401, 403, 429} else FailureKind.OTHER
    return NotTold(Failure(kind, reason=f"HTTP {response.status}"), wait(response.headers))


def bearer(token: str) -> dict[str, str]:
    """RFC 6750 section 2.1."""
    return {"authorization": f"Bearer {token}"}


def name_and_email(address: Address) -> dict[str, str]:
    """A mailbox as most vendors' JSON has it; a name that is empty is left out."""
    return {"email": address.email, "name": address.name} if address.name else {"email": address.email}


def mailbox(address: Address) -> str:
    """A mailbox as text (RFC 5322 section 3.4), its name always a quoted string: a bare comma would end it."""
    if not address.name:
        return address.email
    name = address.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{address.email}>'


def with_ascii_domain(address: Address) -> Address:
    """The address with its domain in ASCII (RFC 5891), for ESPs that don't speak SMTPUTF8; its local part stays."""
    if address.domain.isascii():
        return address
    try:
        valid = validate_email(address.email, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return address
    return Address(f"{valid.local_part}@{valid.ascii_domain}", address.name)


def passes(status: int) -> bool:
    """Whether an answer may be another one later: it is no refusal (below 400), or a refusal for the moment."""
    return status < 400 or for_now(status)


def for_now(status: int) -> bool:
    """Whether an answer is a refusal for the moment, whatever its body says (RFC 9110 section 15, RFC 6585)."""
    return status >= 500 or status in {408, 425, 429}


def wait(headers: Mapping[str, str]) -> timedelta | None:
    """How long an answer asks us to wait, at most a day: Retry-After (RFC 9110 section 10.2.3), else
    X-RateLimit-Reset. A point in time is measured from the answer's own Date, there being no clock here."""
    answered = _http_date(headers.get("date", ""))
    asked = headers.get("retry-after", "").strip()
    reset = headers.get("x-ratelimit-reset", "").strip()
    if (seconds := _number(asked)) is not None:
        return _bounded(timedelta(seconds=seconds))
    if answered and (until := _http_date(asked)):
        return _bounded(until - answered)
    if (seconds := _number(reset)) is None:
        return None
    if seconds < _EARLIEST_EPOCH:
        return _bounded(timedelta(seconds=seconds))
    return _bounded(datetime.fromtimestamp(seconds, UTC) - answered) if answered else None


def answered_at(headers: Mapping[str, str]) -> datetime | None:
    """When an answer was given, by its Date (RFC 9110 section 6.6.1)."""
    date = _http_date(headers.get("date", ""))
    try:
        return date.astimezone(UTC) if date else None
    except OverflowError:
        return None


def _bounded(asked: timedelta) -> timedelta:
    return min(max(asked, timedelta()), _LONGEST_WAIT)


def _number(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 11 else None


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
