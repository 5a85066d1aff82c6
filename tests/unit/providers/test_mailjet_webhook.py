"""Mailjet: basic authentication, groups, and every row of what its events and errors mean."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.errors import WebhookRejected
from mail.event import Event, EventKind
from mail.failure import FailureKind
from mail.providers.base import Reading, Unreadable, WebhookRequest
from mail.providers.mailjet import Mailjet
from mail.status import Verdict
from tests.support.providers.sample import MESSAGE_ID, URL, payloads

MAILJET = Mailjet()
PAYLOADS = payloads("mailjet")
SECRET = "carepost:s3cret"
OURS = json.dumps({"carepost_message_id": str(MESSAGE_ID)})


def fields(event: str, **more: Any) -> dict[str, Any]:
    common = {"event": event, "time": 1433333949, "MessageID": 19421777835146490, "email": "api@mailjet.com"}
    return {**common, "CustomID": "helloworld", "Payload": "", **more}


def read(*events: Any) -> Reading:
    return MAILJET.read_webhook(json.dumps(events).encode(), {})


def one(event: str, **more: Any) -> Event:
    (read_event,) = read(fields(event, **more)).events
    return read_event


def documented(name: str) -> Event:
    (event,) = MAILJET.read_webhook(PAYLOADS[name], {}).events
    return event


def verify(header: str | None, *secrets: str) -> None:
    headers = {} if header is None else {"authorization": header}
    MAILJET.verify_webhook(WebhookRequest("POST", URL, headers, b"{}"), secrets)


def basic(secret: bytes) -> str:
    return "Basic " + base64.b64encode(secret).decode()


def test_the_password_in_the_url_opens_the_webhook_through_a_rotation() -> None:
    verify(basic(b"carepost:s3cret"), "carepost:new", SECRET)
    assert MAILJET.webhook_url(URL, "us:p@ss") == URL.replace("https://", "https://us:p%40ss@")


@pytest.mark.parametrize("header", [None, "", "Bearer x", "Basic é", basic(b"carepost:wrong"), basic(b"\xff:\xff")])
def test_anything_else_is_rejected(header: str | None) -> None:
    with pytest.raises(WebhookRejected):
        verify(header, SECRET)


@pytest.mark.parametrize(
    ("name", "kind", "detail", "at", "message"),
    [
        ("sent", EventKind.DELIVERED, "sent", datetime(2015, 6, 3, 12, 19, 9), "19421777835146490"),
        ("open", EventKind.OPENED, "open", datetime(2015, 5, 31, 20, 18, 39), "19421777396190490"),
        ("click", EventKind.CLICKED, "click", datetime(2015, 6, 3, 12, 30, 53), "19421777836302490"),
        ("bounce", EventKind.BOUNCED, "bounce/user unknown", datetime(2015, 5, 5, 7, 49, 55), "13792286917004336"),
        ("blocked", EventKind.REJECTED, "blocked/user unknown", datetime(2015, 5, 5, 7, 49, 55), "13792286917004336"),
        ("spam", EventKind.COMPLAINED, "spam", datetime(2015, 5, 5, 7, 49, 55), "13792286917004336"),
        ("unsub", EventKind.UNSUBSCRIBED, "unsub", datetime(2015, 6, 3, 12, 35, 41), "20547674933128000"),
    ],
)
def test_each_documented_event_is_read_bare(
    name: str, kind: EventKind, detail: str, at: datetime, message: str
) -> None:
    event = documented(name)
    assert (event.kind, event.detail, event.occurred_at) == (kind, detail, at.replace(tzinfo=UTC))
    assert (event.message_id, event.provider_message_id) == (None, message)
    assert event.recipient in {"api@mailjet.com", "bounce@mailjet.com"}


def test_grouped_events_are_read_one_by_one() -> None:
    reading = MAILJET.read_webhook(PAYLOADS["grouped"], {})
    assert reading.unreadable == ()
    assert [(event.kind, event.detail, event.machine) for event in reading.events] == [
        (EventKind.DELIVERED, "sent", False),
        (EventKind.OPENED, "open", False),
        (EventKind.OPENED, "open", True),
        (EventKind.CLICKED, "click", False),
        (EventKind.BOUNCED, "bounce/user unknown", False),
        (EventKind.DEFERRED, "bounce/greylisted", False),
        (EventKind.SOFT_BOUNCED, "bounce/quota exceeded", False),
        (EventKind.REJECTED, "blocked/preblocked", False),
        (EventKind.COMPLAINED, "spam", False),
        (EventKind.UNSUBSCRIBED, "unsub", False),
    ]
    assert {event.message_id for event in reading.events} == {MESSAGE_ID}
    assert {event.provider_message_id for event in reading.events} == {"576460756513665525"}


def test_the_older_name_of_the_message_id_is_read_too() -> None:
    reading = MAILJET.read_webhook(PAYLOADS["grouped_as_documented"], {})
    assert [event.provider_message_id for event in reading.events] == [
        "18858825588804172",
        "18858825588803684",
        "18014400413866302",
        "18858825588804459",
    ]


def test_a_message_id_keeps_every_digit() -> None:
    assert one("sent", MessageID=19421777835146491).provider_message_id == "19421777835146491"
    assert one("sent", MessageID="19421777835146491").provider_message_id == "19421777835146491"
    assert read(fields("sent", MessageID=0)).unreadable == (Unreadable(0, "the event names no message"),)


def test_our_id_comes_back_in_the_payload_or_as_the_custom_id() -> None:
    assert one("sent", Payload=OURS).message_id == MESSAGE_ID
    assert one("sent", CustomID=str(MESSAGE_ID)).message_id == MESSAGE_ID
    assert one("sent", CustomID=str(MESSAGE_ID), Payload="\ud800").message_id == MESSAGE_ID
    assert read(fields("sent", MessageID=None, Payload=OURS)).events[0].message_id == MESSAGE_ID
    others: tuple[object, ...] = ("", "x", "[]", '{"carepost_message_id": 5}', 5, None, [], {})
    for other in others:
        assert one("sent", Payload=other, CustomID=other).message_id is None


@pytest.mark.parametrize(
    ("related", "error", "kind"),
    [
        ("recipient", "user unknown", FailureKind.ADDRESS_UNKNOWN),
        ("recipient", "mailbox inactive", FailureKind.ADDRESS_UNKNOWN),
        ("recipient", "quota exceeded", FailureKind.MAILBOX_FULL),
        ("recipient", "blacklisted", FailureKind.SUPPRESSED),
        ("recipient", "spam reporter", FailureKind.SUPPRESSED),
        ("domain", "invalid domain", FailureKind.DOMAIN_UNKNOWN),
        ("domain", "no mail host", FailureKind.DOMAIN_UNKNOWN),
        ("domain", "relay/access denied", FailureKind.POLICY),
        ("domain", "greylisted", FailureKind.POLICY),
        ("domain", "typofix", FailureKind.DOMAIN_UNKNOWN),
        ("content", "bad or empty template", FailureKind.CONTENT),
        ("content", "error in template language", FailureKind.CONTENT),
        ("spam", "sender blocked", FailureKind.REPUTATION),
        ("spam", "content blocked", FailureKind.SPAM),
        ("spam", "policy issue", FailureKind.POLICY),
        ("system", "system issue", FailureKind.UNREACHABLE),
        ("system", "protocol issue", FailureKind.UNREACHABLE),
        ("system", "connection issue", FailureKind.UNREACHABLE),
        ("mailjet", "preblocked", FailureKind.SUPPRESSED),
        ("mailjet", "spam preblocked", FailureKind.SPAM),
        ("mailjet", "duplicate in campaign", FailureKind.OTHER),
        ("recipient", "of tomorrow", FailureKind.ADDRESS_UNKNOWN),
        ("domain", "of tomorrow", FailureKind.DOMAIN_UNKNOWN),
        ("content", "of tomorrow", FailureKind.CONTENT),
        ("spam", "of tomorrow", FailureKind.SPAM),
        ("system", "of tomorrow", FailureKind.UNREACHABLE),
        ("mailjet", "of tomorrow", FailureKind.SUPPRESSED),
        ("the future", "of tomorrow", FailureKind.OTHER),
        ("", "", FailureKind.OTHER),
    ],
)
def test_each_error_of_the_table_says_why_an_email_was_blocked(related: str, error: str, kind: FailureKind) -> None:
    event = one("blocked", error_related_to=related, error=error)
    assert event.failure is not None
    assert (event.kind, event.failure.kind, event.failure.reason) == (EventKind.REJECTED, kind, error)
    assert event.detail == (f"blocked/{error}" if error else "blocked")


@pytest.mark.parametrize(
    ("bounce", "kind", "failure"),
    [
        ({"hard_bounce": True, "error": "user unknown"}, EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        (
            {"hard_bounce": True, "error": "user unknown", "comment": "552 5.2.2 mailbox full"},
            EventKind.BOUNCED,
            FailureKind.MAILBOX_FULL,
        ),
        (
            {"hard_bounce": False, "error": "quota exceeded", "comment": "452 4.2.2 over quota"},
            EventKind.SOFT_BOUNCED,
            FailureKind.MAILBOX_FULL,
        ),
        (
            {"hard_bounce": False, "error": "relay/access denied", "comment": "554 5.7.1 no"},
            EventKind.BOUNCED,
            FailureKind.POLICY,
        ),
        (
            {"hard_bounce": False, "error": "content blocked", "comment": "421 4.7.0 later"},
            EventKind.SOFT_BOUNCED,
            FailureKind.SPAM,
        ),
        (
            {"hard_bounce": False, "blocked": True, "error": "mailbox inactive"},
            EventKind.BOUNCED,
            FailureKind.ADDRESS_UNKNOWN,
        ),
        ({"hard_bounce": False, "error": "greylisted"}, EventKind.DEFERRED, FailureKind.POLICY),
        ({"hard_bounce": True, "error": "greylisted"}, EventKind.BOUNCED, FailureKind.POLICY),
        ({"hard_bounce": False, "error": "connection issue"}, EventKind.SOFT_BOUNCED, FailureKind.UNREACHABLE),
        ({"hard_bounce": "true", "blocked": 1, "error": ""}, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ({}, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
    ],
)
def test_a_bounce_is_final_by_mailjets_word_or_the_destinations_own_code(
    bounce: dict[str, Any], kind: EventKind, failure: FailureKind
) -> None:
    event = one("bounce", **bounce)
    assert event.failure is not None
    assert (event.kind, event.failure.kind) == (kind, failure)


def test_the_codes_of_a_bounce_are_kept() -> None:
    failure = one("bounce", hard_bounce=True, error="user unknown", comment="550 5.1.1 no\nsuch user").failure
    assert failure is not None
    assert (failure.smtp_code, failure.enhanced_code, failure.reason) == (550, "5.1.1", "550 5.1.1 no such user")


@pytest.mark.parametrize("event", ["sent", "open", "click", "spam", "unsub"])
def test_what_did_not_fail_has_no_failure(event: str) -> None:
    assert one(event, error="user unknown", comment="550 5.1.1 no").failure is None


def test_apples_prefetching_is_a_machines_open_and_gmails_proxy_is_not() -> None:
    gmail = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
    assert one("open", agent="Mozilla/5.0").verdict is Verdict.QUEUED
    assert one("open", agent=gmail).verdict is Verdict.OPENED
    assert not one("click", agent="Mozilla/5.0").machine


def test_an_unknown_event_is_kept_and_changes_nothing() -> None:
    event = one("teleported")
    assert (event.kind, event.detail, event.verdict) == (EventKind.UNKNOWN, "teleported", Verdict.QUEUED)


def test_a_key_is_the_same_over_retries_bare_or_grouped() -> None:
    bare = MAILJET.read_webhook(json.dumps(fields("sent", Message_GUID="a")).encode(), {}).events[0]
    assert bare.dedupe_key == one("sent", Message_GUID="b", MessageID="19421777835146490").dedupe_key


def test_different_events_have_different_keys() -> None:
    events = [
        one("sent"),
        one("open"),
        one("open", time=1433333950),
        one("open", agent="Mozilla/5.0"),
        one("click", url="https://a.example"),
        one("click", url="https://b.example"),
        one("sent", MessageID=2),
        one("sent", MessageID=None, Payload=OURS),
    ]
    assert len({event.dedupe_key for event in events}) == len(events)


@pytest.mark.parametrize("time", [None, True, "", "soon", 253402300800, 10**40, 1e300, [], "2026-03-01T10:00:00Z"])
def test_an_impossible_time_sets_its_event_aside(time: object) -> None:
    reading = read(fields("sent", time=time), fields("sent"))
    assert [part.index for part in reading.unreadable] == [0]
    assert [event.kind for event in reading.events] == [EventKind.DELIVERED]


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"", [Unreadable(0, "the body is not JSON")]),
        (b"null", [Unreadable(0, "the event is not an object")]),
        (b"{}", [Unreadable(0, "the event has no type")]),
        (
            b'[{"event": "open"}, 7]',
            [Unreadable(0, "the event names no message"), Unreadable(1, "the event is not an object")],
        ),
        (b'{"event": "open", "MessageID": 5}', [Unreadable(0, "its time is no number of seconds")]),
        (b"[]", []),
    ],
)
def test_what_cannot_be_read_is_set_aside(body: bytes, parts: list[Unreadable]) -> None:
    assert list(MAILJET.read_webhook(body, {}).unreadable) == parts
