"""Subscriptions to message changes on sockets, without a task for any of them.

A change wakes those who watch it. They queue up and are served in turn: a few hundred, then whatever else the process
has to do, then the next. One whose client reads slowly is passed over until its socket is free again; in the meantime
its changes coalesce in its subscriber.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import orjson
import structlog
from graphql import GraphQLError

from api.graphql.audience import Audience, Telling, Wish
from api.graphql.errors import MaskUnexpected
from api.graphql.subscriptions import cursor_expired, too_slow
from api.subscriber import CursorExpired, Subscriber, SubscriberTooSlow
from api.views import View, ViewsUnrecorded

if TYPE_CHECKING:
    from api.graphql.socket import Socket

_AT_A_TIME: Final = 200
_IN_HAND: Final = 16
"""Changes that are taken and told together."""
_log = structlog.get_logger("carepost.graphql")


class Turns:
    """Serves who is ready, in turn."""

    def __init__(self) -> None:
        self._ready: deque[Following] = deque()
        self._due = False

    def queue(self, following: "Following") -> None:
        if not following.queued:
            following.queued = True
            self._ready.append(following)
            self._call()

    def _call(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._due = False
        for _ in range(min(_AT_A_TIME, len(self._ready))):
            following = self._ready.popleft()
            following.queued = False
            try:
                following.serve()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this one's alone
                following.fail(error)
        if self._ready:
            self._call()


class Following:
    """One subscription. `hand` holds what was taken for it and wasn't sent yet."""

    __slots__ = ("_awaited", "_beginning", "_hand", "_prefix", "_socket", "_subscriber", "audience", "id", "queued")

    def __init__(self, socket: "Socket", operation_id: str, wish: Wish) -> None:
        self.id = operation_id
        self.audience: Audience = wish.audience
        self.queued = False
        self._socket = socket
        self._prefix = f'{{"id":{orjson.dumps(operation_id).decode()},"type":"next","payload":'
        self._hand: list[Telling] = []
        self._awaited: Telling | None = None
        self._subscriber: Subscriber | None = None
        self._beginning: asyncio.Task[None] | None = asyncio.create_task(self._begin(wish))

    async def _begin(self, wish: Wish) -> None:
        socket = self._socket
        try:
            self._subscriber = await socket.live.join(socket.context.practice_id, wish.watch, wish.since, self.wake)
            socket.context.saw(View.FOLLOW, wish.watch.patients)
        except CursorExpired:
            self._finish(cursor_expired())
        except Exception as error:  # noqa: BLE001 - masked
            self.fail(error)
        else:
            self.wake()
        finally:
            self._beginning = None

    def wake(self) -> None:
        self._socket.turns.queue(self)

    def serve(self) -> None:
        """Sends what there is, as far as it is put into words and the client takes it."""
        subscriber, outlet, hand = self._subscriber, self._socket.outlet, self._hand
        if subscriber is None:
            return
        while not outlet.blocked:
            if not hand:
                if not subscriber.has_news:
                    return
                try:
                    self._take(subscriber)
                except SubscriberTooSlow:
                    self._finish(too_slow())
                    return
                except CursorExpired:
                    self._finish(cursor_expired())
                    return
            telling = hand[0]
            if telling.text is None:
                if self._awaited is not telling:
                    self._awaited = telling
                    telling.wake_when_there(self.wake)
                return
            self._awaited = None
            del hand[0]
            outlet.post(f"{self._prefix}{telling.text}}}")

    def stop(self) -> None:
        """Nothing more is sent. The socket has forgotten it already."""
        if self._beginning is not None and self._beginning is not asyncio.current_task():
            self._beginning.cancel()
        if self._subscriber is not None:
            self._socket.live.leave(self._socket.context.practice_id, self._subscriber)
            with suppress(ViewsUnrecorded):
                self._socket.context.saw(View.UNFOLLOW, self._subscriber.watch.patients)
            self._subscriber = None
        self._hand.clear()

    def fail(self, error: Exception) -> None:
        """Ends it with an error that nobody expected."""
        [shown] = MaskUnexpected().shown([GraphQLError(str(error), original_error=error)])
        self._finish(shown)

    def _take(self, subscriber: Subscriber) -> None:
        """All that is asked for in one go is looked up together."""
        while subscriber.pending and len(self._hand) < _IN_HAND:
            self._hand.append(self.audience.tell(*subscriber.take()))
        if not self._hand:
            subscriber.take()

    def _finish(self, error: GraphQLError) -> None:
        self.stop()
        socket = self._socket
        if socket.operations.get(self.id) is self:
            del socket.operations[self.id]
            answer = orjson.dumps({"data": None, "errors": [error.formatted]}).decode()
            socket.outlet.post(f"{self._prefix}{answer}}}")
            socket.outlet.post(f'{{"id":{orjson.dumps(self.id).decode()},"type":"complete"}}')
