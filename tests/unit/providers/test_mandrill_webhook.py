"""Mandrill: the signature of its webhook, and every row of what its events mean."""

import base64
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import WebhookRejected
from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Reading, Unreadable, WebhookRequest
from tests.support.providers.mandrill import encode, sign
from tests.support.providers.sample import MESSAGE_ID, URL, payloads

MANDRILL = provider("mandrill")
PAYLOADS = payloads("mandrill")
BODY = PAYLOADS["every_message_event"]
SECRET = "u5Xb0nqN3k2a1hJ9dQ7wZg"
SIGNATURE = "x-mandrill-signature"
TEST = b"mandrill_events=%5B%5D"


def verify(headers: dict[str, str], *secrets: str, body: bytes = BODY, url: str = URL) -> None:
    MANDRILL.verify_webhook(WebhookRequest("POST", url, headers, body), secrets)


def read(*events: Any) -> Reading:
    return MANDRILL.read_webhook(encode(events), {})


def one(event: str, **msg: Any) -> Event:
    (read_event,) = read({"event": event, "_id": "8db27a6b", "ts": 1580762074, "msg": msg}).events
    return read_event


def opened(**more: Any) -> Event:
    (event,) = read({"event": "open", "_id": "8db27a6b", "ts": 1580762074, **more}).events
    return event


def test_the_signature_is_a_sha1_hmac_in_base64_over_the_url_and_the_sorted_fields() -> None:
    """As OpenSSL makes it of `https://mail.example.org/webhooks/x/1mandrill_events[]other+value`."""
    body = b"other=%2Bvalue&mandrill_events=%5b%5D"
    verify({SIGNATURE: "dT1rpl5dovl+2+W+JB52u+oz2kc="}, SECRET, body=body, url="https://mail.example.org/webhooks/x/1")


def test_a_signature_holds_through_a_rotation_of_keys() -> None:
    for secret in (SECRET, "another-key-of-mandrill"):
        verify(dict(sign(BODY, secret)), "another-key-of-mandrill", SECRET)
    with pytest.raises(WebhookRejected):
        verify(dict(sign(BODY, "a-third-key")), "another-key-of-mandrill", SECRET)


@pytest.mark.parametrize(
    "url", [URL + "/", URL.replace("https", "http"), URL.upper(), URL + "?x=1", "https://user:pass@mail.example.org/"]
)
def test_the_url_is_part_of_what_is_signed(url: str) -> None:
    verify(dict(sign(BODY, SECRET, url)), SECRET, url=url)
    with pytest.raises(WebhookRejected, match="another URL"):
        verify(dict(sign(BODY, SECRET)), SECRET, url=url)


@pytest.mark.parametrize("value", [None, "", "é", "%%%", "A" * 100_000, "\x00", "AAAA", "bm8=", "A" * 27])
def test_a_missing_or_malformed_signature_is_rejected(value: str | None) -> None:
    with pytest.raises(WebhookRejected):
        verify({} if value is None else {SIGNATURE: value}, SECRET)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b[:-3],
        lambda b: b + b"&more=1",
        lambda b: b.replace(b"hard_bounce", b"soft_bounce"),
        lambda b: b.replace(b"mandrill_events", b"mandrill_event"),
        lambda b: b"",
    ],
)
def test_a_changed_body_is_rejected(change: Any) -> None:
    with pytest.raises(WebhookRejected):
        verify(dict(sign(BODY, SECRET)), SECRET, body=change(BODY))


@given(fields=st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=20), max_size=5))
def test_any_fields_are_signed_however_they_are_written(fields: dict[str, str]) -> None:
    body = urlencode(fields).encode()
    verify(dict(sign(body, SECRET)), SECRET, body=body)
    verify(dict(sign(body, SECRET)), SECRET, body=body.replace(b"+", b"%20"))


def test_bytes_that_are_no_text_are_signed_as_they_are() -> None:
    events = bytes(range(256))
    mac = hmac.digest(SECRET.encode(), URL.encode() + b"mandrill_events" + events, "sha1")
    body = b"mandrill_events=" + quote_from_bytes(events).encode()
    verify({SIGNATURE: base64.b64encode(mac).decode()}, SECRET, body=body)


def test_a_test_before_there_is_a_key_is_taken_and_holds_nothing() -> None:
    verify(dict(sign(TEST, "test-webhook")), body=TEST)
    verify(dict(sign(TEST, "test-webhook")), SECRET, body=TEST)
    assert MANDRILL.read_webhook(TEST, {}) == Reading()


@pytest.mark.parametrize("body", [BODY, TEST + b"&x=1", b"mandrill_events=%5B%5D%20", b"mandrill_events=", b""])
def test_the_key_of_tests_proves_nothing_else(body: bytes) -> None:
    with pytest.raises(WebhookRejected):
        verify(dict(sign(body, "test-webhook")), SECRET, body=body)


def test_the_documented_events_are_read_in_order() -> None:
    reading = MANDRILL.read_webhook(BODY, {})
    assert [(event.kind, event.detail) for event in reading.events] == [
        (EventKind.ACCEPTED, "send"),
        (EventKind.DEFERRED, "deferral"),
        (EventKind.DELIVERED, "delivered"),
        (EventKind.BOUNCED, "hard_bounce/bad_mailbox"),
        (EventKind.BOUNCED, "soft_bounce/mailbox_full"),
        (EventKind.OPENED, "open"),
        (EventKind.CLICKED, "click"),
        (EventKind.COMPLAINED, "spam"),
        (EventKind.UNSUBSCRIBED, "unsub"),
        (EventKind.REJECTED, "reject/hard-bounce"),
    ]
    assert {event.message_id for event in reading.events} == {MESSAGE_ID}
    assert {event.provider_message_id for event in reading.events} == {"exampleaaaaaaaaaaaaaaaaaaaaaaaaa"}
    assert {event.recipient for event in reading.events} == {"example.webhook@mandrillapp.com"}
    assert not any(event.machine for event in reading.events)
    by_name = {event.detail: event.failure for event in reading.events if event.failure}
    assert by_name == {
        "deferral": Failure(FailureKind.OTHER, 451, "4.3.5", "451 4.3.5 Temporarily unavailable, try again later."),
        "hard_bounce/bad_mailbox": Failure(
            FailureKind.ADDRESS_UNKNOWN,
            550,
            "5.1.1",
            "smtp;550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the "
            "recipient's email address for typos or unnecessary spaces.",
        ),
        "soft_bounce/mailbox_full": Failure(FailureKind.MAILBOX_FULL, 552, "5.2.2", "smtp;552 5.2.2 Over Quota"),
        "reject/hard-bounce": Failure(FailureKind.SUPPRESSED, reason="hard-bounce"),
    }


def test_a_time_is_the_events_own_and_not_the_emails() -> None:
    assert MANDRILL.read_webhook(BODY, {}).events[0].occurred_at == datetime(2020, 2, 3, 20, 34, 35, tzinfo=UTC)


def test_changes_of_lists_and_incoming_mail_are_no_events_of_a_message() -> None:
    assert MANDRILL.read_webhook(PAYLOADS["sync_events"], {}) == Reading()
    for name in ("allowlist", "denylist"):
        assert read({"type": name, "action": "add", "ts": 1580762074}) == Reading()
    assert read({"event": "inbound", "ts": 1580762074, "msg": {"email": "a@b.example"}}) == Reading()


@pytest.mark.parametrize(
    ("code", "kind", "failure"),
    [
        (10, EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        (20, EventKind.BOUNCED, FailureKind.OTHER),
        (21, EventKind.BOUNCED, FailureKind.DOMAIN_UNKNOWN),
        (22, EventKind.BOUNCED, FailureKind.MAILBOX_FULL),
        (23, EventKind.BOUNCED, FailureKind.TOO_LARGE),
        (30, EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        (40, EventKind.BOUNCED, FailureKind.OTHER),
        (50, EventKind.BOUNCED, FailureKind.REPUTATION),
        (51, EventKind.BOUNCED, FailureKind.REPUTATION),
        (52, EventKind.BOUNCED, FailureKind.SPAM),
        (53, EventKind.BOUNCED, FailureKind.POLICY),
        (54, EventKind.BOUNCED, FailureKind.POLICY),
        (60, EventKind.AUTO_REPLIED, None),
        (70, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        (80, EventKind.RESUBSCRIBED, None),
        (90, EventKind.UNSUBSCRIBED, None),
        (100, EventKind.AUTO_REPLIED, None),
        (999, EventKind.BOUNCED, FailureKind.OTHER),
        (None, EventKind.BOUNCED, FailureKind.OTHER),
    ],
)
def test_each_class_of_a_bounce(code: int | None, kind: EventKind, failure: FailureKind | None) -> None:
    for name in ("hard_bounce", "soft_bounce"):
        event = one(name, bgtools_code=code, diag="")
        assert (event.kind, event.failure.kind if event.failure else None) == (kind, failure)


@pytest.mark.parametrize(
    ("code", "diag", "kind", "failure"),
    [
        (40, "smtp;552 5.2.2 over quota", EventKind.BOUNCED, FailureKind.MAILBOX_FULL),
        (10, "smtp;550 5.1.2 domain not found", EventKind.BOUNCED, FailureKind.DOMAIN_UNKNOWN),
        (22, "smtp;452 4.2.2 full", EventKind.BOUNCED, FailureKind.MAILBOX_FULL),
        (70, "smtp;450 4.4.7 delayed", EventKind.SOFT_BOUNCED, FailureKind.UNREACHABLE),
        (70, "smtp;550 5.1.1 no such user", EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
    ],
)
def test_the_destinations_words_win_over_the_class(code: int, diag: str, kind: EventKind, failure: FailureKind) -> None:
    event = one("soft_bounce", bgtools_code=code, diag=diag)
    assert event.failure is not None
    assert (event.kind, event.failure.kind, event.failure.reason) == (kind, failure, diag)


@pytest.mark.parametrize(
    ("msg", "failure"),
    [
        ({"reject": {"reason": "unsub"}}, Failure(FailureKind.SUPPRESSED, reason="unsub")),
        ({"reject": {"reason": "unsigned"}}, Failure(FailureKind.AUTHENTICATION, reason="unsigned")),
        ({"reject": {"reason": "of-tomorrow"}}, Failure(FailureKind.OTHER, reason="of-tomorrow")),
        ({"reject": None}, Failure(FailureKind.OTHER, reason="Mandrill gave no reason")),
        ({}, Failure(FailureKind.OTHER, reason="Mandrill gave no reason")),
    ],
)
def test_a_rejection_says_why_where_mandrill_does(msg: dict[str, Any], failure: Failure) -> None:
    event = one("reject", **msg)
    assert (event.kind, event.failure) == (EventKind.REJECTED, failure)


@pytest.mark.parametrize(
    ("more", "machine"),
    [
        ({"user_agent": "Mozilla/5.0"}, True),
        ({"user_agent_parsed": {"type": "Robot"}}, True),
        ({"user_agent": "Mozilla/5.0 (Windows NT 5.1) (via ggpht.com GoogleImageProxy)"}, False),
        ({"user_agent_parsed": {"type": "Email Client"}}, False),
        ({"user_agent_parsed": None}, False),
        ({"event": "click", "user_agent": "Mozilla/5.0"}, False),
        ({"event": "click", "user_agent_parsed": {"type": "robot"}}, True),
        ({"event": "delivered", "user_agent_parsed": {"type": "robot"}}, False),
    ],
)
def test_an_open_by_a_robot_or_apples_proxy_is_a_machines(more: dict[str, Any], machine: bool) -> None:
    assert opened(**more).machine is machine


def test_an_unknown_event_is_kept() -> None:
    event = one("teleported")
    assert (event.kind, event.detail, event.failure) == (EventKind.UNKNOWN, "teleported", None)


def test_a_key_is_what_the_event_says_whatever_stands_around_it() -> None:
    events = [
        opened(),
        opened(ts=1580762075),
        opened(_id="other"),
        opened(event="click", url="https://a.example"),
        opened(event="click", url="https://b.example"),
    ]
    assert len({event.dedupe_key for event in events}) == len(events)
    again = opened(ts="1580762074", ip="192.0.2.1", msg={"_version": "another", "opens": [{"ts": 1}]})
    assert again.dedupe_key == events[0].dedupe_key


def test_one_bad_event_among_others_is_set_aside_alone() -> None:
    good = {"event": "send", "_id": "a", "ts": 1580762074}
    bad = [7, {}, {"event": "open", "ts": 1}, {"event": "open", "_id": "a", "ts": None}]
    reading = read(good, *bad, {"event": "open", "ts": 1580762074, "msg": {"_id": "a", "metadata": []}})
    assert [event.kind for event in reading.events] == [EventKind.ACCEPTED, EventKind.OPENED]
    assert list(reading.unreadable) == [
        Unreadable(1, "the event is not an object"),
        Unreadable(2, "the event has no type"),
        Unreadable(3, "the event names no message"),
        Unreadable(4, "its time is no number of seconds"),
    ]


@pytest.mark.parametrize("poison", ['"\\ud800"', "NaN", "7" * 5000, "1e999", '"\\u0000"'])
def test_a_value_that_strict_json_refuses_hurts_no_other_event(poison: str) -> None:
    good = json.dumps({"event": "send", "_id": "a", "ts": 1580762074})
    events = f'[{good}, {{"event": "open", "_id": "a", "ts": {poison}}}, {good}]'
    reading = MANDRILL.read_webhook(urlencode({"mandrill_events": events}).encode(), {})
    assert [event.kind for event in reading.events] == [EventKind.ACCEPTED, EventKind.ACCEPTED]
    assert [part.index for part in reading.unreadable] == [1]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body has no mandrill_events"),
        (b"[]", "the body has no mandrill_events"),
        (b"mandrill_events", "mandrill_events is not JSON"),
        (b"mandrill_events=%7B", "mandrill_events is not JSON"),
        (b"mandrill_events=%7B%7D", "mandrill_events is not a list of events"),
        (b"mandrill_events=null", "mandrill_events is not a list of events"),
    ],
)
def test_a_body_without_events_is_one_unreadable(body: bytes, error: str) -> None:
    assert MANDRILL.read_webhook(body, {}) == Reading((), (Unreadable(0, error),))
