"""The samples of all providers: one row each, in the module of its name beside this one."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from importlib import import_module
from typing import Any, Final

import pytest

from mail.providers import PROVIDERS
from mail.providers.base import Reading
from tests.support.providers.sample import Sample, payloads

SAMPLES: Final[Mapping[str, Sample]] = {
    name: import_module(f"tests.support.providers.{name}").SAMPLE for name in PROVIDERS
}

each_provider = pytest.mark.parametrize("each", PROVIDERS.values(), ids=list(PROVIDERS))


def documents(name: str) -> list[bytes]:
    return list(payloads(name).values())


def elements(value: Any) -> Iterator[dict[str, Any]]:
    """The objects in a payload, outermost first."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from elements(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from elements(inner)


def assert_storable(reading: Reading) -> None:
    assert isinstance(reading, Reading)
    for event in reading.events:
        assert event.occurred_at.utcoffset() == timedelta(0)
        assert event.message_id or event.provider_message_id
        assert 0 < len(event.dedupe_key) <= 128
        for text in (event.dedupe_key, event.provider_message_id, event.recipient, event.detail):
            assert text is None or ("\x00" not in text and text.encode() is not None)
        if event.failure:
            assert "\x00" not in event.failure.reason
            assert event.failure.reason.encode() is not None
