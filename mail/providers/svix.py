"""Svix's signature of a webhook (docs.svix.com, "Verifying payloads"): what Standard Webhooks specifies, under the
header names that came before it."""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from mail.errors import CredentialsIncomplete, WebhookRejected

ID: Final = "svix-id"
TIMESTAMP: Final = "svix-timestamp"
SIGNATURE: Final = "svix-signature"
HEADERS: Final = (ID, TIMESTAMP, SIGNATURE)

_LONGEST: Final = 2048  # room for a signature by each secret of a rotation
_SECRET: Final = re.compile(r"whsec_[A-Za-z0-9+/]{16,200}={0,2}", re.ASCII)
_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)


def check_secret(secret: str) -> None:
    """Raises `CredentialsIncomplete` unless a secret is `whsec_` and base64."""
    if not _SECRET.fullmatch(secret) or _webhook(secret) is None:
        raise CredentialsIncomplete("webhook_secret", "Copy the webhook's signing secret whole (whsec_...).")


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str]) -> None:
    """Raises `WebhookRejected` unless one of the secrets signed id, timestamp and raw body.

    Of the library this uses `sign` alone: its `verify` refuses what is older than five minutes, and retries come for
    27 hours, replays at any time. The event's id makes both harmless.
    """
    identity, timestamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not (identity and identity.isascii() and len(identity) <= _LONGEST):
        raise WebhookRejected("the id is missing or malformed")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 11):
        raise WebhookRejected("the timestamp is missing or malformed")
    given = _signatures(headers.get(SIGNATURE, ""))
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise WebhookRejected("the body is not UTF-8") from error
    sent = datetime.fromtimestamp(int(timestamp), UTC)
    webhooks = [webhook for secret in secrets if (webhook := _webhook(secret))]
    expected = [base64.b64decode(each.sign(identity, sent, text).partition(",")[2]) for each in webhooks]
    matches = [hmac.compare_digest(mac, each) for mac in expected for each in given]
    if not any(matches):
        raise WebhookRejected("the signature is wrong")


def event_id(headers: Mapping[str, str]) -> str | None:
    """The id of an event: the same at every attempt and replay, and for every webhook that gets the event."""
    identity = headers.get(ID, "")
    return identity if _EVENT_ID.fullmatch(identity) else None


def _webhook(secret: str) -> Webhook | None:
    """None for a malformed secret, which signs nothing."""
    try:
        return Webhook(secret)
    except (binascii.Error, ValueError, EmptyWebhookSecretError):
        return None


def _signatures(header: str) -> list[bytes]:
    """The signatures of version 1 in a header, which has one for each secret in use."""
    if not header or len(header) > _LONGEST:
        raise WebhookRejected("the signature is missing or malformed")
    encoded = [value for version, _, value in (part.partition(",") for part in header.split()) if version == "v1"]
    try:
        return [base64.b64decode(value, validate=True) for value in encoded]
    except (binascii.Error, ValueError) as error:
        raise WebhookRejected("the signature is malformed") from error
