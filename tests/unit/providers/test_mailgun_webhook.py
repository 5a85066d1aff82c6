"""Mailgun: the proof of a webhook, and every row of what its events mean."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.errors import WebhookRejected
from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.providers import provider
from mail.providers.base import Reading, TokenSigned, Unreadable, WebhookRequest
from tests.support.providers.mailgun import proof, seal
from tests.support.providers.sample import MESSAGE_ID, URL, payloads

MAILGUN = provider("mailgun")
PAYLOADS = payloads("mailgun")
SECRET = "8f2c1d4e5b6a79808f2c1d4e5b6a7980"
TOKEN = "e0b5477167110d68991efc6b9f89f0a11066af27834600e123"


def read(**fields: Any) -> Reading:
    return MAILGUN.read_webhook(json.dumps({"event-data": fields}).encode(), {})


def one(event: str, **more: Any) -> Event:
    common = {"timestamp": 1770146800.25, "message": {"headers": {"message-id": "20260203@mg.example"}}}
    (read_event,) = read(**{"event": event, **common, **more}).events
    return read_event


def failed(severity: str, reason: str = "", **status: Any) -> Event:
    return one("failed", severity=severity, reason=reason, **{"delivery-status": status})


def documented(name: str) -> Event:
    (event,) = MAILGUN.read_webhook(PAYLOADS[name], {}).events
    return event


def post(body: bytes) -> WebhookRequest:
    return WebhookRequest("POST", URL, {}, body)


def verify(signature: object, *secrets: str) -> None:
    body = json.dumps({"signature": signature, "event-data": {"event": "delivered"}}).encode()
    MAILGUN.verify_webhook(post(body), secrets or (SECRET,))


def token(signature: object) -> str:
    assert isinstance(MAILGUN, TokenSigned)
    return MAILGUN.webhook_token(post(json.dumps({"signature": signature}).encode()))


def test_the_signature_is_a_sha256_hmac_in_hexadecimal_over_time_and_token() -> None:
    """As OpenSSL makes it of the documentation's sample."""
    verify(
        {
            "timestamp": "1529006854",
            "token": "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0",
            "signature": "789244a146c6637126bae16cc09e8755be4ea925e0cff2854851cd2b3f9dfcaf",
        },
        "signing-key",
    )


def test_a_signature_holds_through_a_rotation_of_keys_and_at_any_age() -> None:
    for timestamp in ("1000000000", "1770146800", "9999999999"):
        verify(proof(SECRET, timestamp), "another-key-of-mailgun", SECRET)
    verify({**proof(SECRET), "timestamp": 1770146800})
    verify({name: value.upper() if name == "signature" else value for name, value in proof(SECRET).items()})


def test_a_subaccounts_event_is_proven_by_the_account_above_it_too() -> None:
    parent = proof("the-account-above-it", token=TOKEN)["signature"]
    verify({**proof("of-the-subaccount", token=TOKEN), "parent-signature": parent}, "the-account-above-it")
    verify({**proof("of-the-subaccount", token=TOKEN), "parent-signature": parent}, "of-the-subaccount")
    with pytest.raises(WebhookRejected):
        verify({**proof("of-the-subaccount", token=TOKEN), "parent-signature": parent}, SECRET)


@pytest.mark.parametrize("name", ["older_delivered", "older_dropped", "older_opened", "older_bounced"])
def test_an_older_webhook_is_proven_by_the_fields_of_its_form(name: str) -> None:
    MAILGUN.verify_webhook(post(seal(PAYLOADS[name], SECRET)), [SECRET])
    with pytest.raises(WebhookRejected):
        MAILGUN.verify_webhook(post(PAYLOADS[name]), [SECRET])


def test_a_variable_of_ours_named_like_the_proof_is_not_taken_for_it() -> None:
    form = [("token", "ours"), ("event", "delivered"), *proof(SECRET).items()]
    MAILGUN.verify_webhook(post(urlencode(form).encode()), [SECRET])


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp": "1770146801"},
        {"token": TOKEN[:-1] + "4"},
        {"signature": "0" * 64},
        {"signature": "0" * 63},
        {"signature": "é" * 64},
        {"signature": "A" * 100_000},
        {"signature": None},
        {"signature": ""},
        {"token": ""},
        {"token": "short"},
        {"token": "ü" * 50},
        {"token": None},
        {"token": "a" * 100_000},
        {"timestamp": ""},
        {"timestamp": None},
        {"timestamp": "177014680"},
        {"timestamp": "-770146800"},
        {"timestamp": "１７７０１４６８００"},
        {"timestamp": True},
        {"timestamp": []},
    ],
)
def test_a_changed_or_missing_part_of_the_proof_is_rejected(change: dict[str, object]) -> None:
    with pytest.raises(WebhookRejected):
        verify({**proof(SECRET, token=TOKEN), **change})


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"{", b"null", b"--x\r\n", b"token=a&timestamp=b", b"\xff" * 9])
def test_a_body_without_a_proof_is_rejected(body: bytes) -> None:
    with pytest.raises(WebhookRejected):
        MAILGUN.verify_webhook(post(body), [SECRET])


def test_the_token_is_taken_with_its_time_as_they_are_signed() -> None:
    assert token(proof(SECRET, "1770146800", TOKEN)) == "1770146800" + TOKEN
    assert token({**proof(SECRET, "1770146800", TOKEN), "timestamp": 1770146800}) == "1770146800" + TOKEN


@given(moved=st.integers(-9, 40))
def test_a_proof_cannot_be_used_again_by_moving_digits_between_time_and_token(moved: int) -> None:
    signed = "1770146800" + "1234567890" * 5
    at = 10 + moved
    shifted = {**proof(SECRET, "1770146800", signed[10:]), "timestamp": signed[:at], "token": signed[at:]}
    if at == 10:
        assert token(shifted) == signed
        verify(shifted)
    else:
        with pytest.raises(WebhookRejected):
            verify(shifted)


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("accepted", EventKind.QUEUED, "accepted"),
        ("delivered", EventKind.DELIVERED, "delivered"),
        ("permanent_failure", EventKind.BOUNCED, "failed/permanent/bounce"),
        ("temporary_failure", EventKind.DEFERRED, "failed/temporary/generic"),
        ("suppressed", EventKind.REJECTED, "failed/permanent/suppress-bounce"),
        ("too_old", EventKind.BOUNCED, "failed/permanent/old"),
        ("delayed_bounce", EventKind.BOUNCED, "failed/permanent/generic"),
        ("rejected", EventKind.REJECTED, "rejected"),
        ("opened", EventKind.OPENED, "opened"),
        ("opened_by_apple", EventKind.OPENED, "opened"),
        ("clicked", EventKind.CLICKED, "clicked"),
        ("unsubscribed", EventKind.UNSUBSCRIBED, "unsubscribed"),
        ("complained", EventKind.COMPLAINED, "complained"),
    ],
)
def test_the_documented_events_are_read(name: str, kind: EventKind, detail: str) -> None:
    event = documented(name)
    assert (event.kind, event.detail, event.recipient) == (kind, detail, "recipient@example.com")
    assert event.message_id == MESSAGE_ID
    assert event.provider_message_id == "20260203192638.000be97f99f8cea1@sample.mailgun.com"
    assert event.machine == (name == "opened_by_apple")


def test_an_event_of_a_mailing_list_is_none_of_a_message() -> None:
    assert MAILGUN.read_webhook(PAYLOADS["list_uploaded"], {}) == Reading()


@pytest.mark.parametrize(
    ("name", "kind", "failure", "message_id"),
    [
        ("older_delivered", EventKind.DELIVERED, None, "20160421175529.19495.89030.B3AE3728@example.com"),
        ("older_opened", EventKind.OPENED, None, "20160421180324.70521.79375.96884DDB@example.com"),
        (
            "older_dropped",
            EventKind.REJECTED,
            Failure(FailureKind.SUPPRESSED, reason="Not delivering to previously bounced address"),
            "20160421180324.70521.79375.96884DDB@example.com",
        ),
        (
            "older_bounced",
            EventKind.BOUNCED,
            Failure(
                FailureKind.ADDRESS_UNKNOWN,
                550,
                "5.1.1",
                "550 5.1.1 The email account that you tried to reach does not exist.",
            ),
            "20160421180324.70521.79375.96884DDB@example.com",
        ),
    ],
)
def test_older_webhooks_say_the_same(name: str, kind: EventKind, failure: Failure | None, message_id: str) -> None:
    event = documented(name)
    assert (event.kind, event.failure, event.message_id) == (kind, failure, MESSAGE_ID)
    assert event.provider_message_id == message_id
    assert event.occurred_at == datetime(2016, 4, 21, 17, 55, 30, tzinfo=UTC)


def test_an_older_bounce_may_have_the_enhanced_code_alone() -> None:
    form = {"event": "bounced", "code": "5.1.1", "error": "smtp;550 5.1.1 RESOLVER.ADR.RecipNotFound; not found"}
    body = urlencode({**form, "Message-Id": "<a@b.example>", "timestamp": "1461261330"}).encode()
    (event,) = MAILGUN.read_webhook(body, {}).events
    assert event.failure is not None
    assert (event.kind, event.failure.enhanced_code, event.failure.smtp_code) == (EventKind.BOUNCED, "5.1.1", 550)


@pytest.mark.parametrize(
    ("severity", "reason", "status", "kind", "failure"),
    [
        ("permanent", "bounce", {"code": 550, "message": "5.1.1 no"}, EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        ("permanent", "generic", {"code": 550, "message": "no"}, EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        ("permanent", "generic", {"message": "?"}, EventKind.BOUNCED, FailureKind.OTHER),
        (
            "permanent",
            "generic",
            {"code": 498, "message": "No MX for x"},
            EventKind.BOUNCED,
            FailureKind.DOMAIN_UNKNOWN,
        ),
        ("permanent", "old", {"code": 499, "message": ""}, EventKind.BOUNCED, FailureKind.UNREACHABLE),
        ("permanent", "old", {"code": 602, "message": "Too old"}, EventKind.BOUNCED, FailureKind.UNREACHABLE),
        ("permanent", "espblock", {"code": 554, "message": "no"}, EventKind.BOUNCED, FailureKind.REPUTATION),
        ("permanent", "suppress-bounce", {"code": 605}, EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("permanent", "suppress-unsubscribe", {"code": 606}, EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("permanent", "suppress-complaint", {"code": 607}, EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("permanent", "suppress-bounce", {}, EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("permanent", "", {"code": 606}, EventKind.REJECTED, FailureKind.SUPPRESSED),
        ("permanent", "of tomorrow", {"code": 552, "message": "no"}, EventKind.BOUNCED, FailureKind.MAILBOX_FULL),
        ("temporary", "generic", {"code": 498, "message": "No MX"}, EventKind.DEFERRED, FailureKind.DOMAIN_UNKNOWN),
        ("temporary", "generic", {"code": 680, "message": "x"}, EventKind.DEFERRED, FailureKind.UNREACHABLE),
        ("temporary", "greylisted", {"code": 450, "message": "later"}, EventKind.DEFERRED, FailureKind.POLICY),
        ("temporary", "espblock", {"code": 421, "message": "x"}, EventKind.DEFERRED, FailureKind.REPUTATION),
        ("temporary", "generic", {"code": 550, "message": "x"}, EventKind.DEFERRED, FailureKind.ADDRESS_UNKNOWN),
        ("of tomorrow", "", {"code": 450, "message": "x"}, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
        ("of tomorrow", "", {"code": 550, "message": "x"}, EventKind.BOUNCED, FailureKind.ADDRESS_UNKNOWN),
        ("", "", {}, EventKind.SOFT_BOUNCED, FailureKind.OTHER),
    ],
)
def test_a_failure_by_its_severity_reason_and_code(
    severity: str, reason: str, status: dict[str, Any], kind: EventKind, failure: FailureKind
) -> None:
    event = failed(severity, reason, **status)
    assert event.failure is not None
    assert (event.kind, event.failure.kind) == (kind, failure)


def test_the_codes_and_words_of_the_destination_are_kept_and_mailguns_own_are_no_reply() -> None:
    assert documented("temporary_failure").failure == Failure(
        FailureKind.MAILBOX_FULL, 452, "4.2.2", "4.2.2 The email account that you tried to reach is over quota."
    )
    assert documented("delayed_bounce").failure == Failure(
        FailureKind.ADDRESS_UNKNOWN, 550, "5.0.0", "smtp; 550 Address unknown"
    )
    assert documented("too_old").failure == Failure(FailureKind.UNREACHABLE, reason="Too old")
    failure = failed("permanent", "suppress-bounce", code=605, description="Not delivering\r\nto it").failure
    assert failure == Failure(FailureKind.SUPPRESSED, reason="Not delivering to it")


@pytest.mark.parametrize(
    ("severity", "status", "kind"),
    [
        ("permanent", {"code": 550, "message": "no"}, EventKind.BOUNCED),
        ("temporary", {"code": 452, "message": "4.2.2 full"}, EventKind.SOFT_BOUNCED),
        ("temporary", {"code": 550, "message": "5.1.1 no"}, EventKind.BOUNCED),
        ("permanent", {"bounce-code": "2.0.0", "message": "relayed"}, EventKind.AUTO_REPLIED),
        ("temporary", {"bounce-code": "2.1.5", "message": "out of office"}, EventKind.AUTO_REPLIED),
    ],
)
def test_a_bounce_that_came_back_by_email_is_not_tried_again(
    severity: str, status: dict[str, Any], kind: EventKind
) -> None:
    flags = {"is-delayed-bounce": True}
    event = one("failed", severity=severity, flags=flags, **{"delivery-status": status})
    assert (event.kind, event.failure is None) == (kind, kind is EventKind.AUTO_REPLIED)


def test_a_rejection_is_mailguns_own_and_names_its_recipient_in_a_header() -> None:
    event = one(
        "rejected", reject={"reason": "Domain is disabled"}, message={"headers": {"message-id": "a@b", "to": "A <a@b>"}}
    )
    assert event.failure == Failure(FailureKind.ACCOUNT, reason="Domain is disabled")
    assert event.recipient == "a@b"


@pytest.mark.parametrize(
    ("event", "client", "machine"),
    [
        ("opened", {"bot": "apple"}, True),
        ("opened", {"bot": "generic"}, True),
        ("opened", {"bot": "of tomorrow"}, True),
        ("opened", {"bot": "gmail", "user-agent": "Mozilla/5.0"}, False),
        ("opened", {"bot": "", "user-agent": "Mozilla/5.0"}, True),
        ("opened", {"user-agent": "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"}, False),
        ("opened", {}, False),
        ("clicked", {"bot": "generic"}, True),
        ("clicked", {"bot": ""}, False),
        ("clicked", {"user-agent": "Mozilla/5.0"}, False),
        ("delivered", {"bot": "apple"}, False),
    ],
)
def test_an_open_by_a_bot_is_a_machines_and_gmails_proxy_stands_for_a_person(
    event: str, client: dict[str, str], machine: bool
) -> None:
    assert one(event, **{"client-info": client}).machine is machine


def test_an_unknown_event_is_kept() -> None:
    event = one("teleported")
    assert (event.kind, event.detail, event.failure) == (EventKind.UNKNOWN, "teleported", None)
    assert one("stored").kind is EventKind.UNKNOWN


def test_the_key_is_mailguns_event_id_whatever_the_proof_is() -> None:
    body = PAYLOADS["opened"]
    again = seal(body, SECRET)
    assert again != body
    keys = [MAILGUN.read_webhook(each, {}).events[0].dedupe_key for each in (body, again)]
    assert keys == ["Ase7i2zsRYeDXztHGENqRA"] * 2


def test_an_event_without_an_id_has_what_it_says_as_key() -> None:
    events = [
        one("clicked", url="https://a.example"),
        one("clicked", url="https://b.example"),
        one("opened"),
        one("opened", timestamp=1770146800.5),
        one("opened", message={"headers": {"message-id": "other@mg.example"}}),
        one("opened", id="x" * 65),
    ]
    assert len({event.dedupe_key for event in events}) == len(events) - 1
    assert events[2].dedupe_key == one("opened", timestamp="1770146800.25").dedupe_key == events[5].dedupe_key


def test_a_time_is_the_events_own_to_the_microsecond() -> None:
    assert documented("delivered").occurred_at == datetime(2026, 2, 3, 19, 26, 39, 153125, UTC)


def test_our_id_may_come_as_json_and_anything_else_is_none() -> None:
    assert (
        one("opened", **{"user-variables": json.dumps({"carepost_message_id": str(MESSAGE_ID)})}).message_id
        == MESSAGE_ID
    )
    whole = str(MESSAGE_ID)
    broken: list[Any] = ["{", "[]", [], 1, None, {"carepost_message_id": "x"}, {"carepost_message_id": [whole]}]
    for variables in broken:
        assert one("opened", **{"user-variables": variables}).message_id is None


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "the event has no type"),
        ({"event": 5.5, "timestamp": 1}, "the event has no type"),
        ({"event": "opened", "timestamp": 1}, "the event names no message"),
        ({"event": "opened", "message": {"headers": {"message-id": "<>"}}}, "the event names no message"),
        ({"event": "opened", "message": {"headers": {"message-id": "a"}}}, "its time is no number of seconds"),
        (
            {"event": "opened", "timestamp": 1e300, "message": {"headers": {"message-id": "a"}}},
            "its time is out of range",
        ),
    ],
)
def test_what_cannot_be_read_is_set_aside(fields: dict[str, Any], error: str) -> None:
    assert list(read(**fields).unreadable) == [Unreadable(0, error)]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the event has no type"),
        (b"{", "the body is not JSON"),
        (b"[]", "the body is not an object"),
        (b"{}", "the event has no type"),
        (b'{"event-data": []}', "the event has no type"),
        (b"event=opened", "the event names no message"),
        (b"event=opened&Message-Id=a&timestamp=x", "its time is no number of seconds"),
        (b"event=opened&Message-Id=a&message-headers=%7B&timestamp=x", "its time is no number of seconds"),
        (b"--" + b"b" * 80 + b"\r\n", "the event has no type"),
    ],
)
def test_a_body_that_is_no_webhook_is_one_unreadable(body: bytes, error: str) -> None:
    assert list(MAILGUN.read_webhook(body, {}).unreadable) == [Unreadable(0, error)]
