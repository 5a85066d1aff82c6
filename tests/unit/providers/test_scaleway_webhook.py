"""Scaleway: its authority over signatures, and every row of what its events mean."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509

from mail.errors import CredentialsIncomplete, WebhookRejected
from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers.base import Reading, Unreadable, WebhookRequest
from mail.providers.scaleway import Scaleway
from mail.providers.scaleway_authorities import SCALEWAY_MNQ
from tests.support.providers import sns
from tests.support.providers.sample import MESSAGE_ID, payloads
from tests.support.providers.scaleway import (
    ARN,
    AUTHORITY,
    CERTIFICATE,
    CERTIFICATE_URL,
    KEY_NAME,
    OTHER_ARN,
    SAMPLE,
    SECRET,
    notification,
)

SCALEWAY = Scaleway()
PAYLOADS = payloads("scaleway")
EMAIL_ID = "d4fbec9d-eed9-44d5-af47-c1126467a5ca"
OURS = [{"key": "x-carepost-message-id", "value": str(MESSAGE_ID)}]


def read(event: object) -> Reading:
    wrapped = {**json.loads(notification({})), "Message": json.dumps(event)}
    return SCALEWAY.read_webhook(json.dumps(wrapped).encode(), {})


def one(name: str, **fields: Any) -> Event:
    (event,) = read({"id": "1", "type": name, "email_id": "e-1", "created_at": "2026-03-01T11:00:00Z", **fields}).events
    return event


def documented(name: str) -> Event:
    (event,) = SCALEWAY.read_webhook(PAYLOADS[name], {}).events
    return event


def posted(certificate: bytes | None = CERTIFICATE, **changed: Any) -> WebhookRequest:
    request = SAMPLE.request(PAYLOADS["email_delivered"])
    if changed:
        envelope = {**json.loads(request.body), **changed}
        envelope["Signature"] = sns.sign(envelope, sns.key(KEY_NAME), envelope["SignatureVersion"])
        request = replace(request, body=json.dumps(envelope).encode())
    return replace(request, certificate=certificate)


def rejected(request: WebhookRequest, *secrets: str) -> str:
    with pytest.raises(WebhookRejected) as raised:
        SCALEWAY.verify_webhook(request, secrets or [SECRET])
    return str(raised.value)


def test_scaleways_own_authorities_are_what_its_page_says() -> None:
    root, issuing = x509.load_pem_x509_certificates(SCALEWAY_MNQ)
    root.verify_directly_issued_by(root)
    issuing.verify_directly_issued_by(root)
    assert root.subject.rfc4514_string() == "CN=Scaleway MnQ Root"
    assert issuing.subject.rfc4514_string() == "CN=Scaleway MnQ"
    assert root.not_valid_after_utc.date().isoformat() == "2032-06-25"
    assert issuing.not_valid_after_utc.date().isoformat() == "2027-12-05"


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_certificate_of_the_named_authority_proves_it(version: str) -> None:
    request = posted(SignatureVersion=version)
    assert SCALEWAY.certificate_url(request, [SECRET]) == CERTIFICATE_URL
    SCALEWAY.verify_webhook(request, [SECRET])


def test_a_pinned_certificate_proves_itself() -> None:
    leaf = sns.certificate(KEY_NAME, "Authority of this run")
    SCALEWAY.verify_webhook(posted(leaf), [f"{ARN}#{sns.fingerprint(leaf)}"])


def test_an_authority_in_between_leads_to_the_named_one() -> None:
    between = sns.certificate("Between", "Authority of this run", authority=True)
    chain = sns.certificate(KEY_NAME, "Between") + between + AUTHORITY
    SCALEWAY.verify_webhook(posted(chain), [SECRET])
    assert "issued" in rejected(posted(sns.certificate(KEY_NAME, "Between") + AUTHORITY))


@pytest.mark.parametrize(
    "certificate",
    [
        sns.certificate(KEY_NAME),  # by itself
        sns.certificate(KEY_NAME) + AUTHORITY,  # and beside the authority
        sns.certificate(KEY_NAME) + SCALEWAY_MNQ,
        sns.certificate(KEY_NAME, "Authority of nobody") + sns.certificate("Authority of nobody", authority=True),
        # The authority's name alone, by another key.
        sns.certificate(KEY_NAME, "Leaf of this run") + sns.certificate("Leaf of this run", "Authority of this run"),
    ],
    ids=["self-signed", "beside the authority", "beside Scaleway's", "of a stranger", "by one that is no authority"],
)
def test_a_certificate_of_anybody_else_proves_nothing(certificate: bytes) -> None:
    for secret in (SECRET, ARN):
        assert rejected(posted(certificate), secret) == "the certificate was not issued by Scaleway"


def test_without_a_pin_scaleways_own_authorities_alone_count() -> None:
    assert rejected(posted(), ARN) == "the certificate was not issued by Scaleway"
    SCALEWAY.verify_webhook(posted(), [ARN, SECRET])
    assert rejected(posted(), ARN, f"{OTHER_ARN}#{sns.fingerprint(AUTHORITY)}") == (
        "the certificate was not issued by Scaleway"
    )


def test_another_topic_is_refused_before_anything_is_fetched() -> None:
    request = posted(TopicArn=OTHER_ARN)
    with pytest.raises(WebhookRejected, match="topic that isn't this account's"):
        SCALEWAY.certificate_url(request, [SECRET])
    assert "topic" in rejected(request)


@pytest.mark.parametrize(
    "url",
    [
        CERTIFICATE_URL,
        "https://messaging.s3.fr-par.scw.cloud/fr-par/sns/certs/0f1e.pem",
        "https://messaging.s3.fr-par.scw.cloud/cert.crt",
    ],
)
def test_a_certificate_in_scaleways_own_bucket_is_fetched(url: str) -> None:
    assert SCALEWAY.certificate_url(posted(SigningCertURL=url), [SECRET]) == url


def test_a_topic_of_another_region_keeps_its_certificates_there_or_in_paris() -> None:
    topic = ARN.replace("fr-par", "nl-ams")
    for url in (CERTIFICATE_URL, "https://messaging.s3.nl-ams.scw.cloud/nl-ams/sns/sns_certificate_1.crt"):
        assert SCALEWAY.certificate_url(posted(TopicArn=topic, SigningCertURL=url), [topic]) == url
    with pytest.raises(WebhookRejected):
        SCALEWAY.certificate_url(
            posted(SigningCertURL="https://messaging.s3.nl-ams.scw.cloud/nl-ams/sns/sns_certificate_1.crt"), [SECRET]
        )


@pytest.mark.parametrize(
    "url",
    [
        "http://messaging.s3.fr-par.scw.cloud/fr-par/sns/a.crt",
        "https://attacker.s3.fr-par.scw.cloud/fr-par/sns/a.crt",
        "https://s3.fr-par.scw.cloud/messaging/fr-par/sns/a.crt",
        "https://messaging.s3.fr-par.scw.cloud.evil.example/fr-par/sns/a.crt",
        "https://messaging.s3.fr-par.scw.cloud@evil.example/fr-par/sns/a.crt",
        "https://user@messaging.s3.fr-par.scw.cloud/fr-par/sns/a.crt",
        "https://messaging.s3.fr-par.scw.cloud:8443/fr-par/sns/a.crt",
        "https://messaging.s3.fr-par.scw.cloud\\@evil.example/fr-par/sns/a.crt",
        "https://messaging.s3.fr-par.scw.cloud/fr-par/sns/%2e%2e/a.crt",
        "https://messaging.s3.fr-par.scw.cloud/fr-par/sns/../a.crt",
        "https://messaging.s3.fr-par.scw.cloud/fr-par/sns/a.crt?x=1",
        "https://messaging.s3.fr-par.scw.cloud/fr-par/sns/a.crt#x",
        "https://messaging.s3.fr-par.scw.cloud/fr-par/sns/a.txt",
        "https://messaging.s3.fr-par.scw.cloud/",
        "https://messaging.s3.pl-waw.scw.cloud/fr-par/sns/a.crt",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem",
        " https://messaging.s3.fr-par.scw.cloud/fr-par/sns/a.crt",
        "https://169.254.169.254/latest/meta-data/",
        "",
    ],
)
def test_a_certificate_elsewhere_is_not_fetched(url: str) -> None:
    request = posted(SigningCertURL=url)
    with pytest.raises(WebhookRejected, match="not where the service keeps its own"):
        SCALEWAY.certificate_url(request, [SECRET])
    assert "not where" in rejected(request)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "arn:aws:sns:eu-west-1:123456789012:email-events",
        f"{ARN}#",
        f"{ARN}#abc",
        f"{ARN}#{'A' * 64}",
        f"{ARN}##{'a' * 64}",
        f"{ARN}#{'a' * 64}\n",
        ARN.replace("fr-par", "fr-par.evil.example/"),
    ],
)
def test_a_secret_is_the_arn_of_a_topic_and_perhaps_a_fingerprint(secret: str) -> None:
    SCALEWAY.check_webhook_secret(ARN)
    SCALEWAY.check_webhook_secret(SECRET)
    with pytest.raises(CredentialsIncomplete, match="arn:scw:sns:fr-par:project-"):
        SCALEWAY.check_webhook_secret(secret)


def test_a_subscription_is_confirmed_at_the_topics_own_region() -> None:
    confirmation = SCALEWAY.read_webhook(PAYLOADS["subscription_confirmation"], {}).confirmation
    assert confirmation is not None
    assert (confirmation.method, confirmation.url) == ("POST", "https://sns.mnq.fr-par.scaleway.com/")
    assert confirmation.body == (
        b"Action=ConfirmSubscription&Version=2010-03-31&TopicArn=arn%3Ascw%3Asns%3Afr-par%3A"
        b"project-8c8bfa06-9d5f-4a3e-a6a5-1a4a4f2f0b7e%3Aemail-events&Token=c7a1f0d2e3b4"
    )


@pytest.mark.parametrize(
    ("name", "kind", "at", "failure"),
    [
        ("email_queued", EventKind.QUEUED, (10, 29, 50, 103000), None),
        (
            "email_deferred",
            EventKind.DEFERRED,
            (10, 29, 58),
            Failure(FailureKind.POLICY, 451, "4.7.1", "4.7.1 Greylisting in action, please come back later"),
        ),
        ("email_delivered", EventKind.DELIVERED, (10, 30), None),
        (
            "email_dropped",
            EventKind.BOUNCED,
            (10, 31),
            Failure(FailureKind.POLICY, 554, "5.7.1", "5.7.1 Relay access denied"),
        ),
        (
            "email_mailbox_not_found",
            EventKind.BOUNCED,
            (10, 32),
            Failure(
                FailureKind.ADDRESS_UNKNOWN,
                550,
                "5.1.1",
                "5.1.1 The email account that you tried to reach does not exist",
            ),
        ),
        (
            "email_spam",
            EventKind.BOUNCED,
            (10, 33),
            Failure(FailureKind.SPAM, 550, "5.7.1", "5.7.1 Message rejected as spam by content scanning"),
        ),
        (
            "email_blocklisted",
            EventKind.REJECTED,
            (10, 34),
            Failure(FailureKind.SUPPRESSED, reason="The recipient mailbox does not exist"),
        ),
        ("unknown_type", EventKind.UNKNOWN, (10, 35), None),
    ],
)
def test_each_documented_event(name: str, kind: EventKind, at: tuple[int, ...], failure: Failure | None) -> None:
    event = documented(name)
    blocked = name == "email_blocklisted"
    assert (event.kind, event.failure) == (kind, failure)
    assert event.detail == (f"{name}/mailbox_not_found" if blocked else name)
    assert event.occurred_at == datetime(2026, 1, 15, *at, tzinfo=UTC)  # type: ignore[misc, arg-type]
    assert event.recipient == "recipient@example.com"
    assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, None if blocked else EMAIL_ID)
    assert not event.machine


def test_a_new_entry_of_the_block_list_is_no_event_of_a_message() -> None:
    assert SCALEWAY.read_webhook(PAYLOADS["blocklist_created"], {}) == Reading()


@pytest.mark.parametrize(
    ("fields", "kind", "failure"),
    [
        ({"email_response_code": 250, "email_response_message": "2.0.0 OK"}, EventKind.COMPLAINED, None),
        (
            {"email_response_code": 451, "email_response_message": "4.7.1 later"},
            EventKind.SOFT_BOUNCED,
            Failure(FailureKind.SPAM, 451, "4.7.1", "4.7.1 later"),
        ),
        ({}, EventKind.SOFT_BOUNCED, Failure(FailureKind.SPAM)),
        (
            {"email_response_code": 554, "email_response_message": "no"},
            EventKind.BOUNCED,
            Failure(FailureKind.SPAM, 554, None, "no"),
        ),
    ],
)
def test_what_is_called_spam_goes_by_the_reply(
    fields: dict[str, Any], kind: EventKind, failure: Failure | None
) -> None:
    event = one("email_spam", **fields)
    assert (event.kind, event.failure) == (kind, failure)


def test_the_deprecated_error_is_read_where_there_is_no_reply() -> None:
    event = one("email_dropped", email_error="552 5.2.2 mailbox full")
    assert event.failure == Failure(FailureKind.MAILBOX_FULL, 552, "5.2.2", "552 5.2.2 mailbox full")


def test_an_event_of_tomorrow_is_kept() -> None:
    event = one("email_read_aloud", email_headers=OURS)
    assert (event.kind, event.detail, event.message_id) == (EventKind.UNKNOWN, "email_read_aloud", MESSAGE_ID)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (OURS, True),
        ([{"key": "X-Carepost-Message-ID", "value": str(MESSAGE_ID)}], True),
        ([{"key": "X-Other", "value": str(MESSAGE_ID)}, *OURS], True),
        ([{"key": "X-Carepost-Message-ID", "value": "x"}], False),
        ([{"name": "X-Carepost-Message-ID", "value": str(MESSAGE_ID)}], False),
        (["x", None], False),
        ({}, False),
        (None, False),
    ],
)
def test_our_id_is_a_header_whatever_its_case(headers: object, found: bool) -> None:
    assert one("email_delivered", email_headers=headers).message_id == (MESSAGE_ID if found else None)


def test_a_retry_brings_the_same_key_and_each_try_its_own() -> None:
    again = {**json.loads(PAYLOADS["email_delivered"]), "MessageId": "another", "Timestamp": "2026-01-15T11:00:00Z"}
    (event,) = SCALEWAY.read_webhook(json.dumps(again).encode(), {}).events
    assert event.dedupe_key == documented("email_delivered").dedupe_key
    keys = [
        one("email_deferred", email_try_count=1).dedupe_key,
        one("email_deferred", email_try_count=2).dedupe_key,
        one("email_delivered").dedupe_key,
        one("email_delivered", email_id="e-2").dedupe_key,
        one("email_delivered", email_headers=OURS).dedupe_key,
        one("email_dropped").dedupe_key,
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ("x", "the event is not an object"),
        ({}, "the event has no type"),
        ({"type": "email_delivered"}, "the event names no message"),
        ({"type": "email_delivered", "email_id": "e"}, "its time is no ISO 8601 time with a zone"),
        (
            {"type": "email_delivered", "email_id": "e", "created_at": "2026-03-01T10:00:00"},
            "its time is no ISO 8601 time with a zone",
        ),
        ({"type": "email_delivered", "email_id": "e", "created_at": 1}, "its time is no ISO 8601 time with a zone"),
    ],
)
def test_what_cannot_be_read_is_set_aside(event: object, error: str) -> None:
    assert read(event) == Reading((), (Unreadable(0, error),))


def test_a_message_that_is_no_json_is_set_aside() -> None:
    wrapped = {**json.loads(notification({})), "Message": "Hello world!"}
    reading = SCALEWAY.read_webhook(json.dumps(wrapped).encode(), {})
    assert reading == Reading((), (Unreadable(0, "the body is not JSON"),))
