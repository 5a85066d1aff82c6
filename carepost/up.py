"""`carepost up`: API and worker on one machine, kept running."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping

import httpx2
from rich.console import Console

from carepost.config import Settings
from carepost.machine import Machine
from carepost.processes import Command, Supervisor, told_to_stop
from carepost.supervised import LISTENER, listen


async def run_up(settings: Settings) -> None:
    """Serves until told to stop."""
    stop = told_to_stop()
    with listen(settings.host, settings.port) as listener, Machine(at_port_of(listener, settings)) as machine:
        async with Supervisor() as supervisor:
            whole, environment = await machine.prepare(supervisor)
            await start_serving(supervisor, environment, listener, stop)
            Console(stderr=True).print(f"Carepost serves at {whole.url}. Stop it with Ctrl-C.", highlight=False)
            await stop.wait()


def at_port_of(listener: socket.socket, settings: Settings) -> Settings:
    """The settings with the port that is listened on."""
    return settings.model_copy(update={"port": listener.getsockname()[1]})


async def start_serving(
    supervisor: Supervisor, environment: Mapping[str, str], listener: socket.socket, stop: asyncio.Event
) -> None:
    """Starts API and worker; returns once requests are answered, or `stop` is set."""
    lent = listener.fileno()
    await supervisor.keep(Command("api", ["carepost", "api"], {**environment, LISTENER: str(lent)}, [lent]))
    await supervisor.keep(Command("worker", ["carepost", "worker"], environment))
    host, port = listener.getsockname()[:2]
    local = f"http://{'127.0.0.1' if host in {'0.0.0.0', '::'} else host}:{port}/readyz"  # noqa: S104 - compared
    async with httpx2.AsyncClient(timeout=2, trust_env=False) as client:
        while not stop.is_set():
            with contextlib.suppress(httpx2.TransportError):
                if (await client.get(local)).status_code == 200:
                    return
            await asyncio.sleep(0.05)
