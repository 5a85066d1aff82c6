"""What every provider promises, whoever the ESP is. A new provider adds a row to `tests/support/providers`."""

import re
from dataclasses import replace

import pytest

from mail.errors import CredentialsIncomplete, WebhookRejected
from mail.providers import UnknownProvider, provider
from mail.providers.base import Accepted, Askable, Checkable, Proof, Provider
from tests.support.providers.sample import EMAIL, MESSAGE_ID, PLAIN, QUESTION, URL
from tests.support.providers.samples import SAMPLES, assert_storable, documents, each_provider, elements

CANARY = "Zanzibar-Quartz-7719"


@each_provider
def test_a_provider_stands_in_the_registry_under_its_own_name(each: Provider) -> None:
    assert provider(each.name) is each
    assert re.fullmatch(r"[a-z][a-z_]*", each.name)
    assert each.label
    assert each.name in SAMPLES
    assert documents(each.name)


def test_an_unknown_name_is_a_named_error() -> None:
    with pytest.raises(UnknownProvider, match="sendgrid"):
        provider("pigeon")


@each_provider
def test_an_unstorable_webhook_is_answered_so_that_it_comes_again(each: Provider) -> None:
    assert each.unavailable_status in {429, 503}


@each_provider
def test_the_capability_table_agrees_with_the_code(each: Provider) -> None:
    can = each.capabilities
    assert (can.asking is not None) == isinstance(each, Askable)
    assert bool(can.tracking_warning) == (can.opens and not can.tracking_switch)
    assert can.opens or not (can.machine_opens or can.tracking_switch)
    assert (can.proof is Proof.PASSWORD) == each.generates_webhook_secret
    assert (can.proof is Proof.SIGNATURE) == SAMPLES[each.name].covers_body
    statuses = {status for _, status in SAMPLES[each.name].life(MESSAGE_ID, "id-1", 1)}
    assert ("DELIVERED" in statuses) == can.delivery
    assert ("OPENED" in statuses) == can.opens


@each_provider
def test_what_to_do_at_the_esp_is_told_in_steps(each: Provider) -> None:
    assert len(each.set_up.steps) >= 2
    assert any("{url}" in step for step in each.set_up.steps)
    assert all(step.endswith(".") and step.format(url=URL) for step in each.set_up.steps)
    for field in each.credential_fields:
        assert field.name in " ".join(each.set_up.steps) or field.required or field.name == "base_url"


@each_provider
def test_the_documented_answer_is_an_acceptance_with_the_id_that_events_give(each: Provider) -> None:
    sample = SAMPLES[each.name]
    answer = each.read_answer(sample.accepted)
    assert isinstance(answer, Accepted)
    assert answer.provider_message_id == sample.provider_message_id
    for body, _ in sample.life(MESSAGE_ID, sample.provider_message_id or "id-1", 1):
        sealed = sample.seal(body, sample.secret)
        for event in each.read_webhook(sealed, sample.sign(sealed, sample.secret)).events:
            assert event.message_id == MESSAGE_ID or event.provider_message_id == sample.provider_message_id
            assert each.capabilities.metadata == (event.message_id == MESSAGE_ID)


@each_provider
def test_the_send_request_is_the_one_that_the_vendor_documents(each: Provider) -> None:
    sample = SAMPLES[each.name]
    sample.assert_documented(each.send_request(EMAIL, sample.credentials), EMAIL)


@each_provider
def test_a_life_told_in_any_order_says_the_same(each: Provider) -> None:
    """Where several webhooks tell of one message, each brings its own evidence, and the greatest verdict wins."""
    sample = SAMPLES[each.name]
    lives = [body for body, _ in sample.life(MESSAGE_ID, "id-1", 1)]
    events = [event for body in lives for event in each.read_webhook(sample.seal(body, sample.secret), {}).events]
    assert len({event.dedupe_key for event in events}) == len(events) >= 2
    other = [event for body, _ in sample.life(MESSAGE_ID, "id-1", 2) for event in each.read_webhook(body, {}).events]
    assert [event.verdict for event in other] == [event.verdict for event in events]


@each_provider
def test_a_request_that_asks_or_checks_goes_where_the_emails_go(each: Provider) -> None:
    sample = SAMPLES[each.name]
    credentials = {**sample.credentials, "base_url": "http://127.0.0.1:8025"}
    requests = []
    if isinstance(each, Checkable):
        requests.append(each.check_request(credentials))
    if isinstance(each, Askable):
        question = replace(QUESTION, provider_message_id=sample.provider_message_id or QUESTION.provider_message_id)
        asked = each.ask_request(question, credentials)
        assert asked is not None
        requests.append(asked)
    for request in requests:
        assert request.url.startswith("http://127.0.0.1:8025/")
        assert request.method in {"GET", "POST"}
        assert all(name == name.lower() for name in request.headers)


@each_provider
def test_the_sample_credentials_are_complete(each: Provider) -> None:
    each.check_credentials(SAMPLES[each.name].credentials)


@each_provider
def test_each_required_credential_is_missed_by_name(each: Provider) -> None:
    for field in each.credential_fields:
        without = {name: value for name, value in SAMPLES[each.name].credentials.items() if name != field.name}
        if field.required:
            with pytest.raises(CredentialsIncomplete) as raised:
                each.check_credentials(without)
            assert raised.value.field == field.name
        else:
            each.check_credentials(without)


@each_provider
@pytest.mark.parametrize("bad", ["a b", "key\r\nx-evil: 1", "ключ", "a\x00b", "k\n", "\u2028"])
def test_a_credential_that_could_break_a_header_is_refused(each: Provider, bad: str) -> None:
    for field in each.credential_fields:
        with pytest.raises(CredentialsIncomplete) as raised:
            each.check_credentials({**SAMPLES[each.name].credentials, field.name: bad})
        assert raised.value.field == field.name
        assert bad not in str(raised.value)


@each_provider
def test_a_send_request_is_the_same_at_every_attempt_and_goes_over_tls(each: Provider) -> None:
    for email in (EMAIL, PLAIN):
        request = each.send_request(email, SAMPLES[each.name].credentials)
        assert request == each.send_request(email, SAMPLES[each.name].credentials)
        assert request.method == "POST"
        assert request.url.startswith("https://")
        assert all(name == name.lower() for name in request.headers)
        sample = SAMPLES[each.name]
        for field in each.credential_fields:
            assert not (field.secret and sample.credentials.get(field.name, "-") in request.url)
        content = sample.content(request)
        for address in (email.sender, email.recipient):
            assert address.email.encode() in content
        if each.capabilities.metadata:
            assert str(MESSAGE_ID).encode() in content


@each_provider
def test_the_patient_decides_over_open_tracking(each: Provider) -> None:
    if each.capabilities.tracking_switch:
        credentials = SAMPLES[each.name].credentials
        tracked, untracked = (each.send_request(replace(EMAIL, track_opens=on), credentials) for on in (True, False))
        assert tracked.body != untracked.body


@each_provider
@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8025", "http://127.0.0.1:8025/"])
def test_a_sandbox_can_stand_in_for_the_esp(each: Provider, base_url: str) -> None:
    if any(field.name == "base_url" for field in each.credential_fields):
        credentials = {**SAMPLES[each.name].credentials, "base_url": base_url}
        each.check_credentials(credentials)
        assert re.match(r"http://127\.0\.0\.1:8025/[^/]", each.send_request(EMAIL, credentials).url)


@each_provider
@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example.com",
        "ftp://a.example",
        "https://",
        "https://a:b@c.example",
        "https://c.example:port",
        "https://c.example?x=1",
        "https://c.example#x",
        "http://127.0.0.1.example",
        "javascript:alert(1)",
    ],
)
def test_a_base_url_that_would_leak_the_key_is_refused(each: Provider, base_url: str) -> None:
    if any(field.name == "base_url" for field in each.credential_fields):
        with pytest.raises(CredentialsIncomplete) as raised:
            each.check_credentials({**SAMPLES[each.name].credentials, "base_url": base_url})
        assert raised.value.field == "base_url"


@each_provider
def test_a_webhook_is_verified_by_the_right_secret_alone(each: Provider) -> None:
    sample = SAMPLES[each.name]
    for body in documents(each.name):
        request = sample.request(body)
        each.verify_webhook(request, [sample.secret])
        each.verify_webhook(request, [sample.other_secret, sample.secret])
        for secrets in ([], [sample.other_secret], ["rubbish"]):
            with pytest.raises(WebhookRejected):
                each.verify_webhook(request, secrets)


@each_provider
def test_a_tampered_body_is_rejected(each: Provider) -> None:
    sample = SAMPLES[each.name]
    if sample.covers_body:
        for body in documents(each.name):
            request = sample.request(body)
            request = replace(request, body=request.body.replace(b"e", b"3", 1))
            with pytest.raises(WebhookRejected):
                each.verify_webhook(request, [sample.secret])


@each_provider
def test_the_kept_headers_are_enough_to_verify_again_and_hold_no_secret(each: Provider) -> None:
    sample, body = SAMPLES[each.name], documents(each.name)[0]
    request = sample.request(body)
    kept = {name: value for name, value in request.headers.items() if name in each.kept_headers}
    assert "authorization" not in each.kept_headers
    assert all(name == name.lower() for name in each.kept_headers)
    if kept:
        each.verify_webhook(replace(request, headers=kept), [sample.secret])
    assert each.read_webhook(body, kept) == each.read_webhook(body, request.headers)


@each_provider
def test_a_malformed_webhook_secret_is_named(each: Provider) -> None:
    each.check_webhook_secret(SAMPLES[each.name].secret)
    for bad in ("", "x", "\n", "ключ:ключ", "a b:c", "\ud800:x"):
        with pytest.raises(CredentialsIncomplete) as raised:
            each.check_webhook_secret(bad)
        assert raised.value.field == "webhook_secret"


@each_provider
def test_the_webhook_url_is_ours(each: Provider) -> None:
    assert each.webhook_url(URL, None) == URL
    given = each.webhook_url(URL, SAMPLES[each.name].secret)
    assert given.startswith("https://")
    assert given.endswith("mail.example.org/webhooks/x/1")


@each_provider
def test_the_documented_payloads_are_read_whole_and_each_event_has_its_own_key(each: Provider) -> None:
    for body in documents(each.name):
        reading = each.read_webhook(body, {})
        assert_storable(reading)
        assert reading.unreadable == () or list(reading.unreadable) == []
        assert len({event.dedupe_key for event in reading.events}) == len(reading.events)


@each_provider
def test_what_is_set_aside_quotes_nothing_of_the_content(each: Provider) -> None:
    for body in documents(each.name):
        payload = SAMPLES[each.name].decode(body)
        for element in elements(payload):
            element.update(dict.fromkeys(element, CANARY))
        reading = each.read_webhook(SAMPLES[each.name].encode(payload), {})
        assert reading.unreadable or reading.events
        assert all(CANARY not in part.error for part in reading.unreadable)
    assert all(CANARY not in part.error for part in each.read_webhook(CANARY.encode(), {}).unreadable)
