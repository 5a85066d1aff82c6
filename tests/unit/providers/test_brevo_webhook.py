"""Brevo: basic authentication, batches, and every row of what its events mean."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.errors import WebhookRejected
from mail.event import Event, EventKind
from mail.failure import FailureKind
from mail.providers.base import Reading, Unreadable, WebhookRequest
from mail.providers.brevo import Brevo
from mail.status import Verdict
from tests.support.providers.sample import MESSAGE_ID, URL, payloads

BREVO = Brevo()
PAYLOADS = payloads("brevo")
SECRET = "carepost:s3cret"
OURS = json.dumps({"carepost_message_id": str(MESSAGE_ID)})
AT = 1604933654123


def fields(event: str, **more: Any) -> dict[str, Any]:
    return {"event": event, "email": "example@domain.com", "message-id": "<a@b>", "ts_epoch": AT, **more}


def read(*events: Any) -> Reading:
    return BREVO.read_webhook(json.dumps(events).encode(), {})


def one(event: str, **more: Any) -> Event:
    (read_event,) = read(fields(event, **more)).events
    return read_event


def verify(header: str | None, *secrets: str) -> None:
    headers = {} if header is None else {"authorization": header}
    BREVO.verify_webhook(WebhookRequest("POST", URL, headers, b"{}"), secrets)


def basic(secret: bytes) -> str:
    return "Basic " + base64.b64encode(secret).decode()


def test_the_password_in_the_url_opens_the_webhook_through_a_rotation() -> None:
    verify(basic(b"carepost:s3cret"), "carepost:new", SECRET)
    assert BREVO.webhook_url(URL, "us:p@ss") == URL.replace("https://", "https://us:p%40ss@")


@pytest.mark.parametrize("header", [None, "", "Bearer x", "Basic é", basic(b"carepost:wrong"), basic(b"\xff:\xff")])
def test_anything_else_is_rejected(header: str | None) -> None:
    with pytest.raises(WebhookRejected):
        verify(header, SECRET)


def test_only_429_makes_brevo_post_again() -> None:
    """Docs, "Retry mechanism": any other 4xx and any 5xx discards the webhook."""
    assert BREVO.unavailable_status == 429


def test_a_batch_is_read_event_by_event() -> None:
    reading = BREVO.read_webhook(PAYLOADS["batched"], {})
    assert reading.unreadable == ()
    assert [(event.kind, event.detail, event.machine) for event in reading.events] == [
        (EventKind.QUEUED, "request", False),
        (EventKind.DEFERRED, "deferred", False),
        (EventKind.DELIVERED, "delivered", False),
        (EventKind.OPENED, "unique_opened", False),
        (EventKind.OPENED, "opened", False),
        (EventKind.OPENED, "unique_proxy_open", True),
        (EventKind.OPENED, "proxy_open", True),
        (EventKind.CLICKED, "click", False),
        (EventKind.BOUNCED, "soft_bounce", False),
        (EventKind.BOUNCED, "hard_bounce", False),
        (EventKind.BOUNCED, "invalid_email", False),
        (EventKind.REJECTED, "blocked", False),
        (EventKind.SOFT_BOUNCED, "error", False),
        (EventKind.COMPLAINED, "spam", False),
        (EventKind.UNSUBSCRIBED, "unsubscribe", False),
    ]
    assert {event.message_id for event in reading.events} == {MESSAGE_ID}
    assert {event.provider_message_id for event in reading.events} == {"201798300811.5787683@relay.domain.com"}
    assert {event.recipient for event in reading.events} == {"example@domain.com"}


def test_a_webhook_that_is_not_batched_is_one_event_with_the_same_key() -> None:
    (single,) = BREVO.read_webhook(PAYLOADS["delivered"], {}).events
    assert single in BREVO.read_webhook(PAYLOADS["batched"], {}).events


def test_the_pages_own_sample_is_read_with_its_seconds_and_its_strange_header() -> None:
    (event,) = BREVO.read_webhook(PAYLOADS["sent_as_documented"], {}).events
    assert event.occurred_at == datetime(2020, 11, 9, 14, 54, 14, tzinfo=UTC)
    assert (event.message_id, event.provider_message_id) == (None, "201798300811.5787683@relay.domain.com")


def test_a_complaint_of_an_older_webhook_is_one() -> None:
    (event,) = BREVO.read_webhook(PAYLOADS["complaint"], {}).events
    assert (event.kind, event.detail, event.message_id) == (EventKind.COMPLAINED, "complaint", MESSAGE_ID)
    assert event.occurred_at == datetime(2020, 11, 9, 14, 54, 14, tzinfo=UTC)


def test_a_change_of_a_contact_is_no_event_of_a_message() -> None:
    assert BREVO.read_webhook(PAYLOADS["list_addition"], {}) == Reading()
    assert read({"event": "contact_updated", "ts": 1}, {"event": "contact_deleted", "ts": 1}) == Reading()


def test_an_open_by_a_proxy_proves_nothing() -> None:
    assert one("proxy_open").verdict is one("unique_proxy_open").verdict is Verdict.QUEUED
    assert one("opened").verdict is one("unique_opened").verdict is Verdict.OPENED


def test_our_id_comes_back_in_the_custom_header() -> None:
    assert one("delivered", **{"X-Mailin-custom": OURS}).message_id == MESSAGE_ID
    others: tuple[object, ...] = ("", "x", "[]", '"x"', '{"carepost_message_id": 5}', 5, None, [], "\ud800")
    for other in others:
        assert one("delivered", **{"X-Mailin-custom": other}).message_id is None


@pytest.mark.parametrize(
    ("event", "reason", "kind", "failure", "smtp", "enhanced"),
    [
        ("hard_bounce", "550 5.1.1 No such user", EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN, 550, "5.1.1"),
        ("hard_bounce", "550 5.7.1 rejected by policy", EventKind.BOUNCED, FailureKind.POLICY, 550, "5.7.1"),
        ("hard_bounce", "", EventKind.BOUNCED, FailureKind.OTHER, None, None),
        ("soft_bounce", "452 4.2.2 over quota", EventKind.BOUNCED, FailureKind.MAILBOX_FULL, 452, "4.2.2"),
        ("soft_bounce", "connection timed out", EventKind.BOUNCED, FailureKind.UNREACHABLE, None, None),
        (
            "soft_bounce",
            "undefined Unable to find MX of domain no-mx.example.com",
            EventKind.BOUNCED,
            FailureKind.DOMAIN_UNKNOWN,
            None,
            None,
        ),
        ("deferred", "451 4.7.1 Greylisted", EventKind.DEFERRED, FailureKind.POLICY, 451, "4.7.1"),
        (
            "deferred",
            "550 RecipientError: 550 5.1.1 <notauser@example.com>: User unknown",
            EventKind.DEFERRED,
            FailureKind.ADDRESS_UNKNOWN,
            550,
            "5.1.1",
        ),
        ("invalid_email", "", EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN, None, None),
        ("blocked", "blocked : due to blacklist user", EventKind.REJECTED, FailureKind.SUPPRESSED, None, None),
        ("blocked", "", EventKind.REJECTED, FailureKind.SUPPRESSED, None, None),
        ("error", "", EventKind.SOFT_BOUNCED, FailureKind.OTHER, None, None),
        (
            "error",
            "Sending has been rejected because the sender you used a@b is not valid",
            EventKind.SOFT_BOUNCED,
            FailureKind.ACCOUNT,
            None,
            None,
        ),
        ("error", "554 5.6.0 malformed", EventKind.BOUNCED, FailureKind.CONTENT, 554, "5.6.0"),
    ],
)
def test_what_failed_says_why(
    event: str, reason: str, kind: EventKind, failure: FailureKind, smtp: int | None, enhanced: str | None
) -> None:
    read_event = one(event, reason=reason)
    assert read_event.failure is not None
    assert (read_event.kind, read_event.failure.kind) == (kind, failure)
    assert (read_event.failure.smtp_code, read_event.failure.enhanced_code) == (smtp, enhanced)
    assert read_event.failure.reason == reason


@pytest.mark.parametrize("event", ["request", "sent", "delivered", "opened", "click", "spam", "unsubscribed"])
def test_what_did_not_fail_has_no_failure(event: str) -> None:
    assert one(event, reason="250 OK").failure is None


def test_an_unknown_event_is_kept_and_changes_nothing() -> None:
    event = one("teleported")
    assert (event.kind, event.detail, event.verdict) == (EventKind.UNKNOWN, "teleported", Verdict.QUEUED)


@pytest.mark.parametrize(
    ("times", "occurred_at"),
    [
        ({"ts_epoch": 1520363423506}, datetime(2018, 3, 6, 19, 10, 23, 506000, UTC)),
        ({"ts_epoch": "1520363423506"}, datetime(2018, 3, 6, 19, 10, 23, 506000, UTC)),
        ({"ts_epoch": 1604933654}, datetime(2020, 11, 9, 14, 54, 14, tzinfo=UTC)),
        (
            {"ts_epoch": 1520363423000, "ts_event": 1520331023, "ts": 1520331023},
            datetime(2018, 3, 6, 19, 10, 23, tzinfo=UTC),
        ),
        ({"ts_epoch": None, "ts_event": 1604933654, "ts": 1}, datetime(2020, 11, 9, 14, 54, 14, tzinfo=UTC)),
        ({"ts_epoch": None, "ts": 1604933619}, datetime(2020, 11, 9, 14, 53, 39, tzinfo=UTC)),
        ({"ts_epoch": 0}, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_time_is_ts_epoch_and_only_without_it_another(times: dict[str, Any], occurred_at: datetime) -> None:
    assert one("delivered", **times).occurred_at == occurred_at


@pytest.mark.parametrize("time", [None, True, "", "soon", 10**16, 10**40, -(10**13), 1e300, []])
def test_an_impossible_time_sets_its_event_aside(time: object) -> None:
    reading = read(fields("delivered", ts_epoch=time), fields("delivered"))
    assert [part.index for part in reading.unreadable] == [0]
    assert [event.kind for event in reading.events] == [EventKind.DELIVERED]


def test_a_key_is_the_same_over_retries_whatever_stands_around_the_event() -> None:
    """The batch it came in, its webhook's id and the other clocks are not the event's own."""
    first = one("click", link="https://a.example", id=1, ts=1, ts_event=1)
    again = one("click", link="https://a.example", id=2, ts=2, ts_event=2, **{"message-id": "a@b"})
    assert first.dedupe_key == again.dedupe_key


def test_different_events_have_different_keys() -> None:
    events = [
        one("delivered"),
        one("opened"),
        one("proxy_open"),
        one("opened", ts_epoch=AT + 1000),
        one("click", link="https://a.example"),
        one("click", link="https://b.example"),
        one("delivered", **{"message-id": "<other@b>"}),
        one("delivered", **{"message-id": None, "X-Mailin-custom": OURS}),
    ]
    assert len({event.dedupe_key for event in events}) == len(events)
    assert one("unique_opened").dedupe_key == one("opened").dedupe_key


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"", [Unreadable(0, "the body is not JSON")]),
        (b'"x"', [Unreadable(0, "the event is not an object")]),
        (b"{}", [Unreadable(0, "the event has no type")]),
        (
            b'[{"event": "opened"}, 7]',
            [Unreadable(0, "the event names no message"), Unreadable(1, "the event is not an object")],
        ),
        (b'{"event": "opened", "message-id": "<>"}', [Unreadable(0, "the event names no message")]),
        (b'{"event": "opened", "message-id": "a"}', [Unreadable(0, "its time is no number of seconds")]),
        (b"[]", []),
    ],
)
def test_what_cannot_be_read_is_set_aside(body: bytes, parts: list[Unreadable]) -> None:
    assert list(BREVO.read_webhook(body, {}).unreadable) == parts
