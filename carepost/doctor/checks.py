"""A check of an account: what was looked at, how it stands, and what to do."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """How a check ended."""

    OK = "ok"
    """As it should be."""
    WARNING = "warning"
    """Worth a look; emails go out and are heard of all the same."""
    FAILED = "failed"
    """Emails don't go out, or aren't heard of, until it is mended."""


@dataclass(frozen=True, slots=True)
class Check:
    """`text` says what was found and, unless it is ok, what to do. It holds no secret."""

    name: str
    outcome: Outcome
    text: str


def ok(name: str, text: str) -> Check:
    return Check(name, Outcome.OK, text)


def warning(name: str, text: str) -> Check:
    return Check(name, Outcome.WARNING, text)


def failed(name: str, text: str) -> Check:
    return Check(name, Outcome.FAILED, text)
