"""Resend: every row of what its events mean, in webhooks and when it is asked."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers.base import HttpResponse, NotTold, Reading, Told, Unreadable
from mail.providers.resend import Resend
from tests.support.providers.sample import MESSAGE_ID, QUESTION, payloads

RESEND = Resend()
PAYLOADS = payloads("resend")
CREDENTIALS = {"api_key": "re_secret"}
EMAIL_ID = "56761188-7520-42d8-8898-ff6fc54ce618"


def read(
    event: str, headers: dict[str, str] | None = None, at: object = "2026-03-01T10:00:00.126Z", **data: Any
) -> Reading:
    fields = {"type": event, "created_at": at, "data": {"email_id": EMAIL_ID, **data}}
    return RESEND.read_webhook(json.dumps(fields).encode(), headers or {})


def one(event: str, headers: dict[str, str] | None = None, **data: Any) -> Event:
    (read_event,) = read(event, headers, **data).events
    return read_event


def bounced(**bounce: Any) -> Event:
    return one("email.bounced", bounce=bounce)


def documented(name: str) -> Event:
    (event,) = RESEND.read_webhook(PAYLOADS[name], {}).events
    return event


@pytest.mark.parametrize(
    ("name", "kind", "detail", "failure"),
    [
        ("scheduled", EventKind.QUEUED, "email.scheduled", None),
        ("sent", EventKind.QUEUED, "email.sent", None),
        ("delivered", EventKind.DELIVERED, "email.delivered", None),
        ("delivery_delayed", EventKind.DEFERRED, "email.delivery_delayed", None),
        ("bounced", EventKind.BOUNCED, "email.bounced/Permanent/General", FailureKind.ADDRESS_UNKNOWN),
        ("bounced_suppressed", EventKind.REJECTED, "email.bounced/Permanent/Suppressed", FailureKind.SUPPRESSED),
        ("suppressed", EventKind.REJECTED, "email.suppressed", FailureKind.SUPPRESSED),
        ("failed", EventKind.REJECTED, "email.failed", FailureKind.ACCOUNT),
        ("opened", EventKind.OPENED, "email.opened", None),
        ("clicked", EventKind.CLICKED, "email.clicked", None),
        ("complained", EventKind.COMPLAINED, "email.complained", None),
    ],
)
def test_the_documented_events_are_read(name: str, kind: EventKind, detail: str, failure: FailureKind | None) -> None:
    event = documented(name)
    assert (event.kind, event.detail, event.failure.kind if event.failure else None) == (kind, detail, failure)
    assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, EMAIL_ID)
    assert event.recipient == "delivered@resend.dev"


@pytest.mark.parametrize(
    "name", ["received", "contact_created", "domain_updated", "suppression_added", "inbox_email_sent"]
)
def test_what_is_about_no_email_of_ours_is_no_event(name: str) -> None:
    assert RESEND.read_webhook(PAYLOADS[name], {}) == Reading()


def test_a_time_is_the_events_own_and_not_the_emails() -> None:
    assert documented("delivered").occurred_at == datetime(2024, 11, 22, 23, 41, 14, 126000, UTC)
    assert documented("clicked").occurred_at == datetime(2024, 11, 24, 5, 0, 57, 163000, UTC)


@pytest.mark.parametrize(
    ("bounce", "kind", "failure"),
    [
        ({"type": "Permanent", "subType": "General"}, EventKind.BOUNCED, FailureKind.OTHER),
        ({"type": "Permanent", "subType": "NoEmail"}, EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        ({"type": "Permanent", "subType": "Suppressed"}, EventKind.REJECTED, FailureKind.SUPPRESSED),
        ({"type": "Permanent", "subType": "OnAccountSuppressionList"}, EventKind.REJECTED, FailureKind.SUPPRESSED),
        ({"type": "Transient", "subType": "General"}, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ({"type": "Transient", "subType": "MailboxFull"}, EventKind.SOFT_BOUNCED, FailureKind.MAILBOX_FULL),
        ({"type": "Transient", "subType": "MessageTooLarge"}, EventKind.SOFT_BOUNCED, FailureKind.TOO_LARGE),
        ({"type": "Transient", "subType": "ContentRejected"}, EventKind.SOFT_BOUNCED, FailureKind.SPAM),
        ({"type": "Transient", "subType": "AttachmentRejected"}, EventKind.SOFT_BOUNCED, FailureKind.POLICY),
        ({"type": "Undetermined", "subType": "Undetermined"}, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ({"type": "Permanent", "subType": "OfTomorrow"}, EventKind.BOUNCED, FailureKind.OTHER),
        ({"type": "Transient", "subType": "OfTomorrow"}, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ({"type": "OfTomorrow"}, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ({}, EventKind.BOUNCED, FailureKind.OTHER),
    ],
)
def test_each_type_of_bounce(bounce: dict[str, str], kind: EventKind, failure: FailureKind) -> None:
    event = bounced(**bounce, message="In general terms")
    assert event.kind is kind
    assert event.failure is not None
    assert (event.failure.kind, event.failure.reason) == (failure, "In general terms")


@pytest.mark.parametrize(
    ("code", "kind", "failure"),
    [
        (["smtp; 550 5.1.1 no such user"], EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        ("smtp; 552 5.2.2 mailbox full", EventKind.BOUNCED, FailureKind.MAILBOX_FULL),
        (["smtp; 452 4.2.2 over quota", "another"], EventKind.SOFT_BOUNCED, FailureKind.MAILBOX_FULL),
        ([], EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ([5.5], EventKind.SOFT_BOUNCED, FailureKind.OTHER),
    ],
)
def test_the_destinations_code_tells_more_than_the_type(code: object, kind: EventKind, failure: FailureKind) -> None:
    event = bounced(type="Transient", subType="General", message="In general terms", diagnosticCode=code)
    assert event.failure is not None
    assert (event.kind, event.failure.kind) == (kind, failure)


def test_the_codes_of_a_bounce_are_kept() -> None:
    failure = documented("bounced").failure
    assert failure is not None
    assert (failure.smtp_code, failure.enhanced_code) == (550, "5.1.1")
    assert failure.reason.startswith("smtp; 550 5.1.1 <delivered@resend.dev>")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("reached_daily_quota", FailureKind.ACCOUNT),
        ("invalid_api_key", FailureKind.ACCOUNT),
        ("domain_not_verified", FailureKind.ACCOUNT),
        ("invalid_recipient", FailureKind.ADDRESS_UNKNOWN),
        ("of_tomorrow", FailureKind.OTHER),
    ],
)
def test_what_resend_didnt_send_says_why(reason: str, kind: FailureKind) -> None:
    assert one("email.failed", failed={"reason": reason}).failure == Failure(kind, reason=reason)


def test_an_unknown_event_is_kept() -> None:
    event = one("email.teleported")
    assert (event.kind, event.detail, event.failure) == (EventKind.UNKNOWN, "email.teleported", None)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"carepost_message_id": str(MESSAGE_ID)}, MESSAGE_ID),
        ([{"name": "a", "value": "b"}, {"name": "carepost_message_id", "value": str(MESSAGE_ID)}, 5], MESSAGE_ID),
        ({"carepost_message_id": "not-an-id"}, None),
        ([], None),
        (None, None),
        ("x", None),
    ],
)
def test_our_id_comes_back_as_a_tag(tags: object, expected: object) -> None:
    assert one("email.delivered", tags=tags).message_id == expected


@pytest.mark.parametrize(
    ("to", "recipient"),
    [
        (["ada@patient.example"], "ada@patient.example"),
        (["Ada <ada@patient.example>", "b@b.example"], "ada@patient.example"),
        ("ada@patient.example", "ada@patient.example"),
        ([], None),
        (None, None),
        ([5], "5"),
    ],
)
def test_the_recipient_is_the_one_we_sent_to(to: object, recipient: str | None) -> None:
    assert one("email.delivered", to=to).recipient == recipient


def test_the_key_of_an_event_is_svixs_id_which_every_attempt_has() -> None:
    first = one("email.opened", {"svix-id": "msg_1", "svix-timestamp": "1"})
    again = one("email.opened", {"svix-id": "msg_1", "svix-timestamp": "36000"})
    assert first.dedupe_key == again.dedupe_key == "msg_1"


@pytest.mark.parametrize("identity", ["", "é", "a b", "x" * 101, "\x00"])
def test_without_a_usable_id_an_event_is_told_by_what_it_says(identity: str) -> None:
    events = [
        one("email.opened", {"svix-id": identity}),
        one("email.opened", {"svix-id": identity}, email_id="other"),
        one("email.delivered", {"svix-id": identity}),
        one("email.clicked", {"svix-id": identity}, click={"link": "https://a.example"}),
        one("email.clicked", {"svix-id": identity}, click={"link": "https://b.example"}),
        one("email.clicked", {"svix-id": identity}, click={"timestamp": "2026-03-01T10:00:01Z"}),
    ]
    assert len({event.dedupe_key for event in events}) == len(events)
    assert one("email.opened").dedupe_key == events[0].dedupe_key


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON"),
        (b"[]", "the event is not an object"),
        (b"{}", "the event has no type"),
        (b'{"type": "email.sent"}', "the event names no message"),
        (b'{"type": "email.sent", "data": {"email_id": "a"}}', "its time is no ISO 8601 time with a zone"),
        (
            b'{"type": "email.sent", "created_at": "2026-03-01T10:00:00", "data": {"email_id": "a"}}',
            "its time is no ISO 8601 time with a zone",
        ),
    ],
)
def test_what_cannot_be_read_is_set_aside(body: bytes, error: str) -> None:
    assert list(RESEND.read_webhook(body, {}).unreadable) == [Unreadable(0, error)]


def told(last_event: object, status: int = 200, **headers: str) -> Told | NotTold:
    body = json.dumps({"object": "email", "id": EMAIL_ID, "last_event": last_event}).encode()
    return RESEND.read_told(HttpResponse(status, headers, body), QUESTION, CREDENTIALS)


def test_an_email_is_asked_for_by_its_id() -> None:
    request = RESEND.ask_request(QUESTION, CREDENTIALS)
    assert request is not None
    assert (request.method, request.url) == (
        "GET",
        "https://api.resend.com/emails/0a129aee-e1cd-480d-b08d-4f48548ff48d",
    )


@pytest.mark.parametrize(
    ("last", "kind", "failure"),
    [
        ("scheduled", EventKind.QUEUED, None),
        ("sent", EventKind.QUEUED, None),
        ("delivered", EventKind.DELIVERED, None),
        ("delivery_delayed", EventKind.DEFERRED, None),
        ("bounced", EventKind.BOUNCED, FailureKind.OTHER),
        ("suppressed", EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("failed", EventKind.REJECTED, FailureKind.OTHER),
        ("canceled", EventKind.REJECTED, None),
        ("opened", EventKind.OPENED, None),
        ("clicked", EventKind.CLICKED, None),
        ("complained", EventKind.COMPLAINED, None),
        ("of_tomorrow", EventKind.UNKNOWN, None),
    ],
)
def test_each_last_event(last: str, kind: EventKind, failure: FailureKind | None) -> None:
    answer = told(last, date="Sun, 01 Mar 2026 12:00:00 GMT")
    assert isinstance(answer, Told)
    (event,) = answer.reading.events
    assert (event.kind, event.failure.kind if event.failure else None) == (kind, failure)
    assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, QUESTION.provider_message_id)
    assert event.occurred_at == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_last_event_has_one_key_however_often_it_is_asked_for() -> None:
    early, late = told("opened", date="Sun, 01 Mar 2026 12:00:00 GMT"), told("opened")
    assert isinstance(early, Told)
    assert isinstance(late, Told)
    assert early.reading.events[0].dedupe_key == late.reading.events[0].dedupe_key
    assert late.reading.events[0].occurred_at == QUESTION.sent_at


def test_what_is_still_queued_tells_nothing() -> None:
    assert told("queued") == Told(Reading())


@pytest.mark.parametrize(
    ("status", "last", "kind"),
    [(404, "sent", FailureKind.OTHER), (401, "sent", FailureKind.ACCOUNT), (200, None, FailureKind.OTHER)],
)
def test_an_answer_that_tells_nothing(status: int, last: object, kind: FailureKind) -> None:
    assert told(last, status) == NotTold(Failure(kind, reason=f"HTTP {status}"))


def test_a_rate_limit_is_waited_for() -> None:
    answer = told("sent", 429, **{"retry-after": "2"})
    assert answer == NotTold(Failure(FailureKind.ACCOUNT, reason="HTTP 429"), timedelta(seconds=2))
