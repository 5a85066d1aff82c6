"""PostOffice: the vendors' accounts, what they sent, and when its events are posted. All in memory."""

import asyncio
import random
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import httpx2

from carepost.sandbox import outcomes
from carepost.sandbox.faults import Fault
from carepost.sandbox.message import Body, Happened, Letter, SandboxEvent, SandboxMessage, user_agent
from carepost.sandbox.outbox import Courier, Outbox, Pace
from carepost.sandbox.outcomes import Happening, Occurrence

_KEPT_MESSAGES = 10_000
_TRIES_THE_DESTINATION = frozenset({Happening.DEFERRED, Happening.DELIVERED, Happening.BOUNCED})

Tell = Callable[[SandboxMessage, Happened], Sequence[Body]]
"""What a vendor makes of a happening: the events in its own words; none where it has no word for it."""


@dataclass(frozen=True, slots=True)
class EspOptions:
    """What the sandbox ESP is started with; times are in seconds."""

    api_keys: Sequence[str] = ("SG.sandbox",)
    """SendGrid's; the other vendors' keys are constants of theirs."""
    webhook_urls: Sequence[str] = ()
    """The nth is the nth API key's; its webhook then starts switched on and signed."""
    key_file: Path | None = None
    """Keeps signing keys, so that public keys outlive a restart."""
    seed: str | None = None
    speed: float = 1.0
    max_delay: float = outcomes.FULL_SECONDS
    retry_for: float = 900.0


@dataclass(slots=True)
class Account:
    """One account at a vendor; each of its webhooks has an outbox."""

    vendor: str
    number: int
    tell: Tell
    outboxes: list[Outbox] = field(default_factory=list)

    def post(self, event: SandboxEvent) -> None:
        """Posts an event to every webhook that wants it."""
        for outbox in self.outboxes:
            outbox.add(event)


class PostOffice:
    """Takes letters and sees to their events."""

    def __init__(self, options: EspOptions) -> None:
        self.options = options
        self.messages: deque[SandboxMessage] = deque(maxlen=_KEPT_MESSAGES)
        self.accepted = 0
        self._seed = options.seed or secrets.token_hex(8)
        self._pace = Pace.of(speed=options.speed, max_delay=options.max_delay, retry_for=options.retry_for)
        self._client = httpx2.AsyncClient(trust_env=False, verify=_authorities(), timeout=10)
        self._outboxes: list[Outbox] = []

    async def close(self) -> None:
        """Posts nothing any more."""
        for outbox in self._outboxes:
            await outbox.close()
        await self._client.aclose()

    def add_webhook(self, account: Account, courier: Courier) -> Outbox:
        """From now on the account's events go there too."""
        rng = random.Random(f"{self._seed}/outbox/{len(self._outboxes)}")  # noqa: S311
        outbox = Outbox(courier, self._client, self._pace, rng)
        self._outboxes.append(outbox)
        account.outboxes.append(outbox)
        return outbox

    def accept(self, account: Account, message_id: str, letters: Sequence[Letter], fault: Fault | None) -> None:
        """Takes what one call sends, and decides what becomes of each email."""
        for place, letter in enumerate(letters):
            self.accepted += 1
            message = SandboxMessage(
                id=message_id,
                vendor=account.vendor,
                account=account.number,
                place=place,
                letter=letter,
                outcome=outcomes.outcome(letter.recipient, self._seed, self.accepted),
                accepted_at=time.time(),
            )
            self.messages.append(message)
            self._let_happen(message, account, fault)

    def find(self, account: Account, message_id: str) -> Sequence[SandboxMessage]:
        """What an account sent under an id: one message for each recipient."""
        return [
            message
            for message in self.messages
            if (message.id, message.vendor, message.account) == (message_id, account.vendor, account.number)
        ]

    def _let_happen(self, message: SandboxMessage, account: Account, fault: Fault | None) -> None:
        rng = random.Random(f"{self._seed}/{self.accepted}")  # noqa: S311
        plan = outcomes.plan(
            message.outcome,
            rng,
            open_tracking=message.letter.open_tracking,
            repeat=bool(fault and fault.repeat_webhooks),
            shuffle=bool(fault and fault.shuffle_webhooks),
        )
        lost = message.outcome in outcomes.LOST or bool(fault and fault.lose_webhooks)
        attempt = 0
        for number, occurrence in enumerate(plan):
            step = occurrence.step
            attempt += step.happening in _TRIES_THE_DESTINATION
            at = message.accepted_at + occurrence.at * self._pace.scale
            happened = Happened(step, number, at, attempt, message.letter.recipient, user_agent(step, rng))
            for part, body in enumerate(account.tell(message, happened)):
                event = SandboxEvent(f"{message.id}-{message.place}-{number}-{part}", step.happening, at, body)
                message.events.append(event)
                if not lost:
                    self._schedule(account, event, occurrence)

    def _schedule(self, account: Account, event: SandboxEvent, occurrence: Occurrence) -> None:
        for post in occurrence.posts:
            asyncio.get_running_loop().call_later(post * self._pace.scale, account.post, event)


@cache
def _authorities() -> ssl.SSLContext:
    # Reading them takes a tenth of a second, which a test with a sandbox of its own would pay each time.
    return httpx2.create_ssl_context()
