"""Asks an ESP what became of the messages of one account, at the pace that it wants, and writes what it tells.

What is told is evidence like any other: it goes through `record_events`, with the keys that webhooks have.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Final

import structlog

from db import asking
from db.asking import Claimed, Look, Window
from db.events import Matched, record_events
from db.matching import match_events
from db.pool import Database
from mail.errors import CredentialsIncomplete
from mail.event import EventSource
from mail.providers import provider
from mail.providers.base import Askable, HttpRequest, NotTold, Question, Told
from mail.retry import ask_again
from workers.errors import TransportError
from workers.jobs import Jobs
from workers.transports.http import HttpTransport

REFUSED_PAUSE: Final = timedelta(days=1)
_LEASE: Final = timedelta(minutes=5)
_PATIENCE: Final = timedelta(seconds=20)
_TROUBLE_PAUSE: Final = timedelta(minutes=1)
_MOST_PAGES: Final = 10
_log = structlog.get_logger("carepost.ask")


class Halt(Enum):
    """Why no more is asked of an account for now."""

    DONE = "done"
    """There is nothing left to ask about."""
    ENOUGH = "enough"
    """As many were asked about as were wanted at once, or whoever wanted it was told to stop."""
    WAIT = "wait"
    """The ESP asked to wait, can't be reached, or is asked by others as often as it allows."""
    REFUSED = "refused"
    """The ESP refuses the key."""
    INCOMPLETE = "incomplete"
    """The account lacks a credential without which its ESP can't be asked."""


@dataclass(slots=True)
class Tally:
    """What came of asking: messages asked about, those of which the ESP told something, those that changed by it, and
    those that lack what it would know them by."""

    asked: int = 0
    told: int = 0
    changed: int = 0
    unknown: int = 0
    halt: Halt = Halt.DONE


@dataclass(frozen=True, slots=True)
class _Answer:
    told: bool = False
    news: bool = False
    halt: Halt | None = None


class Asker:
    """Asks, in any number of processes at once."""

    def __init__(self, database: Database, jobs: Jobs, http: HttpTransport) -> None:
        self._database = database
        self._jobs = jobs
        self._http = http

    async def ask_account(
        self,
        look: Look,
        window: Window,
        stop: asyncio.Event,
        most: int | None = None,
        on_asked: Callable[[], None] = lambda: None,
    ) -> Tally:
        """Asks about the messages of a window until none is left, `most` were asked about, or the ESP wants no more.
        `on_asked` is called after each."""
        tally = Tally()
        account = look.account
        try:
            provider(account.provider).check_credentials(look.credentials)
        except CredentialsIncomplete:
            tally.halt = Halt.INCOMPLETE
            return tally
        if look.wait > _PATIENCE:
            tally.halt = Halt.WAIT
            return tally
        while not stop.is_set() and (most is None or tally.asked + tally.unknown < most):
            async with self._database.tenant(account.practice_id) as connection:
                claimed = await asking.claim_question(connection, account, window, _LEASE)
            if claimed is None:
                tally.halt = Halt.DONE
                return tally
            if window.everything:
                window = replace(window, after=claimed.question.message_id)
            halt = await self._ask(look, claimed, tally)
            on_asked()
            if halt is not None:
                tally.halt = halt
                return tally
        tally.halt = Halt.ENOUGH
        return tally

    async def _ask(self, look: Look, claimed: Claimed, tally: Tally) -> Halt | None:
        """Asks about one message and notes that it was; says whether to stop asking."""
        esp = provider(look.account.provider)
        assert isinstance(esp, Askable)
        question = claimed.question
        request = esp.ask_request(question, look.credentials)
        answer = _Answer()
        if request is None:
            tally.unknown += 1
        else:
            if not await self._slot(look):
                await self._release(look, question)
                return Halt.WAIT
            answer = await self._converse(look, question, request)
            tally.asked += 1
            tally.told += answer.told
            tally.changed += answer.news
        again = ask_again(claimed.asks + 1)
        async with self._database.tenant(look.account.practice_id) as connection:
            if request is None:
                await asking.postpone_question(connection, look.account, question.message_id, again)
            else:
                await asking.finish_question(
                    connection, look.account, question.message_id, again, told=answer.told, news=answer.news
                )
        if answer.news:
            await self._jobs.announce(look.account.practice_id)
        return answer.halt

    async def _converse(self, look: Look, question: Question, request: HttpRequest) -> _Answer:
        """All pages of an answer; what was told before one failed is kept."""
        esp = provider(look.account.provider)
        assert isinstance(esp, Askable)
        told = news = False
        following: HttpRequest | None = request
        for page in range(_MOST_PAGES):
            if following is None or (page and not await self._slot(look)):
                break
            try:
                response = await self._http.send(following)
            except TransportError as error:
                _log.warning("an ESP could not be asked", provider=look.account.provider, error=error.failure.reason)
                return _Answer(told, news, await self._pause(look, _TROUBLE_PAUSE))
            answer = esp.read_told(response, question, look.credentials)
            if isinstance(answer, NotTold):
                return _Answer(told, news, await self._not_told(look, response.status, answer))
            told = told or bool(answer.reading.events)
            news = await self._record(look, answer) or news
            following = answer.more
        return _Answer(told, news)

    async def _record(self, look: Look, answer: Told) -> bool:
        """Writes the events; says whether any was new."""
        if answer.reading.unreadable:
            _log.warning(
                "part of an answer could not be read",
                provider=look.account.provider,
                errors=[part.error for part in answer.reading.unreadable][:5],
            )
        events = answer.reading.events
        if not events:
            return False
        received_at = await self._database.now()
        account = look.account
        async with self._database.tenant(account.practice_id) as connection:
            told = [(account.account_id, event) for event in events]
            found = await match_events(connection, account.practice_id, told)
            matched = [
                Matched(message_id, replace(event, message_id=message_id), EventSource.POLL, received_at)
                for event, message_id in zip(events, found, strict=True)
                if message_id is not None
            ]
            return bool(await record_events(connection, account.practice_id, matched))

    async def _not_told(self, look: Look, status: int, answer: NotTold) -> Halt | None:
        """What an ESP that tells nothing means for the next question; one that doesn't know this message may know
        others."""
        if status in {401, 403}:
            async with self._database.tenant(look.account.practice_id) as connection:
                await asking.note_asking_refused(connection, look, REFUSED_PAUSE)
            await self._jobs.announce(look.account.practice_id)
            return Halt.REFUSED
        if answer.after is not None or status == 429 or status >= 500:
            return await self._pause(look, answer.after or _TROUBLE_PAUSE)
        return None

    async def _slot(self, look: Look) -> bool:
        """Waits for our turn to ask; False when it is too far away."""
        capability = provider(look.account.provider).capabilities.asking
        pause = timedelta(seconds=1 / capability.per_second) if capability else timedelta(seconds=1)
        async with self._database.tenant(look.account.practice_id) as connection:
            wait = await asking.take_slot(connection, look.account, pause, max(_PATIENCE, pause))
        if wait is None:
            return False
        await asyncio.sleep(wait.total_seconds())
        return True

    async def _pause(self, look: Look, pause: timedelta) -> Halt:
        async with self._database.tenant(look.account.practice_id) as connection:
            await asking.pause_asking(connection, look.account, pause)
        return Halt.WAIT

    async def _release(self, look: Look, question: Question) -> None:
        async with self._database.tenant(look.account.practice_id) as connection:
            await asking.release_question(connection, look.account, question.message_id)
