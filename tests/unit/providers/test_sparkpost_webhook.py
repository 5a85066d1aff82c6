"""SparkPost: every row of what its events and bounce classes mean."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.event import Event, EventKind
from mail.failure import FailureKind
from mail.providers.base import Reading
from mail.providers.sparkpost import SparkPost
from tests.support.providers.sample import MESSAGE_ID, payloads

SPARKPOST = SparkPost()
PAYLOADS = payloads("sparkpost")
SOFT = EventKind.SOFT_BOUNCED
BASE = {
    "event_id": "92356927693813856",
    "timestamp": "1454442600",
    "transmission_id": "65832150921904138",
    "rcpt_to": "ada@patient.example",
}


def read(*elements: Any) -> Reading:
    return SPARKPOST.read_webhook(json.dumps(elements).encode(), {})


def one(name: str, **fields: Any) -> Event:
    (event,) = read({"msys": {"message_event": {"type": name, **BASE, **fields}}}).events
    return event


def documented(name: str) -> Event:
    (event,) = SPARKPOST.read_webhook(PAYLOADS[name], {}).events
    return event


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("injection", EventKind.QUEUED, "injection"),
        ("delivery", EventKind.DELIVERED, "delivery"),
        ("delay", EventKind.DEFERRED, "delay/1"),
        ("bounce", EventKind.BOUNCED, "bounce/1"),
        ("out_of_band", EventKind.BOUNCED, "out_of_band/1"),
        ("policy_rejection", EventKind.REJECTED, "policy_rejection"),
        ("generation_failure", EventKind.REJECTED, "generation_failure"),
        ("generation_rejection", EventKind.REJECTED, "generation_rejection"),
        ("spam_complaint", EventKind.COMPLAINED, "spam_complaint"),
        ("open", EventKind.OPENED, "open"),
        ("initial_open", EventKind.OPENED, "initial_open"),
        ("amp_open", EventKind.OPENED, "amp_open"),
        ("amp_initial_open", EventKind.OPENED, "amp_initial_open"),
        ("click", EventKind.CLICKED, "click"),
        ("amp_click", EventKind.CLICKED, "amp_click"),
        ("list_unsubscribe", EventKind.UNSUBSCRIBED, "list_unsubscribe"),
        ("link_unsubscribe", EventKind.UNSUBSCRIBED, "link_unsubscribe"),
    ],
)
def test_each_documented_event(name: str, kind: EventKind, detail: str) -> None:
    event = documented(name)
    assert (event.kind, event.detail, event.machine) == (kind, detail, False)
    assert event.occurred_at == datetime(2016, 2, 2, 19, 50, tzinfo=UTC)
    assert (event.provider_message_id, event.recipient) == ("65832150921904138", "recipient@example.com")
    assert event.dedupe_key == "92356927693813856"


@pytest.mark.parametrize("name", ["ping", "relay_delivery", "ingest_success"])
def test_what_is_about_no_email_of_ours_is_no_event(name: str) -> None:
    assert SPARKPOST.read_webhook(PAYLOADS[name], {}) == Reading()


def test_the_test_batch_may_come_without_its_list() -> None:
    assert SPARKPOST.read_webhook(b'{"msys":{}}', {}) == Reading()


def test_our_id_comes_back() -> None:
    assert documented("delivery").message_id == MESSAGE_ID
    event = one("delivery", rcpt_meta={"carepost_message_id": str(MESSAGE_ID)}, transmission_id=None)
    assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, None)


def test_the_address_is_as_it_was_sent() -> None:
    assert one("delivery", raw_rcpt_to="Ada@patient.example").recipient == "Ada@patient.example"
    assert one("delivery").recipient == "ada@patient.example"


CLASSES = [
    ("1", SOFT, FailureKind.OTHER),
    ("10", EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
    ("20", SOFT, FailureKind.OTHER),
    ("21", SOFT, FailureKind.DOMAIN_UNKNOWN),
    ("22", SOFT, FailureKind.MAILBOX_FULL),
    ("23", SOFT, FailureKind.TOO_LARGE),
    ("24", SOFT, FailureKind.UNREACHABLE),
    ("25", EventKind.REJECTED, FailureKind.POLICY),
    ("30", EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
    ("40", SOFT, FailureKind.OTHER),
    ("50", SOFT, FailureKind.POLICY),
    ("51", SOFT, FailureKind.REPUTATION),
    ("52", SOFT, FailureKind.SPAM),
    ("53", SOFT, FailureKind.POLICY),
    ("54", SOFT, FailureKind.UNREACHABLE),
    ("60", EventKind.AUTO_REPLIED, None),
    ("70", SOFT, FailureKind.OTHER),
    ("80", EventKind.RESUBSCRIBED, None),
    ("90", EventKind.UNSUBSCRIBED, None),
    ("100", EventKind.AUTO_REPLIED, None),
    ("of_tomorrow", SOFT, FailureKind.OTHER),
]


@pytest.mark.parametrize(("bounce_class", "kind", "failure"), CLASSES)
def test_each_bounce_class(bounce_class: str, kind: EventKind, failure: FailureKind | None) -> None:
    late = one("out_of_band", bounce_class=bounce_class, reason="no words")
    assert late.kind is kind
    assert (late.failure.kind if late.failure else None) is failure
    # At the door the destination refused this email for good, whatever it said.
    assert one("bounce", bounce_class=bounce_class).kind is (EventKind.BOUNCED if kind is SOFT else kind)


def test_a_late_bounce_is_final_where_the_destination_says_so() -> None:
    assert one("out_of_band", bounce_class="22", raw_reason="552 5.2.2 mailbox full").kind is EventKind.BOUNCED
    assert one("out_of_band", bounce_class="22", raw_reason="452 4.2.2 mailbox full").kind is SOFT


def test_the_destinations_words_count_before_the_class() -> None:
    event = one("bounce", bounce_class="40", error_code="550", raw_reason="550 5.1.1 no such user", reason="550")
    assert event.failure is not None
    assert event.failure.kind is FailureKind.ADDRESS_UNKNOWN
    assert (event.failure.smtp_code, event.failure.enhanced_code) == (550, "5.1.1")
    assert event.failure.reason == "550 5.1.1 no such user"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("bounce", {"bounce_class": "25", "error_code": "554"}),
        ("bounce", {"bounce_class": "10"}),
        ("policy_rejection", {"error_code": "550"}),
        ("generation_rejection", {}),
    ],
)
def test_a_suppressed_address_was_never_tried(name: str, fields: dict[str, str]) -> None:
    event = one(name, raw_reason="550 5.7.1 recipient address was suppressed due to customer policy", **fields)
    assert event.kind is EventKind.REJECTED
    assert event.failure is not None
    assert event.failure.kind is FailureKind.SUPPRESSED


def test_a_rejection_without_words_has_the_kind_of_its_name() -> None:
    kinds = {}
    for name in ("policy_rejection", "generation_rejection", "generation_failure"):
        failure = one(name).failure
        kinds[name] = failure.kind if failure else None
    assert kinds == {
        "policy_rejection": FailureKind.POLICY,
        "generation_rejection": FailureKind.POLICY,
        "generation_failure": FailureKind.CONTENT,
    }


@pytest.mark.parametrize(
    ("fields", "machine"),
    [
        ({"user_agent_parsed": {"is_prefetched": True, "is_proxy": True}}, True),
        ({"user_agent_parsed": {"is_prefetched": "true"}}, True),
        ({"user_agent_parsed": {"is_prefetched": False, "is_proxy": True}}, False),
        ({"user_agent_parsed": "none"}, False),
        ({"user_agent": "Mozilla/5.0"}, True),
        ({}, False),
    ],
)
def test_an_image_loaded_in_advance_is_a_machines(fields: dict[str, Any], machine: bool) -> None:
    assert one("open", **fields).machine is machine
    assert one("initial_open", **fields).machine is machine
    assert one("click", **fields).machine is False


def test_an_unknown_event_is_kept() -> None:
    event = one("of_tomorrow")
    assert (event.kind, event.detail) == (EventKind.UNKNOWN, "of_tomorrow")


def test_an_event_without_an_id_is_known_by_what_it_says() -> None:
    first, again, other = (
        one("click", event_id=None, target_link_url=url) for url in ("https://a", "https://a", "https://b")
    )
    assert first.dedupe_key == again.dedupe_key != other.dedupe_key


@pytest.mark.parametrize(
    "element",
    [
        7,
        {},
        {"msys": None},
        {"msys": {"message_event": 5}},
        {"msys": {"message_event": {**BASE}}},
        {"msys": {"message_event": {**BASE, "type": "delivery", "transmission_id": None}}},
        {"msys": {"message_event": {**BASE, "type": "delivery", "timestamp": "soon"}}},
        {"msys": {"message_event": {**BASE, "type": "delivery", "timestamp": None}}},
    ],
)
def test_one_event_that_cant_be_read_harms_no_other(element: Any) -> None:
    reading = read(element, {"msys": {"message_event": {"type": "delivery", **BASE}}})
    assert [part.index for part in reading.unreadable] == [0]
    assert len(reading.events) == 1


def test_a_body_that_is_no_json_is_set_aside() -> None:
    assert SPARKPOST.read_webhook(b"<html>", {}).unreadable
