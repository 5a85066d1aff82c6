"""The feed of one practice: who watches what, and what was told."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from api.subscriber import CursorExpired, Subscriber
from db.accounts import Account
from db.changes import Change
from db.position import Position
from mail.advice import Counts
from mail.ids import MessageId, PatientId

Health = Mapping[Account, Counts]
"""Of all accounts of a practice."""


@dataclass(eq=False, slots=True)
class Feed:
    """The reader of one practice. `told` holds the changes told since `position`, which are read again as long as
    an older transaction runs. `reading` is held from a read to its push, so that no older read is pushed later."""

    position: Position
    everything: set[Subscriber] = field(default_factory=set)
    of_patient: dict[PatientId, set[Subscriber]] = field(default_factory=dict)
    of_message: dict[MessageId, set[Subscriber]] = field(default_factory=dict)
    count: int = 0
    health_watchers: set[asyncio.Event] = field(default_factory=set)
    health_reading: asyncio.Task[Health] | None = None
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

    def health_may_differ(self) -> None:
        self.health_reading = None
        for watcher in self.health_watchers:
            watcher.set()

    async def health(self, read: Callable[[], Coroutine[Any, Any, Health]]) -> Health:
        """What `read` gives, read once for all who ask until it may differ."""
        if self.health_reading is None:
            self.health_reading = asyncio.create_task(read())
        reading = self.health_reading
        try:
            return await asyncio.shield(reading)
        except Exception:
            if self.health_reading is reading:
                self.health_reading = None
            raise

    def begin_anew(self, position: Position) -> set[Subscriber]:
        """Where what was told is not what the database holds: everybody has to read anew; gives them all."""
        self.position = position
        self.told = {}
        found = self.everything.union(*self.of_patient.values(), *self.of_message.values())
        for subscriber in found:
            subscriber.end(CursorExpired)
        return found


def _discard(index: dict[Any, set[Subscriber]], key: UUID, subscriber: Subscriber) -> None:
    found = index[key]
    found.discard(subscriber)
    if not found:
        del index[key]
