"""Outbox: posts the events of one API key to its webhook, in batches, again until a 2xx comes.

SendGrid tries for 24 hours; the sandbox for `Pace.retry_for`. Now and then it posts a batch again that was
answered well, as SendGrid does when the answer got lost on its way.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx2
import orjson

from carepost.sandbox.message import Post, SandboxEvent
from carepost.sandbox.outcomes import FULL_SECONDS
from carepost.sandbox.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER
from carepost.sandbox.webhook import EventWebhook

_MAX_BATCH = 1000
_MAX_WAITING = 5000  # batches; more than so many give up instead of trying again
_POSTED_AGAIN = 0.05  # of batches
_LONGEST_PAUSE = 15.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast time goes: `scale` makes real seconds of the table's; `retry_for` is real seconds."""

    scale: float
    retry_for: float

    @classmethod
    def of(cls, *, speed: float, max_delay: float, retry_for: float) -> "Pace":
        """`speed` times as fast as usual, and all within `max_delay` seconds at most."""
        return cls(min(1 / speed, max_delay / FULL_SECONDS), retry_for)


class Outbox:
    """The events of one API key on their way."""

    def __init__(self, webhook: EventWebhook, client: httpx2.AsyncClient, pace: Pace, rng: random.Random) -> None:
        self._webhook = webhook
        self._client = client
        self._pace = pace
        self._rng = rng
        self._due: list[SandboxEvent] = []
        self._flush: asyncio.TimerHandle | None = None
        self._posting: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(8)
        self._closed = False

    def schedule(self, event: SandboxEvent, after: float) -> None:
        """Posts an event in so many (real) seconds, if the webhook wants it then."""
        asyncio.get_running_loop().call_later(after, self._add, event)

    async def close(self) -> None:
        """Forgets what isn't posted yet."""
        self._closed = True
        if self._flush:
            self._flush.cancel()
        for task in self._posting:
            task.cancel()
        await asyncio.gather(*self._posting, return_exceptions=True)

    def _add(self, event: SandboxEvent) -> None:
        if self._closed or not self._webhook.wants(str(event.body["event"])):
            return
        self._due.append(event)
        if not self._flush:
            self._flush = asyncio.get_running_loop().call_later(0.5 * self._pace.scale, self._send_due)

    def _send_due(self) -> None:
        self._flush = None
        while self._due:
            batch, self._due = self._due[:_MAX_BATCH], self._due[_MAX_BATCH:]
            task = asyncio.create_task(self._deliver(batch))
            self._posting.add(task)
            task.add_done_callback(self._posting.discard)

    async def _deliver(self, batch: Sequence[SandboxEvent]) -> None:
        # SendGrid's own way with line ends: a verifier must take the raw bytes, the last two included.
        body = b"[" + b",\r\n".join(orjson.dumps(event.body) for event in batch) + b"]\r\n"
        pause = self._pace.scale
        give_up_at = time.monotonic() + self._pace.retry_for
        while not await self._post(batch, body):
            if time.monotonic() + pause > give_up_at or len(self._posting) > _MAX_WAITING:
                return
            await asyncio.sleep(pause * self._rng.uniform(0.8, 1.2))
            pause = min(2 * pause, _LONGEST_PAUSE)
        if self._rng.random() < _POSTED_AGAIN:
            await asyncio.sleep(self._pace.scale)
            await self._post(batch, body)

    async def _post(self, batch: Sequence[SandboxEvent], body: bytes) -> bool:
        """Whether the webhook took the batch. Settings are read anew: they may have changed since."""
        if not self._webhook.enabled:
            return True
        status, error = None, None
        async with self._slots:
            at = time.time()
            try:
                response = await self._client.post(self._webhook.url, content=body, headers=self._headers(body))
                status = response.status_code
            except httpx2.HTTPError as problem:
                error = type(problem).__name__
        for event in batch:
            event.posts.append(Post(at, status, error))
        return status is not None and 200 <= status < 300

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json;charset=utf-8", "User-Agent": "SendGrid Event API"}
        if self._webhook.signed:
            timestamp = str(int(time.time()))
            headers[TIMESTAMP_HEADER] = timestamp
            headers[SIGNATURE_HEADER] = self._webhook.key.sign(timestamp, body)
        return headers
