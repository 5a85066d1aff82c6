"""Looks after ESP accounts: checks their keys once a day, and asks about messages that ought to have been answered.

It runs beside the sweeper, so that a slow ESP never delays sending. Accounts are claimed one by one: several workers
share them, and one that dies leaves its account to the next when its lease ends.
"""

import asyncio
import contextlib
import functools
from datetime import datetime, timedelta
from typing import Final

import structlog

from db import asking
from db.account_health import note_check
from db.asking import AccountRef, Look, Window
from db.errors import SealBroken
from db.pool import Database
from db.sealing import Sealer
from mail.errors import CredentialsIncomplete
from mail.providers import provider
from mail.providers.base import Askable, Checkable, CredentialsCheck, Provider
from mail.retry import LONGEST_ASKED
from workers.ask import Asker, Halt
from workers.errors import TransportError
from workers.jobs import Jobs
from workers.transports.http import HttpTransport

CHECK_EVERY: Final = timedelta(days=1)
_AT_ONCE: Final = 8
_MOST_AT_ONCE: Final = 100
_SECONDS_AT_ONCE: Final = 60
_LEASE: Final = timedelta(minutes=10)
_NOTHING_TO_DO: Final = timedelta(hours=6)
_log = structlog.get_logger("carepost.reconcile")


class Reconciler:
    """One a worker process. `after` is how long an answer may take before its ESP is asked for it, `look_every` how far
    apart the looks at one account are, `interval` how often it is seen which are due."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        jobs: Jobs,
        http: HttpTransport,
        *,
        after: timedelta,
        look_every: timedelta,
        interval: timedelta,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._jobs = jobs
        self._http = http
        self._asker = Asker(database, jobs, http)
        self._after = after
        self._look_every = look_every
        self._interval = interval
        self._looks: dict[AccountRef, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Looks after what is due until `stop`, and then lets the question in hand finish."""
        try:
            while not stop.is_set():
                try:
                    await self._begin_looks(stop)
                except Exception as error:
                    _log.warning("accounts could not be looked after; trying again", error=type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._interval.total_seconds())
            await asyncio.gather(*self._looks.values())
        finally:
            for task in self._looks.values():
                task.cancel()

    async def _begin_looks(self, stop: asyncio.Event) -> None:
        """Starts a look at every account that is due and isn't in hand, a few at once."""
        free = _AT_ONCE - len(self._looks)
        if free <= 0:
            return
        due = await asking.find_accounts_due(self._database.dispatcher, _AT_ONCE + free)
        for account in [each for each in due if each not in self._looks][:free]:
            task = asyncio.create_task(self._survive(account, stop))
            self._looks[account] = task
            task.add_done_callback(functools.partial(self._forget, account))

    def _forget(self, account: AccountRef, _: asyncio.Task[None]) -> None:
        del self._looks[account]

    async def _survive(self, account: AccountRef, stop: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(_LEASE.total_seconds()):
                await self.look_after(account, stop)
        except Exception as error:
            _log.exception(
                "an account could not be looked after", provider=account.provider, error=type(error).__name__
            )

    async def look_after(self, account: AccountRef, stop: asyncio.Event) -> None:
        """One look at an account, unless another worker has it."""
        try:
            async with self._database.tenant(account.practice_id) as connection:
                look = await asking.begin_look(connection, self._sealer, account, _LEASE)
        except SealBroken:
            _log.warning("credentials don't open with any of SECRET_KEY", account=str(account.account_id))
            async with self._database.tenant(account.practice_id) as connection:
                await asking.put_off_look(connection, account, self._look_every)
            return
        if look is None:
            return
        esp = provider(account.provider)
        try:
            esp.check_credentials(look.credentials)
        except CredentialsIncomplete as error:
            await self._note(look, CredentialsCheck(False, f"The account's credentials are incomplete. {error}"))
            next_look = _NOTHING_TO_DO
        else:
            next_look = await self._ask_esp(look, esp, stop)
        async with self._database.tenant(account.practice_id) as connection:
            await asking.end_look(connection, account, next_look)

    async def _ask_esp(self, look: Look, esp: Provider, stop: asyncio.Event) -> timedelta:
        """Checks the key and asks about messages, as far as the ESP can be asked; gives when to look again."""
        next_look = _NOTHING_TO_DO
        if isinstance(esp, Checkable):
            await self._check(look, esp)
            next_look = self._look_every
        if isinstance(esp, Askable):
            window = window_of(esp, self._after, look.begun_at)
            tally = await self._asker.ask_account(look, window, stop, _most(esp))
            next_look = timedelta() if tally.halt is Halt.ENOUGH else self._look_every
        return next_look

    async def _check(self, look: Look, esp: Checkable) -> None:
        """Has the ESP say what it makes of the key, once a day; one that can't be reached is tried at the next look."""
        if look.checked_at is not None and look.begun_at - look.checked_at < CHECK_EVERY:
            return
        try:
            check = await check_key(self._http, esp, look)
        except TransportError as error:
            _log.warning("a key could not be checked", provider=look.account.provider, error=error.failure.reason)
            return
        await self._note(look, check)

    async def _note(self, look: Look, check: CredentialsCheck) -> None:
        async with self._database.tenant(look.account.practice_id) as connection:
            await note_check(connection, look.account.practice_id, look.account.account_id, check, look.begun_at)
        await self._jobs.announce(look.account.practice_id)


def _most(esp: Provider) -> int:
    """How many messages are asked about in one look: what takes about a minute at the ESP's pace."""
    per_second = esp.capabilities.asking.per_second if esp.capabilities.asking else 1
    return max(1, min(_MOST_AT_ONCE, int(per_second * _SECONDS_AT_ONCE)))


async def check_key(http: HttpTransport, esp: Checkable, look: Look) -> CredentialsCheck:
    """What the ESP makes of an account's key. Raises `TransportUnavailable` and `TransportAmbiguous`."""
    return esp.read_check(await http.send(esp.check_request(look.credentials)))


def window_of(esp: Provider, after: timedelta, now: datetime) -> Window:
    """The messages that are worth a question: unanswered for `after`, and still known to the ESP."""
    known = timedelta(days=esp.capabilities.asking.days) if esp.capabilities.asking else LONGEST_ASKED
    return Window(now - min(known, LONGEST_ASKED), now - after)
