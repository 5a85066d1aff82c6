"""Faults: what a test wants to go wrong with the next sends."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields


class FaultRefused(Exception):
    """Not a fault that the sandbox knows."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, `times` times."""

    times: int = 1
    send_status: int | None = None
    """Answer this and accept nothing."""
    retry_after: int | None = None
    """With `send_status`: the Retry-After header, in seconds."""
    drop_after_accept: bool = False
    """Accept, and cut the connection without an answer."""
    hold_ms: int = 0
    """Answer so much later."""

    def __post_init__(self) -> None:
        if self.times < 1 or self.hold_ms < 0 or (self.retry_after or 0) < 0:
            raise FaultRefused("numbers count from nought, times from one")
        if self.send_status is not None and not 400 <= self.send_status <= 599:
            raise FaultRefused("send_status is an error's: 400 to 599")


class Faults:
    """The faults to come, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._coming: deque[Fault] = deque()

    def add(self, wish: Mapping[str, object]) -> None:
        """Raises `FaultRefused` for a name or a value that makes no fault."""
        kinds = {field.name: bool if field.name == "drop_after_accept" else int for field in fields(Fault)}
        for name, value in wish.items():
            if type(value) is not kinds.get(name):
                raise FaultRefused(f"known are {', '.join(kinds)}: numbers, and drop_after_accept true or false")
        self._coming.append(Fault(**wish))  # type: ignore[arg-type]

    def take(self) -> Fault | None:
        """The fault of the send at hand."""
        if not self._coming:
            return None
        fault = self._coming[0]
        fault.times -= 1
        if not fault.times:
            self._coming.popleft()
        return fault

    def clear(self) -> None:
        """Nothing goes wrong from now on."""
        self._coming.clear()
