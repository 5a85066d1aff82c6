"""HTTP basic authentication (RFC 7617) of webhooks: the password stands in the URL that is entered at the ESP."""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit, urlunsplit

from mail.errors import CredentialsIncomplete, WebhookRejected

_SECRET = re.compile(r"[!-9;-~]{1,200}:[!-~]{1,200}", re.ASCII)
_LONGEST_HEADER = 1024


def check(secret: str) -> None:
    """Raises `CredentialsIncomplete` unless a secret is `user:password` in ASCII without spaces.

    RFC 7617 leaves the encoding of anything else to the client.
    """
    if not _SECRET.fullmatch(secret):
        raise CredentialsIncomplete(
            "webhook_secret", "Write user:password in ASCII without spaces, such as carepost:8Zk2vQzT."
        )


def into_url(url: str, secret: str) -> str:
    """The URL with `user:password` before its host, percent-encoded."""
    user, _, password = secret.partition(":")
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"))


def verify(headers: Mapping[str, str], secrets: Sequence[str]) -> None:
    """Raises `WebhookRejected` unless the Authorization header carries one of the secrets.

    All secrets are compared, in constant time, on bytes: text would raise for a header that isn't ASCII.
    """
    scheme, _, encoded = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "basic" or len(encoded) > _LONGEST_HEADER:
        raise WebhookRejected("no basic authentication")
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WebhookRejected("the basic authentication is malformed") from error
    matches = [hmac.compare_digest(given, secret.encode("utf-8", "surrogatepass")) for secret in secrets]
    if not any(matches):
        raise WebhookRejected("the user or password is wrong")
