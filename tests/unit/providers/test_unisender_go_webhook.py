"""Unisender Go: its MD5 over the raw body, and every row of what its statuses mean."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import WebhookRejected
from mail.event import Event, EventKind
from mail.failure import FailureKind
from mail.providers.base import Reading, WebhookRequest
from mail.providers.unisender_go import UnisenderGo
from mail.status import Verdict
from tests.support.providers.sample import MESSAGE_ID, URL, payloads
from tests.support.providers.unisender_go import PLACE, post, seal

GO = UnisenderGo()
PAYLOADS = payloads("unisender_go")
KEY = "6q5z1kt7e3wy8obgnx1t9xp4kbkbnf6jzigqtazy"
BASE = {"job_id": "1a3Q2V-0000OZ-S0", "email": "ada@patient.example", "event_time": "2026-03-01 09:31:00"}
LATER = "2026-03-01 09:31:01"


def verify(body: bytes, *secrets: str) -> None:
    GO.verify_webhook(WebhookRequest("POST", URL, {}, body), secrets)


def read(*events: Any) -> Reading:
    return GO.read_webhook(post(*events), {})


def one(status: str, delivery_status: str = "", response: str = "", **fields: Any) -> Event:
    info = {"delivery_status": delivery_status, "destination_response": response}
    (event,) = read({**BASE, "status": status, "delivery_info": info, **fields}).events
    return event


def test_the_vendors_recipe_is_followed_on_the_raw_bytes() -> None:
    # Webhook call: md5 of the body whose auth is the key, computed here by hand (md5sum).
    verify(b'{"auth":"e2651fa155b52cb7304312767aceaca3","x":"\\u0416/\xd0\x96"}', "key-of-the-account")
    with pytest.raises(WebhookRejected):
        verify(b'{"auth": "e2651fa155b52cb7304312767aceaca3","x":"\\u0416/\xd0\x96"}', "key-of-the-account")


def test_a_rotation_and_letters_in_capitals() -> None:
    body = seal(PAYLOADS["delivered"], KEY)
    verify(body, "the-new-key-of-the-account", KEY)
    auth = json.loads(body)["auth"]
    verify(body.replace(auth.encode(), auth.upper().encode()), KEY)


@given(st.text(max_size=60), st.sampled_from(['"auth":"', '"auth" : "', '"auth":\n "']))
def test_any_body_is_verified_as_it_stands(value: str, key: str) -> None:
    body = f'{{{key}{PLACE}", "value":{json.dumps(value)}}}'.encode()
    verify(seal(body, KEY), KEY)


def test_another_auth_behind_the_first_is_content() -> None:
    body = post({**BASE, "status": "sent", "metadata": {"auth": "f" * 32}})
    verify(seal(body, KEY), KEY)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"auth":""}',
        b'{"auth":"short"}',
        b'{"auth":5}',
        b'{"auth":"' + b"8" * 32 + b'"}',
        b'{"auth":"' + b"z" * 32 + b'"}',
        b'{"auth":"' + b"8" * 64 + b'"}',
        b"\xff" * 40,
    ],
)
def test_a_body_without_the_right_auth_is_rejected(body: bytes) -> None:
    for secrets in ((KEY,), (), ("\ud800",)):
        with pytest.raises(WebhookRejected):
            verify(body, *secrets)


def test_each_changed_byte_is_noticed() -> None:
    body = seal(PAYLOADS["sent"], KEY)
    for index in range(len(body)):
        with pytest.raises(WebhookRejected):
            verify(body[:index] + bytes([body[index] ^ 1]) + body[index + 1 :], KEY)


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("accepted", EventKind.QUEUED, "accepted"),
        ("sent", EventKind.QUEUED, "sent"),
        ("delivered", EventKind.DELIVERED, "delivered/ok_delivered"),
        ("opened", EventKind.OPENED, "opened/ok_read"),
        ("clicked", EventKind.CLICKED, "clicked/ok_link_visited"),
        ("unsubscribed", EventKind.UNSUBSCRIBED, "unsubscribed/ok_unsubscribed"),
        ("subscribed", EventKind.RESUBSCRIBED, "subscribed/ok_resubscribed"),
        ("spam", EventKind.COMPLAINED, "spam/ok_fbl"),
        ("soft_bounced", EventKind.DEFERRED, "soft_bounced/err_mailbox_full"),
        ("hard_bounced", EventKind.BOUNCED, "hard_bounced/err_user_unknown"),
        ("single_event", EventKind.DELIVERED, "delivered/ok_delivered"),
    ],
)
def test_each_documented_event(name: str, kind: EventKind, detail: str) -> None:
    (event,) = GO.read_webhook(PAYLOADS[name], {}).events
    assert (event.kind, event.detail, event.machine) == (kind, detail, False)
    assert event.occurred_at == datetime(2015, 11, 30, 15, 9, 42, tzinfo=UTC)
    assert (event.provider_message_id, event.recipient) == ("1a3Q2V-0000OZ-S0", "recipient.email@example.com")


def test_a_spam_block_names_no_message() -> None:
    assert GO.read_webhook(PAYLOADS["spam_block"], {}) == Reading()
    kinds = [event.kind for event in GO.read_webhook(PAYLOADS["several"], {}).events]
    assert kinds == [EventKind.DELIVERED, EventKind.OPENED]


def test_events_of_several_users_are_all_read() -> None:
    body = json.loads(PAYLOADS["delivered"])
    body["events_by_user"] += json.loads(PAYLOADS["opened"])["events_by_user"]
    assert len(GO.read_webhook(json.dumps(body).encode(), {}).events) == 2


def test_a_single_event_may_be_flat() -> None:
    body = json.dumps({"auth": PLACE, **BASE, "status": "accepted"}).encode()
    (event,) = GO.read_webhook(body, {}).events
    assert (event.kind, event.detail) == (EventKind.QUEUED, "accepted")


def test_our_id_comes_back() -> None:
    (documented,) = GO.read_webhook(PAYLOADS["delivered"], {}).events
    assert documented.message_id == MESSAGE_ID
    event = one("sent", metadata={"carepost_message_id": str(MESSAGE_ID)}, job_id=None)
    assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, None)


@pytest.mark.parametrize(
    ("time", "hour"),
    [
        ("2026-03-01 09:31:00", 9),
        ("2026-03-01T09:31:00", 9),
        (" 2026-03-01 09:31:00.5 ", 9),
        ("2026-03-01T09:31:00Z", 9),
        ("2026-03-01T09:31:00+03:00", 6),
    ],
)
def test_a_time_without_a_zone_is_utc(time: str, hour: int) -> None:
    at = one("sent", event_time=time).occurred_at
    assert (at.hour, at.minute, at.tzinfo) == (hour, 31, UTC)


@pytest.mark.parametrize(
    ("delivery_status", "kind"),
    [
        ("err_user_unknown", FailureKind.ADDRESS_UNKNOWN),
        ("err_user_inactive", FailureKind.ADDRESS_UNKNOWN),
        ("err_mailbox_discarded", FailureKind.ADDRESS_UNKNOWN),
        ("err_dest_invalid", FailureKind.ADDRESS_UNKNOWN),
        ("err_domain_inactive", FailureKind.DOMAIN_UNKNOWN),
        ("err_no_dns", FailureKind.DOMAIN_UNKNOWN),
        ("err_mailbox_full", FailureKind.MAILBOX_FULL),
        ("err_spam_rejected", FailureKind.SPAM),
        ("err_blacklisted", FailureKind.REPUTATION),
        ("err_too_large", FailureKind.TOO_LARGE),
        ("err_destination_misconfigured", FailureKind.UNREACHABLE),
        ("err_no_smtp", FailureKind.UNREACHABLE),
        ("err_giveup", FailureKind.UNREACHABLE),
        ("err_src_invalid", FailureKind.ACCOUNT),
        ("err_delivery_failed", FailureKind.OTHER),
        ("err_will_retry", FailureKind.OTHER),
        ("err_resend", FailureKind.OTHER),
        ("err_retry_letter", FailureKind.OTHER),
        ("err_unknown", FailureKind.OTHER),
        ("err_of_tomorrow", FailureKind.OTHER),
    ],
)
def test_each_delivery_status_of_a_refusal(delivery_status: str, kind: FailureKind) -> None:
    for status, expected in (("hard_bounced", EventKind.BOUNCED), ("soft_bounced", EventKind.DEFERRED)):
        event = one(status, delivery_status)
        assert event.kind is expected
        assert event.failure is not None
        assert event.failure.kind is kind


@pytest.mark.parametrize(
    ("delivery_status", "kind"),
    [
        ("err_unsubscribed", FailureKind.SUPPRESSED),
        ("err_unreachable", FailureKind.SUPPRESSED),
        ("err_not_available", FailureKind.SUPPRESSED),
        ("err_skip_letter", FailureKind.SUPPRESSED),
        ("skip_dup_unreachable", FailureKind.SUPPRESSED),
        ("skip_dup_temp_unreachable", FailureKind.SUPPRESSED),
        ("skip_dup_mailbox_full", FailureKind.MAILBOX_FULL),
        ("err_spam_skipped", FailureKind.SPAM),
        ("err_spam_removed", FailureKind.SPAM),
        ("err_lost", FailureKind.OTHER),
        ("err_internal", FailureKind.OTHER),
        ("not_sent", FailureKind.OTHER),
    ],
)
def test_each_delivery_status_of_an_email_that_was_never_sent_on(delivery_status: str, kind: FailureKind) -> None:
    event = one("hard_bounced", delivery_status)
    assert event.kind is EventKind.REJECTED
    assert event.failure is not None
    assert (event.failure.kind, event.failure.reason) == (kind, delivery_status)
    assert one("soft_bounced", delivery_status).verdict is Verdict.SENT


def test_the_destinations_words_count_before_the_status() -> None:
    event = one("hard_bounced", "err_delivery_failed", "552 5.2.2 mailbox full")
    assert event.failure is not None
    assert (event.failure.kind, event.failure.enhanced_code) == (FailureKind.MAILBOX_FULL, "5.2.2")


def test_an_image_loaded_by_apple_is_a_machines() -> None:
    assert one("opened", delivery_info={"user_agent": "Mozilla/5.0"}).machine
    assert not one("opened", delivery_info={"user_agent": "Mozilla/5.0 (X11) Firefox/148.0"}).machine
    assert not one("delivered", delivery_info={"user_agent": "Mozilla/5.0"}).machine


def test_an_unknown_status_is_kept() -> None:
    event = one("of_tomorrow", "ok_of_tomorrow")
    assert (event.kind, event.detail) == (EventKind.UNKNOWN, "of_tomorrow/ok_of_tomorrow")


def test_a_repeat_has_the_same_key_and_another_event_has_not() -> None:
    body = json.loads(post({**BASE, "status": "clicked", "url": "https://a"}))
    again = json.dumps({**body, "retry_count": 3}).encode()
    first = GO.read_webhook(json.dumps(body).encode(), {"id": "1"})
    assert first.events[0].dedupe_key == GO.read_webhook(again, {"id": "2"}).events[0].dedupe_key
    keys = {one("clicked", url=url, event_time=at).dedupe_key for url in "ab" for at in (BASE["event_time"], LATER)}
    assert len(keys) == 4


@pytest.mark.parametrize(
    "event",
    [
        {**BASE},
        {**BASE, "status": 5.5},
        {**BASE, "status": "sent", "job_id": None},
        {**BASE, "status": "sent", "event_time": "soon"},
        {**BASE, "status": "sent", "event_time": None},
        {**BASE, "status": "sent", "event_time": "2026-13-01 09:31:00"},
    ],
)
def test_one_event_that_cant_be_read_harms_no_other(event: Any) -> None:
    reading = read(event, {**BASE, "status": "sent"})
    assert [part.index for part in reading.unreadable] == [0]
    assert len(reading.events) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"events_by_user":7}',
        b'{"events_by_user":{}}',
        b'{"events_by_user":[7]}',
        b'{"events_by_user":[{"events":7}]}',
        b'{"events_by_user":[{"events":[7]}]}',
    ],
)
def test_a_body_of_another_shape_is_set_aside(body: bytes) -> None:
    assert GO.read_webhook(body, {}).unreadable
