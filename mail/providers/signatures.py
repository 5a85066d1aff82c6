"""Webhook signatures that are checked with a public key."""

import base64
import binascii
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from mail.errors import CredentialsIncomplete, WebhookRejected

_LONGEST: Final = 1024


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
