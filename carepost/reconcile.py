"""`carepost reconcile`: asks ESPs about unanswered messages now, whatever the pauses between questions."""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from carepost.chosen import Choice, Chosen, chosen_accounts
from carepost.config import Settings
from db import asking
from db.asking import AccountRef, Window
from db.migrate import check_migrated
from db.pool import Database
from db.sealing import Sealer
from mail.providers import provider
from mail.providers.base import Askable
from workers import jobs
from workers.ask import Asker, Halt, Tally
from workers.jobs import Jobs
from workers.reconcile import window_of
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Outgoing

_ENDS: Final = {
    Halt.DONE: "done",
    Halt.ENOUGH: "stopped",
    Halt.WAIT: "the ESP can't be reached or asks to wait: again later",
    Halt.REFUSED: "the ESP refuses the key",
    Halt.INCOMPLETE: "the account's credentials are incomplete",
}


@dataclass(frozen=True, slots=True)
class Days:
    """From the first to the last of these days of the practice, both included; None for as long as the ESP knows."""

    first: date | None = None
    last: date | None = None

    def of(self, chosen: Chosen, esp_window: Window) -> Window:
        """The messages sent on these days that the ESP may still know."""
        zone = chosen.practice.zone
        since, until = esp_window.since, esp_window.until
        if self.first is not None:
            since = max(since, datetime.combine(self.first, time(), zone))
        if self.last is not None:
            until = min(until, datetime.combine(self.last + timedelta(days=1), time(), zone))
        return Window(since, until, everything=True)


async def run_reconcile(settings: Settings, choice: Choice, days: Days, *, dry_run: bool) -> bool:
    """Asks and prints a summary; False when an account could not be asked to the end."""
    url = settings.needed_database_url()
    client = jobs.connect(settings.needed("redis_url", "redis://valkey.example.com:6379"))
    table = Table("Account", "ESP", "Unanswered", "Asked", "Told", "Changed", "")
    whole = True
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.aclose, close_connection_pool=True)
        database = await stack.enter_async_context(Database(url))
        async with database.app.acquire() as connection:
            await check_migrated(connection)
        http = await stack.enter_async_context(
            HttpTransport(Outgoing(settings.allowed_networks), sns_url=settings.sns_url)
        )
        asker = Asker(database, Jobs(client, enabled=settings.enqueue), http)
        found = await chosen_accounts(url, database, choice)
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        for chosen in found:
            name = chosen.account.provider
            esp = provider(name) if name else None
            label = esp.label if esp else chosen.account.kind.name
            if name is None or esp is None or not isinstance(esp, Askable):
                table.add_row(chosen.account.name, label, "", "", "", "", "can't be asked")
                continue
            ref = AccountRef(chosen.practice.id, chosen.account.id, name)
            window = days.of(chosen, window_of(esp, timedelta(), await database.now()))
            async with database.tenant(chosen.practice.id) as connection:
                count = await asking.count_questions(connection, ref, window)
            if dry_run:
                table.add_row(chosen.account.name, label, str(count), "", "", "", "would be asked")
                continue
            task = progress.add_task(chosen.account.name, total=count)
            tally = await _ask(
                database, settings.sealer(), asker, ref, window, functools.partial(progress.advance, task)
            )
            whole &= tally.halt is Halt.DONE
            table.add_row(
                chosen.account.name,
                label,
                str(count),
                str(tally.asked),
                str(tally.told),
                str(tally.changed),
                _ENDS[tally.halt] + (f"; {tally.unknown} lack the ESP's id" if tally.unknown else ""),
            )
    Console().print(table)
    return whole


async def _ask(
    database: Database, sealer: Sealer, asker: Asker, ref: AccountRef, window: Window, on_asked: Callable[[], None]
) -> Tally:
    async with database.tenant(ref.practice_id) as connection:
        look = await asking.open_look(connection, sealer, ref)
    return await asker.ask_account(look, window, asyncio.Event(), on_asked=on_asked)
