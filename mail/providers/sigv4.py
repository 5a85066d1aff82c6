"""AWS Signature Version 4, by botocore's signer, which the extra `ses` installs.

Page: "AWS Signature Version 4 for API requests", at docs.aws.amazon.com/IAM/latest/UserGuide. A signature holds for
five minutes around the time it names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import NamedTuple

from mail.providers.base import HttpRequest


class _Credentials(NamedTuple):
    """What botocore's signer reads of credentials."""

    access_key: str
    secret_key: str
    token: str | None


@dataclass(frozen=True, slots=True)
class SigV4:
    """Signs requests to one service of one region. `session_token` goes with temporary keys."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    region: str
    service: str

    def sign(self, request: HttpRequest, now: datetime) -> Mapping[str, str]:
        # Imported here: who doesn't send through AWS neither waits for it nor needs it.
        from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
        from botocore.awsrequest import AWSRequest

        credentials = _Credentials(self.access_key_id, self.secret_access_key, self.session_token)
        signer = SigV4Auth(credentials, self.service, self.region)
        timestamp = now.astimezone(UTC).strftime(SIGV4_TIMESTAMP)
        added = {"x-amz-date": timestamp}
        if self.session_token:
            added["x-amz-security-token"] = self.session_token
        signed = AWSRequest(request.method, request.url, {**request.headers, **added}, request.body)
        signed.context["timestamp"] = timestamp  # `add_auth` would ask a clock of its own
        signature = signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed)
        names = signer.signed_headers(signer.headers_to_sign(signed))
        authorization = (
            f"AWS4-HMAC-SHA256 Credential={signer.scope(signed)}, SignedHeaders={names}, Signature={signature}"
        )
        return {**added, "authorization": authorization}


def is_installed() -> bool:
    """Whether requests can be signed here."""
    return find_spec("botocore") is not None
