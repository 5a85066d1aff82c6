"""The public key with which a Postal server signs, in the forms in which Postal shows it."""

import base64
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from mail.errors import CredentialsIncomplete

_SMALLEST: Final = 1024  # bits, which Postal's installer made for years
_RECORD: Final = re.compile(r"(?:^|;)\s*p=([^;]*)")  # RFC 6376 section 3.6.1


@lru_cache(maxsize=1024)
def keys(secret: str) -> tuple[RSAPublicKey, ...]:
    """The RSA keys in a JWK set (RFC 7517), in a DKIM record, in its `p=` alone, or in PEM; raises
    `CredentialsIncomplete`."""
    try:
        found = _jwks(secret) if secret.lstrip().startswith("{") else [_one(secret)]
    except (ValueError, KeyError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        raise CredentialsIncomplete("webhook_secret", "Copy Postal's public key whole (MIGf... or MIIB...).") from error
    rsa = tuple(key for key in found if isinstance(key, RSAPublicKey) and key.key_size >= _SMALLEST)
    if not rsa:
        raise CredentialsIncomplete("webhook_secret", "Postal's public key is an RSA key of at least 1024 bits.")
    return rsa


def signed_by(secret: str, signature: bytes, signed: bytes, *, legacy: bool) -> bool:
    """Whether a signature (RSASSA-PKCS1-v1_5, RFC 8017) is by a key in `secret`; a malformed key signs nothing.

    `legacy` is over SHA-1, as Postal 2 signs.
    """
    try:
        return any(_fits(key, signature, signed, legacy) for key in keys(secret))
    except CredentialsIncomplete:
        return False


def _fits(key: RSAPublicKey, signature: bytes, signed: bytes, legacy: bool) -> bool:
    try:
        key.verify(signature, signed, PKCS1v15(), SHA1() if legacy else SHA256())  # noqa: S303
    except InvalidSignature:
        return False
    return True


def _one(secret: str) -> object:
    if "-----BEGIN" in secret:
        return load_pem_public_key(secret.encode())
    record = _RECORD.search(secret)
    return load_der_public_key(base64.b64decode("".join((record[1] if record else secret).split()), validate=True))


def _jwks(secret: str) -> list[RSAPublicKey]:
    value = orjson.loads(secret)
    return [_from_jwk(key) for key in value.get("keys", [value]) if key.get("kty") == "RSA"]


def _from_jwk(key: Mapping[str, str]) -> RSAPublicKey:
    """RFC 7518 section 6.3.1."""
    modulus, exponent = (
        int.from_bytes(base64.urlsafe_b64decode(key[part] + "=" * (-len(key[part]) % 4)), "big") for part in ("n", "e")
    )
    return RSAPublicNumbers(exponent, modulus).public_key()
