"""The addresses at which ESPs reach us: `/webhooks/{provider}/{account}`.

The account's part names practice and account in 43 characters, so that a webhook finds its tenant without a look-up
that sees across tenants. It is no secret; the signature is.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from uuid import UUID

from mail.ids import AccountId, PracticeId


def account_token(practice_id: PracticeId, account_id: AccountId) -> str:
    return urlsafe_b64encode(practice_id.bytes + account_id.bytes).rstrip(b"=").decode()


def read_account_token(token: str) -> tuple[PracticeId, AccountId] | None:
    """Practice and account of a token; None when it is none."""
    if len(token) != 43 or not token.isascii():
        return None
    try:
        raw = urlsafe_b64decode(token + "=")
    except (Error, ValueError):
        return None
    return PracticeId(UUID(bytes=raw[:16])), AccountId(UUID(bytes=raw[16:]))


def webhook_url(public_url: str, provider: str, practice_id: PracticeId, account_id: AccountId) -> str:
    return f"{public_url.rstrip('/')}/webhooks/{provider}/{account_token(practice_id, account_id)}"
