"""Whatever comes in from outside, no provider raises, and what it returns can be stored."""

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.errors import WebhookRejected
from mail.event import Event
from mail.providers import PROVIDERS
from mail.providers.base import (
    Accepted,
    Askable,
    Checkable,
    HttpResponse,
    Provider,
    Refused,
    Told,
    TryAgain,
    WebhookRequest,
)
from tests.support.fuzzing import examples
from tests.support.providers.sample import QUESTION, URL
from tests.support.providers.samples import SAMPLES, assert_storable, documents, each_provider, elements

a_few = settings(max_examples=examples(100), deadline=timedelta(seconds=2))
"""None may take long: a slow reading holds up a worker."""

headers = st.dictionaries(
    st.sampled_from(
        ["authorization", "date", "retry-after", "x-message-id", "x-ratelimit-reset", "signature", "svix-id"]
        + [name for each in PROVIDERS.values() for name in each.kept_headers]
    ),
    st.text(max_size=60) | st.from_regex(r"Basic [A-Za-z0-9+/]{0,40}={0,2}", fullmatch=True) | st.just("9" * 5000),
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\x00", "\ud800", "1" * 400])
)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3), max_leaves=6
)


@each_provider
@given(status=st.integers(100, 599), body=st.binary() | values.map(lambda v: json.dumps(v).encode()), headers=headers)
@a_few
def test_any_bytes_are_an_answer(each: Provider, status: int, body: bytes, headers: dict[str, str]) -> None:
    answer = each.read_answer(HttpResponse(status, headers, body))
    if isinstance(answer, Accepted):
        assert 200 <= status < 300
    else:
        assert isinstance(answer, Refused | TryAgain)
        assert answer.failure.reason
        assert "\x00" not in answer.failure.reason
    if isinstance(answer, TryAgain) and answer.after is not None:
        assert timedelta(0) <= answer.after <= timedelta(days=1)
    if status >= 500 or status in {408, 429}:
        assert isinstance(answer, TryAgain)


@each_provider
@given(headers=headers, body=st.binary(max_size=50))
@a_few
def test_any_headers_are_rejected_and_crash_nothing(each: Provider, headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(WebhookRejected):
        each.verify_webhook(WebhookRequest("POST", URL, headers, body), [SAMPLES[each.name].secret])


@each_provider
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"1",
        b'"x"',
        b"[]",
        b"{}",
        b"[null, 1, []]",
        b"[{}]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b"1" * 5_000,
        b'[{"event": NaN}]',
        b'[{"timestamp": 1e999}]',
        b'[{"event": "\\ud800"}]',
        b'{"ID": %b}' % (b"7" * 5000),
    ],
)
def test_hostile_json_is_read_or_set_aside(each: Provider, body: bytes) -> None:
    assert_storable(each.read_webhook(body, {}))


@each_provider
@given(body=st.binary(max_size=300))
@a_few
def test_any_bytes_are_a_reading(each: Provider, body: bytes) -> None:
    assert_storable(each.read_webhook(body, {}))


@each_provider
@given(data=st.data())
@a_few
def test_a_payload_with_any_field_changed_is_a_reading(each: Provider, data: st.DataObject) -> None:
    sample = SAMPLES[each.name]
    payload = sample.decode(data.draw(st.sampled_from(documents(each.name))))
    for _ in range(data.draw(st.integers(1, 3))):
        chosen = data.draw(st.sampled_from(list(elements(payload))))
        if chosen:
            chosen[data.draw(st.sampled_from(sorted(chosen)))] = data.draw(values)
    assert_storable(each.read_webhook(sample.encode(payload), {}))


@each_provider
@given(data=st.data())
@a_few
def test_order_and_repetition_change_no_key(each: Provider, data: st.DataObject) -> None:
    def read(body: bytes) -> list[Event]:
        return list(each.read_webhook(body, {}).events)

    chosen = data.draw(st.lists(st.sampled_from(documents(each.name)), min_size=1))
    shuffled = data.draw(st.permutations(chosen)) + chosen
    once = {(event.dedupe_key, event.kind) for body in set(chosen) for event in read(body)}
    assert {(event.dedupe_key, event.kind) for body in shuffled for event in read(body)} == once


@each_provider
@given(status=st.integers(100, 599), body=st.binary() | values.map(lambda v: json.dumps(v).encode()), headers=headers)
@a_few
def test_any_bytes_answer_a_question(each: Provider, status: int, body: bytes, headers: dict[str, str]) -> None:
    response = HttpResponse(status, headers, body)
    credentials = SAMPLES[each.name].credentials
    if isinstance(each, Askable):
        told = each.read_told(response, QUESTION, credentials)
        if isinstance(told, Told):
            assert 200 <= status < 300
            assert_storable(told.reading)
        else:
            assert told.failure.reason
    if isinstance(each, Checkable):
        check = each.read_check(response)
        assert check.text
        assert check.ok is not True or 200 <= status < 300
        assert check.ok is not False or status < 500
