"""`carepost demo`: a practice to look at, a sandbox in place of the ESP, and the page, on one machine."""

import asyncio
import contextlib
import socket
from datetime import timedelta
from typing import Final
from urllib.parse import quote

from rich.console import Console
from rich.text import Text

from api.roles import Role
from carepost.config import Settings
from carepost.demo_sandbox import join, start_sandbox
from carepost.demo_sandbox import listen as listen_to_vendors
from carepost.machine import Machine
from carepost.processes import Supervisor, told_to_stop
from carepost.seed import PRACTICE, seed
from carepost.seed_accounts import ensure_accounts
from carepost.supervised import PortTaken, listen
from carepost.tokens import make_token
from carepost.trickle import trickle as keep_moving
from carepost.up import Service, at_port_of
from db.pool import Database, PoolSize
from db.practices import Practice, list_practices
from db.sealing import Sealer

_OPEN: Final = {"log_level": "warning", "introspection": "true", "graphiql": "true", "queries_by_get": "true"}
"""What is set where nobody set it: open to whoever looks around."""
_QUERY: Final = """{
  patients(search: "Ada", first: 1) {
    nodes { name messages(first: 5) { nodes { subject statusLabel explanation { text nextStep } } } }
  }
}"""


async def run_demo(settings: Settings, *, trickle: bool) -> None:
    """Runs the demo until Ctrl-C."""
    stop = told_to_stop()
    console = Console(stderr=True)
    with _listen(settings, console) as listener, Machine(at_port_of(listener, settings)) as machine:
        console.print(f"Starting Carepost in {settings.data_dir} ...", highlight=False)
        async with Supervisor() as supervisor:
            service = await Service.begin(supervisor, listener)
            whole, environment = await machine.prepare(supervisor)
            database_url, sealer = whole.needed("database_url", ""), whole.sealer()
            async with Database(database_url, PoolSize(1, 2)) as database:
                practice = await _practice(database_url, database, sealer)
                accounts = await ensure_accounts(database, sealer, practice)
                sandbox = await start_sandbox(supervisor, whole.data_dir / "sandbox")
                await join(sandbox, database, sealer, practice, accounts, whole.url)
            given = {f"CAREPOST_{name.upper()}": _OPEN[name] for name in _OPEN.keys() - settings.model_fields_set}
            await service.serve({**environment, **given, **sandbox.environment}, stop)
            if not stop.is_set():
                await listen_to_vendors(sandbox, practice, accounts, whole.url)
                staff, admin = (
                    make_token(whole, practice.id, role, f"demo {role.value.lower()}", timedelta(days=7))
                    for role in (Role.STAFF, Role.ADMIN)
                )
                _welcome(console, whole.url, staff, admin)
                moving = asyncio.create_task(keep_moving(whole.url, staff)) if trickle else None
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


def _welcome(console: Console, url: str, staff: str, admin: str) -> None:
    link, admin_link = (f"{url}/#token={quote(token)}" for token in (staff, admin))
    text = Text.assemble(
        ("Carepost is ready. ", "bold"),
        f"Open this in a browser, choose Ada Opened, write her an email and watch:\n\n{link}\n\n",
        ("As an administrator: ", "bold"),
        f"{admin_link}\n\n",
        ("GraphQL, to try in a browser: ", "bold"),
        f"{url}/graphiql#token={quote(staff)}\n\n",
        ("By a program: ", "bold"),
        f"POST {url}/graphql with the header Authorization: Bearer <token> (carepost token --role STAFF), first:\n\n"
        f"{_QUERY}\n\n",
        "Ctrl-C stops it.",
        overflow="fold",
    )
    console.print(text, soft_wrap=True)
