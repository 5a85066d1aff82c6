"""Webhook signatures: with a public key (ECDSA), and with a shared one (HMAC, RFC 2104)."""

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from mail.errors import CredentialsIncomplete, WebhookRejected

_LONGEST: Final = 1024
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+", re.ASCII)
_KEY: Final = re.compile(r"[!-~]{8,500}", re.ASCII)


def decode(signature: str) -> bytes:
    """A signature from its header, in base64; raises `WebhookRejected`."""
    if not signature:
        raise WebhookRejected("the signature is missing")
    if len(signature) > _LONGEST:
        raise WebhookRejected("the signature is malformed")
    try:
        return base64.b64decode(signature.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WebhookRejected("the signature is malformed") from error


def decode_hex(signature: str) -> bytes:
    """A signature from its header, in hexadecimal; raises `WebhookRejected`."""
    if not signature:
        raise WebhookRejected("the signature is missing")
    if len(signature) > _LONGEST or not _HEX.fullmatch(signature.strip()):
        raise WebhookRejected("the signature is malformed")
    return bytes.fromhex(signature.strip())


def check_key(secret: str) -> None:
    """Raises `CredentialsIncomplete` unless a shared key is 8 to 500 ASCII characters without spaces."""
    if not _KEY.fullmatch(secret):
        raise CredentialsIncomplete("webhook_secret", "Copy the signing key whole, and alone.")


def mac_matches(keys: Sequence[bytes], signed: bytes, mac: bytes, algorithm: str = "sha256") -> bool:
    """Whether `mac` is the HMAC of `signed` under one of the keys; all are tried, each in constant time."""
    matches = [hmac.compare_digest(hmac.digest(key, signed, algorithm), mac) for key in keys]
    return any(matches)


@lru_cache(maxsize=1024)
def p256_key(secret: str) -> EllipticCurvePublicKey:
    """An ECDSA key on P-256 as base64 of its DER (SubjectPublicKeyInfo, RFC 5480) or as PEM; raises
    `CredentialsIncomplete`."""
    try:
        if "-----BEGIN" in secret:
            key = load_pem_public_key(secret.encode())
        else:
            key = load_der_public_key(base64.b64decode("".join(secret.split()), validate=True))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CredentialsIncomplete("webhook_secret", "Copy the verification key whole (MFkw...).") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise CredentialsIncomplete("webhook_secret", "The verification key is an ECDSA key on P-256 (MFkw...).")
    return key


def signed_by(secret: str, signature: bytes, signed: bytes) -> bool:
    """Whether a signature (DER) over SHA-256 is by the key in `secret`; a malformed key signs nothing."""
    try:
        p256_key(secret).verify(signature, signed, ECDSA(SHA256()))
    except (InvalidSignature, CredentialsIncomplete):
        return False
    return True
