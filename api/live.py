"""The live view: one reader for each practice that somebody watches, fanned out to its subscribers.

A notice says only that something changed in a practice; the reader then reads what did from its last position on (see
db.changes). So a notice that is lost, or Valkey gone, costs a wait of `_FALLBACK` and misses nothing. For a slow client
changes of one message coalesce to the latest.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from api.subscriber import Subscriber, Watch
from db.changes import Change, current_position, newest_position, read_changes
from db.messages import Message
from db.pool import Database
from mail.ids import MessageId, PatientId, PracticeId
from workers import jobs

_PAGE: Final = 500
_FALLBACK: Final = 5.0
_log = structlog.get_logger("carepost.live")


class CursorExpired(Exception):
    """`since` is too old, or of another database: read the list anew and subscribe from there."""


@dataclass(eq=False, slots=True)
class Feed:
    """The reader of one practice. `told` holds the changes told since `position`, which are read again as long as
    an older transaction runs. `reading` is held from a read to its push, so that no older read is pushed later."""

    position: int
    everything: set[Subscriber] = field(default_factory=set)
    of_patient: dict[PatientId, set[Subscriber]] = field(default_factory=dict)
    of_message: dict[MessageId, set[Subscriber]] = field(default_factory=dict)
    count: int = 0
    health_watchers: set[asyncio.Event] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    told: dict[MessageId, int] = field(default_factory=dict)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    task: asyncio.Task[None] | None = None

    def add(self, subscriber: Subscriber) -> None:
        """By what it watches, so that a change costs those alone something who want it."""
        self.count += 1
        watch = subscriber.watch
        if watch.message_ids is not None:
            for message_id in watch.message_ids:
                self.of_message.setdefault(message_id, set()).add(subscriber)
        elif watch.patient_id is not None:
            self.of_patient.setdefault(watch.patient_id, set()).add(subscriber)
        else:
            self.everything.add(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        """Of one that was added, once."""
        self.count -= 1
        watch = subscriber.watch
        if watch.message_ids is not None:
            for message_id in watch.message_ids:
                _discard(self.of_message, message_id, subscriber)
        elif watch.patient_id is not None:
            _discard(self.of_patient, watch.patient_id, subscriber)
        else:
            self.everything.discard(subscriber)

    def push(self, changes: Sequence[Change]) -> set[Subscriber]:
        """Gives every change to who watches it; gives those who then have something to take."""
        touched = set(self.everything) if changes else set()
        for subscriber in touched:
            subscriber.push(changes)
        for change in changes:
            one = (change,)
            for watching in (
                self.of_patient.get(change.message.patient_id, ()),
                self.of_message.get(change.message.id, ()),
            ):
                for subscriber in watching:
                    subscriber.push(one)
                    touched.add(subscriber)
        return touched


def _discard(index: dict[Any, set[Subscriber]], key: UUID, subscriber: Subscriber) -> None:
    found = index[key]
    found.discard(subscriber)
    if not found:
        del index[key]


class LiveHub:
    """Holds the feeds of a process; `run` listens for notices."""

    def __init__(self, database: Database, client: ArqRedis, *, catch_up: int) -> None:
        self._database = database
        self._client = client
        self._catch_up = catch_up
        self._feeds: dict[PracticeId, Feed] = {}
        self.listening = False

    @property
    def subscribers(self) -> int:
        return sum(feed.count for feed in self._feeds.values())

    def watchers(self, practice_id: PracticeId) -> int:
        """How many subscriptions of a practice are open."""
        feed = self._feeds.get(practice_id)
        return feed.count + len(feed.health_watchers) if feed else 0

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

    async def join(
        self, practice_id: PracticeId, watch: Watch, since: int | None, wake: Callable[[], None]
    ) -> Subscriber:
        """A new subscriber, which calls `wake` when there is something to take; it has to leave. With `since`, what
        changed after it is there to be taken.

        Raises `CursorExpired`.
        """
        feed = await self._join(practice_id)
        subscriber = Subscriber(feed, watch, since, wake)
        feed.add(subscriber)
        if since is not None:
            try:
                await self._read_up(practice_id, feed, subscriber, since)
            except BaseException:
                self.leave(practice_id, subscriber)
                raise
        return subscriber

    def leave(self, practice_id: PracticeId, subscriber: Subscriber) -> None:
        """Once."""
        subscriber.feed.discard(subscriber)
        self._leave(practice_id, subscriber.feed)

    async def subscribe(
        self, practice_id: PracticeId, watch: Watch, since: int | None
    ) -> AsyncGenerator[tuple[Message, int], None]:
        """Messages as they change, each with the cursor to resume from; with `since`, first what changed after it.

        Raises `CursorExpired` and `SubscriberTooSlow`.
        """
        ready = asyncio.Event()
        subscriber = await self.join(practice_id, watch, since, ready.set)
        try:
            while True:
                while not subscriber.pending and not subscriber.overflowed:
                    ready.clear()
                    await ready.wait()
                change, position = subscriber.take()
                yield change.message, position
        finally:
            self.leave(practice_id, subscriber)

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

    async def _join(self, practice_id: PracticeId) -> Feed:
        if practice_id not in self._feeds:
            position = await current_position(self._database.app)
            feed = self._feeds.setdefault(practice_id, Feed(position))
            if feed.task is None:
                feed.task = asyncio.create_task(self._read(practice_id, feed))
        return self._feeds[practice_id]

    def _leave(self, practice_id: PracticeId, feed: Feed) -> None:
        if not feed.count and not feed.health_watchers and self._feeds.get(practice_id) is feed:
            del self._feeds[practice_id]
            if feed.task is not None:
                feed.task.cancel()

    async def _read_up(self, practice_id: PracticeId, feed: Feed, subscriber: Subscriber, since: int) -> None:
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
                subscriber.push(page.changes)
            position = page.position if position is None else position
            count += len(page.changes)
            if count > self._catch_up:
                raise CursorExpired
            begin = page.more
        assert position is not None
        subscriber.reached = position
        if subscriber.pending or subscriber.overflowed:
            subscriber.wake()

    async def _read(self, practice_id: PracticeId, feed: Feed) -> None:
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

    async def _read_on(self, practice_id: PracticeId, feed: Feed) -> None:
        position: int | None = None
        begin: int | None = feed.position
        touched: set[Subscriber] = set()
        while begin is not None:
            async with feed.reading:
                page = await read_changes(self._database.app, practice_id, begin, _PAGE)
                fresh = [change for change in page.changes if feed.told.get(change.message.id) != change.transaction]
                feed.told.update((change.message.id, change.transaction) for change in fresh)
                touched |= feed.push(fresh)
            position = page.position if position is None else position
            begin = page.more
            if begin is not None:
                _wake(touched)
                touched = set()
        assert position is not None
        feed.position = position
        feed.told = {message: transaction for message, transaction in feed.told.items() if transaction >= position}
        _wake(touched)


def _wake(subscribers: Iterable[Subscriber]) -> None:
    for subscriber in subscribers:
        if subscriber.pending or subscriber.overflowed:
            subscriber.wake()
