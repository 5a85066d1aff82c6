"""The certificate with which SNS signs: an RSA key of the sandbox's own, made when the first topic is.

Source: AWS, Amazon SNS developer guide, "Verifying the signatures of Amazon SNS messages".
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

# The fields that are signed, in their order; Subject only where there is one.
_SIGNED: Mapping[str, Sequence[str]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_HASHES: Mapping[str, type[hashes.SHA1] | type[hashes.SHA256]] = {"1": hashes.SHA1, "2": hashes.SHA256}


class Notary:
    """Signs messages."""

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @cached_property
    def pem(self) -> bytes:
        """The certificate."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("sns.amazonaws.com")]), critical=False)
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    @cached_property
    def file_name(self) -> str:
        """Under this name it is served; another certificate has another one."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.pem)
        return f"SimpleNotificationService-{digest.finalize().hex()[:32]}.pem"

    def sign(self, message: Mapping[str, str], version: str) -> str:
        """The Signature of a message: each field's name and value, a line each."""
        names = (name for name in _SIGNED[message["Type"]] if name in message)
        text = "".join(f"{name}\n{message[name]}\n" for name in names)
        return base64.b64encode(self._key.sign(text.encode(), padding.PKCS1v15(), _HASHES[version]())).decode()
