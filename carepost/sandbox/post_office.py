"""PostOffice: the API keys, what they sent, and when its events are posted. All in memory."""

import random
import secrets
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx2

from carepost.sandbox import outcomes
from carepost.sandbox.message import SandboxMessage, accept, new_id, record
from carepost.sandbox.outbox import Outbox, Pace
from carepost.sandbox.signing import load_keys
from carepost.sandbox.submission import Submission
from carepost.sandbox.webhook import EventWebhook

_KEPT_MESSAGES = 10_000


@dataclass(frozen=True, slots=True)
class EspOptions:
    """What the sandbox ESP is started with; times are in seconds."""

    api_keys: Sequence[str] = ("SG.sandbox",)
    webhook_urls: Sequence[str] = ()
    """The nth is the nth API key's; its webhook then starts switched on and signed."""
    key_file: Path | None = None
    """Keeps signing keys, so that public keys outlive a restart."""
    seed: str | None = None
    speed: float = 1.0
    max_delay: float = outcomes.FULL_SECONDS
    retry_for: float = 900.0


@dataclass(frozen=True, slots=True)
class Account:
    """One API key."""

    number: int
    webhook: EventWebhook
    outbox: Outbox


class PostOffice:
    """Takes submissions and sees to their events."""

    def __init__(self, options: EspOptions) -> None:
        self.messages: deque[SandboxMessage] = deque(maxlen=_KEPT_MESSAGES)
        self.accepted = 0
        self._seed = options.seed or secrets.token_hex(8)
        self._pace = Pace.of(speed=options.speed, max_delay=options.max_delay, retry_for=options.retry_for)
        self._client = httpx2.AsyncClient(trust_env=False, verify=_authorities(), timeout=10)
        self._accounts: dict[str, Account] = {}
        for number, (api_key, signing_key) in enumerate(load_keys(options.key_file, options.api_keys).items()):
            webhook = EventWebhook(signing_key)
            if number < len(options.webhook_urls):
                webhook.update({"url": options.webhook_urls[number], "enabled": True})
                webhook.signed = True
            rng = random.Random(f"{self._seed}/outbox/{number}")  # noqa: S311
            self._accounts[api_key] = Account(number, webhook, Outbox(webhook, self._client, self._pace, rng))

    async def close(self) -> None:
        """Posts nothing any more."""
        for account in self._accounts.values():
            await account.outbox.close()
        await self._client.aclose()

    def account(self, api_key: str) -> Account | None:
        """The account of an API key."""
        return self._accounts.get(api_key)

    def accept(self, asked: Submission, account: Account) -> str:
        """Takes a submission: decides what becomes of each of its emails, and returns its X-Message-Id."""
        message_id = new_id()
        for place, recipient in enumerate(asked.recipients):
            self.accepted += 1
            rng = random.Random(f"{self._seed}/{self.accepted}")  # noqa: S311
            outcome = outcomes.outcome(recipient.email, self._seed, self.accepted)
            message = accept(
                asked, place, message_id=message_id, account=account.number, outcome=outcome, now=time.time()
            )
            plan = outcomes.plan(outcome, rng, open_tracking=asked.open_tracking)
            events = record(message, plan, place=place, scale=self._pace.scale, rng=rng)
            self.messages.append(message)
            for occurrence, event in zip(plan, events, strict=True):
                for post in occurrence.posts:
                    account.outbox.schedule(event, post * self._pace.scale)
        return message_id


@cache
def _authorities() -> ssl.SSLContext:
    # Reading them takes a tenth of a second, which a test with a sandbox of its own would pay each time.
    return httpx2.create_ssl_context()
