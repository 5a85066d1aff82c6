"""Applies the inbox: reads stored webhooks, matches their events to messages, writes evidence and status.

One transaction holds a batch: the events, the statuses and the mark on the webhook, so that each webhook is applied
exactly once however often it is tried.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from db import inbox
from db.confirmations import want_confirmation
from db.events import Matched, record_events
from db.inbox import Applied, Delivery
from db.parked import Unmatched, find_practices_with_parked, join_parked, match_events, park
from db.pool import Connection, Database
from db.sealing import Sealer
from mail.event import Event, EventSource
from mail.ids import AccountId, MessageId, PracticeId
from mail.providers import provider
from mail.providers.base import Reading, Unreadable
from workers.jobs import Jobs

BATCH: Final = 200
_log = structlog.get_logger("carepost.apply")


@dataclass(frozen=True, slots=True)
class _Read:
    """A stored webhook and what was read in it."""

    delivery: Delivery
    reading: Reading


class Applier:
    """Works the inbox off, in any number of processes at once."""

    def __init__(
        self, database: Database, sealer: Sealer, jobs: Jobs, wants_confirmation: Callable[[], None] = lambda: None
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._jobs = jobs
        self._wants_confirmation = wants_confirmation
        self._confirmation_wanted = False

    async def apply_pending(self) -> int:
        """Applies what is pending in every practice and isn't in another worker's hands; returns how many webhooks."""
        total = 0
        while True:
            applied = 0
            for practice_id in await inbox.find_practices_with_pending(self._database.dispatcher):
                try:
                    applied += await self._apply_practice(practice_id)
                except Exception:
                    _log.exception("the inbox of a practice could not be applied", practice=str(practice_id))
            if not applied:
                return total
            total += applied

    async def join_parked(self) -> None:
        """Moves parked events whose message has appeared since."""
        for practice_id in await find_practices_with_parked(self._database.dispatcher):
            async with self._database.tenant(practice_id) as connection:
                changed = await join_parked(connection, practice_id)
            if changed:
                await self._jobs.announce(practice_id)

    async def _apply_practice(self, practice_id: PracticeId) -> int:
        try:
            async with self._database.tenant(practice_id) as connection:
                count, changed = await self._apply_batch(connection, practice_id, BATCH, careful=False)
        except Exception:
            _log.exception("a batch could not be applied; going one by one", practice=str(practice_id))
            async with self._database.tenant(practice_id) as connection:
                count, changed = await self._apply_batch(connection, practice_id, 1, careful=True)
        if changed or count:
            # Also when no message changed: what is unreadable or parked shows in the health of the account.
            await self._jobs.announce(practice_id)
        if self._confirmation_wanted:
            self._confirmation_wanted = False
            self._wants_confirmation()
        return count

    async def _apply_batch(
        self, connection: Connection, practice_id: PracticeId, limit: int, *, careful: bool
    ) -> tuple[int, set[MessageId]]:
        """The webhooks applied, and the messages that changed. `careful` isolates an event that the store refuses."""
        deliveries = await inbox.take_pending(connection, self._sealer, practice_id, limit)
        reads = [_Read(delivery, _read(delivery)) for delivery in deliveries]
        matched, unmatched = await _match(connection, practice_id, reads)
        refused: dict[UUID, list[Unreadable]] = defaultdict(list)
        if careful:
            changed: set[MessageId] = set()
            entries: list[Matched | Unmatched] = [*matched, *unmatched]
            for index, entry in enumerate(entries):
                try:
                    async with connection.transaction():
                        if isinstance(entry, Matched):
                            changed |= await record_events(connection, practice_id, [entry])
                        else:
                            await park(connection, practice_id, [entry])
                except Exception as error:
                    _log.exception("an event was set aside", practice=str(practice_id))
                    refused[reads[0].delivery.id].append(Unreadable(index, f"refused by the store: {_name(error)}"))
        else:
            changed = await record_events(connection, practice_id, matched)
            await park(connection, practice_id, unmatched)
        await inbox.touch_accounts(connection, practice_id, _last_seen(reads))
        lost: Mapping[UUID, int] = _count(unmatched)
        await inbox.mark_applied(
            connection,
            practice_id,
            [_applied(entry, lost.get(entry.delivery.id, 0), refused[entry.delivery.id]) for entry in reads],
        )
        wanted = [entry.delivery.id for entry in reads if entry.reading.confirmation is not None]
        await want_confirmation(connection, practice_id, wanted)
        self._confirmation_wanted |= bool(wanted)
        return len(reads), changed


def _read(delivery: Delivery) -> Reading:
    """The events of a stored webhook. A provider that raises, against its contract, sets the whole aside."""
    if delivery.body is None:
        return Reading(unreadable=[Unreadable(0, "sealed with a key that is not among SECRET_KEY")])
    try:
        return provider(delivery.provider).read_webhook(delivery.body, delivery.headers)
    except Exception as error:
        _log.exception("a webhook could not be read", provider=delivery.provider, delivery=str(delivery.id))
        return Reading(unreadable=[Unreadable(0, f"internal error: {_name(error)}")])


async def _match(
    connection: Connection, practice_id: PracticeId, reads: Sequence[_Read]
) -> tuple[list[Matched], list[Unmatched]]:
    """Splits the events of a batch by whether their message is known, one look-up for each account."""
    by_account: dict[AccountId, list[tuple[Delivery, Event]]] = defaultdict(list)
    for entry in reads:
        for event in entry.reading.events:
            by_account[entry.delivery.account_id].append((entry.delivery, event))
    matched: list[Matched] = []
    unmatched: list[Unmatched] = []
    for account_id, pairs in by_account.items():
        found = await match_events(connection, practice_id, account_id, [event for _, event in pairs])
        for (delivery, event), message_id in zip(pairs, found, strict=True):
            if message_id is None:
                unmatched.append(Unmatched(account_id, delivery.id, event, EventSource.WEBHOOK, delivery.received_at))
            else:
                matched.append(
                    Matched(
                        message_id,
                        replace(event, message_id=message_id),
                        EventSource.WEBHOOK,
                        delivery.received_at,
                    )
                )
    return matched, unmatched


def _applied(entry: _Read, unmatched: int, refused: Sequence[Unreadable]) -> Applied:
    problems = [*entry.reading.unreadable, *refused]
    error = "; ".join(f"event {problem.index}: {problem.error}" for problem in problems[:20]) or None
    return Applied(
        entry.delivery.id,
        events=len(entry.reading.events) - len(refused),
        unmatched=unmatched,
        error=error,
        readable=bool(entry.reading.events) or not problems,
    )


def _last_seen(reads: Sequence[_Read]) -> dict[UUID, datetime]:
    seen: dict[UUID, datetime] = {}
    for entry in reads:
        if entry.reading.events:
            account_id = entry.delivery.account_id
            seen[account_id] = max(entry.delivery.received_at, seen.get(account_id, entry.delivery.received_at))
    return seen


def _count(unmatched: Sequence[Unmatched]) -> dict[UUID, int]:
    counts: dict[UUID, int] = defaultdict(int)
    for entry in unmatched:
        counts[entry.delivery_id] += 1
    return counts


def _name(error: Exception) -> str:
    return type(error).__name__
