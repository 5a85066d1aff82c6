"""Signatures of the Signed Event Webhook: ECDSA over P-256 with SHA-256, of the timestamp and the raw body.

Source: Twilio, "Getting Started with the Event Webhook Security Features".
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIGNATURE_HEADER = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"


class SigningKey:
    """The key pair of one webhook."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> "SigningKey":
        """A new key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: str) -> "SigningKey":
        """A key as `pem` wrote it; raises ValueError or TypeError when it is anything else."""
        key = serialization.load_pem_private_key(pem.encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the sandbox signs with an EC key (P-256)")
        return cls(key)

    @property
    def pem(self) -> str:
        """The private key, PKCS #8."""
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    @property
    def public_key(self) -> str:
        """The public key as SendGrid shows it: base64 of the DER, without PEM's first and last line."""
        der = self._private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return base64.b64encode(der).decode()

    def sign(self, timestamp: str, body: bytes) -> str:
        """The signature header's value: base64 of the DER signature."""
        return base64.b64encode(self._private.sign(timestamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()


def load_keys(path: Path | None, api_keys: Iterable[str]) -> Mapping[str, SigningKey]:
    """A signing key for each API key: from the file where it has one, else new and written there (mode 600).

    The file names API keys by their digest. Without a path, keys last as long as the process.
    """
    known: dict[str, str] = json.loads(path.read_text()) if path and path.exists() else {}
    keys: dict[str, SigningKey] = {}
    for api_key in api_keys:
        digest = hashlib.sha256(api_key.encode()).hexdigest()
        keys[api_key] = SigningKey.from_pem(known[digest]) if digest in known else SigningKey.generate()
        known[digest] = keys[api_key].pem
    if path:
        _write_private(path, json.dumps(known, indent=2))
    return keys


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
