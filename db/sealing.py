"""What is secret at rest is sealed: AES-256-GCM (NIST SP 800-38D), bound to the row it belongs to.

Layout of sealed bytes: version (1) | key id (4) | nonce (12) | ciphertext and tag. The key id tells which of
several keys opens it, so that keys rotate without a stop: the first seals, all open.
"""

import os
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from db.errors import SealBroken

_VERSION: Final = b"\x01"
_KEY_ID_LENGTH: Final = 4
_NONCE_LENGTH: Final = 12


class Sealer:
    """Seals and opens bytes with keys derived from `secret_keys` (HKDF, RFC 5869).

    The secrets must be high-entropy (as from `openssl rand -base64 32`); the first one seals.
    """

    def __init__(self, secret_keys: Sequence[str]) -> None:
        if not secret_keys:
            raise ValueError("at least one secret key is needed")
        self._keys: dict[bytes, AESGCM] = {}
        for secret in secret_keys:
            material = HKDF(SHA256(), 32 + _KEY_ID_LENGTH, salt=None, info=b"carepost sealing v1").derive(
                secret.encode()
            )
            self._keys.setdefault(material[32:], AESGCM(material[:32]))
        self._current = next(iter(self._keys))

    @property
    def current_prefix(self) -> bytes:
        """What begins all that the first key seals: version and key id."""
        return _VERSION + self._current

    @property
    def key_ids(self) -> Sequence[bytes]:
        """What tells the keys apart, in no order that means something; says nothing of the keys."""
        return sorted(self._keys)

    def seal(self, plain: bytes, column: str, practice_id: UUID, row_id: UUID) -> bytes:
        """Sealed bytes that open only for the same column of the same row."""
        nonce = os.urandom(_NONCE_LENGTH)
        sealed = self._keys[self._current].encrypt(nonce, plain, _binding(column, practice_id, row_id))
        return _VERSION + self._current + nonce + sealed

    def open(self, sealed: bytes, column: str, practice_id: UUID, row_id: UUID) -> bytes:
        """What was sealed; raises `SealBroken`."""
        key_id = sealed[1 : 1 + _KEY_ID_LENGTH]
        key = self._keys.get(key_id)
        if sealed[:1] != _VERSION or key is None:
            raise SealBroken(f"{column} was sealed with a key that is not among SECRET_KEY")
        start = 1 + _KEY_ID_LENGTH
        nonce = sealed[start : start + _NONCE_LENGTH]
        try:
            return key.decrypt(nonce, sealed[start + _NONCE_LENGTH :], _binding(column, practice_id, row_id))
        except (InvalidTag, ValueError) as error:  # ValueError: cut off within the nonce
            raise SealBroken(f"{column} does not belong to this row or was tampered with") from error


def _binding(column: str, practice_id: UUID, row_id: UUID) -> bytes:
    return b"\x00".join((column.encode(), practice_id.bytes, row_id.bytes))
