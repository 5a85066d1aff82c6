"""Faults: what a test wants to go wrong with the next sends."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


class FaultRefused(Exception):
    """Not a fault that the sandbox knows."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, `times` times."""

    times: int = 1
    vendor: str = ""
    """With the sends of this vendor; of any when empty."""
    send_status: int | None = None
    """Answer this and accept nothing."""
    retry_after: int | None = None
    """With `send_status`: the Retry-After header, in seconds."""
    drop_after_accept: bool = False
    """Accept, and cut the connection without an answer."""
    hold_ms: int = 0
    """Answer so much later."""
    lose_webhooks: bool = False
    """Accept, and post none of the email's events."""
    repeat_webhooks: bool = False
    """Accept, and post each of the email's events twice."""
    shuffle_webhooks: bool = False
    """Accept, and post the email's events in reverse."""

    def __post_init__(self) -> None:
        if self.times < 1 or self.hold_ms < 0 or (self.retry_after or 0) < 0:
            raise FaultRefused("numbers count from nought, times from one")
        if self.send_status is not None and not 400 <= self.send_status <= 599:
            raise FaultRefused("send_status is an error's: 400 to 599")

    @property
    def headers(self) -> dict[str, str]:
        """What the error answer carries besides."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class Faults:
    """The faults to come, in the order in which they were asked for."""

    def __init__(self, vendors: frozenset[str]) -> None:
        self._vendors = vendors
        self._coming: list[Fault] = []

    def add(self, wish: Mapping[str, Any]) -> None:
        """Raises `FaultRefused` for a name or a value that makes no fault."""
        kinds = {field.name: _kind(field.name) for field in fields(Fault)}
        for name, value in wish.items():
            if type(value) is not kinds.get(name):
                raise FaultRefused(f"known are {', '.join(kinds)}: numbers, {', '.join(_SWITCHES)} true or false")
        if wish.get("vendor", "") not in {"", *self._vendors}:
            raise FaultRefused(f"vendor is one of {', '.join(sorted(self._vendors))}")
        self._coming.append(Fault(**wish))

    async def take(self, vendor: str) -> Fault | None:
        """The fault of the send at hand, once the time that it holds the send has passed."""
        fault = next((fault for fault in self._coming if fault.vendor in {"", vendor}), None)
        if fault is None:
            return None
        fault.times -= 1
        if not fault.times:
            self._coming.remove(fault)
        await asyncio.sleep(fault.hold_ms / 1000)
        return fault

    def clear(self) -> None:
        """Nothing goes wrong from now on."""
        self._coming.clear()


_SWITCHES = ("drop_after_accept", "lose_webhooks", "repeat_webhooks", "shuffle_webhooks")


def _kind(name: str) -> type:
    return str if name == "vendor" else bool if name in _SWITCHES else int
