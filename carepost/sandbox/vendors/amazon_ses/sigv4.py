"""Signature Version 4: whether a request was signed with the sandbox's secret.

Source: AWS, "Create a signed AWS API request" (IAM user guide). Written from it and from no SDK, so that whoever
signs by one is checked by somebody else.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, quote

ACCESS_KEY_ID: Final = "AKIASANDBOX000000000"
SECRET_ACCESS_KEY: Final = "sandbox/secret/access/key/of/nobody/0000"  # noqa: S105 - takes mail nowhere
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} +Credential=(?P<credential>[^, ]+), *SignedHeaders=(?P<headers>[^, ]+), *"
    r"Signature=(?P<signature>\w+)"
)
_CLOCK_SKEW = 300.0  # seconds


class NotSigned(Exception):
    """A request isn't signed rightly; `code` is AWS's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed: `path` as on the wire, `query` without the question mark, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


def verify(request: Signed, service: str) -> str:
    """The region that the request is for; raises `NotSigned`."""
    given = request.headers.get("authorization", "")
    if not given:
        raise NotSigned("MissingAuthenticationTokenException", "Missing Authentication Token")
    parts = _AUTHORIZATION.fullmatch(given)
    date = request.headers.get("x-amz-date", "")
    if not parts or len(scope := parts["credential"].split("/")) != 5 or not re.fullmatch(r"\d{8}T\d{6}Z", date):
        raise NotSigned(
            "IncompleteSignatureException",
            "Authorization header requires Credential, SignedHeaders, Signature, and a date in X-Amz-Date.",
        )
    key_id, day, region, scoped_service, end = scope
    names = parts["headers"].split(";")
    if key_id != ACCESS_KEY_ID:
        raise NotSigned("UnrecognizedClientException", "The security token included in the request is invalid.")
    if scoped_service != service or end != "aws4_request" or day != date[:8]:
        raise NotSigned("SignatureDoesNotMatch", f"Credential should be scoped to correct service: '{service}'.")
    if unsigned := {"host", *(name for name in request.headers if name.startswith("x-amz-"))} - set(names):
        raise NotSigned("SignatureDoesNotMatch", f"'{min(unsigned)}' must be a 'SignedHeader'.")
    signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    if abs(time.time() - signed_at) > _CLOCK_SKEW:
        raise NotSigned("SignatureDoesNotMatch", f"Signature expired: {date} is too far from now.")
    if request.headers.get("x-amz-content-sha256") not in {None, hashlib.sha256(request.body).hexdigest()}:
        raise NotSigned("SignatureDoesNotMatch", "The x-amz-content-sha256 is not that of the body.")
    if not hmac.compare_digest(parts["signature"], signature(request, names, date, region, service)):
        raise NotSigned(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method.",
        )
    return region


def authorization(request: Signed, region: str, service: str) -> Mapping[str, str]:
    """The headers that sign a request made now: for those who set the sandbox up."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    dated = Signed(request.method, request.path, request.query, {**request.headers, "x-amz-date": date}, request.body)
    names = sorted(dated.headers)
    scope = f"{ACCESS_KEY_ID}/{date[:8]}/{region}/{service}/aws4_request"
    value = signature(dated, names, date, region, service)
    return {
        "x-amz-date": date,
        "authorization": f"{_ALGORITHM} Credential={scope}, SignedHeaders={';'.join(names)}, Signature={value}",
    }


def signature(request: Signed, names: Sequence[str], date: str, region: str, service: str) -> str:
    """The signature over these headers, in hexadecimal."""
    # Every service but S3 has the path encoded once more than it stands on the wire.
    path = quote(request.path, safe="/-_.~") or "/"
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(request.query, keep_blank_values=True)
    )
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in names)
    canonical = "\n".join(
        (
            request.method,
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((_ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{SECRET_ACCESS_KEY}".encode()
    for part in (date[:8], region, service, "aws4_request", to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()
