"""Postmark: basic authentication, and every row of what its records mean."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.errors import WebhookRejected
from mail.event import Event, EventKind
from mail.failure import FailureKind
from mail.providers import provider
from mail.providers.base import Reading, Unreadable, WebhookRequest
from tests.support.providers.sample import MESSAGE_ID, URL, payloads

POSTMARK = provider("postmark")
PAYLOADS = payloads("postmark")
SECRET = "carepost:s3cret"


def read(**fields: Any) -> Reading:
    return POSTMARK.read_webhook(json.dumps(fields).encode(), {})


def one(record: str, **fields: Any) -> Event:
    times = dict.fromkeys(("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt"), "2026-03-01T10:00:00.1234567Z")
    (event,) = read(**{"RecordType": record, "MessageID": "883953f4", **times, **fields}).events
    return event


def documented(name: str) -> Event:
    (event,) = POSTMARK.read_webhook(PAYLOADS[name], {}).events
    return event


def verify(header: str | None, *secrets: str) -> None:
    headers = {} if header is None else {"authorization": header}
    POSTMARK.verify_webhook(WebhookRequest("POST", URL, headers, b"{}"), secrets)


def basic(secret: bytes) -> str:
    return "Basic " + base64.b64encode(secret).decode()


def test_the_password_in_the_url_opens_the_webhook_through_a_rotation() -> None:
    verify(basic(b"carepost:s3cret"), "carepost:new", SECRET)
    verify(basic(b"carepost:s3cret").replace("Basic", "bAsIc"), SECRET)
    verify(basic(b"carepost:with:colons"), "carepost:with:colons")


@pytest.mark.parametrize(
    "header",
    [None, "", "Basic", "Basic ", "Bearer x", "Basic %%%", "Basic é", "Basic AAA", "Basic " + "A" * 100_000]
    + [
        basic(given)
        for given in (b"carepost:wrong", b"carepost", b"", b"\xff\xfe:\xff", b"carepost:s3cret ", b"x" * 500)
    ],
)
def test_anything_else_is_rejected(header: str | None) -> None:
    with pytest.raises(WebhookRejected):
        verify(header, SECRET)


def test_the_webhook_url_carries_the_password_percent_encoded() -> None:
    assert POSTMARK.webhook_url("https://a.example:8443/webhooks/postmark/1?x=1", "us:p@ss/w:rd?") == (
        "https://us:p%40ss%2Fw%3Ard%3F@a.example:8443/webhooks/postmark/1?x=1"
    )


@pytest.mark.parametrize(
    ("name", "kind", "detail", "recipient"),
    [
        ("delivery", EventKind.DELIVERED, "Delivery", "john@example.com"),
        ("bounce", EventKind.BOUNCED, "Bounce/HardBounce", "john@example.com"),
        ("bounce_with_offset", EventKind.BOUNCED, "Bounce/SoftBounce", "john@example.com"),
        ("spam_complaint", EventKind.COMPLAINED, "SpamComplaint", "john@example.com"),
        ("open", EventKind.OPENED, "Open", "john@example.com"),
        ("click", EventKind.CLICKED, "Click", "john@example.com"),
        ("subscription_change", EventKind.BOUNCED, "SubscriptionChange/HardBounce", "bounced-address@example.com"),
    ],
)
def test_the_documented_records_are_read(name: str, kind: EventKind, detail: str, recipient: str) -> None:
    event = documented(name)
    assert (event.kind, event.detail, event.recipient) == (kind, detail, recipient)
    assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, "883953f4-6105-42a2-a16a-77a8eac79483")
    assert not event.machine


def test_a_time_is_the_events_own_in_utc() -> None:
    assert documented("delivery").occurred_at == datetime(2019, 11, 5, 16, 33, 54, 907025, UTC)
    assert documented("bounce_with_offset").occurred_at == datetime(2014, 8, 1, 17, 28, 10, 273539, UTC)


def test_a_suppression_by_hand_is_no_event_of_a_message() -> None:
    assert POSTMARK.read_webhook(PAYLOADS["reactivated_by_hand"], {}) == Reading()


@pytest.mark.parametrize(
    ("bounce", "kind", "failure"),
    [
        ("HardBounce", EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        ("Transient", EventKind.DEFERRED, FailureKind.UNREACHABLE),
        ("Unsubscribe", EventKind.UNSUBSCRIBED, None),
        ("Subscribe", EventKind.RESUBSCRIBED, None),
        ("AutoResponder", EventKind.AUTO_REPLIED, None),
        ("AddressChange", EventKind.AUTO_REPLIED, None),
        ("DnsError", EventKind.SOFT_BOUNCED, FailureKind.UNREACHABLE),
        ("SpamNotification", EventKind.SOFT_BOUNCED, FailureKind.SPAM),
        ("OpenRelayTest", EventKind.AUTO_REPLIED, None),
        ("Unknown", EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ("SoftBounce", EventKind.BOUNCED, FailureKind.OTHER),
        ("VirusNotification", EventKind.SOFT_BOUNCED, FailureKind.POLICY),
        ("ChallengeVerification", EventKind.AUTO_REPLIED, None),
        ("BadEmailAddress", EventKind.REJECTED, FailureKind.ADDRESS_UNKNOWN),
        ("SpamComplaint", EventKind.COMPLAINED, None),
        ("ManuallyDeactivated", EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("Unconfirmed", EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("Blocked", EventKind.SOFT_BOUNCED, FailureKind.REPUTATION),
        ("SMTPApiError", EventKind.REJECTED, FailureKind.CONTENT),
        ("InboundError", EventKind.UNKNOWN, None),
        ("DMARCPolicy", EventKind.REJECTED, FailureKind.AUTHENTICATION),
        ("TemplateRenderingFailed", EventKind.REJECTED, FailureKind.CONTENT),
        ("OfTomorrow", EventKind.UNKNOWN, FailureKind.OTHER),
    ],
)
def test_each_type_of_bounce(bounce: str, kind: EventKind, failure: FailureKind | None) -> None:
    event = one("Bounce", Type=bounce, Details="", Description="In general terms")
    assert (event.kind, event.detail) == (kind, f"Bounce/{bounce}")
    assert (event.failure.kind if event.failure else None) is failure
    if event.failure:
        assert event.failure.reason == "In general terms"


@pytest.mark.parametrize(
    ("fields", "kind", "failure"),
    [
        ({"Type": "SoftBounce", "Details": "smtp;452 4.2.2 over quota"}, EventKind.BOUNCED, FailureKind.MAILBOX_FULL),
        ({"Type": "HardBounce", "Details": "smtp;550 5.1.2 x"}, EventKind.BOUNCED, FailureKind.DOMAIN_UNKNOWN),
        ({"Type": "Blocked", "Details": "smtp;421 4.7.0 later"}, EventKind.SOFT_BOUNCED, FailureKind.REPUTATION),
        ({"Type": "Blocked", "Details": "smtp;550 5.7.1 no"}, EventKind.BOUNCED, FailureKind.REPUTATION),
        ({"Type": "Transient", "Details": "smtp;550 5.1.1 x"}, EventKind.DEFERRED, FailureKind.ADDRESS_UNKNOWN),
        ({"Type": "Unknown", "Details": "?", "Inactive": True}, EventKind.BOUNCED, FailureKind.OTHER),
        ({"Type": "OfTomorrow", "Details": "?", "Inactive": True}, EventKind.BOUNCED, FailureKind.OTHER),
        ({"Type": "Unknown", "Details": "?", "Inactive": "yes"}, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ({"Type": "DMARCPolicy", "Details": "mailbox full"}, EventKind.REJECTED, FailureKind.AUTHENTICATION),
    ],
)
def test_the_reply_and_a_deactivation_tell_more_than_the_type(
    fields: dict[str, Any], kind: EventKind, failure: FailureKind
) -> None:
    event = one("Bounce", **fields)
    assert event.failure is not None
    assert (event.kind, event.failure.kind, event.failure.reason) == (kind, failure, fields["Details"])


@pytest.mark.parametrize(
    ("fields", "kind", "detail"),
    [
        ({"SuppressionReason": "HardBounce", "Origin": "Recipient"}, EventKind.BOUNCED, "HardBounce"),
        ({"SuppressionReason": "HardBounce"}, EventKind.BOUNCED, "HardBounce"),
        ({"SuppressionReason": "SpamComplaint", "Origin": "Recipient"}, EventKind.COMPLAINED, "SpamComplaint"),
        (
            {"SuppressionReason": "ManualSuppression", "Origin": "Recipient"},
            EventKind.UNSUBSCRIBED,
            "ManualSuppression",
        ),
        ({"SuppressionReason": "ManualSuppression", "Origin": "Customer"}, EventKind.UNKNOWN, "ManualSuppression"),
        ({"SuppressionReason": "ManualSuppression", "Origin": "Admin"}, EventKind.UNKNOWN, "ManualSuppression"),
        ({"SuppressionReason": "OfTomorrow", "Origin": "Recipient"}, EventKind.UNKNOWN, "OfTomorrow"),
        ({"SuppressSending": False, "SuppressionReason": "HardBounce"}, EventKind.RESUBSCRIBED, "Reactivated"),
    ],
)
def test_each_change_of_a_subscription(fields: dict[str, Any], kind: EventKind, detail: str) -> None:
    event = one("SubscriptionChange", **{"SuppressSending": True, **fields})
    assert (event.kind, event.detail) == (kind, f"SubscriptionChange/{detail}")
    assert (event.failure is not None) == (kind is EventKind.BOUNCED)


def test_apples_prefetching_is_a_machines_open_and_gmails_proxy_is_not() -> None:
    assert one("Open", UserAgent="Mozilla/5.0").machine
    gmail = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
    assert not one("Open", UserAgent=gmail).machine
    assert not one("Click", UserAgent="Mozilla/5.0").machine


def test_an_unknown_record_is_kept_by_whichever_time_it_has() -> None:
    event = one("OfTomorrow")
    assert (event.kind, event.detail) == (EventKind.UNKNOWN, "OfTomorrow")


def test_a_bounce_has_postmarks_own_id_as_key_and_a_complaint_is_the_same_record() -> None:
    assert one("Bounce", ID=42, Type="HardBounce").dedupe_key == "bounce-42"
    assert one("SpamComplaint", ID=42).dedupe_key == one("Bounce", ID=42, Type="SpamComplaint").dedupe_key
    assert one("Bounce", ID=True, Type="HardBounce").dedupe_key != "bounce-True"


def test_other_records_are_told_apart_by_what_they_say() -> None:
    events = [
        one("Delivery"),
        one("Open", FirstOpen=True),
        one("Open", FirstOpen=False),
        one("Open", FirstOpen=False, ReceivedAt="2026-03-01T10:00:00.1234577Z"),
        one("Click", OriginalLink="https://a.example"),
        one("Click", OriginalLink="https://b.example"),
        one("Delivery", MessageID="other"),
        one("SubscriptionChange", SuppressSending=True),
        one("SubscriptionChange", SuppressSending=False),
    ]
    assert len({event.dedupe_key for event in events}) == len(events)
    assert one("Delivery", DeliveredAt="2026-03-01T12:00:00.1234567+02:00").dedupe_key == events[0].dedupe_key


@pytest.mark.parametrize(
    "time",
    [None, "", "2026-03-01", "2026-03-01T10:00:00", "2026-13-01T10:00:00Z", "0001-01-01T00:00:00+05:00", 1, True, []],
)
def test_a_time_without_a_zone_or_out_of_range_is_set_aside(time: object) -> None:
    (part,) = read(RecordType="Delivery", MessageID="a", DeliveredAt=time).unreadable
    assert part.index == 0
    assert part.error.startswith("its time is ")


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z", "2026-03-01T10:00:00-0500", "2026-03-01 10:00:00z"]
)
def test_any_time_that_can_be_held_is_accepted(time: str) -> None:
    assert one("Delivery", DeliveredAt=time).kind is EventKind.DELIVERED


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON"),
        (b"[]", "the event is not an object"),
        (b"{}", "the event has no type"),
        (b'{"RecordType": "Delivery"}', "the event names no message"),
        (b'{"RecordType": "Bounce", "Metadata": {"carepost_message_id": 5}}', "the event names no message"),
    ],
)
def test_what_cannot_be_read_is_set_aside(body: bytes, error: str) -> None:
    assert list(POSTMARK.read_webhook(body, {}).unreadable) == [Unreadable(0, error)]
