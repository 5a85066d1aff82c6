"""`carepost doctor`: checks accounts from end to end and says what to do."""

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_network
from typing import Final, Self

from rich.console import Console
from rich.table import Table

from api.addresses import webhook_url
from carepost.chosen import Choice, Chosen, chosen_accounts
from carepost.config import Settings
from carepost.doctor.checks import Check, Outcome, failed
from carepost.doctor.domain import Records, check_domain
from carepost.doctor.esp import check_key, check_notes, check_webhook
from carepost.doctor.mail_server import check_mail_server
from db.accounts import read_credentials
from db.errors import SealBroken
from db.migrate import check_migrated
from db.pool import Database
from mail.providers import PROVIDERS
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Outgoing
from workers.transports.smtp import SmtpTransport

_EVERYWHERE: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_PATIENCE: Final = timedelta(seconds=20)
_STYLES: Final = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "bold red"}


class Doctor:
    """Holds the connections. Use as an async context manager."""

    def __init__(self, settings: Settings, *, patience: timedelta = _PATIENCE) -> None:
        self._settings = settings
        self._patience = patience

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        settings, enter = self._settings, stack.enter_async_context
        self._url = settings.needed_database_url()
        self._sealer = settings.sealer()
        outgoing = Outgoing(settings.allowed_networks)
        self.database = await enter(Database(self._url))
        self._http = await enter(HttpTransport(outgoing, sns_url=settings.sns_url))
        self._own = await enter(HttpTransport(Outgoing(_EVERYWHERE)))
        self._smtp = await enter(SmtpTransport(self._http, outgoing))
        self._records = Records(settings.dns_server)
        async with self.database.app.acquire() as connection:
            await check_migrated(connection)

    async def __aexit__(self, *details: object) -> None:
        await self._stack.aclose()

    async def accounts(self, choice: Choice) -> Sequence[Chosen]:
        return await chosen_accounts(self._url, self.database, choice)

    async def examine(self, chosen: Chosen) -> Sequence[Check]:
        """Every check of an account."""
        account, practice_id = chosen.account, chosen.practice.id
        esp = PROVIDERS.get(account.provider or "")
        if account.provider is not None and esp is None:
            return [failed("Provider", f"This program doesn't know {account.provider}.")]
        try:
            async with self.database.tenant(practice_id) as connection:
                credentials = await read_credentials(connection, self._sealer, practice_id, account.id)
        except SealBroken:
            return [failed("Credentials", "They don't open with any of SECRET_KEY. Enter them anew.")]
        found: list[Check] = []
        if esp is None:
            found += await check_mail_server(self._smtp, account.kind, credentials)
        else:
            found += await check_key(self._http, esp, credentials)
            url = webhook_url(self._settings.url, esp.name, practice_id, account.id)
            found += await check_webhook(
                self.database, self._sealer, self._own, self._http, esp, chosen, url, credentials, self._patience
            )
        label = esp.label if esp else "the mail server"
        found += await check_domain(self._records, account.sender.domain, label, esp.set_up if esp else None)
        silence = timedelta(hours=self._settings.silence_hours)
        return [*found, *await check_notes(self.database, esp, chosen, silence)]


async def run_doctor(settings: Settings, choice: Choice) -> bool:
    """Prints a table for each account; False when a check failed."""
    healthy = True
    console = Console()
    async with Doctor(settings) as doctor:
        for chosen in await doctor.accounts(choice):
            checks = await doctor.examine(chosen)
            table = Table("Check", "", "What was found", title=f"{chosen.account.name} ({chosen.practice.name})")
            for check in checks:
                style = _STYLES[check.outcome]
                table.add_row(check.name, f"[{style}]{check.outcome.value}[/]", check.text.replace("[", r"\["))
            console.print(table)
            healthy &= all(check.outcome is not Outcome.FAILED for check in checks)
    return healthy
