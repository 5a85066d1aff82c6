"""Postal: the signature of its webhook, and the forms of the key."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from mail.errors import CredentialsIncomplete, WebhookRejected
from mail.providers.base import WebhookRequest
from mail.providers.postal import Postal
from tests.support.providers.postal import jwk, sign_postal, signing_key
from tests.support.providers.sample import URL, payloads

POSTAL = Postal()
SHA256 = "x-postal-signature-256"
SHA1 = "x-postal-signature"
BODY = payloads("postal")["message_sent"]
SECRET, OTHER = signing_key(), signing_key()


def verify(headers: dict[str, str], *secrets: str, body: bytes = BODY) -> None:
    POSTAL.verify_webhook(WebhookRequest("POST", URL, headers, body), secrets)


def test_a_signature_holds_through_a_rotation_of_keys() -> None:
    for secret in (SECRET, OTHER):
        verify(dict(sign_postal(BODY, secret)), OTHER, "rubbish", SECRET)


def test_an_older_postals_signature_over_sha_1_holds_alone() -> None:
    verify({SHA1: sign_postal(BODY, SECRET)[SHA1]}, SECRET)


def test_the_older_signature_doesnt_save_a_wrong_newer_one() -> None:
    signed = dict(sign_postal(BODY, SECRET))
    with pytest.raises(WebhookRejected):
        verify({**signed, SHA256: sign_postal(BODY, OTHER)[SHA256]}, SECRET)
    with pytest.raises(WebhookRejected):
        verify({SHA256: signed[SHA1]}, SECRET)


@pytest.mark.parametrize("body", [BODY[:-1], BODY + b" ", BODY.replace(b"Sent", b"sent"), b""])
def test_another_body_is_rejected(body: bytes) -> None:
    with pytest.raises(WebhookRejected):
        verify(dict(sign_postal(BODY, SECRET)), SECRET, body=body)


@pytest.mark.parametrize("value", ["", "é", "%%%", "A" * 100_000, "TUVFQ0lRPT0=", "\x00"])
def test_a_missing_or_malformed_header_is_rejected(value: str) -> None:
    for headers in ({}, {SHA1: value}, {SHA256: value}):
        with pytest.raises(WebhookRejected):
            verify(headers, SECRET)


def pem(secret: str) -> str:
    key = load_der_public_key(base64.b64decode(secret))
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        SECRET[:64] + "\r\n" + SECRET[64:],
        f"v=DKIM1; t=s; h=sha256; p={SECRET};",
        f"postal._domainkey.rp.example.com IN TXT; p={SECRET}",
        pem(SECRET),
        json.dumps({"keys": [jwk(SECRET)]}),
        json.dumps({"keys": [{"kty": "EC"}, jwk(OTHER), jwk(SECRET)]}, indent=2),
        json.dumps(jwk(SECRET)),
    ],
)
def test_a_key_is_taken_in_every_form_in_which_postal_shows_it(written: str) -> None:
    POSTAL.check_webhook_secret(written)
    verify(dict(sign_postal(BODY, SECRET)), written)


def test_the_1024_bits_of_older_installations_are_taken() -> None:
    old = signing_key(1024)
    POSTAL.check_webhook_secret(old)
    verify(dict(sign_postal(BODY, old)), old)


def ec_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


@pytest.mark.parametrize(
    "wrong",
    [
        ec_key(),
        SECRET[:-8],
        "p=",
        "{}",
        "{",
        '{"keys": []}',
        '{"keys": 5}',
        '{"keys": [5]}',
        '{"keys": [{"kty": "RSA"}]}',
        '{"kty": "RSA", "n": "AQAB", "e": "AQAB"}',
        '{"kty": "RSA", "n": 5, "e": "AQAB"}',
        "-----BEGIN PUBLIC KEY-----\nrubbish\n-----END PUBLIC KEY-----",
    ],
)
def test_anything_else_is_named_as_no_key_and_opens_nothing(wrong: str) -> None:
    with pytest.raises(CredentialsIncomplete, match="Postal's public key"):
        POSTAL.check_webhook_secret(wrong)
    with pytest.raises(WebhookRejected):
        verify(dict(sign_postal(BODY, SECRET)), wrong)
