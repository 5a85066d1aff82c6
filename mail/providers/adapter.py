"""What adapters have in common, in two kinds: webhooks are signed, or come with a password.

A vendor that does otherwise says so in its own class.
"""

from collections.abc import Mapping, Sequence

from mail.providers import basic_auth, exchange, signatures
from mail.providers.base import CredentialField, WebhookRequest


class Adapter:
    """Credentials are checked field by field; HEAD asks for the webhook's URL, and 503 makes the ESP come again."""

    credential_fields: Sequence[CredentialField]
    kept_headers: Sequence[str] = ()
    unavailable_status: int = 503
    probe_methods: frozenset[str] = frozenset({"HEAD"})

    def check_credentials(self, credentials: Mapping[str, str]) -> None:
        exchange.check_credentials(self.credential_fields, credentials)


class SignedAdapter(Adapter):
    """The ESP hands out the key, and the URL holds no secret."""

    generates_webhook_secret: bool = False

    def check_webhook_secret(self, secret: str) -> None:
        signatures.check_key(secret)

    def webhook_url(self, url: str, secret: str | None) -> str:
        return url


class PasswordAdapter(Adapter):
    """The password is ours to make and stands in the URL. The Authorization header is the secret itself, so it is not
    kept; a stored body needs no second proof."""

    generates_webhook_secret: bool = True

    def check_webhook_secret(self, secret: str) -> None:
        basic_auth.check(secret)

    def webhook_url(self, url: str, secret: str | None) -> str:
        return basic_auth.into_url(url, secret) if secret else url

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        basic_auth.verify(request.headers, secrets)
