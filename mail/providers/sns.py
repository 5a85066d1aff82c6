"""Webhooks by Amazon SNS, and by services that speak its protocol: envelopes, their signatures, subscriptions.

Pages, at docs.aws.amazon.com/sns/latest/dg: "Parsing Amazon SNS message formats", "Verifying the signatures of Amazon
SNS messages"; API Reference "ConfirmSubscription". Everybody's topics are signed with the same certificates, so a
signature says something only of a topic that was allowed before. What an envelope says of URLs is never followed.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final
from urllib.parse import urlencode

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm

from mail.errors import CredentialsIncomplete, WebhookRejected
from mail.providers import reading
from mail.providers.base import HttpRequest, Reading, WebhookRequest

NOTIFICATION: Final = "Notification"
SUBSCRIPTION: Final = "SubscriptionConfirmation"
UNSUBSCRIPTION: Final = "UnsubscribeConfirmation"

_MESSAGE_TYPE: Final = "x-amz-sns-message-type"
_RAW_DELIVERY: Final = "x-amz-sns-rawdelivery"
_ABOUT_SUBSCRIPTION: Final = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")

# "Verifying the signatures": what is signed, in byte order, each name and value a line; Subject where there is one.
_SIGNED: Mapping[str, Sequence[str]] = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    SUBSCRIPTION: _ABOUT_SUBSCRIPTION,
    UNSUBSCRIPTION: _ABOUT_SUBSCRIPTION,
}
# SignatureVersion. SHA-1 is what every topic signs with until its owner asks for better.
_HASHES: Mapping[str, Callable[[], HashAlgorithm]] = {"1": SHA1, "2": SHA256}
# Lines have no escapes, so a line end in any other field would let one field pass for two.
_MANY_LINES: Final = frozenset({"Message"})

_TOKEN: Final = re.compile(r"[!-~]{1,2000}", re.ASCII)
_LONGEST_SIGNATURE: Final = 2048
_SMALLEST_KEY: Final = 2048
_LONGEST_PATH: Final = 4


@dataclass(frozen=True, slots=True)
class Service:
    """Whose SNS it is. `topic` matches its topics' ARNs and names their `region` and `partition`. `certificate` is a
    pattern and `api` a URL; `{region}` and `{domain}` stand for the topic's own, `domains` being by partition.

    Where there are `authorities` (PEM), a certificate has to be issued by one of them, or by the one whose SHA-256
    fingerprint stands after a `#` in the webhook secret. Elsewhere the place where it is found is what vouches for it.
    """

    label: str
    topic: re.Pattern[str]
    example: str
    certificate: str
    api: str
    domains: Mapping[str, str] = field(default_factory=dict)
    authorities: bytes = b""


def check_secret(service: Service, secret: str) -> None:
    """Raises `CredentialsIncomplete` unless a webhook secret is the ARN of a topic."""
    topic, pin = _split(service, secret)
    if not service.topic.fullmatch(topic) or (pin and not re.fullmatch(r"[0-9a-f]{64}", pin)):
        raise CredentialsIncomplete(
            "webhook_secret", f"Copy the ARN of the {service.label} topic whole, such as {service.example}."
        )


def certificate_url(service: Service, request: WebhookRequest, secrets: Sequence[str]) -> str:
    """Where the certificate is, once everything but the signature itself holds; raises `WebhookRejected`."""
    envelope = _envelope(request)
    _allowed(service, envelope, secrets)
    _signature(envelope)
    return _certificate_url(service, envelope)


def verify(service: Service, request: WebhookRequest, secrets: Sequence[str]) -> None:
    """Raises `WebhookRejected` unless an allowed topic sent it. No age limit: retries come for an hour, and the keys
    of events make a replay harmless."""
    envelope = _envelope(request)
    pins = _allowed(service, envelope, secrets)
    signature, algorithm = _signature(envelope)
    _certificate_url(service, envelope)
    chain = _certificates(request.certificate or b"")
    if service.authorities and not any(_is_vouched_for(service, chain, pin) for pin in pins):
        raise WebhookRejected(f"the certificate was not issued by {service.label}")
    key = _public_key(chain[0])
    if not isinstance(key, RSAPublicKey) or key.key_size < _SMALLEST_KEY:
        raise WebhookRejected("the certificate's key is not RSA of 2048 bits or more")
    try:
        key.verify(signature, _signed(envelope), PKCS1v15(), algorithm)
    except (InvalidSignature, UnsupportedAlgorithm) as error:
        raise WebhookRejected("the signature is wrong") from error


def read(service: Service, body: bytes, read_message: Callable[[str, datetime | None], Reading]) -> Reading:
    """What a verified envelope holds; `read_message` reads the message of a notification, given when it was published.

    A subscription is confirmed at the service's own API, with the token alone. That it was ended says nothing.
    """
    envelope = reading.decode_object(body)
    kind = envelope.get("Type")
    if kind == SUBSCRIPTION:
        confirmation = _confirmation(service, envelope)
        return Reading(confirmation=confirmation) if confirmation else reading.not_readable("it has no usable token")
    if kind == UNSUBSCRIPTION:
        return Reading()
    message = envelope.get("Message")
    if kind != NOTIFICATION or not isinstance(message, str):
        return reading.not_readable("the body is no SNS message")
    try:
        published = reading.iso_time(envelope.get("Timestamp"))
    except reading.Malformed:
        published = None
    return read_message(message, published)


def json_message(message: str) -> object:
    """The JSON in a message; raises `reading.Malformed`."""
    return reading.decode(message.encode("utf-8", "surrogatepass"))


def _envelope(request: WebhookRequest) -> Mapping[str, str]:
    """The fields that are signed and what they are checked by, all text; raises `WebhookRejected`."""
    fields = reading.decode_object(request.body)
    kind = fields.get("Type")
    if request.headers.get(_RAW_DELIVERY, "").lower() == "true" or ("Type" not in fields and "mail" in fields):
        raise WebhookRejected("raw message delivery is on, which isn't signed: switch it off at the subscription")
    if not isinstance(kind, str) or kind not in _SIGNED:
        raise WebhookRejected("the body is no SNS message")
    if request.headers.get(_MESSAGE_TYPE, kind) != kind:
        raise WebhookRejected("the header names another type than the body")
    envelope: dict[str, str] = {}
    for name in (*_SIGNED[kind], "SignatureVersion", "Signature", "SigningCertURL"):
        value = fields.get(name)
        if value is None and name == "Subject":
            continue
        if not isinstance(value, str) or (name not in _MANY_LINES and "\n" in value):
            raise WebhookRejected(f"its {name} is missing or malformed")
        envelope[name] = value
    return envelope


def _split(service: Service, secret: str) -> tuple[str, str]:
    topic, mark, pin = secret.partition("#")
    return (topic, pin or mark) if service.authorities else (secret, "")


def _allowed(service: Service, envelope: Mapping[str, str], secrets: Sequence[str]) -> list[str]:
    """The pins, empty ones too, of the secrets that allow the envelope's topic; raises `WebhookRejected`."""
    split = [_split(service, secret) for secret in secrets]
    pins = [pin for topic, pin in split if topic == envelope["TopicArn"] and service.topic.fullmatch(topic)]
    if not pins:
        raise WebhookRejected("it is of a topic that isn't this account's")
    return pins


def _signature(envelope: Mapping[str, str]) -> tuple[bytes, HashAlgorithm]:
    algorithm = _HASHES.get(envelope["SignatureVersion"])
    if algorithm is None:
        raise WebhookRejected("the signature's version is unknown")
    encoded = envelope["Signature"]
    try:
        signature = base64.b64decode(encoded, validate=True) if len(encoded) <= _LONGEST_SIGNATURE else b""
    except (binascii.Error, ValueError):
        signature = b""
    if not signature:
        raise WebhookRejected("the signature is missing or malformed")
    return signature, algorithm()


def _signed(envelope: Mapping[str, str]) -> bytes:
    names = [name for name in _SIGNED[envelope["Type"]] if name in envelope]
    return "".join(f"{name}\n{envelope[name]}\n" for name in names).encode("utf-8", "surrogatepass")


def _certificate_url(service: Service, envelope: Mapping[str, str]) -> str:
    """The URL as it stands, if all of it is as the service writes it: parsers differ, so none is asked."""
    region, domain = _place(service, envelope["TopicArn"])
    pattern = service.certificate.format(region=re.escape(region), domain=re.escape(domain))
    url = envelope["SigningCertURL"]
    if not re.fullmatch(pattern, url, re.ASCII):
        raise WebhookRejected("its certificate is not where the service keeps its own")
    return url


def _place(service: Service, topic: str) -> tuple[str, str]:
    """Region and domain of a topic's ARN that matches; both empty for any other."""
    match = service.topic.fullmatch(topic)
    return (match["region"], service.domains.get(match["partition"], "")) if match else ("", "")


def _confirmation(service: Service, envelope: reading.Fields) -> HttpRequest | None:
    """API Reference "ConfirmSubscription", by the Query API; it needs no key."""
    topic, token = envelope.get("TopicArn"), envelope.get("Token")
    if not isinstance(topic, str) or not isinstance(token, str):
        return None
    region, domain = _place(service, topic)
    if not region or not _TOKEN.fullmatch(token):
        return None
    form = {"Action": "ConfirmSubscription", "Version": "2010-03-31", "TopicArn": topic, "Token": token}
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "accept": "application/xml"}
    return HttpRequest("POST", service.api.format(region=region, domain=domain), headers, urlencode(form).encode())


@lru_cache(maxsize=256)
def _certificates(pem: bytes) -> Sequence[x509.Certificate]:
    """The certificates in PEM, the signing one first; raises `WebhookRejected`."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise WebhookRejected("the certificate is missing or malformed") from error


def _is_vouched_for(service: Service, chain: Sequence[x509.Certificate], pin: str) -> bool:
    """Whether the signing certificate leads, by those that issued it, to one that is trusted (RFC 5280 section 6)."""
    authorities = _certificates(service.authorities)
    trusted = {pin} if pin else {_fingerprint(each) for each in authorities}
    certificate: x509.Certificate | None = chain[0]
    for _ in range(_LONGEST_PATH):
        if certificate is None:
            return False
        if _fingerprint(certificate) in trusted:
            return True
        certificate = next((each for each in (*chain[1:], *authorities) if _has_issued(each, certificate)), None)
    return False


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA256()).hex()


def _has_issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(authority)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, InvalidSignature, UnsupportedAlgorithm):
        return False
    except (ValueError, TypeError):
        return False
    return constraints.ca
