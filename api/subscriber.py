"""One subscriber of a practice's changes: what it watches, what waits for it, and the cursor that is true for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from db.changes import Change
from db.messages import Message
from mail.ids import MessageId, PatientId

if TYPE_CHECKING:
    from api.live import Feed

_PENDING_LIMIT: Final = 5000


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


class Subscriber:
    """`pending` holds what the client hasn't taken, the latest of each message, and `order` the same by transaction,
    with entries that are pending no more. Every change before `safe` was taken; every change before the feed's
    position, or before `reached` where that is later, was taken or is pending once it has caught up.

    Changes are pushed in the order in which they were read. The number of a transaction says nothing about that:
    one that began earlier and waited for a row is later, with a smaller number. `wake` is called after each push that
    leaves something to take.
    """

    __slots__ = ("feed", "order", "overflowed", "pending", "reached", "safe", "wake", "watch")

    def __init__(self, feed: "Feed", watch: Watch, since: int | None, wake: Callable[[], None]) -> None:
        self.feed = feed
        self.watch = watch
        self.safe = self.reached = feed.position if since is None else since
        self.wake = wake
        self.pending: dict[MessageId, Change] = {}
        self.order: list[tuple[int, MessageId]] = []
        self.overflowed = False

    def push(self, changes: Sequence[Change]) -> None:
        """Changes that it may want; a slow client's coalesce."""
        if self.overflowed:
            return
        for change in changes:
            if self.watch.wants(change.message):
                self.pending[change.message.id] = change
                heappush(self.order, (change.transaction, change.message.id))
        # What was pushed again and again leaves its old entries behind.
        if len(self.order) > 2 * len(self.pending) + 16:
            self.order = sorted((change.transaction, key) for key, change in self.pending.items())
        if len(self.pending) > _PENDING_LIMIT:
            self.overflowed = True
            self.pending.clear()
            self.order.clear()

    def take(self) -> tuple[Change, int]:
        """The oldest pending change, and the cursor that is true once it has arrived. Raises `SubscriberTooSlow`."""
        if self.overflowed:
            raise SubscriberTooSlow
        message_id = next(iter(self.pending))
        change = self.pending.pop(message_id)
        while self.order and not self._is_pending(*self.order[0]):
            heappop(self.order)
        reached = max(self.reached, self.feed.position)
        self.safe = max(self.safe, min(reached, self.order[0][0]) if self.order else reached)
        return change, self.safe

    def _is_pending(self, transaction: int, message_id: MessageId) -> bool:
        change = self.pending.get(message_id)
        return change is not None and change.transaction == transaction
