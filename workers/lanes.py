"""Sends what is due, lane by lane: one lane for each account, so that none waits for another's server.

A lane claims a few messages ahead, single ones before those of a bulk, and has a bounded number in its server's hands,
of which one place is kept free of bulks. A server that is down is left alone for a while (see workers.breaker); its
messages wait together, and one of them is the probe.
"""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from weakref import WeakSet

import structlog
from prometheus_client import Gauge

from db import accounts, outbox
from db.errors import SealBroken
from db.outbox import Claim, Lane
from db.pool import Database
from db.sealing import Sealer
from mail.status import AccountKind
from workers.breaker import Breaker
from workers.outcomes import Ended, Outcomes
from workers.send import Sender
from workers.transports.smtp import CONNECTIONS_PER_SERVER

_REQUESTS_PER_ESP: Final = 8
_MOST_AHEAD: Final = 16
"""Claimed and not begun. A worker that is killed leaves as many that may have been sent, for all that anybody knows."""
_MOST_UNWRITTEN: Final = 256
_CLAIMS_AT_ONCE: Final = 4
"""Of the connections to Postgres; the others are for outcomes and webhooks."""
_log = structlog.get_logger("carepost.send")


@dataclass(frozen=True, slots=True)
class _Ready:
    claim: Claim
    credentials: Mapping[str, str] | None
    claimed_at: float


class Lanes:
    """All lanes of a worker process."""

    def __init__(
        self, database: Database, sealer: Sealer, sender: Sender, outcomes: Outcomes, *, worker: str, lease: timedelta
    ) -> None:
        self.database = database
        self.sealer = sealer
        self.sender = sender
        self.outcomes = outcomes
        self.worker = worker
        self.lease = lease
        self.stopping = False
        self.claiming = asyncio.Semaphore(_CLAIMS_AT_ONCE)
        self._running: dict[Lane, tuple[_Lane, asyncio.Task[None]]] = {}
        _HERE.add(self)

    def wake(self, lane: Lane) -> None:
        """Has a lane look for messages that are due."""
        if self.stopping:
            return
        if lane not in self._running:
            running = _Lane(self, lane)
            self._running[lane] = running, asyncio.create_task(running.run())
        self._running[lane][0].wake()

    async def look(self) -> None:
        """Wakes every lane in which something is due."""
        for lane in await outbox.find_due(self.database.dispatcher):
            self.wake(lane)

    def leave(self, lane: Lane) -> None:
        """A lane's last word."""
        del self._running[lane]

    @property
    def count(self) -> int:
        return len(self._running)

    @property
    def paused(self) -> int:
        """Accounts whose server is left alone for a while."""
        return sum(lane.paused for lane, task in self._running.values() if not task.done())

    async def run(self, stop: asyncio.Event) -> None:
        """Returns once `stop` is set and what was in hand is finished and written; what wasn't begun is put back."""
        await stop.wait()
        self.stopping = True
        running = list(self._running.values())
        for lane, _ in running:
            lane.wake()
        await asyncio.gather(*(task for _, task in running))
        await self.outcomes.drain()


_HERE: Final[WeakSet[Lanes]] = WeakSet()
Gauge("carepost_sending_paused_accounts", "Accounts whose server is left alone for a while.").set_function(
    lambda: sum(lanes.paused for lanes in _HERE)
)


class _Lane:
    """One account's messages, as one worker sends them."""

    def __init__(self, lanes: Lanes, lane: Lane) -> None:
        self._lanes = lanes
        self._lane = lane
        self._clock = asyncio.get_running_loop().time
        self._changed = asyncio.Event()
        self._woken = self._more = False
        self._ready: tuple[deque[_Ready], deque[_Ready]] = (deque(), deque())
        self._stale: list[Claim] = []
        self._busy = [0, 0]
        self._unwritten = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._again: list[float] = []
        self._most = CONNECTIONS_PER_SERVER
        self._ahead = CONNECTIONS_PER_SERVER
        self._claimed_at = 0.0
        self._breaker = Breaker()

    def wake(self) -> None:
        self._woken = True
        self._changed.set()

    async def run(self) -> None:
        try:
            while not self._lanes.stopping:
                self._changed.clear()
                await self._put_back()
                await self._take()
                self._start()
                if not self._has_work():
                    break
                await self._wait()
        except Exception as error:
            _log.exception("a lane failed; the sweeper wakes it again", error=type(error).__name__)
        finally:
            # From here on a wake-up opens a new lane.
            self._lanes.leave(self._lane)
            await self._end()

    @property
    def paused(self) -> bool:
        return self._breaker.is_open

    def _has_work(self) -> bool:
        return bool(
            self._woken
            or self._more
            or any(self._ready)
            or self._stale
            or self._tasks
            or self._unwritten
            or self._again
            or self._breaker.is_open
        )

    async def _wait(self) -> None:
        times = self._again[:1]
        if self._breaker.until > self._clock():
            times.append(self._breaker.until)
        try:
            async with asyncio.timeout_at(min(times, default=None)):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _take(self) -> None:
        """Claims what there is room for."""
        now = self._clock()
        while self._again and self._again[0] <= now:
            heapq.heappop(self._again)
            self._woken = True
        if now < self._breaker.until or self._unwritten >= _MOST_UNWRITTEN or self._lanes.outcomes.stuck:
            return
        held = sum(map(len, self._ready))
        if self._breaker.is_open:
            if not self._tasks and not held:
                await self._claim(1)
                if not any(self._ready):
                    self._close_breaker()
        elif held <= self._ahead // 2 and (self._woken or self._more):
            await self._claim(max(self._room() - held, 1))
        elif self._woken:
            await self._claim(CONNECTIONS_PER_SERVER, bulk=False)

    def _room(self) -> int:
        """How many to hold: more of them while the server takes them quickly, fewer where many lanes run."""
        now = self._clock()
        if self._more and now - self._claimed_at < 1:
            self._ahead = min(self._ahead * 2, _MOST_AHEAD)
        elif now - self._claimed_at > 2:
            self._ahead = self._most
        self._claimed_at = now
        return max(self._most, min(self._ahead, 8 * _MOST_AHEAD // max(1, self._lanes.count)))

    async def _claim(self, limit: int, *, bulk: bool = True) -> None:
        self._woken = False
        self._more = self._more or not bulk
        lanes = self._lanes
        async with lanes.claiming, lanes.database.tenant(self._lane.practice_id) as connection:
            claims = await outbox.claim_due(
                connection, lanes.sealer, self._lane, lanes.worker, lanes.lease, limit, bulk=bulk
            )
            credentials: Mapping[str, str] | None = None
            if claims:
                try:
                    credentials = await accounts.read_credentials(
                        connection, lanes.sealer, self._lane.practice_id, self._lane.account_id
                    )
                except SealBroken:
                    credentials = None
        if bulk:
            self._more = len(claims) == limit
        now = self._clock()
        for claim in claims:
            self._ready[claim.bulk].append(_Ready(claim, credentials, now))
        if claims and claims[0].account_kind is AccountKind.ESP and self._breaker.most is None:
            self._most = _REQUESTS_PER_ESP

    def _start(self) -> None:
        """Hands over as many as the server may have: single ones first, and one place is theirs alone."""
        most = min(self._most, self._breaker.most or self._most)
        stale_after = self._lanes.lease.total_seconds() / 4
        for bulk in (False, True):
            while self._ready[bulk] and sum(self._busy) < most and (not bulk or self._busy[True] < max(1, most - 1)):
                ready = self._ready[bulk].popleft()
                if self._clock() - ready.claimed_at > stale_after:
                    self._stale.append(ready.claim)
                    self.wake()
                    continue
                self._busy[bulk] += 1
                self._unwritten += 1
                task = asyncio.create_task(self._send(ready))
                self._tasks.add(task)
                task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        """The next one goes at once: the lane may be waiting for Postgres, to claim more."""
        self._tasks.discard(task)
        if not self._lanes.stopping:
            self._start()
        self._changed.set()

    async def _send(self, ready: _Ready) -> None:
        try:
            attempted = await self._lanes.sender.attempt(ready.claim, ready.credentials)
        finally:
            self._busy[ready.claim.bulk] -= 1
        self._learn(is_down=attempted.is_down, pause=attempted.pause, over=attempted.ending.due_at is None)
        if attempted.ending.due_at is not None:
            self._look_again(attempted.ending.due_at - ready.claim.now())
        self._lanes.outcomes.add(Ended(attempted.ending, attempted.refusal, self._written))

    def _written(self) -> None:
        self._unwritten -= 1
        self._changed.set()

    def _learn(self, *, is_down: bool, pause: timedelta | None, over: bool) -> None:
        was_open = self._breaker.is_open
        if is_down:
            self._breaker.failed(self._clock(), random.random(), over=over)  # noqa: S311 - jitter
        else:
            self._breaker.answered()
        if pause is not None:
            self._breaker.asked_to_wait(self._clock(), pause, self._most)
        if self._breaker.is_open and not was_open:
            _log.warning("an account's server is left alone for a while", account=str(self._lane.account_id))
        elif was_open and not self._breaker.is_open:
            self._woken = True
            _log.info("an account's server answers again", account=str(self._lane.account_id))
        if self._breaker.until > self._clock():
            self._stale += [ready.claim for queue in self._ready for ready in queue]
            for queue in self._ready:
                queue.clear()
            self._more = True

    def _close_breaker(self) -> None:
        """Nothing is left to probe with."""
        self._breaker.answered()

    def _look_again(self, wait: timedelta) -> None:
        """Looks again when a message is due again; what is due later than in an hour is the sweeper's."""
        delay = wait.total_seconds()
        if delay < 3600:
            # A little late, so that those due within a hundredth of a second share a look.
            at = (int((self._clock() + delay) * 100) + 2) / 100
            if at not in self._again[:1]:
                heapq.heappush(self._again, at)

    async def _put_back(self, claims: Sequence[Claim] = ()) -> None:
        stale, self._stale = [*self._stale, *claims], []
        if stale:
            wait = timedelta(seconds=max(0.0, self._breaker.until - self._clock()))
            async with self._lanes.database.tenant(self._lane.practice_id) as connection:
                await outbox.put_back(connection, self._lane.practice_id, stale, wait)
            if wait:
                self._look_again(wait)

    async def _end(self) -> None:
        """Puts back what wasn't begun and lets what is in hand finish."""
        waiting = [ready.claim for queue in self._ready for ready in queue]
        for queue in self._ready:
            queue.clear()
        try:
            await self._put_back(waiting)
        except Exception as error:
            _log.warning("messages were not put back; their leases end", error=type(error).__name__)
        if self._tasks:
            await asyncio.wait(self._tasks)
