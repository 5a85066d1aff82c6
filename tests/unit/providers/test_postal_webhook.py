"""Postal: every row of what its events mean, in webhooks and when it is asked."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers.base import HttpResponse, NotTold, Question, Reading, Told, Unreadable
from mail.providers.postal import Postal
from tests.support.providers.sample import MESSAGE_ID, QUESTION, payloads

POSTAL = Postal()
PAYLOADS = payloads("postal")
CREDENTIALS = {"api_key": "s3cret", "base_url": "https://postal.practice.example"}
ASKED = Question(
    message_id=MESSAGE_ID,
    provider_message_id="12345-abcdef123",
    rfc_message_id=QUESTION.rfc_message_id,
    recipient="test@example.com",
    sent_at=QUESTION.sent_at,
)


def documented(name: str) -> Event:
    (event,) = POSTAL.read_webhook(PAYLOADS[name], {}).events
    return event


def read(event: str, payload: dict[str, Any], **more: Any) -> Reading:
    fields = {"event": event, "timestamp": 1477945178.5, "payload": payload, "uuid": "820b47a4", **more}
    return POSTAL.read_webhook(json.dumps(fields).encode(), {})


def message(**more: Any) -> dict[str, Any]:
    return {"id": 12345, "token": "abcdef123", "direction": "outgoing", "to": "test@example.com", **more}


def one(event: str, *, about: dict[str, Any] | None = None, **payload: Any) -> Event:
    (read_event,) = read(event, {"timestamp": 1477945177.5, "message": message(**(about or {})), **payload}).events
    return read_event


def told(*deliveries: dict[str, Any]) -> list[Event]:
    body = json.dumps({"status": "success", "time": 0.1, "flags": {}, "data": deliveries}).encode()
    answer = POSTAL.read_told(HttpResponse(200, {}, body), ASKED, CREDENTIALS)
    assert isinstance(answer, Told)
    assert answer.more is None
    return list(answer.reading.events)


@pytest.mark.parametrize(
    ("name", "kind", "failure"),
    [
        ("message_sent", EventKind.DELIVERED, None),
        ("message_delayed", EventKind.DEFERRED, FailureKind.POLICY),
        ("message_delivery_failed", EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        ("message_held", EventKind.QUEUED, FailureKind.ACCOUNT),
        ("message_held_suppressed", EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("message_bounced", EventKind.BOUNCED, FailureKind.OTHER),
        ("message_link_clicked", EventKind.CLICKED, None),
        ("message_loaded", EventKind.OPENED, None),
    ],
)
def test_the_documented_events_are_read(name: str, kind: EventKind, failure: FailureKind | None) -> None:
    event = documented(name)
    assert (event.kind, event.failure.kind if event.failure else None) == (kind, failure)
    assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, "12345-abcdef123")
    assert event.recipient == "test@example.com"
    assert event.detail == json.loads(PAYLOADS[name])["event"]
    assert not event.machine


@pytest.mark.parametrize(
    "name", ["message_incoming", "domain_dns_error", "send_limit_approaching", "send_limit_exceeded"]
)
def test_what_is_about_the_server_or_incoming_mail_is_no_event_of_ours(name: str) -> None:
    assert POSTAL.read_webhook(PAYLOADS[name], {}) == Reading()


def test_the_codes_of_a_refusal_are_kept() -> None:
    failure = documented("message_delivery_failed").failure
    assert failure == Failure(FailureKind.ADDRESS_UNKNOWN, 550, "5.1.1", "550 5.1.1 <test@example.com>: no such user")


def test_a_time_is_the_attempts_own_and_else_the_requests() -> None:
    assert documented("message_sent").occurred_at == datetime(2016, 10, 31, 20, 19, 37, 129942, UTC)
    assert documented("message_bounced").occurred_at == datetime(2016, 10, 31, 20, 19, 39, 129940, UTC)
    assert documented("message_loaded").occurred_at == datetime(2016, 10, 31, 20, 19, 38, 500000, UTC)


@pytest.mark.parametrize(
    ("details", "kind", "failure"),
    [
        ("Message's domain no longer exist", EventKind.REJECTED, FailureKind.ACCOUNT),
        ("Message doesn't have an RCPT to", EventKind.REJECTED, FailureKind.CONTENT),
        ("Message is likely spam. Threshold is 5 and the message scored 9.", EventKind.REJECTED, FailureKind.SPAM),
        ("Raw message has been removed. Cannot send message.", EventKind.REJECTED, FailureKind.OTHER),
        ("Maximum number of delivery attempts (18) has been reached.", EventKind.BOUNCED, FailureKind.UNREACHABLE),
        ("Permanent SMTP delivery error when sending to 192.0.2.1:25", EventKind.BOUNCED, FailureKind.OTHER),
        ("Of tomorrow", EventKind.BOUNCED, FailureKind.OTHER),
    ],
)
def test_a_failure_without_a_reply_is_told_by_its_details(details: str, kind: EventKind, failure: FailureKind) -> None:
    event = one("MessageDeliveryFailed", status="HardFail", details=details, output="")
    assert event.kind is kind
    assert event.failure is not None
    assert (event.failure.kind, event.failure.reason) == (failure, details)


def test_a_server_that_isnt_there_is_a_deferral() -> None:
    event = one("MessageDelayed", details="No SMTP servers were available for example.com. No hosts to try.", output="")
    assert event.kind is EventKind.DEFERRED
    assert event.failure is not None
    assert event.failure.kind is FailureKind.UNREACHABLE


@pytest.mark.parametrize(
    ("details", "kind", "failure"),
    [
        ("Server is in development mode.", EventKind.QUEUED, FailureKind.ACCOUNT),
        (
            "Credential is configured to hold all messages authenticated by it.",
            EventKind.QUEUED,
            FailureKind.ACCOUNT,
        ),
        ("Message held because send limit (5) has been reached.", EventKind.QUEUED, FailureKind.ACCOUNT),
        (
            "Mail server has been suspended. No e-mails can be processed at present.",
            EventKind.QUEUED,
            FailureKind.ACCOUNT,
        ),
        (
            "Recipient (a@b.example) is on the suppression list (reason: too many soft fails)",
            EventKind.REJECTED,
            FailureKind.SUPPRESSED,
        ),
    ],
)
def test_a_held_message_waits_unless_its_address_is_suppressed(
    details: str, kind: EventKind, failure: FailureKind
) -> None:
    event = one("MessageHeld", status="Held", details=details)
    assert (event.kind, event.failure) == (kind, Failure(failure, reason=details))


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ("Undelivered Mail Returned to Sender", EventKind.BOUNCED),
        ("Mail delivery failed: returning message to sender", EventKind.BOUNCED),
        ("Undeliverable: Your appointment, out of office hours", EventKind.BOUNCED),
        ("Your appointment, out of office hours", EventKind.BOUNCED),
        ("Delivery Status Notification (Failure)", EventKind.BOUNCED),
        ("Delivery Status Notification (Delay)", EventKind.DEFERRED),
        ("Delayed Mail (still being retried)", EventKind.DEFERRED),
        ("Warning: could not send message for past 4 hours", EventKind.DEFERRED),
        ("Automatic reply: Your appointment, out of office hours", EventKind.AUTO_REPLIED),
        ("Out of Office Re: Your appointment, out of office hours", EventKind.AUTO_REPLIED),
        ("Automatische Antwort: Your appointment, out of office hours", EventKind.AUTO_REPLIED),
        ("Réponse automatique : Your appointment, out of office hours", EventKind.AUTO_REPLIED),
        ("", EventKind.BOUNCED),
    ],
)
def test_what_postal_calls_a_bounce_is_told_by_its_subject_without_ours(subject: str, kind: EventKind) -> None:
    original = message(subject="Your appointment, out of office hours")
    bounce = {"id": 7, "subject": subject, "timestamp": 1477945179.5}
    (event,) = read("MessageBounced", {"original_message": original, "bounce": bounce}).events
    assert event.kind is kind
    assert (event.failure is not None) == (kind is EventKind.BOUNCED)


def test_our_id_is_the_tag_or_else_our_message_id() -> None:
    ours = f"{MESSAGE_ID.hex}@practice.example"
    assert one("MessageSent", about={"tag": str(MESSAGE_ID)}).message_id == MESSAGE_ID
    assert one("MessageSent", about={"tag": None, "message_id": ours}).message_id == MESSAGE_ID
    assert one("MessageSent", about={"tag": "welcome", "message_id": f"<{ours}>"}).message_id == MESSAGE_ID
    for others in ("5817a64332f44_4ec93ff59e79d154565eb@app34.mail", "d41d8cd98f00b204e9800998ecf8427e@a.example"):
        event = one("MessageSent", about={"tag": "welcome", "message_id": others})
        assert (event.message_id, event.provider_message_id) == (None, "12345-abcdef123")


def test_apples_prefetching_is_a_machines_open_and_gmails_proxy_is_not() -> None:
    assert one("MessageLoaded", user_agent="Mozilla/5.0").machine
    assert not one("MessageLoaded", user_agent="Mozilla/5.0 (via ggpht.com GoogleImageProxy)").machine


def test_an_unknown_event_is_kept() -> None:
    event = one("MessageTeleported")
    assert (event.kind, event.detail, event.failure) == (EventKind.UNKNOWN, "MessageTeleported", None)


def test_an_open_has_the_key_of_its_request_which_is_the_same_at_every_attempt() -> None:
    body = {"message": message()}
    (first,), (again,) = read("MessageLoaded", body).events, read("MessageLoaded", body, timestamp=1477945178.5).events
    (other,) = read("MessageLoaded", body, uuid="820b47a5").events
    (unnamed,) = read("MessageLoaded", body, uuid=None).events
    assert first.dedupe_key == again.dedupe_key
    assert len({first.dedupe_key, other.dedupe_key, unnamed.dedupe_key}) == 3


DELIVERIES = [
    {"id": 1, "status": "SoftFail", "details": "Temporary", "output": "451 later", "timestamp": 1477945177.5},
    {"id": 2, "status": "Sent", "details": "Accepted", "output": "250 OK", "timestamp": 1477945177.129942},
    {"id": 3, "status": "HardFail", "details": "Permanent", "output": "550 5.1.1 x", "timestamp": 1477945178.0},
    {"id": 4, "status": "Held", "details": "Server is in development mode.", "output": "", "timestamp": 1477945179.0},
    {
        "id": 5,
        "status": "Bounced",
        "details": "We've received a bounce message for this e-mail. See <msg:12347> for details.",
        "output": None,
        "timestamp": 1477945179.3,
    },
    {"id": 6, "status": "HoldCancelled", "details": "The hold was removed.", "output": "", "timestamp": 1477945190.0},
    {"id": 7, "status": "Teleported", "details": "", "output": "", "timestamp": 1477945191.0},
]


def test_each_delivery_is_told_as_the_event_that_a_webhook_would_bring() -> None:
    events = told(*DELIVERIES)
    assert [(event.kind, event.detail) for event in events] == [
        (EventKind.DEFERRED, "MessageDelayed"),
        (EventKind.DELIVERED, "MessageSent"),
        (EventKind.BOUNCED, "MessageDeliveryFailed"),
        (EventKind.QUEUED, "MessageHeld"),
        (EventKind.BOUNCED, "MessageBounced"),
        (EventKind.REJECTED, "HoldCancelled"),
        (EventKind.UNKNOWN, "Teleported"),
    ]
    assert {event.message_id for event in events} == {MESSAGE_ID}
    assert {event.recipient for event in events} == {"test@example.com"}


def test_an_attempt_or_bounce_has_the_same_key_in_a_webhook_and_when_asked() -> None:
    by_webhook = [documented(name) for name in ("message_sent", "message_delivery_failed", "message_bounced")]
    asked = told(DELIVERIES[1], DELIVERIES[2], DELIVERIES[4])
    assert [event.dedupe_key for event in by_webhook] == [event.dedupe_key for event in asked]


@given(st.integers(0, 2_000_000_000), st.integers(0, 9_999_999))
def test_a_float_of_ruby_and_its_rounding_in_mysql_are_one_key(seconds: int, fraction: int) -> None:
    """The column is decimal(18,6), which rounds the digits that Ruby wrote half away from zero."""
    written = float(f"{seconds}.{fraction:07}")
    digits = repr(written)
    whole, _, rest = digits.partition(".") if "e" not in digits else (str(seconds), "", f"{fraction:07}")
    rounded = (int(rest.ljust(7, "0")[:7]) + 5) // 10
    stored = int(whole) + timedelta(microseconds=rounded).total_seconds()
    (asked,) = told({"status": "Sent", "timestamp": stored})
    assert one("MessageSent", timestamp=written, about={"tag": str(MESSAGE_ID)}).dedupe_key == asked.dedupe_key


def test_the_question_goes_by_the_number_and_not_without_one() -> None:
    request = POSTAL.ask_request(ASKED, CREDENTIALS)
    assert request is not None
    assert (request.method, request.url) == ("POST", "https://postal.practice.example/api/v1/messages/deliveries")
    assert json.loads(request.body) == {"id": 12345}
    assert POSTAL.ask_request(QUESTION, CREDENTIALS) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            HttpResponse(200, {}, b'{"status": "error", "data": {"code": "MessageNotFound", "id": 5}}'),
            NotTold(Failure(FailureKind.OTHER, reason="MessageNotFound")),
        ),
        (
            HttpResponse(200, {}, b'{"status": "error", "data": {"code": "InvalidServerAPIKey", "token": "s3cret"}}'),
            NotTold(Failure(FailureKind.ACCOUNT, reason="InvalidServerAPIKey")),
        ),
        (HttpResponse(200, {}, b"<html>"), NotTold(Failure(FailureKind.OTHER, reason="HTTP 200"))),
        (
            HttpResponse(503, {"retry-after": "9"}, b""),
            NotTold(Failure(FailureKind.OTHER, reason="HTTP 503"), timedelta(seconds=9)),
        ),
    ],
)
def test_an_answer_that_tells_nothing(answer: HttpResponse, expected: NotTold) -> None:
    assert POSTAL.read_told(answer, ASKED, CREDENTIALS) == expected


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON"),
        (b"[]", "the event is not an object"),
        (b"{}", "the event has no type"),
        (b'{"event": "MessageSent"}', "the event names no message"),
        (b'{"event": "MessageSent", "payload": {"message": {"id": 5}}}', "the event names no message"),
        (
            b'{"event": "MessageSent", "payload": {"message": {"id": 5, "token": "a"}}}',
            "its time is no number of seconds",
        ),
        (
            b'{"event": "MessageSent", "timestamp": 1e300, "payload": {"message": {"id": 5, "token": "a"}}}',
            "its time is out of range",
        ),
    ],
)
def test_what_cannot_be_read_is_set_aside(body: bytes, error: str) -> None:
    assert list(POSTAL.read_webhook(body, {}).unreadable) == [Unreadable(0, error)]
