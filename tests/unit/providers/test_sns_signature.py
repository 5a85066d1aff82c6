"""SNS: only signed envelopes of allowed topics pass, and certificates are fetched from AWS's own place alone."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import CredentialsIncomplete, WebhookRejected
from mail.providers.amazon_ses import AmazonSes
from mail.providers.base import HttpRequest, Reading, Unreadable, WebhookRequest
from tests.support.providers import sns
from tests.support.providers.amazon_ses import CERTIFICATE_URL, KEY_NAME, SAMPLE, TOPIC, notification, seal
from tests.support.providers.sample import URL, payloads

SES = AmazonSes()
BODY = notification({"eventType": "Send", "mail": {"messageId": "1"}, "send": {}})
CERTIFICATE = sns.certificate(KEY_NAME)


def envelope(**changed: Any) -> dict[str, Any]:
    """A signed envelope; what is changed is changed before it is signed."""
    unsigned = {**json.loads(BODY), **changed}
    unsigned = {name: value for name, value in unsigned.items() if value is not ...}
    version = unsigned.get("SignatureVersion")
    signature = sns.sign(unsigned, sns.key(KEY_NAME), version if version in ("1", "2") else "1")
    return {**unsigned, "Signature": signature}


def post(fields: Mapping[str, Any], **headers: str) -> WebhookRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return WebhookRequest("POST", URL, named, json.dumps(fields).encode(), CERTIFICATE)


def rejected(request: WebhookRequest, *secrets: str) -> str:
    with pytest.raises(WebhookRejected) as raised:
        SES.verify_webhook(request, secrets or [TOPIC])
    return str(raised.value)


def not_fetched(request: WebhookRequest, *secrets: str) -> str:
    with pytest.raises(WebhookRejected) as raised:
        SES.certificate_url(request, secrets or [TOPIC])
    return str(raised.value)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", [..., "Amazon SES Email Event Notification"])
def test_both_versions_of_the_signature_hold_with_and_without_a_subject(version: str, subject: Any) -> None:
    request = post(envelope(SignatureVersion=version, Subject=subject))
    assert SES.certificate_url(request, [TOPIC]) == CERTIFICATE_URL
    SES.verify_webhook(request, [TOPIC])


def test_the_signed_text_ends_with_a_line_end() -> None:
    fields = envelope()
    assert (
        sns.canonical(fields)
        == (
            f"Message\n{fields['Message']}\n"
            f"MessageId\n{fields['MessageId']}\n"
            f"Subject\nAmazon SES Email Event Notification\n"
            f"Timestamp\n2026-03-01T09:31:02.114Z\n"
            f"TopicArn\n{TOPIC}\n"
            f"Type\nNotification\n"
        ).encode()
    )


@pytest.mark.parametrize("name", ["subscription_confirmation", "unsubscribe_confirmation"])
def test_what_concerns_the_subscription_is_signed_over_its_token_and_url(name: str) -> None:
    sealed = json.loads(seal(payloads("amazon_ses")[name], TOPIC))
    SES.verify_webhook(post(sealed), [TOPIC])
    for changed in ("Token", "SubscribeURL", "Message", "Timestamp"):
        assert rejected(post({**sealed, changed: sealed[changed] + "0"})) == "the signature is wrong"


@pytest.mark.parametrize("name", ["Message", "MessageId", "Subject", "Timestamp"])
def test_each_signed_field_is_covered(name: str) -> None:
    fields = envelope()
    assert rejected(post({**fields, name: fields[name] + " "})) == "the signature is wrong"
    if name == "Subject":
        assert rejected(post({key: value for key, value in fields.items() if key != name})) == "the signature is wrong"


@given(message=st.text(max_size=40))
def test_any_message_is_signed_as_it_is_read(message: str) -> None:
    fields = envelope(Message=message)
    SES.verify_webhook(post(fields), [TOPIC])


def test_a_signature_of_another_version_another_key_or_none_is_wrong() -> None:
    fields = envelope(SignatureVersion="2")
    stranger = sns.sign(fields, sns.key("stranger"), "2")
    assert rejected(post({**fields, "SignatureVersion": "1"})) == "the signature is wrong"
    assert rejected(post({**fields, "Signature": stranger})) == "the signature is wrong"
    truncated = base64.b64encode(base64.b64decode(fields["Signature"])[:-1]).decode()
    assert rejected(post({**fields, "Signature": truncated})) == "the signature is wrong"
    for signature in ("", "%%%", "é", "A" * 100_000):
        assert rejected(post({**fields, "Signature": signature})) == "the signature is missing or malformed"


@pytest.mark.parametrize("version", ["", "0", "3", "1.0", "²", "SHA1"])
def test_an_unknown_version_is_rejected(version: str) -> None:
    request = post(envelope(SignatureVersion=version))
    assert rejected(request) == not_fetched(request) == "the signature's version is unknown"


@pytest.mark.parametrize(
    "certificate",
    [None, b"", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", b"<html>", b"\xff\x00"],
)
def test_without_a_certificate_nothing_is_proven(certificate: bytes | None) -> None:
    request = replace(post(envelope()), certificate=certificate)
    assert rejected(request) == "the certificate is missing or malformed"


def test_a_weak_key_is_no_proof() -> None:
    fields = json.loads(BODY)
    fields["Signature"] = sns.sign(fields, sns.key("weak 1024"), "2")
    request = replace(post(fields), certificate=sns.certificate("weak 1024"))
    assert rejected(request) == "the certificate's key is not RSA of 2048 bits or more"


def test_anybodys_topic_is_rightly_signed_and_refused_before_anything_is_fetched() -> None:
    other = envelope(TopicArn="arn:aws:sns:eu-west-1:999999999999:email-events")
    assert rejected(post(other)) == not_fetched(post(other)) == "it is of a topic that isn't this account's"
    SES.verify_webhook(post(other), ["arn:aws:sns:eu-west-1:999999999999:email-events"])


def test_topics_rotate_by_several_secrets() -> None:
    SES.verify_webhook(post(envelope()), ["arn:aws:sns:eu-west-1:123456789012:new", TOPIC])
    assert "topic" in rejected(post(envelope()), "arn:aws:sns:eu-west-1:123456789012:new")


def test_a_secret_that_is_no_topic_allows_none() -> None:
    assert "topic" in rejected(post(envelope(TopicArn="x")), "x")
    assert "topic" in not_fetched(post(envelope(TopicArn="")), "")


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem",
        "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com.cn/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.eu/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-ab.pem",
        "https://evil.example/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-ab.pem",
        "https://user@sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem",
        "https://user:word@sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com:443/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com./SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com\\@evil.example/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com\\.evil.example/SimpleNotificationService-ab.pem",
        "https:\\\\sns.eu-west-1.amazonaws.com\\SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com/%2e%2e/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com/../SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com//SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com/x/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem?x=1",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem#x",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem/",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem\n",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem ",
        " https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-%61b.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-AB.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-abxpem",
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://snsxeu-west-1.amazonaws.com/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1xamazonaws.com/SimpleNotificationService-ab.pem",
        "https://sns-eu-west-1.s3.amazonaws.com/SimpleNotificationService-ab.pem",
        "https://s3.amazonaws.com/sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com.s3.amazonaws.com/SimpleNotificationService-ab.pem",
        "HTTPS://SNS.EU-WEST-1.AMAZONAWS.COM/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com\t/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws。com/SimpleNotificationService-ab.pem",
        "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-٣.pem",
        "//sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem",
        "https://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1/SimpleNotificationService-ab.pem",
        "https://[::1]/SimpleNotificationService-ab.pem",
        "file:///etc/passwd",
        "gopher://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab.pem",
        "",
    ],
)
def test_a_certificate_elsewhere_is_neither_fetched_nor_taken(url: str) -> None:
    request = post(envelope(SigningCertURL=url))
    expected = (
        "its SigningCertURL is missing or malformed"
        if "\n" in url
        else "its certificate is not where the service keeps its own"
    )
    assert rejected(request) == not_fetched(request) == expected


@pytest.mark.parametrize(
    ("topic", "domain"),
    [
        ("arn:aws:sns:us-east-1:123456789012:t", "sns.us-east-1.amazonaws.com"),
        ("arn:aws-us-gov:sns:us-gov-west-1:123456789012:t", "sns.us-gov-west-1.amazonaws.com"),
        ("arn:aws-cn:sns:cn-north-1:123456789012:t", "sns.cn-north-1.amazonaws.com.cn"),
        ("arn:aws-eusc:sns:eusc-de-east-1:123456789012:t", "sns.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_each_partition_keeps_its_certificates_and_its_api_at_its_own_host(topic: str, domain: str) -> None:
    url = f"https://{domain}/SimpleNotificationService-0f.pem"
    SES.check_webhook_secret(topic)
    assert SES.certificate_url(post(envelope(TopicArn=topic, SigningCertURL=url)), [topic]) == url
    confirmation = json.loads(payloads("amazon_ses")["subscription_confirmation"])
    reading = SES.read_webhook(json.dumps({**confirmation, "TopicArn": topic}).encode(), {})
    assert reading.confirmation is not None
    assert reading.confirmation.url == f"https://{domain}/"


def test_raw_message_delivery_is_refused_with_what_to_do() -> None:
    raw = WebhookRequest("POST", URL, {}, json.loads(BODY)["Message"].encode(), CERTIFICATE)
    told = "raw message delivery is on, which isn't signed: switch it off at the subscription"
    assert rejected(raw) == not_fetched(raw) == told
    assert rejected(post(envelope(), x_amz_sns_rawdelivery="true")) == told
    assert SES.read_webhook(raw.body, {}) == Reading((), (Unreadable(0, "the body is no SNS message"),))


def test_the_header_and_the_body_name_one_type() -> None:
    SES.verify_webhook(post(envelope(), x_amz_sns_message_type="Notification"), [TOPIC])
    request = post(envelope(), x_amz_sns_message_type="SubscriptionConfirmation")
    assert rejected(request) == not_fetched(request) == "the header names another type than the body"
    assert "header" in rejected(post(envelope(), x_amz_sns_message_type="Notificatión"))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{}", b'{"Type": 1}', b'{"Type": "OfTomorrow"}', b'{"Type": ["Notification"]}', b"\xff"],
)
def test_what_is_no_envelope_is_rejected(body: bytes) -> None:
    request = WebhookRequest("POST", URL, {}, body, CERTIFICATE)
    assert rejected(request) == not_fetched(request) == "the body is no SNS message"


@pytest.mark.parametrize("name", ["Message", "MessageId", "Timestamp", "TopicArn", "Signature", "SigningCertURL"])
@pytest.mark.parametrize("value", [None, 1, True, [], {}, ["x"]])
def test_a_field_that_is_missing_or_no_text_is_rejected(name: str, value: object) -> None:
    request = post({**envelope(), name: value})
    assert rejected(request) == not_fetched(request) == f"its {name} is missing or malformed"


@pytest.mark.parametrize("name", ["MessageId", "Subject", "Timestamp"])
def test_one_field_can_not_pass_for_two(name: str) -> None:
    """The lines that are signed have no escapes."""
    assert rejected(post(envelope(**{name: "x\nTopicArn\ny"}))) == f"its {name} is missing or malformed"


def test_a_subscription_is_confirmed_by_its_token_and_never_by_the_url_that_it_names() -> None:
    confirmation = json.loads(payloads("amazon_ses")["subscription_confirmation"])
    hostile = {**confirmation, "SubscribeURL": "http://169.254.169.254/", "Token": "a+b/c=&d"}
    reading = SES.read_webhook(json.dumps(hostile).encode(), {})
    assert reading == Reading(
        confirmation=HttpRequest(
            "POST",
            "https://sns.us-east-1.amazonaws.com/",
            {
                "content-type": "application/x-www-form-urlencoded; charset=utf-8",
                "accept": "application/xml",
            },
            b"Action=ConfirmSubscription&Version=2010-03-31"
            b"&TopicArn=arn%3Aaws%3Asns%3Aus-east-1%3A123456789012%3Aemail-events&Token=a%2Bb%2Fc%3D%26d",
        )
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"Token": ""},
        {"Token": "a b"},
        {"Token": "x" * 2001},
        {"Token": None},
        {"TopicArn": "arn:aws:sns:evil.example/:123456789012:t"},
        {"TopicArn": "arn:aws:sqs:us-east-1:123456789012:t"},
        {"TopicArn": 1},
    ],
)
def test_a_subscription_that_can_not_be_confirmed_is_set_aside(changed: dict[str, object]) -> None:
    confirmation = json.loads(payloads("amazon_ses")["subscription_confirmation"])
    reading = SES.read_webhook(json.dumps({**confirmation, **changed}).encode(), {})
    assert reading == Reading((), (Unreadable(0, "it has no usable token"),))


def test_the_end_of_a_subscription_says_nothing() -> None:
    assert SES.read_webhook(payloads("amazon_ses")["unsubscribe_confirmation"], {}) == Reading()


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "x",
        "arn:aws:sns:eu-west-1:12345678901:t",
        "arn:aws:sns:eu-west-1:123456789012:",
        "arn:aws:sns:eu-west-1:123456789012:t:c9135db0-26c4-47ec-8998-413945fb5a96",
        "arn:aws:sns:eu-west-1:123456789012:t.fifo",
        "arn:aws:sqs:eu-west-1:123456789012:t",
        "arn:aws-iso:sns:us-iso-east-1:123456789012:t",
        "arn:aws:sns:eu-west-1:١٢٣٤٥٦٧٨٩٠١٢:t",
        "arn:aws:sns:eu-west-1:123456789012:t\n",
        "arn:aws:sns:eu-west-1:123456789012:t#" + "0" * 64,
        " arn:aws:sns:eu-west-1:123456789012:t",
    ],
)
def test_a_secret_is_the_arn_of_a_topic_and_nothing_else(secret: str) -> None:
    SES.check_webhook_secret(SAMPLE.secret)
    with pytest.raises(CredentialsIncomplete, match="arn:aws:sns:eu-west-1:123456789012:email-events"):
        SES.check_webhook_secret(secret)
