"""Amazon SES: every row of what its events and notifications mean."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.event import Event, EventKind, verdict_of
from mail.failure import Failure, FailureKind
from mail.providers.amazon_ses import AmazonSes
from mail.providers.base import Reading, Unreadable
from mail.status import Verdict
from tests.support.providers.amazon_ses import notification
from tests.support.providers.sample import MESSAGE_ID, payloads

SES = AmazonSes()
PAYLOADS = payloads("amazon_ses")
PROVIDER_ID = "EXAMPLE7c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000"
TIME = "2026-03-01T11:00:00.669Z"
NOBODY: list[dict[str, str]] = []


def read(event: object, **envelope: Any) -> Reading:
    wrapped = {**json.loads(notification({})), "Message": json.dumps(event), **envelope}
    return SES.read_webhook(json.dumps(wrapped).encode(), {})


def one(name: str, part: str, about: object, **mail: Any) -> Event:
    (event,) = read({"eventType": name, "mail": {"messageId": "m-1", **mail}, part: about}).events
    return event


def bounce(bounce_type: str, subtype: str, *recipients: dict[str, str]) -> Event:
    given = {"bounceType": bounce_type, "bounceSubType": subtype, "timestamp": TIME}
    return one("Bounce", "bounce", {**given, "bouncedRecipients": list(recipients)})


def documented(name: str) -> Event:
    (event,) = SES.read_webhook(PAYLOADS[name], {}).events
    return event


@pytest.mark.parametrize(
    ("name", "kind", "detail", "at", "recipient"),
    [
        ("bounce", EventKind.BOUNCED, "Bounce/Permanent/General", (2017, 8, 5, 0, 41, 2, 669000), "recipient"),
        ("complaint", EventKind.COMPLAINED, "Complaint/abuse", (2017, 8, 5, 0, 41, 2, 669000), "recipient"),
        ("delivery", EventKind.DELIVERED, "Delivery", (2016, 10, 19, 23, 21, 4, 133000), "recipient"),
        ("send", EventKind.QUEUED, "Send", (2016, 10, 14, 5, 2, 16, 645000), "recipient"),
        ("reject", EventKind.REJECTED, "Reject", (2016, 10, 14, 17, 38, 17, 4000), "sender"),
        ("open", EventKind.OPENED, "Open", (2017, 8, 9, 22, 0, 19, 652000), "recipient"),
        ("click", EventKind.CLICKED, "Click", (2017, 8, 9, 23, 51, 25, 570000), "recipient"),
        ("rendering_failure", EventKind.REJECTED, "Rendering Failure", (2018, 1, 22, 18, 43, 7, 300000), "recipient"),
        (
            "delivery_delay",
            EventKind.DEFERRED,
            "DeliveryDelay/TransientCommunicationFailure",
            (2020, 6, 16, 0, 25, 40, 95000),
            "recipient",
        ),
        ("subscription", EventKind.UNSUBSCRIBED, "Subscription", (2022, 1, 12, 1, 0, 17, 910000), "recipient"),
    ],
)
def test_each_documented_event_by_its_own_time(
    name: str, kind: EventKind, detail: str, at: tuple[int, ...], recipient: str
) -> None:
    event = documented(name)
    assert (event.kind, event.detail) == (kind, detail)
    assert event.occurred_at == datetime(*at, tzinfo=UTC)  # type: ignore[misc, arg-type]
    assert event.recipient == f"{recipient}@example.com"
    assert event.message_id == MESSAGE_ID
    assert event.provider_message_id == PROVIDER_ID


def test_a_notification_of_an_identity_is_read_like_an_event_and_gives_our_id_by_our_message_id() -> None:
    for name, kind in (
        ("notification_bounce", EventKind.BOUNCED),
        ("notification_complaint", EventKind.COMPLAINED),
        ("notification_delivery", EventKind.DELIVERED),
    ):
        event = documented(name)
        assert (event.kind, event.message_id) == (kind, MESSAGE_ID)
        assert event.occurred_at == datetime(2016, 1, 27, 14, 59, 38, 237000, UTC)
    without = documented("notification_bounce_without_dsn")
    assert (without.kind, without.message_id) == (EventKind.BOUNCED, None)
    assert without.provider_message_id == PROVIDER_ID
    assert without.recipient == "jane@example.com"


@pytest.mark.parametrize("name", ["topic_validated", "notification_topic_subscribed"])
def test_what_ses_says_of_the_topic_is_no_event(name: str) -> None:
    assert SES.read_webhook(PAYLOADS[name], {}) == Reading()


def test_incoming_mail_is_no_event_of_ours() -> None:
    assert read({"notificationType": "Received", "mail": {"messageId": "x"}, "receipt": {}}) == Reading()


def test_an_event_of_tomorrow_is_kept_at_the_time_it_was_published() -> None:
    (event,) = read({"eventType": "Read Aloud", "mail": {"messageId": "x"}}).events
    assert (event.kind, event.detail) == (EventKind.UNKNOWN, "Read Aloud")
    assert event.occurred_at == datetime(2026, 3, 1, 9, 31, 2, 114000, UTC)


@pytest.mark.parametrize(
    ("bounce_type", "subtype", "kind", "failure"),
    [
        ("Undetermined", "Undetermined", EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ("Permanent", "General", EventKind.BOUNCED, FailureKind.OTHER),
        ("Permanent", "NoEmail", EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        ("Permanent", "Suppressed", EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("Permanent", "OnAccountSuppressionList", EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("Permanent", "OnTenantSuppressionList", EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("Permanent", "UnsubscribedRecipient", EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("Permanent", "EmailValidationSuppressed", EventKind.REJECTED, FailureKind.ADDRESS_UNKNOWN),
        ("Permanent", "OfTomorrow", EventKind.BOUNCED, FailureKind.OTHER),
        ("Transient", "General", EventKind.AUTO_REPLIED, None),
        ("Transient", "MailboxFull", EventKind.SOFT_BOUNCED, FailureKind.MAILBOX_FULL),
        ("Transient", "MessageTooLarge", EventKind.SOFT_BOUNCED, FailureKind.TOO_LARGE),
        ("Transient", "ContentRejected", EventKind.SOFT_BOUNCED, FailureKind.SPAM),
        ("Transient", "AttachmentRejected", EventKind.SOFT_BOUNCED, FailureKind.POLICY),
        ("Transient", "CustomTimeoutExceeded", EventKind.SOFT_BOUNCED, FailureKind.UNREACHABLE),
        ("Transient", "OfTomorrow", EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ("OfTomorrow", "OfTomorrow", EventKind.SOFT_BOUNCED, FailureKind.OTHER),
    ],
)
def test_each_type_of_bounce_without_a_delivery_report(
    bounce_type: str, subtype: str, kind: EventKind, failure: FailureKind | None
) -> None:
    event = bounce(bounce_type, subtype, {"emailAddress": "ada@patient.example"})
    assert (event.kind, event.detail) == (kind, f"Bounce/{bounce_type}/{subtype}")
    assert (event.failure.kind if event.failure else None) is failure
    assert event.recipient == "ada@patient.example"


@pytest.mark.parametrize(
    ("bounce_type", "subtype", "report", "kind", "failure"),
    [
        # What SES has ceased trying is final, whatever it calls it.
        (
            "Transient",
            "General",
            {"action": "failed", "status": "5.3.0", "diagnosticCode": "smtp; 550 denied"},
            EventKind.BOUNCED,
            Failure(FailureKind.OTHER, 550, "5.3.0", "smtp; 550 denied"),
        ),
        (
            "Transient",
            "General",
            {"action": "failed", "status": "4.4.7", "diagnosticCode": "smtp; 421 4.4.7 message expired"},
            EventKind.BOUNCED,
            Failure(FailureKind.UNREACHABLE, 421, "4.4.7", "smtp; 421 4.4.7 message expired"),
        ),
        (
            "Transient",
            "MailboxFull",
            {"action": "failed", "status": "4.2.2", "diagnosticCode": "smtp; 452 4.2.2 over quota"},
            EventKind.BOUNCED,
            Failure(FailureKind.MAILBOX_FULL, 452, "4.2.2", "smtp; 452 4.2.2 over quota"),
        ),
        # Without an action the code decides.
        (
            "Transient",
            "General",
            {"status": "5.1.1"},
            EventKind.BOUNCED,
            Failure(FailureKind.ADDRESS_UNKNOWN, None, "5.1.1"),
        ),
        (
            "Transient",
            "General",
            {"diagnosticCode": "smtp; 451 4.3.0 later"},
            EventKind.SOFT_BOUNCED,
            Failure(FailureKind.OTHER, 451, "4.3.0", "smtp; 451 4.3.0 later"),
        ),
        (
            "Undetermined",
            "Undetermined",
            {"action": "failed", "status": "5.7.1", "diagnosticCode": "smtp; 550 5.7.1 message looks like spam"},
            EventKind.BOUNCED,
            Failure(FailureKind.SPAM, 550, "5.7.1", "smtp; 550 5.7.1 message looks like spam"),
        ),
        ("Undetermined", "Undetermined", {"action": "failed"}, EventKind.SOFT_BOUNCED, Failure(FailureKind.OTHER)),
        # RFC 3464: an action that is no failure.
        (
            "Permanent",
            "General",
            {"action": "delayed", "status": "4.0.0"},
            EventKind.DEFERRED,
            Failure(FailureKind.OTHER, None, "4.0.0"),
        ),
        (
            "Transient",
            "MailboxFull",
            {"action": "DELAYED", "status": "4.2.2"},
            EventKind.DEFERRED,
            Failure(FailureKind.MAILBOX_FULL, None, "4.2.2"),
        ),
        ("Transient", "General", {"action": "delivered", "status": "2.0.0"}, EventKind.AUTO_REPLIED, None),
        ("Transient", "General", {"action": "relayed"}, EventKind.AUTO_REPLIED, None),
        ("Undetermined", "Undetermined", {"action": "expanded"}, EventKind.AUTO_REPLIED, None),
        ("Transient", "General", {"status": "2.0.0"}, EventKind.AUTO_REPLIED, None),
        # SES's own lists: no destination was asked.
        (
            "Permanent",
            "OnAccountSuppressionList",
            {"action": "failed", "status": "5.1.1", "diagnosticCode": "Amazon SES has suppressed sending"},
            EventKind.REJECTED,
            Failure(FailureKind.SUPPRESSED, None, "5.1.1", "Amazon SES has suppressed sending"),
        ),
        (
            "Permanent",
            "General",
            {"action": "failed", "status": "5.1.2", "diagnosticCode": "smtp; 550 5.1.2 no such host"},
            EventKind.BOUNCED,
            Failure(FailureKind.DOMAIN_UNKNOWN, 550, "5.1.2", "smtp; 550 5.1.2 no such host"),
        ),
    ],
)
def test_the_recipients_own_report_decides(
    bounce_type: str, subtype: str, report: dict[str, str], kind: EventKind, failure: Failure | None
) -> None:
    event = bounce(bounce_type, subtype, report)
    assert (event.kind, event.failure) == (kind, failure)


def test_of_several_recipients_one_that_failed_counts() -> None:
    """A forwarding makes several of one."""
    event = bounce("Permanent", "General", {"action": "delayed"}, {"emailAddress": "b@c.example", "action": "failed"})
    assert (event.kind, event.recipient) == (EventKind.BOUNCED, "b@c.example")


@given(
    st.sampled_from(["Undetermined", "Permanent", "Transient", "OfTomorrow"]),
    st.sampled_from(["General", "NoEmail", "MailboxFull", "Undetermined", "OfTomorrow"]),
    st.sampled_from(["5.1.1", "5.0.0", "5.7.1"]),
)
def test_a_failure_with_a_permanent_code_is_never_less_than_final(bounce_type: str, subtype: str, status: str) -> None:
    event = bounce(bounce_type, subtype, {"action": "failed", "status": status})
    assert event.verdict is Verdict.RETURNED


@given(st.sampled_from(["delivered", "relayed", "expanded", ""]), st.sampled_from(["", "2.0.0", "2.1.5"]))
def test_an_out_of_office_answer_changes_nothing(action: str, status: str) -> None:
    event = bounce("Transient", "General", {"action": action, "status": status})
    assert event.verdict is Verdict.QUEUED
    assert event.failure is None


@pytest.mark.parametrize(
    ("complaint", "kind", "detail"),
    [
        ({"complaintFeedbackType": "abuse"}, EventKind.COMPLAINED, "Complaint/abuse"),
        ({"complaintFeedbackType": "fraud"}, EventKind.COMPLAINED, "Complaint/fraud"),
        ({"complaintFeedbackType": "other"}, EventKind.COMPLAINED, "Complaint/other"),
        ({"complaintFeedbackType": "of-tomorrow"}, EventKind.COMPLAINED, "Complaint/of-tomorrow"),
        ({}, EventKind.COMPLAINED, "Complaint"),
        ({"complaintSubType": None}, EventKind.COMPLAINED, "Complaint"),
        ({"complaintFeedbackType": "not-spam"}, EventKind.UNKNOWN, "Complaint/not-spam"),
        ({"complaintFeedbackType": "Not-Spam"}, EventKind.UNKNOWN, "Complaint/Not-Spam"),
        ({"complaintFeedbackType": "auth-failure"}, EventKind.UNKNOWN, "Complaint/auth-failure"),
        ({"complaintFeedbackType": "virus"}, EventKind.UNKNOWN, "Complaint/virus"),
    ],
)
def test_each_type_of_complaint(complaint: dict[str, Any], kind: EventKind, detail: str) -> None:
    event = one("Complaint", "complaint", {"timestamp": TIME, **complaint})
    assert (event.kind, event.detail, event.failure) == (kind, detail, None)


@pytest.mark.parametrize("subtype", ["OnAccountSuppressionList", "OnTenantSuppressionList"])
def test_a_complaint_that_is_a_suppression_was_never_sent(subtype: str) -> None:
    event = one("Complaint", "complaint", {"timestamp": TIME, "complaintSubType": subtype})
    assert (event.kind, event.detail) == (EventKind.REJECTED, f"Complaint/{subtype}")
    assert event.failure == Failure(FailureKind.SUPPRESSED)


@pytest.mark.parametrize(
    ("delay_type", "failure"),
    [
        ("InternalFailure", FailureKind.OTHER),
        ("General", FailureKind.OTHER),
        ("MailboxFull", FailureKind.MAILBOX_FULL),
        ("SpamDetected", FailureKind.REPUTATION),
        ("RecipientServerError", FailureKind.UNREACHABLE),
        ("IPFailure", FailureKind.REPUTATION),
        ("TransientCommunicationFailure", FailureKind.UNREACHABLE),
        ("BYOIPHostNameLookupUnavailable", FailureKind.ACCOUNT),
        ("Undetermined", FailureKind.OTHER),
        ("SendingDeferral", FailureKind.OTHER),
        ("OfTomorrow", FailureKind.OTHER),
    ],
)
def test_each_type_of_delay(delay_type: str, failure: FailureKind) -> None:
    event = one("DeliveryDelay", "deliveryDelay", {"timestamp": TIME, "delayType": delay_type})
    assert (event.kind, event.detail) == (EventKind.DEFERRED, f"DeliveryDelay/{delay_type}")
    assert event.failure == Failure(failure)


def test_a_delay_tells_the_destinations_reply() -> None:
    assert documented("delivery_delay").failure == Failure(
        FailureKind.UNREACHABLE, 421, "4.4.1", "smtp; 421 4.4.1 Unable to connect to remote host"
    )


def test_what_was_never_tried_says_why() -> None:
    assert documented("reject").failure == Failure(FailureKind.CONTENT, reason="Bad content")
    assert documented("rendering_failure").failure == Failure(
        FailureKind.CONTENT, reason="Attribute 'attributeName' is not present in the rendering data."
    )


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ({"unsubscribeAll": True, "topicSubscriptionStatus": []}, EventKind.UNSUBSCRIBED),
        (
            {"unsubscribeAll": False, "topicSubscriptionStatus": [{"topicName": "a", "subscriptionStatus": "OptOut"}]},
            EventKind.UNSUBSCRIBED,
        ),
        (
            {"unsubscribeAll": False, "topicSubscriptionStatus": [{"topicName": "a", "subscriptionStatus": "OptIn"}]},
            EventKind.RESUBSCRIBED,
        ),
    ],
)
def test_each_change_of_a_subscription(wanted: dict[str, Any], kind: EventKind) -> None:
    assert one("Subscription", "subscription", {"timestamp": TIME, "newTopicPreferences": wanted}).kind is kind


@pytest.mark.parametrize(
    ("part", "about", "machine"),
    [
        ("Open", {"isBotEvent": "Likely", "userAgent": "Mozilla/5.0 (X11) Firefox/148.0"}, True),
        ("Open", {"isBotEvent": "Unlikely", "userAgent": "Mozilla/5.0 (X11) Firefox/148.0"}, False),
        ("Open", {"isBotEvent": "Unlikely", "userAgent": "Mozilla/5.0"}, True),
        ("Open", {"userAgent": "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"}, False),
        ("Open", {"isBotEvent": True}, False),
        ("Open", {}, False),
        ("Click", {"isBotEvent": "Likely"}, True),
        ("Click", {"isBotEvent": "Unlikely", "userAgent": "Mozilla/5.0"}, False),
    ],
)
def test_opens_and_clicks_of_machines_are_told_apart(part: str, about: dict[str, Any], machine: bool) -> None:
    event = one(part, part.lower(), {"timestamp": TIME, **about})
    assert event.machine is machine
    assert event.verdict is verdict_of(event.kind, machine=machine)
    assert documented("click").machine
    assert not documented("delivery").machine


def test_neither_address_nor_program_of_who_opened_it_is_kept() -> None:
    assert "192.0.2.1" not in repr(documented("open"))
    assert "iPhone" not in repr(documented("open"))


@pytest.mark.parametrize(
    ("mail", "found"),
    [
        ({"tags": {"carepost_message_id": [str(MESSAGE_ID)]}}, True),
        ({"tags": {"carepost_message_id": ["not-an-id"]}}, False),
        ({"tags": {"carepost_message_id": []}}, False),
        ({"tags": {"carepost_message_id": str(MESSAGE_ID)}}, False),
        ({"headers": [{"name": "message-id", "value": f"<{MESSAGE_ID.hex}@practice.example>"}]}, True),
        ({"headers": [{"name": "Message-ID", "value": f"<x{MESSAGE_ID.hex}@practice.example>"}]}, False),
        ({"headers": [{"name": "References", "value": f"<{MESSAGE_ID.hex}@practice.example>"}]}, False),
        ({"headers": "x"}, False),
        ({}, False),
    ],
)
def test_our_id_is_the_tag_or_our_message_id(mail: dict[str, Any], found: bool) -> None:
    event = one("Delivery", "delivery", {"timestamp": TIME}, **mail)
    assert event.message_id == (MESSAGE_ID if found else None)


def test_a_tag_wins_over_a_message_id() -> None:
    other = UUID("0199f3a2-7c1e-7b6a-9d3e-000000000000")
    headers = [{"name": "Message-ID", "value": f"<{other.hex}@practice.example>"}]
    event = one("Send", "send", {}, timestamp=TIME, headers=headers, tags={"carepost_message_id": [str(MESSAGE_ID)]})
    assert event.message_id == MESSAGE_ID


def test_a_retry_another_topic_and_another_kind_of_notification_tell_of_one_event() -> None:
    about = {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [], "timestamp": TIME}
    event = {"eventType": "Bounce", "mail": {"messageId": "m-1"}, "bounce": {**about, "feedbackId": "a"}}
    classic = {"notificationType": "Bounce", "mail": {"messageId": "m-1"}, "bounce": {**about, "feedbackId": "b"}}
    readings = [
        read(event),
        read(event, Timestamp="2026-03-01T11:05:00Z"),
        read(event, MessageId="another", TopicArn="arn:aws:sns:us-east-1:123456789012:t"),
        read(classic, MessageId="a-third"),
    ]
    assert len({each.events[0].dedupe_key for each in readings}) == 1


def test_what_happens_once_is_known_without_its_time_and_the_rest_by_its_second() -> None:
    def key(name: str, part: str, time: str, **about: Any) -> str:
        return one(name, part, {"timestamp": time, **about}).dedupe_key

    early, same, late = "2026-03-01T11:00:00.100Z", "2026-03-01T13:00:00.900+02:00", "2026-03-01T11:00:01Z"
    assert key("Delivery", "delivery", early) == key("Delivery", "delivery", late)
    assert key("Open", "open", early) == key("Open", "open", same)
    keys = [
        key("Delivery", "delivery", early),
        key("Open", "open", early),
        key("Open", "open", late),
        key("Open", "open", early, isBotEvent="Likely"),
        key("Click", "click", early, link="https://a.example"),
        key("Click", "click", early, link="https://b.example"),
        key("DeliveryDelay", "deliveryDelay", early),
        key("DeliveryDelay", "deliveryDelay", late),
        bounce("Transient", "General").dedupe_key,
        bounce("Permanent", "General").dedupe_key,
        one("Delivery", "delivery", {"timestamp": early}, messageId="m-2").dedupe_key,
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ("x", "the event is not an object"),
        ([], "the event is not an object"),
        ({}, "the event has no type"),
        ({"eventType": 1.5}, "the event has no type"),
        ({"eventType": "Delivery"}, "the event names no message"),
        ({"eventType": "Delivery", "mail": {"messageId": ""}}, "the event names no message"),
        (
            {"eventType": "Delivery", "mail": {"messageId": "m"}, "delivery": {"timestamp": "2026-03-01"}},
            "its time is no ISO 8601 time with a zone",
        ),
        (
            {"eventType": "Delivery", "mail": {"messageId": "m"}, "delivery": {"timestamp": 1e300}},
            "its time is out of range",
        ),
        (
            {"eventType": "Delivery", "mail": {"messageId": "m"}, "delivery": {"timestamp": True}},
            "its time is no number of seconds",
        ),
    ],
)
def test_what_cannot_be_read_is_set_aside(event: object, error: str) -> None:
    assert read(event) == Reading((), (Unreadable(0, error),))


@pytest.mark.parametrize("message", ["", "not json", '{"eventType": ', "{" * 10_000])
def test_a_message_that_is_no_json_is_set_aside(message: str) -> None:
    wrapped = {**json.loads(notification({})), "Message": message}
    reading = SES.read_webhook(json.dumps(wrapped).encode(), {})
    assert reading == Reading((), (Unreadable(0, "the body is not JSON"),))


def test_without_any_time_an_event_is_set_aside() -> None:
    reading = read({"eventType": "Reject", "mail": {"messageId": "m"}, "reject": {}}, Timestamp="soon")
    assert reading == Reading((), (Unreadable(0, "its time is no ISO 8601 time with a zone"),))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"Type": "Notification"}', b'{"Type": "Notification", "Message": 1}']
)
def test_a_body_that_is_no_envelope_is_set_aside(body: bytes) -> None:
    assert SES.read_webhook(body, {}) == Reading((), (Unreadable(0, "the body is no SNS message"),))
