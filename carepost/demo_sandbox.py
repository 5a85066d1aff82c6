"""The demo's sandbox, and the practice's accounts there: set up over HTTP, as an admin would at the real ones."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from api.addresses import webhook_url
from carepost.processes import Command, Supervisor
from carepost.sandbox import customer
from carepost.seed_accounts import DemoAccounts
from db.accounts import Account, set_webhook_secrets, update_account
from db.pool import Connection, Database
from db.practices import Practice
from db.sealing import Sealer

_USER: Final = "practice@northgate.example"
_PASSWORD: Final = "only-for-the-sandbox"  # noqa: S105 - of a server on this machine that takes mail nowhere


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox: where its vendors are, and how its mail server is reached."""

    url: str
    mail_server: Mapping[str, str]

    @property
    def environment(self) -> Mapping[str, str]:
        """What API and worker have to know: they reach nothing on this machine unless they may, and ask a vendor about
        silence sooner than in earnest."""
        return {
            "CAREPOST_SNS_URL": self.url,
            "CAREPOST_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128",
            "CAREPOST_ASK_AFTER_HOURS": "0.006",
            "CAREPOST_LOOK_SECONDS": "15",
        }


async def start_sandbox(supervisor: Supervisor, folder: Path) -> Sandbox:
    """Starts the vendors and the mail server; the folder keeps their keys."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    esp_arguments = ["--port", "0", "--key-file", str(folder / "esp.pem"), "--exit-with-stdin"]
    smtp_arguments = ["--port", "0", "--http-port", "0", "--starttls", str(folder), "--username", _USER]
    smtp_arguments += ["--password", _PASSWORD, "--exit-with-stdin"]
    esp, smtp = await asyncio.gather(
        supervisor.start(Command("sandbox ESP", ["carepost.sandbox.esp", *esp_arguments])),
        supervisor.start(Command("sandbox mail server", ["carepost.sandbox.smtp", *smtp_arguments])),
    )
    server = {
        "host": "localhost",
        "port": smtp.ready.split()[-2].rpartition(":")[2],
        "username": _USER,
        "ca": await asyncio.to_thread((folder / "certificate.pem").read_text),
    }
    return Sandbox(esp.ready.rpartition(" ")[2], server)


async def join(
    sandbox: Sandbox, database: Database, sealer: Sealer, practice: Practice, accounts: DemoAccounts, public_url: str
) -> None:
    """Gives every account its credentials there, and enters its webhook."""
    async with httpx2.AsyncClient(base_url=sandbox.url, trust_env=False) as client:
        joined = {
            account.id: await customer.join(
                client, str(account.provider), _hook(public_url, practice, account), f"carepost:{secrets.token_hex(16)}"
            )
            for account in accounts.esps
        }
    server = sandbox.mail_server
    own = {
        accounts.smtp.id: {**server, "security": "starttls", "password": _PASSWORD},
        accounts.gmail.id: {**server, "app_password": _PASSWORD},
    }
    async with database.tenant(practice.id) as connection:
        for account_id, there in joined.items():
            await set_webhook_secrets(connection, sealer, practice.id, account_id, [there.secret])
        for account in (*accounts.esps, accounts.smtp, accounts.gmail):
            credentials = joined[account.id].credentials if account.id in joined else own[account.id]
            await _point(connection, sealer, practice, account, credentials)


async def listen(sandbox: Sandbox, practice: Practice, accounts: DemoAccounts, public_url: str) -> None:
    """Subscribes where the vendor asks back, which the API then has to answer."""
    async with httpx2.AsyncClient(base_url=sandbox.url, trust_env=False) as client:
        for account in accounts.esps:
            await customer.listen(client, str(account.provider), _hook(public_url, practice, account))


def _hook(public_url: str, practice: Practice, account: Account) -> str:
    return webhook_url(public_url, str(account.provider), practice.id, account.id)


async def _point(
    connection: Connection, sealer: Sealer, practice: Practice, account: Account, credentials: Mapping[str, str]
) -> None:
    await update_account(
        connection,
        sealer,
        practice.id,
        account.id,
        name=None,
        sender_name=None,
        sender_email=None,
        reply_to=None,
        is_default=None,
        credentials=credentials,
    )
