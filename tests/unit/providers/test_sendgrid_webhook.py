"""SendGrid: every row of what its events mean."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.event import Event, EventKind
from mail.failure import FailureKind
from mail.providers import provider
from mail.providers.base import Reading, Unreadable
from tests.support.providers.sample import MESSAGE_ID, payloads

SENDGRID = provider("sendgrid")
BODY = payloads("sendgrid")["every_event"]


def element(event: str, **more: Any) -> dict[str, Any]:
    return {"event": event, "timestamp": 1513299569, "sg_message_id": "14c5d75ce93.filter1", **more}


def read(*elements: Any) -> Reading:
    return SENDGRID.read_webhook(json.dumps(elements).encode(), {})


def one(event: str, **more: Any) -> Event:
    (read_event,) = read(element(event, **more)).events
    return read_event


def test_the_documented_events_are_read_in_order() -> None:
    reading = SENDGRID.read_webhook(BODY, {})
    assert [(event.kind, event.detail) for event in reading.events] == [
        (EventKind.QUEUED, "processed"),
        (EventKind.DEFERRED, "deferred"),
        (EventKind.DELIVERED, "delivered"),
        (EventKind.BOUNCED, "bounce/bounce"),
        (EventKind.SOFT_BOUNCED, "bounce/blocked"),
        (EventKind.REJECTED, "dropped/Bounced Address"),
        (EventKind.OPENED, "open"),
        (EventKind.CLICKED, "click"),
        (EventKind.COMPLAINED, "spamreport"),
        (EventKind.UNSUBSCRIBED, "unsubscribe"),
        (EventKind.UNSUBSCRIBED, "group_unsubscribe"),
        (EventKind.RESUBSCRIBED, "group_resubscribe"),
    ]
    assert {event.provider_message_id for event in reading.events} == {"14c5d75ce93"}
    assert {event.recipient for event in reading.events} == {"example@test.com"}
    assert {event.occurred_at for event in reading.events} == {datetime(2017, 12, 15, 0, 59, 29, tzinfo=UTC)}


def test_our_id_comes_back_as_a_custom_argument() -> None:
    delivered, opened = SENDGRID.read_webhook(payloads("sendgrid")["with_our_id"], {}).events
    assert (delivered.message_id, opened.message_id) == (MESSAGE_ID, MESSAGE_ID)
    assert (opened.kind, opened.machine) == (EventKind.OPENED, True)
    assert one("delivered", carepost_message_id="not-an-id").message_id is None


def test_a_change_of_the_account_is_no_event_of_a_message() -> None:
    assert SENDGRID.read_webhook(payloads("sendgrid")["account_status_change"], {}) == Reading()


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"type": "bounce", "status": "5.1.1"}, EventKind.BOUNCED),
        ({"type": "bounce", "status": "4.2.2"}, EventKind.BOUNCED),
        ({}, EventKind.BOUNCED),
        ({"type": "expired"}, EventKind.BOUNCED),
        ({"type": "blocked"}, EventKind.SOFT_BOUNCED),
        ({"type": "blocked", "status": "4.7.1"}, EventKind.SOFT_BOUNCED),
        ({"type": "blocked", "status": "5.7.1"}, EventKind.BOUNCED),
        ({"type": "blocked", "reason": "554 refused"}, EventKind.BOUNCED),
        ({"type": "blocked", "reason": "554 4.7.1 later"}, EventKind.SOFT_BOUNCED),
        ({"type": "of tomorrow"}, EventKind.SOFT_BOUNCED),
    ],
)
def test_a_bounce_is_final_by_its_type_or_the_destinations_own_code(fields: dict[str, str], kind: EventKind) -> None:
    assert one("bounce", **fields).kind is kind


@pytest.mark.parametrize(
    ("classification", "reason", "kind"),
    [
        ("Invalid Address", "no", FailureKind.ADDRESS_UNKNOWN),
        ("Technical", "no", FailureKind.UNREACHABLE),
        ("Technical Failure", "no", FailureKind.UNREACHABLE),
        ("Content", "550 no", FailureKind.SPAM),
        ("Reputation", "550 5.7.1 no", FailureKind.REPUTATION),
        ("Frequency or Volume Too High", "no", FailureKind.REPUTATION),
        ("Mailbox Unavailable", "552 5.2.2 over quota", FailureKind.MAILBOX_FULL),
        ("Mailbox Unavailable", "no", FailureKind.OTHER),
        ("Unclassified", "550 5.1.1 no such user", FailureKind.ADDRESS_UNKNOWN),
        ("Invalid Address", "550 5.1.2 domain not found", FailureKind.DOMAIN_UNKNOWN),
        ("Of tomorrow", "no", FailureKind.OTHER),
    ],
)
def test_the_destinations_words_win_and_sendgrids_classification_fills_in(
    classification: str, reason: str, kind: FailureKind
) -> None:
    failure = one("bounce", type="bounce", bounce_classification=classification, reason=reason).failure
    assert failure is not None
    assert failure.kind is kind
    assert failure.reason == reason


def test_the_codes_of_a_bounce_are_kept() -> None:
    failure = one("bounce", type="bounce", status="5.2.2", reason="552 mailbox\nfull").failure
    assert failure is not None
    assert (failure.smtp_code, failure.enhanced_code, failure.reason) == (552, "5.2.2", "552 mailbox full")
    failure = one("bounce", type="bounce", status="550", reason="no").failure
    assert failure is not None
    assert (failure.smtp_code, failure.enhanced_code) == (550, None)


def test_a_deferral_says_what_the_destination_said() -> None:
    failure = one("deferred", response="451 4.7.1 greylisted", attempt="2").failure
    assert failure is not None
    assert (failure.smtp_code, failure.enhanced_code) == (451, "4.7.1")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Bounced Address", FailureKind.SUPPRESSED),
        ("Unsubscribed Address", FailureKind.SUPPRESSED),
        ("Spam Reporting Address", FailureKind.SUPPRESSED),
        ("Invalid", FailureKind.ADDRESS_UNKNOWN),
        ("Spam Content", FailureKind.SPAM),
        ("Invalid SMTPAPI header", FailureKind.CONTENT),
        ("Recipient List over Package Quota", FailureKind.ACCOUNT),
    ],
)
def test_a_drop_says_why(reason: str, kind: FailureKind) -> None:
    event = one("dropped", reason=reason)
    assert (event.kind, event.detail) == (EventKind.REJECTED, f"dropped/{reason}")
    assert event.failure is not None
    assert (event.failure.kind, event.failure.reason) == (kind, reason)


def test_a_drop_for_another_reason_keeps_it_as_the_reason_alone() -> None:
    event = one("dropped", reason="Moon is full")
    assert event.detail == "dropped"
    assert event.failure is not None
    assert (event.failure.kind, event.failure.reason) == (FailureKind.OTHER, "Moon is full")


def test_an_unknown_event_is_kept() -> None:
    event = one("teleported")
    assert (event.kind, event.detail, event.failure) == (EventKind.UNKNOWN, "teleported", None)


def test_a_key_outlives_sendgrids_own_event_id() -> None:
    """sendgrid-nodejs #1435: the same event again, under another sg_event_id."""
    again = one("open", sg_event_id="b", timestamp="1513299569", sg_message_id="14c5d75ce93.filter2")
    assert one("open", sg_event_id="a").dedupe_key == again.dedupe_key


@pytest.mark.parametrize(
    "other",
    [
        element("click", url="https://b.example"),
        element("click", url="https://a.example", timestamp=1513299570),
        element("open"),
        element("open", sg_machine_open=True),
        element("deferred", attempt="1"),
        element("deferred", attempt="2"),
        element("click", url="https://a.example", sg_message_id="other.filter1"),
        element("click", url="https://a.example", carepost_message_id=str(MESSAGE_ID)),
    ],
)
def test_different_events_of_one_second_have_different_keys(other: dict[str, Any]) -> None:
    first, second = read(element("click", url="https://a.example"), other).events
    assert first.dedupe_key != second.dedupe_key


def test_an_open_of_a_person_is_not_swallowed_by_a_machines_in_the_same_second() -> None:
    machine, person = read(element("open", sg_machine_open=True), element("open", sg_machine_open=False)).events
    assert (machine.machine, person.machine) == (True, False)
    assert machine.dedupe_key != person.dedupe_key


@pytest.mark.parametrize(
    ("timestamp", "occurred_at"),
    [
        ("1513299569", datetime(2017, 12, 15, 0, 59, 29, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-62135596800, datetime(1, 1, 1, tzinfo=UTC)),
        (253402300799, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_any_time_that_can_be_held_is_accepted(timestamp: object, occurred_at: datetime) -> None:
    assert one("delivered", timestamp=timestamp).occurred_at == occurred_at


@pytest.mark.parametrize(
    "timestamp", [True, None, "", "soon", 253402300800, -62135596801, 10**40, 1e300, [], "1e9", "٣"]
)
def test_an_impossible_time_sets_its_event_aside(timestamp: object) -> None:
    reading = read(element("delivered", timestamp=timestamp), element("delivered"))
    assert [part.index for part in reading.unreadable] == [0]
    assert len(reading.events) == 1


def test_one_bad_event_among_others_is_set_aside_alone() -> None:
    bad = [7, {"timestamp": 1}, element(""), {"event": "open", "timestamp": 1}, element("open", timestamp="x")]
    reading = read(element("delivered"), *bad, element("open"))
    assert [event.kind for event in reading.events] == [EventKind.DELIVERED, EventKind.OPENED]
    assert reading.unreadable == (
        Unreadable(1, "the event is not an object"),
        Unreadable(2, "the event has no type"),
        Unreadable(3, "the event has no type"),
        Unreadable(4, "the event names no message"),
        Unreadable(5, "its time is no number of seconds"),
    )


@pytest.mark.parametrize("poison", ['"\\ud800"', "NaN", "-Infinity", "7" * 5000, "1e999", '"\\u0000"'])
def test_a_value_that_strict_json_refuses_hurts_no_other_event(poison: str) -> None:
    good = json.dumps(element("delivered"))
    body = f'[{good}, {{"event": "delivered", "timestamp": {poison}, "sg_message_id": "a"}}, {good}]'.encode()
    reading = SENDGRID.read_webhook(body, {})
    assert [event.kind for event in reading.events] == [EventKind.DELIVERED, EventKind.DELIVERED]
    assert [part.index for part in reading.unreadable] == [1]


def test_broken_utf8_in_a_field_that_is_not_needed_is_no_matter() -> None:
    body = json.dumps([element("open", useragent="X")]).encode().replace(b"X", b"\xff\xfe")
    assert [event.kind for event in SENDGRID.read_webhook(body, {}).events] == [EventKind.OPENED]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON"),
        (b"not json", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"{}", "the body is not a list of events"),
        (b"null", "the body is not a list of events"),
    ],
)
def test_a_body_without_events_is_one_unreadable(body: bytes, error: str) -> None:
    assert SENDGRID.read_webhook(body, {}) == Reading((), (Unreadable(0, error),))


def test_what_postgres_cannot_store_is_cleaned_out() -> None:
    event = one("bounce", type="bounce", reason="a\x00b", email="x\x00@y.example")
    assert event.recipient == "x @y.example"
    assert event.failure is not None
    assert event.failure.reason == "a b"
