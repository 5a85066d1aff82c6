"""One subscriber of a practice's changes: what it watches, what waits for it, and the cursor that is true for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from db.changes import Change
from db.messages import Message
from db.position import Position
from mail.ids import MessageId, PatientId

if TYPE_CHECKING:
    from api.feed import Feed

_PENDING_LIMIT: Final = 5000


class CursorExpired(Exception):
    """What changed since a cursor can't be told: it is too old, or of another history than the database's. The list
    read anew is right, and to be followed from there."""


class SubscriberTooSlow(Exception):
    """The client reads so slowly that its changes no longer fit; it resumes with its last cursor."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What one subscription wants to know; None asks for everything."""

    patient_id: PatientId | None = None
    message_ids: frozenset[MessageId] | None = None

    @property
    def patients(self) -> Sequence[PatientId]:
        """Whom it names; none where it names messages, or the practice."""
        return () if self.patient_id is None else (self.patient_id,)

    def wants(self, message: Message) -> bool:
        return (self.patient_id is None or message.patient_id == self.patient_id) and (
            self.message_ids is None or message.id in self.message_ids
        )


class Subscriber:
    """`pending` holds what the client hasn't taken, the latest of each message, and `order` the same by transaction,
    with entries that are pending no more. Every change before `safe` was taken; every change before the feed's
    position, or before `reached` where that is later, was taken or is pending once it has caught up.

    Changes are pushed in the order in which they were read. The number of a transaction says nothing about that:
    one that began earlier and waited for a row is later, with a smaller number. `wake` is called after each push that
    leaves something to take. `ended` says why there is nothing more to come.
    """

    __slots__ = ("ended", "feed", "order", "pending", "reached", "safe", "wake", "watch")

    def __init__(self, feed: "Feed", watch: Watch, since: Position | None, wake: Callable[[], None]) -> None:
        self.feed = feed
        self.watch = watch
        self.safe = self.reached = feed.position if since is None else since
        self.wake = wake
        self.pending: dict[MessageId, Change] = {}
        self.order: list[tuple[int, MessageId]] = []
        self.ended: type[CursorExpired | SubscriberTooSlow] | None = None

    @property
    def has_news(self) -> bool:
        """Whether `take` has something to say."""
        return bool(self.pending) or self.ended is not None

    def push(self, changes: Sequence[Change]) -> None:
        """Changes that it may want; a slow client's coalesce."""
        if self.ended is not None:
            return
        for change in changes:
            if self.watch.wants(change.message):
                self.pending[change.message.id] = change
                heappush(self.order, (change.transaction, change.message.id))
        # What was pushed again and again leaves its old entries behind.
        if len(self.order) > 2 * len(self.pending) + 16:
            self.order = sorted((change.transaction, key) for key, change in self.pending.items())
        if len(self.pending) > _PENDING_LIMIT:
            self.end(SubscriberTooSlow)

    def end(self, why: type[CursorExpired | SubscriberTooSlow]) -> None:
        """Nothing more comes, and what is pending is not to be taken."""
        self.ended = why
        self.pending.clear()
        self.order.clear()

    def take(self) -> tuple[Change, Position]:
        """The oldest pending change, and the cursor that is true once it has arrived.

        Raises `SubscriberTooSlow` and `CursorExpired`.
        """
        if self.ended is not None:
            raise self.ended
        message_id = next(iter(self.pending))
        change = self.pending.pop(message_id)
        while self.order and not self._is_pending(*self.order[0]):
            heappop(self.order)
        true = max(self.reached, self.feed.position)
        if self.order:
            true = min(true, true._replace(transaction=self.order[0][0]))
        self.safe = max(self.safe, true)
        return change, self.safe

    def _is_pending(self, transaction: int, message_id: MessageId) -> bool:
        change = self.pending.get(message_id)
        return change is not None and change.transaction == transaction
