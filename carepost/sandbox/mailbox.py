"""Mailbox: the emails that the sandbox SMTP server took, the newest of them."""

import base64
import email
import email.policy
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_KEPT_EMAILS = 10_000
_KEPT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEmail:
    """One email with its envelope. `answered` is False where the client was left without an answer."""

    mail_from: str
    recipients: Sequence[str]
    content: bytes
    login: str | None
    tls: bool
    answered: bool
    received_at: float

    def as_json(self) -> Mapping[str, object]:
        """For developers and tests: headers in their order and decoded, the whole email in base64."""
        parsed = email.message_from_bytes(self.content, policy=email.policy.default)
        return {
            "mail_from": self.mail_from,
            "recipients": self.recipients,
            "headers": [[name, str(value)] for name, value in parsed.items()],
            "raw": base64.b64encode(self.content).decode(),
            "login": self.login,
            "tls": self.tls,
            "answered": self.answered,
            "received_at": self.received_at,
        }


class Mailbox:
    """The last 10,000 emails, or the last 64 MB of them."""

    def __init__(self) -> None:
        self._emails: deque[ReceivedEmail] = deque()
        self._bytes = 0

    def __iter__(self) -> Iterator[ReceivedEmail]:
        return iter(self._emails)

    def add(
        self,
        content: bytes,
        *,
        mail_from: str,
        recipients: Sequence[str],
        login: str | None,
        tls: bool,
        answered: bool,
    ) -> None:
        """Keeps an email, and lets go of the oldest where there are too many."""
        received = ReceivedEmail(
            mail_from=mail_from,
            recipients=tuple(recipients),
            content=content,
            login=login,
            tls=tls,
            answered=answered,
            received_at=time.time(),
        )
        self._emails.append(received)
        self._bytes += len(content)
        while len(self._emails) > _KEPT_EMAILS or self._bytes > _KEPT_BYTES:
            self._bytes -= len(self._emails.popleft().content)

    def clear(self) -> None:
        """Forgets everything."""
        self._emails.clear()
        self._bytes = 0
