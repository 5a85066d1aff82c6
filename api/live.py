"""The live view: one reader for each practice that somebody watches, fanned out to its subscribers.

A notice says only that something changed in a practice; the reader then reads what did from its last position on (see
db.changes). So a notice that is lost, or Valkey gone, costs a wait of `_FALLBACK` and misses nothing. For a slow client
changes of one message coalesce to the latest.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, Final

import structlog
from arq.connections import ArqRedis

from api.feed import Feed, Health
from api.subscriber import CursorExpired, Subscriber, Watch
from db.changes import Reading, read_changes
from db.messages import Message
from db.pool import Database
from db.position import Position
from mail.ids import PracticeId
from workers import jobs

_PAGE: Final = 500
_FALLBACK: Final = 5.0
_log = structlog.get_logger("carepost.live")


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
            except jobs.LOST as error:
                if self.listening:
                    _log.warning("valkey is out of reach; live updates come late", error=type(error).__name__)
                self.listening = False
            await asyncio.sleep(0.5)

    def _listens(self) -> None:
        self.listening = True
        for feed in self._feeds.values():
            feed.wake.set()

    async def join(
        self, practice_id: PracticeId, watch: Watch, since: Position | None, wake: Callable[[], None]
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
        self, practice_id: PracticeId, watch: Watch, since: Position | None
    ) -> AsyncGenerator[tuple[Message, Position], None]:
        """Messages as they change, each with the cursor to resume from; with `since`, first what changed after it.

        Raises `CursorExpired` and `SubscriberTooSlow`.
        """
        ready = asyncio.Event()
        subscriber = await self.join(practice_id, watch, since, ready.set)
        try:
            while True:
                while not subscriber.has_news:
                    ready.clear()
                    await ready.wait()
                change, position = subscriber.take()
                yield change.message, position
        finally:
            self.leave(practice_id, subscriber)

    async def watch_health(
        self, practice_id: PracticeId, read: Callable[[], Coroutine[Any, Any, Health]]
    ) -> AsyncGenerator[Health, None]:
        """What `read` gives, at once and whenever something changed in a practice that may show in the health of its
        accounts. It is read once for all who watch the practice."""
        feed = await self._join(practice_id)
        changed = asyncio.Event()
        changed.set()
        feed.health_watchers.add(changed)
        feed.health_reading = None  # who comes sees what is, not what was read for others
        try:
            while True:
                await changed.wait()
                changed.clear()
                yield await feed.health(read)
        finally:
            feed.health_watchers.discard(changed)
            self._leave(practice_id, feed)

    async def _join(self, practice_id: PracticeId) -> Feed:
        if practice_id not in self._feeds:
            position = await self._database.horizon.advance()
            feed = self._feeds.setdefault(practice_id, Feed(position))
            if feed.task is None:
                feed.task = asyncio.create_task(self._read(practice_id, feed))
        return self._feeds[practice_id]

    def _leave(self, practice_id: PracticeId, feed: Feed) -> None:
        if not feed.count and not feed.health_watchers and self._feeds.get(practice_id) is feed:
            del self._feeds[practice_id]
            if feed.task is not None:
                feed.task.cancel()

    async def _read_up(self, practice_id: PracticeId, feed: Feed, subscriber: Subscriber, since: Position) -> None:
        watch = subscriber.watch
        reading = Reading(since)
        count = 0
        while reading.begin is not None:
            async with feed.reading:
                page = await read_changes(
                    self._database.app,
                    practice_id,
                    reading.begin,
                    _PAGE,
                    patient_id=watch.patient_id,
                    message_ids=None if watch.message_ids is None else list(watch.message_ids),
                )
                if not reading.takes(page):
                    self._database.horizon.forget()
                    raise CursorExpired
                subscriber.push(page.changes)
            count += len(page.changes)
            if count > self._catch_up:
                raise CursorExpired
        subscriber.reached = reading.position
        if subscriber.has_news:
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
            feed.health_may_differ()

    async def _read_on(self, practice_id: PracticeId, feed: Feed) -> None:
        reading = Reading(feed.position)
        touched: set[Subscriber] = set()
        while reading.begin is not None:
            async with feed.reading:
                page = await read_changes(self._database.app, practice_id, reading.begin, _PAGE)
                if not reading.takes(page):
                    _log.warning("postgres has another history than before; lists are to be read anew")
                    self._database.horizon.forget()
                    _wake(feed.begin_anew(await self._database.horizon.advance()))
                    return
                fresh = [change for change in page.changes if feed.told.get(change.message.id) != change.transaction]
                feed.told.update((change.message.id, change.transaction) for change in fresh)
                touched |= feed.push(fresh)
            if reading.begin is not None:
                _wake(touched)
                touched = set()
        feed.position = reading.position
        since = feed.position.transaction
        feed.told = {message: transaction for message, transaction in feed.told.items() if transaction >= since}
        _wake(touched)


def _wake(subscribers: Iterable[Subscriber]) -> None:
    for subscriber in subscribers:
        if subscriber.has_news:
            subscriber.wake()
