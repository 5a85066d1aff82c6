"""Outbox: posts events to one webhook as its vendor posts them, again by the vendor's schedule until it is settled.

A minute of the vendor's schedule is a second here, and no pause is longer than 15 s. Now and then it posts a batch
again that was answered well, as vendors do when the answer got lost on its way.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx2

from carepost.sandbox.message import Post, SandboxEvent
from carepost.sandbox.outcomes import FULL_SECONDS

_MAX_WAITING = 5000  # batches; more than so many give up instead of trying again
_POSTED_AGAIN = 0.05  # of batches
_LONGEST_PAUSE = 15.0
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast time goes: `scale` makes real seconds of the table's; `retry_for` is real seconds."""

    scale: float
    retry_for: float

    @classmethod
    def of(cls, *, speed: float, max_delay: float, retry_for: float) -> "Pace":
        """`speed` times as fast as usual, and all within `max_delay` seconds at most."""
        return cls(min(1 / speed, max_delay / FULL_SECONDS), retry_for)

    def pause(self, seconds: float) -> float:
        """Real seconds for a pause in a vendor's schedule."""
        return min(seconds / _MINUTE * self.scale, _LONGEST_PAUSE)


class Courier(Protocol):
    """How one vendor posts to one webhook. Settings are asked anew each time: they may have changed since."""

    batch: int
    """So many events at most in one POST."""

    def wants(self, event: SandboxEvent) -> bool:
        """Whether an event of this kind is posted."""

    def url(self) -> str:
        """Where it is posted; empty when the webhook is switched off."""

    def body(self, events: Sequence[SandboxEvent]) -> bytes:
        """What is posted, the same each time."""

    def headers(self, events: Sequence[SandboxEvent], body: bytes) -> Mapping[str, str]:
        """The headers of one POST, made anew each time."""

    def pauses(self, events: Sequence[SandboxEvent]) -> Iterable[float]:
        """The vendor's schedule: seconds between one try and the next, until it gives up."""

    def settles(self, status: int) -> bool:
        """Whether this answer ends the tries."""


class Outbox:
    """Events on their way to one webhook."""

    def __init__(self, courier: Courier, client: httpx2.AsyncClient, pace: Pace, rng: random.Random) -> None:
        self._courier = courier
        self._client = client
        self._pace = pace
        self._rng = rng
        self._due: list[SandboxEvent] = []
        self._flush: asyncio.TimerHandle | None = None
        self._posting: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(8)
        self._closed = False

    def add(self, event: SandboxEvent) -> None:
        """Posts an event soon, if the webhook wants it."""
        if self._closed or not self._courier.wants(event):
            return
        self._due.append(event)
        if not self._flush:
            # Who posts one by one posts at once.
            wait = 0.5 * self._pace.scale if self._courier.batch > 1 else 0
            self._flush = asyncio.get_running_loop().call_later(wait, self._send_due)

    async def close(self) -> None:
        """Forgets what isn't posted yet."""
        self._closed = True
        if self._flush:
            self._flush.cancel()
        for task in self._posting:
            task.cancel()
        await asyncio.gather(*self._posting, return_exceptions=True)

    def _send_due(self) -> None:
        self._flush = None
        while self._due:
            batch, self._due = self._due[: self._courier.batch], self._due[self._courier.batch :]
            task = asyncio.create_task(self._deliver(batch))
            self._posting.add(task)
            task.add_done_callback(self._posting.discard)

    async def _deliver(self, batch: Sequence[SandboxEvent]) -> None:
        body = self._courier.body(batch)
        give_up_at = time.monotonic() + self._pace.retry_for
        pauses = iter(self._courier.pauses(batch))
        while not self._is_settled(status := await self._post(batch, body)):
            pause = self._pace.pause(next(pauses, -1.0))
            if pause < 0 or time.monotonic() + pause > give_up_at or len(self._posting) > _MAX_WAITING:
                return
            await asyncio.sleep(pause * self._rng.uniform(0.8, 1.2))
        if status is not None and status < 300 and self._rng.random() < _POSTED_AGAIN:
            await asyncio.sleep(self._pace.scale)
            await self._post(batch, body)

    def _is_settled(self, status: int | None) -> bool:
        return not self._courier.url() or (status is not None and self._courier.settles(status))

    async def _post(self, batch: Sequence[SandboxEvent], body: bytes) -> int | None:
        """The status of the answer; None where there was none, or nothing was posted."""
        url = self._courier.url()
        if not url:
            return None
        status, error = None, None
        async with self._slots:
            at = time.time()
            try:
                response = await self._client.post(url, content=body, headers=self._courier.headers(batch, body))
                status = response.status_code
            except httpx2.HTTPError as problem:
                error = type(problem).__name__
        for event in batch:
            event.posts.append(Post(at, status, error))
        return status
