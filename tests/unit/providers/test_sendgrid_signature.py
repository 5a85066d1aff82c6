"""SendGrid: the signature of its webhook."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from mail.errors import CredentialsIncomplete, WebhookRejected
from mail.providers import provider
from mail.providers.base import WebhookRequest
from tests.support.providers.sample import URL, payloads
from tests.support.providers.sendgrid import p256_secret, sign_sendgrid

SENDGRID = provider("sendgrid")
SIGNATURE = "x-twilio-email-event-webhook-signature"
TIMESTAMP = "x-twilio-email-event-webhook-timestamp"
BODY = payloads("sendgrid")["every_event"]


def verify(headers: dict[str, str], *secrets: str, body: bytes = BODY) -> None:
    SENDGRID.verify_webhook(WebhookRequest("POST", URL, headers, body), secrets)


def test_a_signature_holds_through_a_rotation_of_keys_and_at_any_age() -> None:
    old, new = p256_secret(), p256_secret()
    for secret in (old, new):
        for timestamp in ("1", "1588788367", "99999999999"):
            verify(dict(sign_sendgrid(BODY, secret, timestamp)), new, old)


def test_a_key_is_taken_as_pem_and_with_line_ends_too() -> None:
    secret = p256_secret()
    key = load_der_public_key(base64.b64decode(secret))
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for written in (pem, secret[:64] + "\r\n" + secret[64:]):
        SENDGRID.check_webhook_secret(written)
        verify(dict(sign_sendgrid(BODY, secret)), written)


def test_the_timestamp_is_part_of_what_is_signed() -> None:
    secret = p256_secret()
    with pytest.raises(WebhookRejected):
        verify({**sign_sendgrid(BODY, secret), TIMESTAMP: "1588788368"}, secret)


@pytest.mark.parametrize("name", [SIGNATURE, TIMESTAMP])
@pytest.mark.parametrize("value", [None, "", "é", "%%%", "A" * 100_000, "MEUCIQ==", "-1", "\x00"])
def test_a_missing_or_malformed_header_is_rejected(name: str, value: str | None) -> None:
    secret = p256_secret()
    headers = dict(sign_sendgrid(BODY, secret))
    del headers[name]
    if value is not None:
        headers[name] = value
    with pytest.raises(WebhookRejected):
        verify(headers, secret)


def test_only_a_p256_key_is_a_webhook_secret() -> None:
    for private in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(CredentialsIncomplete, match="P-256"):
            SENDGRID.check_webhook_secret(base64.b64encode(der).decode())
    with pytest.raises(CredentialsIncomplete, match="whole"):
        SENDGRID.check_webhook_secret("-----BEGIN PUBLIC KEY-----\nrubbish\n-----END PUBLIC KEY-----")
