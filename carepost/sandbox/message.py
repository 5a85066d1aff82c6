"""SandboxMessage: one accepted email to one recipient, with its events and what became of their POSTs."""

import base64
import random
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from carepost.sandbox.outcomes import Occurrence, Step
from carepost.sandbox.submission import Recipient, Submission

_KEPT_CHARACTERS = 10_000  # of each body, so that the last 10,000 emails fit into memory

# From the documentation's address blocks (RFC 5737): our sending host, and a patient's.
_SENDING_IP = "192.0.2.25"
_PATIENT_IP = "203.0.113.7"

# Gmail loads images through its proxy when a person opens; Apple's privacy proxy says just "Mozilla/5.0".
_PEOPLE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.2.0",
)
_MACHINE = "Mozilla/5.0"

_ENGAGEMENT = frozenset({"open", "click", "spamreport", "unsubscribe"})
_CONTACTS_A_SERVER = frozenset({"deferred", "delivered", "bounce"})


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
    """One event, in the fields that SendGrid gives it, and its latest POSTs."""

    body: Mapping[str, object]
    posts: deque[Post] = field(default_factory=lambda: deque(maxlen=20))


@dataclass(slots=True, kw_only=True)
class SandboxMessage:
    """What was accepted, and what happens to it."""

    id: str
    """The X-Message-Id of the call; the recipients of one call share it."""
    account: int
    """Which of the API keys sent it, from 0."""
    sender: str
    recipient: Recipient
    content: Sequence[tuple[str, str]]
    outcome: str
    accepted_at: float
    events: list[SandboxEvent] = field(default_factory=list)

    def as_json(self) -> Mapping[str, object]:
        """For developers and tests: events in the order in which they happened."""
        return {
            "message_id": self.id,
            "account": self.account,
            "from": self.sender,
            "to": self.recipient.email,
            "subject": self.recipient.subject,
            "headers": self.recipient.headers,
            "custom_args": self.recipient.custom_args,
            "content": [{"type": kind, "value": value} for kind, value in self.content],
            "outcome": self.outcome,
            "accepted_at": self.accepted_at,
            "events": [{**event.body, "posts": [post.as_json() for post in event.posts]} for event in self.events],
        }


def new_id() -> str:
    """An X-Message-Id: 22 characters without a dot, for `sg_message_id` goes on after one."""
    return secrets.token_urlsafe(16)


def accept(
    submission: Submission, place: int, *, message_id: str, account: int, outcome: str, now: float
) -> SandboxMessage:
    """The message to the recipient at `place` in a submission."""
    return SandboxMessage(
        id=message_id,
        account=account,
        sender=submission.sender,
        recipient=submission.recipients[place],
        content=[(kind, value[:_KEPT_CHARACTERS]) for kind, value in submission.content],
        outcome=outcome,
        accepted_at=now,
    )


def record(
    message: SandboxMessage, occurrences: Sequence[Occurrence], *, place: int, scale: float, rng: random.Random
) -> Sequence[SandboxEvent]:
    """Writes the occurrences into the message as events; `scale` makes real seconds of theirs.

    Fields: Twilio, "Event Webhook Reference". A timestamp is when it happened, whenever it is posted.
    """
    attempts = 0
    for number, occurrence in enumerate(occurrences):
        attempts += occurrence.step.event in _CONTACTS_A_SERVER
        message.events.append(
            SandboxEvent(
                {
                    **message.recipient.custom_args,
                    "email": message.recipient.email,
                    "timestamp": int(message.accepted_at + occurrence.at * scale),
                    "event": occurrence.step.event,
                    "sg_event_id": _event_id(occurrence.step.event, number, message.id, place),
                    "sg_message_id": f"{message.id}.recvd-7d9f6c4b5-sandbox-1-{int(message.accepted_at):X}-2.{place}",
                    **_fields(occurrence.step, message, attempts, rng),
                }
            )
        )
    return message.events


def _event_id(event: str, number: int, message_id: str, place: int) -> str:
    """Those of deliveries can be decoded, those of people's acts can't; consumers must take both."""
    if event in _ENGAGEMENT:
        return secrets.token_urlsafe(16)
    return base64.urlsafe_b64encode(f"{event}-{number}-0-{message_id}-{place}".encode()).rstrip(b"=").decode()


def _fields(step: Step, message: SandboxMessage, attempts: int, rng: random.Random) -> Mapping[str, object]:
    fields: dict[str, object] = {
        name: value.format(email=message.recipient.email) if isinstance(value, str) else value
        for name, value in step.fields.items()
    }
    if step.event not in _ENGAGEMENT:
        # Only what happens on the way to the mailbox knows the Message-ID.
        fields["smtp-id"] = _smtp_id(message)
    if step.event in _CONTACTS_A_SERVER:
        fields |= {"ip": _SENDING_IP, "tls": 1, "cert_err": 0}
    if step.event == "deferred":
        fields["attempt"] = str(attempts)
    if step.event == "open":
        fields["useragent"] = _MACHINE if step.fields["sg_machine_open"] else rng.choice(_PEOPLE)
        fields |= {"ip": _PATIENT_IP, "sg_content_type": "html"}
    if step.event == "unsubscribe":
        fields |= {"ip": _PATIENT_IP, "useragent": rng.choice(_PEOPLE)}
    return fields


def _smtp_id(message: SandboxMessage) -> str:
    for name, value in message.recipient.headers.items():
        if name.lower() == "message-id":
            return value
    return f"<{message.id}@geopod-ismtpd-0>"
