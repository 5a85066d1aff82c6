"""Confirms the subscriptions of webhooks, where an ESP wants that (SNS), once what it posted was applied.

The request is made from the stored webhook, which was verified when it came; nothing else is fetched.
"""

import asyncio
import contextlib
from datetime import timedelta
from typing import Final

import structlog

from db import confirmations
from db.confirmations import Unconfirmed
from db.pool import Database
from db.sealing import Sealer
from mail.advice import CONFIRMED_WITHIN
from mail.ids import PracticeId
from mail.providers import provider
from workers.errors import TransportError
from workers.jobs import Jobs
from workers.transports.http import HttpTransport

_LEASE: Final = timedelta(minutes=2)
_FIRST_DELAY: Final = timedelta(seconds=10)
_LONGEST_DELAY: Final = timedelta(hours=1)
_log = structlog.get_logger("carepost.confirm")


class Confirmer:
    """One a worker process; `wake` has it look at once."""

    def __init__(
        self, database: Database, sealer: Sealer, jobs: Jobs, http: HttpTransport, interval: timedelta
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._jobs = jobs
        self._http = http
        self._interval = interval
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """To be called once a webhook that wants it is committed."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Confirms what is due until `stop`."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                self._wake.clear()
                try:
                    await self.confirm_due(stop)
                except Exception as error:
                    _log.warning("subscriptions could not be confirmed; trying again", error=type(error).__name__)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._interval.total_seconds())
        finally:
            stopping.cancel()

    async def confirm_due(self, stop: asyncio.Event) -> None:
        """Confirms what is due in every practice and isn't in another worker's hands."""
        for practice_id in await confirmations.find_practices_to_confirm(self._database.dispatcher):
            while not stop.is_set():
                async with self._database.tenant(practice_id) as connection:
                    claimed = await confirmations.claim_confirmation(connection, self._sealer, practice_id, _LEASE)
                if claimed is None:
                    break
                await self._confirm(practice_id, claimed)

    async def _confirm(self, practice_id: PracticeId, claimed: Unconfirmed) -> None:
        delivery = claimed.delivery
        done = await self._request(claimed)
        async with self._database.tenant(practice_id) as connection:
            if done:
                await confirmations.confirmed(connection, practice_id, delivery)
            else:
                due_at = claimed.began_at + min(_FIRST_DELAY * 2 ** min(claimed.number - 1, 20), _LONGEST_DELAY)
                over = due_at > delivery.received_at + CONFIRMED_WITHIN
                await confirmations.not_confirmed(connection, practice_id, delivery, None if over else due_at)
        await self._jobs.announce(practice_id)

    async def _request(self, claimed: Unconfirmed) -> bool:
        """Makes the request; says whether the subscription is confirmed."""
        delivery = claimed.delivery
        if delivery.body is None:
            _log.warning("a subscription can't be confirmed: its webhook doesn't open with any of SECRET_KEY")
            return False
        try:
            request = provider(delivery.provider).read_webhook(delivery.body, delivery.headers).confirmation
            if request is None:
                return False
            response = await self._http.send(request)
        except TransportError as error:
            _log.warning("a subscription is not confirmed yet", provider=delivery.provider, error=error.failure.reason)
            return False
        if not 200 <= response.status < 300:
            _log.warning("a subscription is not confirmed yet", provider=delivery.provider, status=response.status)
            return False
        _log.info("a subscription is confirmed", provider=delivery.provider, account=str(delivery.account_id))
        return True
