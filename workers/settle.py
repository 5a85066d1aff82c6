"""Settles stored webhooks: reads them, matches their events to messages, writes evidence and status.

All of it in the caller's transaction. An event that the store refuses is found by halving the batch, and set aside.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
import structlog

from db import inbox
from db.confirmations import want_confirmation
from db.events import Matched, append_events
from db.inbox import Applied, Delivery
from db.locks import Locked, lock_messages, lock_patients
from db.matching import OutOfOrderError, lock_matching, match_events
from db.parked import Unmatched, park, parked_key, supersede_parked
from db.pool import Connection
from mail.event import Event, EventSource
from mail.ids import AccountId, MessageId, PracticeId
from mail.providers import provider
from mail.providers.base import Reading, Unreadable

_ERRORS_TOLD: Final = 20
_log = structlog.get_logger("carepost.apply")

# Classes of SQLSTATE (PostgreSQL, appendix A) that say nothing of the event that was being written: connection,
# rolled back, a statement or right of ours that is wrong, insufficient resources, not in the right state, operator
# intervention, system and internal errors.
_NOT_THE_EVENT: Final = frozenset({"08", "40", "42", "53", "55", "57", "58", "XX"})

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of webhooks: how many events were new, how many had been parked and have found their message, which
    messages changed, what was noted of each webhook, and whether one wants its subscription confirmed."""

    added: int
    matched_now: int
    messages: frozenset[MessageId]
    applied: Sequence[Applied]
    wants_confirmation: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """An event as it was read, its webhook, and where it belongs."""

    delivery: Delivery
    event: Event
    entry: Matched | Unmatched | None = None


@dataclass(frozen=True, slots=True)
class _Written:
    added: int
    matched_now: int
    messages: set[MessageId]
    unmatched: Sequence[UUID]
    """The webhook of each event that was parked."""


async def settle(
    connection: Connection, practice_id: PracticeId, deliveries: Sequence[Delivery], reader: int
) -> Settled:
    """Reads webhooks and writes what is in them; those that were read before, as replays."""
    readings = [(delivery, _read(delivery)) for delivery in deliveries]
    found = [_Found(delivery, event) for delivery, reading in readings for event in reading.events]
    refused: dict[UUID, list[Unreadable]] = defaultdict(list)
    writer = _Writer(connection, practice_id, reader)
    try:
        async with connection.transaction():
            written = [await writer.write_matching(found)] if found else []
    except OutOfOrderError:
        written = await writer.write_what_can_be(found, refused)
    except Exception as error:
        if not _is_of_an_event(error):
            raise
        _log.warning("a batch was refused; looking for the event", practice=str(practice_id), error=_name(error))
        written = await writer.write_what_can_be(found, refused)
    unmatched: dict[UUID, int] = defaultdict(int)
    for part in written:
        for delivery_id in part.unmatched:
            unmatched[delivery_id] += 1
    await inbox.touch_accounts(connection, practice_id, _last_seen(readings))
    applied = [
        _applied(delivery, reading, unmatched[delivery.id], refused[delivery.id]) for delivery, reading in readings
    ]
    # A reading that fails where an earlier one didn't is no reason to forget what that one found.
    good_before = {delivery.id for delivery in deliveries if delivery.again and delivery.error is None}
    worse = [entry.id for entry in applied if entry.error is not None and entry.id in good_before]
    await inbox.mark_applied(connection, practice_id, [entry for entry in applied if entry.id not in worse], reader)
    if worse:
        await inbox.keep_mark(connection, practice_id, worse)
    confirming = [delivery.id for delivery, reading in readings if reading.confirmation is not None]
    await want_confirmation(connection, practice_id, confirming)
    return Settled(
        sum(part.added for part in written),
        sum(part.matched_now for part in written),
        frozenset[MessageId]().union(*(part.messages for part in written)),
        applied,
        bool(confirming),
    )


class _Writer:
    """Writes events of one practice."""

    def __init__(self, connection: Connection, practice_id: PracticeId, reader: int) -> None:
        self._connection = connection
        self._practice_id = practice_id
        self._reader = reader

    async def write_matching(self, found: Sequence[_Found]) -> _Written:
        """Writes events on the messages that they are about. Raises `OutOfOrderError`, having written nothing."""
        ids, locked = await lock_matching(self._connection, self._practice_id, _told(found))
        return await self._write(self._placed(found, ids), locked)

    async def match(self, found: Sequence[_Found]) -> list[_Found]:
        """Looks the events' messages up."""
        return self._placed(found, await match_events(self._connection, self._practice_id, _told(found)))

    async def write(self, placed: Sequence[_Found]) -> _Written:
        """Writes events on messages that were looked up."""
        message_ids = [each.entry.message_id for each in placed if isinstance(each.entry, Matched)]
        return await self._write(placed, await lock_messages(self._connection, self._practice_id, message_ids))

    async def _write(self, placed: Sequence[_Found], locked: Mapping[MessageId, Locked]) -> _Written:
        """Messages are locked first, then what is parked, then patients, as everybody does."""
        connection, practice_id = self._connection, self._practice_id
        entries = [each.entry for each in placed if each.entry is not None]
        matched = [entry for entry in entries if isinstance(entry, Matched)]
        unmatched = [entry for entry in entries if isinstance(entry, Unmatched)]
        again = [entry for entry in entries if entry.source is EventSource.REPLAY]
        matched_now = await supersede_parked(connection, practice_id, again)
        if unmatched:
            await park(connection, practice_id, unmatched)
        appended = await append_events(connection, practice_id, matched, locked)
        return _Written(appended.events, matched_now, appended.messages, [each.delivery_id for each in unmatched])

    async def write_what_can_be(self, found: Sequence[_Found], refused: dict[UUID, list[Unreadable]]) -> list[_Written]:
        """As `match` and `write`, but for the events that the store refuses. Locks the rows of all of them first, since
        halves are not written in the order in which everybody locks."""

        def refuse(each: _Found, error: Exception) -> None:
            _log.exception("an event was set aside", practice=str(self._practice_id), delivery=str(each.delivery.id))
            problem = Unreadable(each.event.place or 0, f"refused by the store: {_name(error)}")
            refused[each.delivery.id].append(problem)

        parts = await _in_halves(self._connection, found, self.match, refuse)
        placed = sorted((each for part in parts for each in part), key=_order)
        message_ids = [each.entry.message_id for each in placed if isinstance(each.entry, Matched)]
        locked = await lock_messages(self._connection, self._practice_id, message_ids)
        await lock_patients(self._connection, self._practice_id, {message.recipient for message in locked.values()})
        return await _in_halves(self._connection, placed, self.write, refuse)

    def _placed(self, found: Sequence[_Found], message_ids: Sequence[MessageId | None]) -> list[_Found]:
        return [
            _Found(each.delivery, each.event, self._entry(each, message_id))
            for each, message_id in zip(found, message_ids, strict=True)
        ]

    def _entry(self, found: _Found, message_id: MessageId | None) -> Matched | Unmatched:
        delivery, event = found.delivery, found.event
        source = EventSource.REPLAY if delivery.again else EventSource.WEBHOOK
        if message_id is None:
            return Unmatched(delivery.account_id, delivery.id, event, source, delivery.received_at, self._reader)
        return Matched(message_id, event, source, delivery.received_at, delivery.id, self._reader, again=delivery.again)


def _told(found: Sequence[_Found]) -> list[tuple[AccountId, Event]]:
    return [(each.delivery.account_id, each.event) for each in found]


async def _in_halves(
    connection: Connection,
    items: Sequence[Item],
    act: Callable[[Sequence[Item]], Awaitable[Done]],
    refuse: Callable[[Item, Exception], None],
) -> list[Done]:
    """Acts on all items but those that can't be acted on, which are found by halving: of a thousand one costs twenty
    statements more, not a thousand."""
    if not items:
        return []
    try:
        async with connection.transaction():
            return [await act(items)]
    except Exception as error:
        if not _is_of_an_event(error):
            raise
        if len(items) == 1:
            refuse(items[0], error)
            return []
    middle = len(items) // 2
    return [
        *await _in_halves(connection, items[:middle], act, refuse),
        *await _in_halves(connection, items[middle:], act, refuse),
    ]


def _is_of_an_event(error: Exception) -> bool:
    """Whether an error can be one event's, rather than the connection's, the server's or ours."""
    if isinstance(error, asyncpg.PostgresError):
        return str(error.sqlstate)[:2] not in _NOT_THE_EVENT
    return isinstance(error, ValueError | OverflowError)


def _order(found: _Found) -> tuple[str, ...]:
    """Messages first, what is to be parked after them, in one order."""
    entry = found.entry
    return ("1", *parked_key(entry)) if isinstance(entry, Unmatched) else ("0", str(entry and entry.message_id))


def _read(delivery: Delivery) -> Reading:
    """The events of a stored webhook. A provider that raises, against its contract, sets the whole aside."""
    if delivery.body is None:
        return Reading(unreadable=[Unreadable(0, "sealed with a key that is not among SECRET_KEY")])
    try:
        reading = provider(delivery.provider).read_webhook(delivery.body, delivery.headers)
    except Exception as error:
        _log.exception("a webhook could not be read", provider=delivery.provider, delivery=str(delivery.id))
        return Reading(unreadable=[Unreadable(0, f"internal error: {_name(error)}")])
    if len(reading.events) == 1 and not reading.unreadable and reading.events[0].place is None:
        return replace(reading, events=[replace(reading.events[0], place=0)])
    return reading


def _applied(delivery: Delivery, reading: Reading, unmatched: int, refused: Sequence[Unreadable]) -> Applied:
    problems = sorted([*reading.unreadable, *refused], key=lambda problem: problem.index)
    told = [f"event {problem.index}: {problem.error}" for problem in problems[:_ERRORS_TOLD]]
    if len(problems) > _ERRORS_TOLD:
        told.append(f"and {len(problems) - _ERRORS_TOLD} more")
    return Applied(
        delivery.id,
        events=len(reading.events) - len(refused),
        unmatched=unmatched,
        error="; ".join(told) or None,
        readable=bool(reading.events) or not problems,
    )


def _last_seen(readings: Sequence[tuple[Delivery, Reading]]) -> dict[UUID, datetime]:
    seen: dict[UUID, datetime] = {}
    for delivery, reading in readings:
        if reading.events:
            account_id = delivery.account_id
            seen[account_id] = max(delivery.received_at, seen.get(account_id, delivery.received_at))
    return seen


def _name(error: Exception) -> str:
    return type(error).__name__
