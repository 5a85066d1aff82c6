"""What SNS does: wraps messages in envelopes and signs them, with keys made for this run."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

NOTIFICATION: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
SUBSCRIPTION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def canonical(envelope: Mapping[str, Any]) -> bytes:
    """ "Verifying the signatures of Amazon SNS messages": the string to sign, with a line end after the last value."""
    names = NOTIFICATION if envelope["Type"] == "Notification" else SUBSCRIPTION
    return "".join(f"{name}\n{envelope[name]}\n" for name in names if name in envelope).encode()


def sign(envelope: Mapping[str, Any], key: RSAPrivateKey, version: str) -> str:
    algorithm = {"1": SHA1, "2": SHA256}[version]()
    return base64.b64encode(key.sign(canonical(envelope), PKCS1v15(), algorithm)).decode()


@cache
def key(name: str) -> RSAPrivateKey:
    """A key pair of this run; a name may end in its number of bits."""
    bits = name.rpartition(" ")[2]
    return generate_private_key(65537, int(bits) if bits.isdigit() else 2048)


@cache
def certificate(name: str, issuer: str | None = None, *, authority: bool = False) -> bytes:
    """A certificate of the key of that name, by the key of its issuer or by itself, in PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key(name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    return builder.sign(key(issuer or name), SHA256()).public_bytes(Encoding.PEM)


def fingerprint(pem: bytes) -> str:
    return x509.load_pem_x509_certificate(pem).fingerprint(SHA256()).hex()


def opened(body: bytes) -> Any:
    """An envelope with the JSON in its message as a value."""
    envelope = json.loads(body)
    try:
        return {**envelope, "Message": json.loads(envelope["Message"])}
    except (ValueError, TypeError, KeyError):
        return envelope


def closed(envelope: Any) -> bytes:
    """The reverse of `opened`."""
    if isinstance(envelope, dict) and isinstance(envelope.get("Message"), dict):
        envelope = {**envelope, "Message": json.dumps(envelope["Message"])}
    return json.dumps(envelope).encode()
