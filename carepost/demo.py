"""`carepost demo`: a practice to look at, a sandbox in place of the ESP, and the page, on one machine."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from urllib.parse import quote

import httpx2
from rich.console import Console
from rich.text import Text

from api.addresses import webhook_url
from api.auth import Role
from carepost.config import Settings
from carepost.machine import Machine
from carepost.processes import Command, Supervisor, told_to_stop
from carepost.seed import PRACTICE, seed
from carepost.seed_texts import LETTERS
from carepost.serve import PortTaken, listen
from carepost.tokens import make_token
from carepost.up import at_port_of, start_serving
from db.accounts import list_accounts, set_webhook_secrets, update_account
from db.pool import Database, PoolSize
from db.practices import Practice, list_practices
from db.sealing import Sealer
from mail.status import AccountKind

_USER: Final = "practice@northgate.example"
_PASSWORD: Final = "only-for-the-sandbox"  # noqa: S105 - of a server on this machine that takes mail nowhere
_API_KEY: Final = "SG.sandbox"
_PAUSE: Final = (6.0, 18.0)

_QUERY: Final = """{
  patients(search: "Ada", first: 1) {
    nodes { name messages(first: 5) { nodes { subject statusLabel explanation { text nextStep } } } }
  }
}"""
_SEND: Final = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id } errors { field message code } }
}"""
_SANDBOX: Final = {"CAREPOST_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128"}
_PATIENTS: Final = "{ patients(first: 100) { nodes { id name } } }"


async def run_demo(settings: Settings, *, trickle: bool) -> None:
    """Runs the demo until Ctrl-C."""
    stop = told_to_stop()
    console = Console(stderr=True)
    with _listen(settings, console) as listener, Machine(at_port_of(listener, settings)) as machine:
        console.print(f"Starting Carepost in {settings.data_dir} ...", highlight=False)
        async with Supervisor() as supervisor:
            whole, environment = await machine.prepare(supervisor)
            database_url, sealer = whole.needed("database_url", ""), whole.sealer()
            async with Database(database_url, PoolSize(1, 2)) as database:
                practice = await _practice(database_url, database, sealer)
                await _start_sandbox(supervisor, database, sealer, practice, whole)
            quiet = {"CAREPOST_LOG_LEVEL": "warning"} if "log_level" not in settings.model_fields_set else {}
            await start_serving(supervisor, {**environment, **quiet, **_SANDBOX}, listener, stop)
            if not stop.is_set():
                staff, admin = (
                    make_token(whole, practice.id, role, f"demo {role.value.lower()}", timedelta(days=7))
                    for role in (Role.STAFF, Role.ADMIN)
                )
                _welcome(console, whole.url, staff, admin)
                moving = asyncio.create_task(_trickle(whole.url, staff)) if trickle else None
                await stop.wait()
                if moving:
                    moving.cancel()
                    await asyncio.gather(moving, return_exceptions=True)
            console.print("Stopping ...")
    console.print("Stopped. `make demo` goes on where you left off; remove the folder to begin anew.", soft_wrap=True)


def _listen(settings: Settings, console: Console) -> socket.socket:
    """Listens on the port asked for, else, unless it was asked for, on the next one that is free."""
    if "port" in settings.model_fields_set:
        return listen(settings.host, settings.port)
    for port in range(settings.port, settings.port + 20):
        with contextlib.suppress(PortTaken):
            listener = listen(settings.host, port)
            if port != settings.port:
                console.print(f"Port {settings.port} is taken by another program; taking {port} instead.")
            return listener
    raise PortTaken(f"Ports {settings.port} to {settings.port + 19} are taken. Choose another: CAREPOST_PORT=8080")


async def _practice(url: str, database: Database, sealer: Sealer) -> Practice:
    """The demo practice, written on the first start."""
    for practice in await list_practices(url):
        if practice.name == PRACTICE:
            return practice
    return await seed(url, database, sealer)


async def _start_sandbox(
    supervisor: Supervisor, database: Database, sealer: Sealer, practice: Practice, settings: Settings
) -> None:
    """Starts the sandbox ESP and mail server, and points the practice's accounts at them, over HTTP as an admin
    would at the real ones."""
    accounts = {account.kind: account for account in await list_accounts(database.app, practice.id)}
    esp = accounts[AccountKind.ESP]
    folder = settings.data_dir / "sandbox"
    folder.mkdir(exist_ok=True)
    hook = webhook_url(settings.url, "sendgrid", practice.id, esp.id)
    esp_arguments = ["--port", "0", "--webhook-url", hook, "--key-file", str(folder / "esp.pem"), "--exit-with-stdin"]
    smtp_arguments = ["--port", "0", "--http-port", "0", "--starttls", str(folder), "--username", _USER]
    smtp_arguments += ["--password", _PASSWORD, "--exit-with-stdin"]
    esp_process, smtp_process = await asyncio.gather(
        supervisor.start(Command("sandbox ESP", ["carepost.sandbox.esp", *esp_arguments])),
        supervisor.start(Command("sandbox mail server", ["carepost.sandbox.smtp", *smtp_arguments])),
    )
    esp_url = esp_process.ready.rpartition(" ")[2]
    smtp_port = smtp_process.ready.split()[-2].rpartition(":")[2]
    async with httpx2.AsyncClient(base_url=esp_url, headers={"authorization": f"Bearer {_API_KEY}"}) as client:
        answer = await client.get("/v3/user/webhooks/event/settings/signed")
        key = answer.raise_for_status().json()["public_key"]
    server = {
        "host": "localhost",
        "port": smtp_port,
        "username": _USER,
        "ca": (folder / "certificate.pem").read_text(),
    }
    credentials: Mapping[AccountKind, dict[str, str]] = {
        AccountKind.ESP: {"api_key": _API_KEY, "base_url": esp_url},
        AccountKind.SMTP: {**server, "security": "starttls", "password": _PASSWORD},
        AccountKind.GMAIL: {**server, "app_password": _PASSWORD},
    }
    async with database.tenant(practice.id) as connection:
        await set_webhook_secrets(connection, sealer, practice.id, esp.id, [key])
        for kind, account in accounts.items():
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
                credentials=credentials[kind],
            )


async def _trickle(url: str, token: str) -> None:
    """Keeps new emails moving, as a front-end would: by GraphQL."""
    headers = {"authorization": f"Bearer {token}"}
    chance = random.Random()  # noqa: S311 - a story
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=10, trust_env=False) as client:
        people = (await client.post("/graphql", json={"query": _PATIENTS})).json()["data"]["patients"]["nodes"]
        while True:
            patient, letter = chance.choice(people), chance.choice(LETTERS)
            text = letter.text.format(name=patient["name"], practice=PRACTICE)
            wish = {"patientId": patient["id"], "subject": letter.subject, "text": text}
            with contextlib.suppress(httpx2.TransportError):
                await client.post("/graphql", json={"query": _SEND, "variables": {"input": wish}})
            await asyncio.sleep(chance.uniform(*_PAUSE))


def _welcome(console: Console, url: str, staff: str, admin: str) -> None:
    link, admin_link = (f"{url}/#token={quote(token)}" for token in (staff, admin))
    text = Text.assemble(
        ("Carepost is ready. ", "bold"),
        f"Open this in a browser, choose Ada Opened, write her an email and watch:\n\n{link}\n\n",
        ("As an administrator: ", "bold"),
        f"{admin_link}\n\n",
        ("GraphQL: ", "bold"),
        f"POST {url}/graphql with the header Authorization: Bearer <token> (carepost token --role STAFF), first:\n\n"
        f"{_QUERY}\n\n",
        "Ctrl-C stops it.",
        overflow="fold",
    )
    console.print(text, soft_wrap=True)
