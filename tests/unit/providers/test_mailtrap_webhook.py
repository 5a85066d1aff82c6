"""Mailtrap: the signature of its webhook, and every row of what its events mean."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.errors import WebhookRejected
from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Reading, Unreadable, WebhookRequest
from tests.support.providers.mailtrap import sign
from tests.support.providers.sample import MESSAGE_ID, URL, payloads

MAILTRAP = provider("mailtrap")
PAYLOADS = payloads("mailtrap")
BODY = PAYLOADS["every_event"]
SECRET = "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6"
SIGNATURE = "mailtrap-signature"


def verify(headers: dict[str, str], *secrets: str, body: bytes = BODY) -> None:
    MAILTRAP.verify_webhook(WebhookRequest("POST", URL, headers, body), secrets)


def read(*events: Any) -> Reading:
    return MAILTRAP.read_webhook(json.dumps({"events": events}).encode(), {})


def one(event: str, **more: Any) -> Event:
    (read_event,) = read({"event": event, "timestamp": 1728669700, "message_id": "1df37d17", **more}).events
    return read_event


def test_the_signature_is_a_sha256_hmac_in_hexadecimal_over_the_raw_body() -> None:
    """As OpenSSL makes it."""
    made = "0093b7fbaa8a7d1e53e5a6c8d93724be4734a82e463a64cd18ec3cf16019156a"
    verify({SIGNATURE: made}, SECRET, body=b'{"events":[]}')
    verify({SIGNATURE: made.upper()}, SECRET, body=b'{"events":[]}')


def test_a_signature_holds_through_a_rotation_of_secrets() -> None:
    for secret in (SECRET, "another-secret-of-mailtrap"):
        verify(dict(sign(BODY, secret)), "another-secret-of-mailtrap", SECRET)
    with pytest.raises(WebhookRejected, match="wrong"):
        verify(dict(sign(BODY, "a-third-secret")), "another-secret-of-mailtrap", SECRET)


@pytest.mark.parametrize(
    "value", [None, "", "é", "%%%", "0" * 64, "0" * 63, "A" * 100_000, "\x00", "sha256=" + "0" * 64]
)
def test_a_missing_or_malformed_signature_is_rejected(value: str | None) -> None:
    with pytest.raises(WebhookRejected):
        verify({} if value is None else {SIGNATURE: value}, SECRET)


@pytest.mark.parametrize("change", [lambda b: b[:-2], lambda b: b + b" ", lambda b: b.replace(b"delivery", b"bounce")])
def test_a_changed_body_is_rejected(change: Any) -> None:
    with pytest.raises(WebhookRejected):
        verify(dict(sign(BODY, SECRET)), SECRET, body=change(BODY))


def test_the_documented_events_are_read_in_order() -> None:
    reading = MAILTRAP.read_webhook(BODY, {})
    assert [(event.kind, event.detail) for event in reading.events] == [
        (EventKind.DELIVERED, "delivery"),
        (EventKind.DEFERRED, "soft bounce/greylisting"),
        (EventKind.BOUNCED, "bounce/spam"),
        (EventKind.DEFERRED, "suspension"),
        (EventKind.REJECTED, "reject"),
        (EventKind.OPENED, "open"),
        (EventKind.CLICKED, "click"),
        (EventKind.COMPLAINED, "spam"),
        (EventKind.UNSUBSCRIBED, "unsubscribe"),
    ]
    assert {event.message_id for event in reading.events} == {MESSAGE_ID}
    assert {event.provider_message_id for event in reading.events} == {"1df37d17-0286-4d8b-8edf-bc4ec5be86e6"}
    assert {event.recipient for event in reading.events} == {"receiver@example.com"}
    assert reading.events[0].occurred_at == datetime(2024, 10, 11, 18, 1, 41, tzinfo=UTC)
    assert [event.failure for event in reading.events] == [
        None,
        Failure(FailureKind.POLICY, 451, "4.7.1", "4.7.1 Temporary error, please retry"),
        Failure(FailureKind.SPAM, 555, None, "[CS01] Message rejected due to local policy"),
        Failure(FailureKind.ACCOUNT, reason="Your account has reached its daily sending limit."),
        Failure(FailureKind.SUPPRESSED, reason="Recipient in suppression list. Reason: unsubscription"),
        None,
        None,
        None,
        None,
    ]


def test_json_lines_say_the_same_as_json() -> None:
    reading = MAILTRAP.read_webhook(PAYLOADS["json_lines"], {})
    assert [event.kind for event in reading.events] == [EventKind.DELIVERED, EventKind.OPENED, EventKind.CLICKED]
    assert [event.machine for event in reading.events] == [False, True, False]
    lines = [json.loads(line) for line in PAYLOADS["json_lines"].splitlines()]
    assert read(*lines) == reading
    assert MAILTRAP.read_webhook(json.dumps(lines[0]).encode(), {}).events == reading.events[:1]


def test_a_broken_line_is_set_aside_alone() -> None:
    first, second, third = PAYLOADS["json_lines"].splitlines()
    reading = MAILTRAP.read_webhook(b"\r\n".join([first, second[:-5], b"", third]), {})
    assert [event.kind for event in reading.events] == [EventKind.DELIVERED, EventKind.CLICKED]
    assert list(reading.unreadable) == [Unreadable(1, "the event is not an object")]


def test_an_activity_of_the_account_is_no_event_of_a_message() -> None:
    assert MAILTRAP.read_webhook(PAYLOADS["activity_log"], {}) == Reading()


@pytest.mark.parametrize(
    ("category", "response", "kind"),
    [
        ("transientfail", "", FailureKind.OTHER),
        ("greylisting", "", FailureKind.POLICY),
        ("badsender", "", FailureKind.ACCOUNT),
        ("block", "", FailureKind.REPUTATION),
        ("content", "", FailureKind.SPAM),
        ("dnsFail", "", FailureKind.DOMAIN_UNKNOWN),
        ("generalfail", "", FailureKind.OTHER),
        ("other", "", FailureKind.OTHER),
        ("relayfail", "", FailureKind.POLICY),
        ("serverfail", "", FailureKind.UNREACHABLE),
        ("spam", "", FailureKind.SPAM),
        ("verifyfail", "", FailureKind.OTHER),
        ("timeout", "", FailureKind.UNREACHABLE),
        ("badrecipient", "", FailureKind.ADDRESS_UNKNOWN),
        ("overquota", "", FailureKind.MAILBOX_FULL),
        ("serverpolicy", "", FailureKind.POLICY),
        ("spam_gmail", "", FailureKind.REPUTATION),
        ("of tomorrow", "", FailureKind.OTHER),
        ("", "550 5.1.1 no such user", FailureKind.ADDRESS_UNKNOWN),
        ("other", "552 5.2.2 over quota", FailureKind.MAILBOX_FULL),
        ("badrecipient", "550 5.1.2 domain not found", FailureKind.DOMAIN_UNKNOWN),
    ],
)
def test_the_destinations_words_win_and_mailtraps_category_fills_in(
    category: str, response: str, kind: FailureKind
) -> None:
    for name, outcome in (("bounce", EventKind.BOUNCED), ("soft bounce", EventKind.DEFERRED)):
        event = one(name, bounce_category=category, response=response)
        assert event.failure is not None
        assert (event.kind, event.failure.kind, event.failure.reason) == (outcome, kind, response)


def test_a_deferral_stays_one_whatever_its_code() -> None:
    """Statuses and Events: after a soft bounce the delivery is tried ten times more."""
    assert one("soft bounce", response="550 5.1.1 no such user", response_code=550).kind is EventKind.DEFERRED


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Recipient in suppression list. Reason: hard bounce", FailureKind.SUPPRESSED),
        ("recipient in suppression list", FailureKind.SUPPRESSED),
        ("Domain is not verified", FailureKind.ACCOUNT),
        ("", FailureKind.ACCOUNT),
    ],
)
def test_a_rejection_says_why(reason: str, kind: FailureKind) -> None:
    assert one("reject", reason=reason).failure == Failure(kind, reason=reason)


def test_apples_prefetching_is_a_machines_open_and_gmails_proxy_is_not() -> None:
    assert one("open", user_agent="Mozilla/5.0").machine
    assert not one("open", user_agent="Mozilla/5.0 (Windows NT 5.1) (via ggpht.com GoogleImageProxy)").machine
    assert not one("click", user_agent="Mozilla/5.0").machine


def test_an_unknown_event_is_kept() -> None:
    event = one("teleported")
    assert (event.kind, event.detail, event.failure) == (EventKind.UNKNOWN, "teleported", None)


def test_the_key_is_mailtraps_event_id_or_what_the_event_says() -> None:
    assert one("open", event_id="bede7236").dedupe_key == "bede7236"
    events = [
        one("open"),
        one("open", timestamp=1728669701),
        one("open", message_id="other"),
        one("click", url="https://a.example"),
        one("click", url="https://b.example"),
    ]
    assert len({event.dedupe_key for event in events}) == len(events)
    assert one("open", timestamp="1728669700", event_id="x" * 65).dedupe_key == events[0].dedupe_key


def test_one_bad_event_among_others_is_set_aside_alone() -> None:
    good = {"event": "delivery", "timestamp": 1728669700, "message_id": "a"}
    bad = [7, {}, {"event": "open", "timestamp": 1}, {"event": "open", "message_id": "a", "timestamp": "x"}]
    reading = read(good, *bad, {**good, "event": "open", "custom_variables": {"carepost_message_id": "no id"}})
    assert [event.kind for event in reading.events] == [EventKind.DELIVERED, EventKind.OPENED]
    assert reading.events[1].message_id is None
    assert list(reading.unreadable) == [
        Unreadable(1, "the event is not an object"),
        Unreadable(2, "the event has no type"),
        Unreadable(3, "the event names no message"),
        Unreadable(4, "its time is no number of seconds"),
    ]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"[]", "the body is not an object"),
        (b"{}", "the body has no list of events"),
        (b'{"events": {}}', "the body has no list of events"),
        (b'{"events": null, "event": "open"}', "the body has no list of events"),
    ],
)
def test_a_body_without_events_is_one_unreadable(body: bytes, error: str) -> None:
    assert MAILTRAP.read_webhook(body, {}) == Reading((), (Unreadable(0, error),))
