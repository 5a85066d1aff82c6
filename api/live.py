"""The live view: one reader for each practice that somebody watches, fanned out to its subscribers.

A notice says only that something changed in a practice; the reader then reads what did from its last position on (see
db.changes). So a notice that is lost, or Valkey gone, costs a wait of `_FALLBACK` and misses nothing. For a slow client
changes of one message coalesce to the latest.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from db.changes import Change, current_position, newest_position, read_changes
from db.messages import Message
from db.pool import Database
from mail.ids import MessageId, PatientId, PracticeId
from workers import jobs

_PAGE: Final = 500
_PENDING_LIMIT: Final = 5000
_FALLBACK: Final = 5.0
_log = structlog.get_logger("carepost.live")


class CursorExpired(Exception):
    """`since` is too old, or of another database: read the list anew and subscribe from there."""


class SubscriberTooSlow(Exception):
    """The client reads so slowly that its changes no longer fit; it resumes with its last cursor."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What one subscription wants to know; None asks for everything."""

    patient_id: PatientId | None = None
    message_ids: frozenset[MessageId] | None = None

    def wants(self, message: Message) -> bool:
        return (self.patient_id is None or message.patient_id == self.patient_id) and (
            self.message_ids is None or message.id in self.message_ids
        )


@dataclass(eq=False, slots=True)
class _Subscriber:
    """`pending` holds what the client hasn't taken, the latest of each message, and `order` the same by transaction,
    with entries that are pending no more. Every change before `safe` was taken; every change before `reached` was
    taken or is pending, unless it is still catching up.

    Changes are pushed in the order in which they were read. The number of a transaction says nothing about that:
    one that began earlier and waited for a row is later, with a smaller number."""

    watch: Watch
    safe: int
    reached: int
    catching_up: bool
    pending: dict[MessageId, Change] = field(default_factory=dict)
    order: list[tuple[int, MessageId]] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    overflowed: bool = False

    def push(self, changes: Sequence[Change], position: int) -> None:
        for change in changes:
            if self.watch.wants(change.message):
                self.pending[change.message.id] = change
                heappush(self.order, (change.transaction, change.message.id))
        self.reached = max(self.reached, position)
        if len(self.pending) > _PENDING_LIMIT:
            self.overflowed = True
            self.pending.clear()
            self.order.clear()
        if self.pending or self.overflowed:
            self.ready.set()
        elif not self.catching_up:
            self.safe = self.reached

    def take(self) -> tuple[Message, int]:
        """The oldest pending change, and the cursor that is true once it has arrived."""
        message_id = next(iter(self.pending))
        message = self.pending.pop(message_id).message
        while self.order and not self._is_pending(*self.order[0]):
            heappop(self.order)
        self.safe = max(self.safe, min(self.reached, self.order[0][0]) if self.order else self.reached)
        if not self.pending:
            self.ready.clear()
        return message, self.safe

    def _is_pending(self, transaction: int, message_id: MessageId) -> bool:
        change = self.pending.get(message_id)
        return change is not None and change.transaction == transaction


@dataclass(eq=False, slots=True)
class _Feed:
    """The reader of one practice. `told` holds the changes told since `position`, which are read again as long as
    an older transaction runs. `reading` is held from a read to its push, so that no older read is pushed later."""

    position: int
    subscribers: set[_Subscriber] = field(default_factory=set)
    health_watchers: set[asyncio.Event] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    told: dict[MessageId, int] = field(default_factory=dict)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None


class LiveHub:
    """Holds the feeds of a process; `run` listens for notices."""

    def __init__(self, database: Database, client: ArqRedis, *, catch_up: int) -> None:
        self._database = database
        self._client = client
        self._catch_up = catch_up
        self._feeds: dict[PracticeId, _Feed] = {}
        self.listening = False

    @property
    def subscribers(self) -> int:
        return sum(len(feed.subscribers) for feed in self._feeds.values())

    async def run(self) -> None:
        """Listens until cancelled, again and again when Valkey goes away."""
        while True:
            try:
                async for practice_id in jobs.listen(self._client, on_ready=self._listens):
                    if feed := self._feeds.get(practice_id):
                        feed.wake.set()
            except (RedisError, OSError) as error:
                if self.listening:
                    _log.warning("valkey is out of reach; live updates come late", error=type(error).__name__)
                self.listening = False
            await asyncio.sleep(0.5)

    def _listens(self) -> None:
        self.listening = True
        for feed in self._feeds.values():
            feed.wake.set()

    async def subscribe(
        self, practice_id: PracticeId, watch: Watch, since: int | None
    ) -> AsyncGenerator[tuple[Message, int], None]:
        """Messages as they change, each with the cursor to resume from; with `since`, first what changed after it.

        Raises `CursorExpired` and `SubscriberTooSlow`.
        """
        feed = await self._join(practice_id)
        subscriber = _Subscriber(watch, feed.position if since is None else since, feed.position, since is not None)
        feed.subscribers.add(subscriber)
        try:
            if since is not None:
                await self._read_up(practice_id, feed, subscriber, since)
            while True:
                await subscriber.ready.wait()
                if subscriber.overflowed:
                    raise SubscriberTooSlow
                yield subscriber.take()
        finally:
            feed.subscribers.discard(subscriber)
            self._leave(practice_id, feed)

    async def watch_health(self, practice_id: PracticeId) -> AsyncGenerator[None, None]:
        """Ticks at once, and whenever something changed in a practice that may show in the health of its accounts."""
        feed = await self._join(practice_id)
        changed = asyncio.Event()
        changed.set()
        feed.health_watchers.add(changed)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _FALLBACK)
                changed.clear()
                yield None
        finally:
            feed.health_watchers.discard(changed)
            self._leave(practice_id, feed)

    async def _join(self, practice_id: PracticeId) -> _Feed:
        if practice_id not in self._feeds:
            position = await current_position(self._database.app)
            feed = self._feeds.setdefault(practice_id, _Feed(position))
            if feed.task is None:
                feed.task = asyncio.create_task(self._read(practice_id, feed))
        return self._feeds[practice_id]

    def _leave(self, practice_id: PracticeId, feed: _Feed) -> None:
        if not feed.subscribers and not feed.health_watchers and self._feeds.get(practice_id) is feed:
            del self._feeds[practice_id]
            if feed.task is not None:
                feed.task.cancel()

    async def _read_up(self, practice_id: PracticeId, feed: _Feed, subscriber: _Subscriber, since: int) -> None:
        if since > await newest_position(self._database.app):
            raise CursorExpired
        watch = subscriber.watch
        position: int | None = None
        begin: int | None = since
        count = 0
        while begin is not None:
            async with feed.reading:
                page = await read_changes(
                    self._database.app,
                    practice_id,
                    begin,
                    _PAGE,
                    patient_id=watch.patient_id,
                    message_ids=None if watch.message_ids is None else list(watch.message_ids),
                )
                subscriber.push(page.changes, since)
            position = page.position if position is None else position
            count += len(page.changes)
            if count > self._catch_up:
                raise CursorExpired
            begin = page.more
        assert position is not None
        subscriber.catching_up = False
        subscriber.push((), position)

    async def _read(self, practice_id: PracticeId, feed: _Feed) -> None:
        """Reads on whenever there was a notice, and now and then without one."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(feed.wake.wait(), _FALLBACK)
            feed.wake.clear()
            try:
                await self._read_on(practice_id, feed)
            except Exception as error:  # noqa: BLE001 - the database is away; the next round reads it all
                _log.warning("changes could not be read; trying again", error=type(error).__name__)
                await asyncio.sleep(0.5)
                feed.wake.set()
            for watcher in feed.health_watchers:
                watcher.set()

    async def _read_on(self, practice_id: PracticeId, feed: _Feed) -> None:
        position: int | None = None
        begin: int | None = feed.position
        while begin is not None:
            async with feed.reading:
                page = await read_changes(self._database.app, practice_id, begin, _PAGE)
                fresh = [change for change in page.changes if feed.told.get(change.message.id) != change.transaction]
                feed.told.update((change.message.id, change.transaction) for change in fresh)
                for subscriber in feed.subscribers:
                    subscriber.push(fresh, feed.position)
            position = page.position if position is None else position
            begin = page.more
        assert position is not None
        feed.position = position
        for subscriber in feed.subscribers:
            subscriber.push((), position)
        feed.told = {message: transaction for message, transaction in feed.told.items() if transaction >= position}
