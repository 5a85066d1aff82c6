"""SandboxMessage: one accepted email to one recipient, with its events and what became of their POSTs."""

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carepost.sandbox.outcomes import Happening, Step

KEPT_CHARACTERS = 10_000
"""Of each body so many are kept, so that the last 10,000 emails fit into memory."""

# From the documentation's address blocks (RFC 5737): our sending host, a patient's mail server, and a patient's.
SENDING_IP = "192.0.2.25"
DESTINATION_IP = "198.51.100.25"
PATIENT_IP = "203.0.113.7"

# Gmail loads images through its proxy when a person opens; Apple's privacy proxy says just "Mozilla/5.0".
_PEOPLE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.2.0",
)
_MACHINE = "Mozilla/5.0"

Body = Mapping[str, Any]
"""An event in a vendor's own words and shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What was asked to be sent to one recipient. `metadata` comes back with each event; `extra` holds what only its
    vendor knows of (a stream, a configuration set)."""

    sender: str
    recipient: str
    subject: str
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    content: Sequence[tuple[str, str]]
    open_tracking: bool
    extra: Mapping[str, Any] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """A header's value, whatever the case of its name; empty when it isn't there."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")

    def body(self, kind: str) -> str:
        """The content of a MIME type; empty when there is none."""
        return next((value for found, value in self.content if found == kind), "")


@dataclass(frozen=True, slots=True)
class Post:
    """One POST that carried an event. `status` is the answer's, None when none came; times are epoch seconds."""

    at: float
    status: int | None
    error: str | None = None

    def as_json(self) -> Mapping[str, object]:
        """For developers and tests."""
        return {"at": self.at, "status": self.status, "error": self.error}


@dataclass(slots=True)
class SandboxEvent:
    """One event in its vendor's words, and its latest POSTs. `happening` is None for what is no event of an email,
    `at` epoch seconds, and `id` its own over all POSTs."""

    id: str
    happening: Happening | None
    at: float
    body: Body
    posts: deque[Post] = field(default_factory=lambda: deque(maxlen=20))


@dataclass(frozen=True, slots=True)
class Happened:
    """A step that is to be told in a vendor's words: the `number`th of the email, at epoch seconds. `attempt` counts
    how often the destination has been tried by then."""

    step: Step
    number: int
    at: float
    attempt: int
    email: str
    user_agent: str

    @property
    def reply(self) -> str:
        """What the destination said."""
        return self.step.reply.format(email=self.email)

    @property
    def code(self) -> int:
        """The reply's RFC 5321 code; 0 without a reply."""
        return int(self.step.reply[:3] or 0)

    @property
    def enhanced(self) -> str:
        """The reply's RFC 3463 code."""
        return self.step.reply[4:9]


@dataclass(slots=True, kw_only=True)
class SandboxMessage:
    """What was accepted, and what happens to it."""

    id: str
    """As its vendor names it; the recipients of one call may share it."""
    vendor: str
    account: int
    """Which of the vendor's keys sent it, from 0."""
    place: int
    """Which of the recipients of its call, from 0."""
    letter: Letter
    outcome: str
    accepted_at: float
    events: list[SandboxEvent] = field(default_factory=list)

    def so_far(self, now: float) -> Sequence[SandboxEvent]:
        """What has happened by now."""
        return [event for event in self.events if event.at <= now]

    def as_json(self) -> Mapping[str, object]:
        """For developers and tests: events in the order in which they happened."""
        return {
            "vendor": self.vendor,
            "message_id": self.id,
            "account": self.account,
            "from": self.letter.sender,
            "to": self.letter.recipient,
            "subject": self.letter.subject,
            "headers": self.letter.headers,
            "custom_args": self.letter.metadata,
            "content": [{"type": kind, "value": value} for kind, value in self.letter.content],
            "outcome": self.outcome,
            "accepted_at": self.accepted_at,
            "events": [
                {
                    **event.body,
                    "happening": event.happening and event.happening.value,
                    "posts": [post.as_json() for post in event.posts],
                }
                for event in self.events
            ],
        }


def user_agent(step: Step, rng: random.Random) -> str:
    """What loads the images, or clicks."""
    return _MACHINE if step.machine else rng.choice(_PEOPLE)
