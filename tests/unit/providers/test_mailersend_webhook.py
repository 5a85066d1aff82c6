"""MailerSend: its signature and its test, both versions of its webhooks, and every row of what they mean."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from mail.errors import CredentialsIncomplete, WebhookRejected
from mail.event import Event, EventKind
from mail.failure import FailureKind
from mail.providers.base import Reading, Unreadable, WebhookRequest
from mail.providers.mailersend import MailerSend
from mail.status import Verdict
from tests.support.providers.mailersend import sign_mailersend
from tests.support.providers.sample import MESSAGE_ID, URL, payloads

MAILERSEND = MailerSend()
PAYLOADS = payloads("mailersend")
SECRET = "JXRHYr0hEp90BiPoNv1WqSQkrtNTL0Id"
TEST_KEY = "test_Am3L1GuOIc4blLUuHqAPxxwkZaJyEk8G"
BODY = PAYLOADS["v2_delivered"]


def verify(body: bytes, headers: dict[str, str], *secrets: str) -> None:
    MAILERSEND.verify_webhook(WebhookRequest("POST", URL, headers, body), secrets)


def documented(name: str) -> Event:
    (event,) = MAILERSEND.read_webhook(PAYLOADS[name], {}).events
    return event


def read(posted: object) -> Reading:
    return MAILERSEND.read_webhook(json.dumps(posted).encode(), {})


def post(event: str, meta: object = None, **data: Any) -> dict[str, Any]:
    common = {"id": "a1", "message_id": "m1", "email_id": "e1", "tags": [], "meta": meta}
    return {"type": event, "created_at": "2026-03-01T10:00:00.000000Z", "data": {**common, **data}}


def one(event: str, meta: object = None, **data: Any) -> Event:
    (read_event,) = read(post(event, meta, **data)).events
    return read_event


def test_a_signature_holds_over_the_raw_bytes_and_through_a_rotation() -> None:
    for secret in (SECRET, "the-older-secret"):
        verify(BODY, dict(sign_mailersend(BODY, secret)), SECRET, "the-older-secret")
    verify(BODY, {"signature": sign_mailersend(BODY, SECRET)["signature"].upper()}, SECRET)
    with pytest.raises(WebhookRejected):
        verify(BODY.replace(b"\\/", b"/") + b" ", dict(sign_mailersend(BODY, SECRET)), SECRET)


@pytest.mark.parametrize(
    "signature",
    [None, "", "é", "zz", "abc", "00" * 32, "00" * 31, "A" * 100_000, "\x00", "sha256=" + "00" * 32],
)
def test_a_missing_malformed_or_wrong_signature_is_rejected(signature: str | None) -> None:
    with pytest.raises(WebhookRejected):
        verify(BODY, {} if signature is None else {"signature": signature}, SECRET)


def test_a_truncated_body_or_signature_is_rejected() -> None:
    headers = dict(sign_mailersend(BODY, SECRET))
    with pytest.raises(WebhookRejected):
        verify(BODY[:-1], headers, SECRET)
    with pytest.raises(WebhookRejected):
        verify(BODY, {"signature": headers["signature"][:-2]}, SECRET)


def test_another_accounts_secret_opens_nothing() -> None:
    with pytest.raises(WebhookRejected, match="the signature is wrong"):
        verify(BODY, dict(sign_mailersend(BODY, "another-secret")), SECRET)


def test_the_test_of_a_new_webhook_is_answered_before_there_is_a_secret() -> None:
    """MailerSend saves no webhook whose URL refuses it, and shows the secret of a saved webhook alone."""
    test = PAYLOADS["webhook_test"]
    verify(test, dict(sign_mailersend(test, TEST_KEY)))
    verify(test, dict(sign_mailersend(test, TEST_KEY)), SECRET)
    assert MAILERSEND.read_webhook(test, {}) == Reading()


def test_the_public_key_of_the_test_signs_nothing_else() -> None:
    event = json.dumps({"type": "webhook.test", "data": {"type": "delivered"}, "pad": "x" * 1024}).encode()
    for body in (*PAYLOADS.values(), event, b'["webhook.test"]', b'"webhook.test"', b""):
        if body != PAYLOADS["webhook_test"]:
            with pytest.raises(WebhookRejected):
                verify(body, dict(sign_mailersend(body, TEST_KEY)), SECRET)


def test_a_test_in_an_events_clothes_says_nothing() -> None:
    body = json.dumps({**post("webhook.test"), "message": "x"}).encode()
    verify(body, dict(sign_mailersend(body, TEST_KEY)))
    assert MAILERSEND.read_webhook(body, {}) == Reading()


def test_only_a_whole_secret_is_taken() -> None:
    MAILERSEND.check_webhook_secret(SECRET)
    with pytest.raises(CredentialsIncomplete, match="whole"):
        MAILERSEND.check_webhook_secret("short")


@pytest.mark.parametrize(
    ("name", "kind", "verdict"),
    [
        ("sent", EventKind.ACCEPTED, Verdict.SENT),
        ("delivered", EventKind.DELIVERED, Verdict.DELIVERED),
        ("deferred", EventKind.DEFERRED, Verdict.SENT),
        ("soft_bounced", EventKind.SOFT_BOUNCED, Verdict.RETURNED_SOFT),
        ("hard_bounced", EventKind.BOUNCED, Verdict.RETURNED),
        ("suppressed", EventKind.REJECTED, Verdict.RETURNED),
        ("opened", EventKind.OPENED, Verdict.OPENED),
        ("opened_unique", EventKind.OPENED, Verdict.OPENED),
        ("clicked", EventKind.CLICKED, Verdict.OPENED),
        ("clicked_unique", EventKind.CLICKED, Verdict.OPENED),
        ("unsubscribed", EventKind.UNSUBSCRIBED, Verdict.DELIVERED),
        ("spam_complaint", EventKind.COMPLAINED, Verdict.DELIVERED),
        ("survey_opened", EventKind.OPENED, Verdict.OPENED),
        ("survey_submitted", EventKind.CLICKED, Verdict.OPENED),
    ],
)
def test_each_event_of_version_2_is_read(name: str, kind: EventKind, verdict: Verdict) -> None:
    event = documented(f"v2_{name}")
    assert (event.kind, event.verdict, event.detail) == (kind, verdict, f"activity.{name}")
    assert (event.message_id, event.provider_message_id) == (MESSAGE_ID, "6892766ae78995a317577aa1")
    assert event.recipient == "test@mailersend.com"
    assert (event.failure is None) == (name not in {"deferred", "soft_bounced", "hard_bounced", "suppressed"})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sent", EventKind.ACCEPTED),
        ("delivered", EventKind.DELIVERED),
        ("soft_bounced", EventKind.SOFT_BOUNCED),
        ("hard_bounced", EventKind.BOUNCED),
        ("opened", EventKind.OPENED),
        ("clicked", EventKind.CLICKED),
        ("unsubscribed", EventKind.UNSUBSCRIBED),
        ("spam_complaint", EventKind.COMPLAINED),
    ],
)
def test_each_event_of_version_1_is_read(name: str, kind: EventKind) -> None:
    event = documented(f"v1_{name}")
    assert (event.kind, event.detail) == (kind, f"activity.{name}")
    assert event.provider_message_id == "5fc0d003f718c90162341852"
    assert event.recipient == "test@mailersend.com"
    assert event.message_id == (None if name == "sent" else MESSAGE_ID)  # the page's own sample has no tags


def test_the_time_is_the_events_own() -> None:
    """Version 1 has it in `data`, beside the time of the email and of the webhook; version 2 has one alone."""
    assert documented("v1_sent").occurred_at == datetime(2020, 11, 27, 10, 8, 6, 258000, UTC)
    assert documented("v2_sent").occurred_at == datetime(2025, 8, 5, 21, 23, 11, tzinfo=UTC)
    assert one("activity.sent", created_at="2026-03-01 10:00:00").occurred_at == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert one("activity.sent", created_at="2026-03-01T12:00:00+02:00").occurred_at == (
        datetime(2026, 3, 1, 10, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    "name",
    ["webhook_test", "maintenance_start", "sender_identity_verified", "email_single_verified", "bulk_email_completed"],
)
def test_what_is_about_the_account_is_no_event_of_a_message(name: str) -> None:
    assert MAILERSEND.read_webhook(PAYLOADS[name], {}) == Reading()


@pytest.mark.parametrize(
    ("event", "meta", "kind", "failure", "smtp", "enhanced"),
    [
        (
            "hard_bounced",
            {"bounce_reason": "Host or domain name not found", "bounce_code": "550"},
            EventKind.BOUNCED,
            FailureKind.DOMAIN_UNKNOWN,
            550,
            None,
        ),
        (
            "hard_bounced",
            {"bounce_reason": "550 5.1.1 no such user", "bounce_code": 550},
            EventKind.BOUNCED,
            FailureKind.ADDRESS_UNKNOWN,
            550,
            "5.1.1",
        ),
        (
            "hard_bounced",
            {"bounce_reason": "no", "bounce_code": "5.2.2"},
            EventKind.BOUNCED,
            FailureKind.MAILBOX_FULL,
            None,
            "5.2.2",
        ),
        (
            "soft_bounced",
            {"bounce_reason": "Mailbox full", "bounce_code": "452"},
            EventKind.SOFT_BOUNCED,
            FailureKind.MAILBOX_FULL,
            452,
            None,
        ),
        (
            "soft_bounced",
            {"bounce_reason": "Unknown reason", "bounce_code": "550"},
            EventKind.BOUNCED,
            FailureKind.ADDRESS_UNKNOWN,
            550,
            None,
        ),
        ("soft_bounced", [], EventKind.SOFT_BOUNCED, FailureKind.OTHER, None, None),
        (
            "deferred",
            {"bounce_reason": "550 5.1.1 no such user"},
            EventKind.DEFERRED,
            FailureKind.ADDRESS_UNKNOWN,
            550,
            "5.1.1",
        ),
        ("suppressed", {"suppression_reason": "x"}, EventKind.REJECTED, FailureKind.SUPPRESSED, None, None),
        ("suppressed", None, EventKind.REJECTED, FailureKind.SUPPRESSED, None, None),
    ],
)
def test_what_failed_says_why(
    event: str, meta: Any, kind: EventKind, failure: FailureKind, smtp: int | None, enhanced: str | None
) -> None:
    read_event = one(f"activity.{event}", meta)
    assert read_event.failure is not None
    assert (read_event.kind, read_event.failure.kind) == (kind, failure)
    assert (read_event.failure.smtp_code, read_event.failure.enhanced_code) == (smtp, enhanced)


def test_the_reason_of_either_version_is_kept() -> None:
    for name, reason in [
        ("v1_hard_bounced", "Host or domain name not found"),
        ("v1_soft_bounced", "Unknown reason"),
        ("v2_hard_bounced", "Host or domain name not found"),
        ("v2_suppressed", "hard_bounced"),
        ("v2_deferred", "Greylisted, please try again later"),
    ]:
        failure = documented(name).failure
        assert failure is not None
        assert failure.reason == reason


def test_apples_prefetching_is_a_machines_open_and_gmails_proxy_is_not() -> None:
    gmail = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
    assert one("activity.opened", {"user_agent": "Mozilla/5.0"}).machine
    assert not one("activity.opened", {"user_agent": gmail}).machine
    assert not one("activity.clicked", {"user_agent": "Mozilla/5.0"}).machine


def test_our_id_comes_back_as_one_of_the_tags() -> None:
    ours = str(MESSAGE_ID)
    for tags in ([ours], ["newsletter", ours], [5, None, "", "x", ours, "y"]):
        assert one("activity.sent", tags=tags).message_id == MESSAGE_ID
    others: tuple[object, ...] = (None, [], ["x"], ours, {"0": ours}, [[ours]], 5)
    for other in others:
        assert one("activity.sent", tags=other).message_id is None


def test_an_unknown_event_is_kept_and_changes_nothing() -> None:
    event = one("activity.teleported")
    assert (event.kind, event.detail, event.verdict) == (EventKind.UNKNOWN, "activity.teleported", Verdict.QUEUED)


def test_a_key_is_the_activity_and_the_same_over_retries() -> None:
    first = one("activity.opened", {"user_agent": "x"})
    again = {**post("activity.opened", {"user_agent": "y"}), "created_at": "2026-03-01T12:00:00.000000Z"}
    (second,) = read(again).events
    assert first.dedupe_key == second.dedupe_key
    assert first.dedupe_key == one("activity.opened_unique").dedupe_key


def test_different_events_have_different_keys() -> None:
    events = [
        one("activity.opened"),
        one("activity.opened", id="a2"),
        one("activity.delivered"),
        one("activity.opened", message_id="m2"),
        one("activity.clicked", {"url": "https://a.example"}, id=None),
        one("activity.clicked", {"url": "https://b.example"}, id=None),
        one("activity.delivered", id=None),
        one("activity.delivered", id=None, message_id=None, tags=[str(MESSAGE_ID)]),
    ]
    assert len({event.dedupe_key for event in events}) == len(events)


@pytest.mark.parametrize("time", [None, "", "soon", "2026-03-01", "2026-13-01 10:00:00", 1, True, [], "x" * 19])
def test_an_impossible_time_is_set_aside(time: object) -> None:
    (part,) = read({**post("activity.sent"), "created_at": time}).unreadable
    assert (part.index, part.error[:11]) == (0, "its time is")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON"),
        (b"[]", "the event is not an object"),
        (b"{}", "the event has no type"),
        (b'{"type": "activity.sent"}', "the event names no message"),
        (b'{"type": "activity.sent", "data": []}', "the event names no message"),
        (b'{"type": "activity.sent", "data": {"email": {"message": "x"}}}', "the event names no message"),
    ],
)
def test_what_cannot_be_read_is_set_aside(body: bytes, error: str) -> None:
    assert list(MAILERSEND.read_webhook(body, {}).unreadable) == [Unreadable(0, error)]
