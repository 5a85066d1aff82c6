"""`carepost up`: API and worker on one machine, kept running."""

import asyncio
import contextlib
from collections.abc import Mapping

import httpx2
from rich.console import Console

from carepost.config import Settings
from carepost.machine import Machine
from carepost.processes import Supervisor
from carepost.serve import check_port


async def run_up(settings: Settings) -> None:
    """Serves until told to stop."""
    check_port(settings.host, settings.port)
    with Machine(settings) as machine:
        async with Supervisor() as supervisor:
            whole, environment = await machine.prepare(supervisor)
            await start_serving(supervisor, environment, whole.url)
            Console(stderr=True).print(f"Carepost serves at {whole.url}. Stop it with Ctrl-C.", highlight=False)
            await supervisor.stopping.wait()


async def start_serving(supervisor: Supervisor, environment: Mapping[str, str], url: str) -> None:
    """Starts API and worker; returns once requests are answered, or Ctrl-C came."""
    await supervisor.keep("api", ["carepost", "api"], environment)
    await supervisor.keep("worker", ["carepost", "worker"], environment)
    host, port = environment["CAREPOST_HOST"], environment["CAREPOST_PORT"]
    local = f"http://{'127.0.0.1' if host in {'0.0.0.0', '::'} else host}:{port}/readyz"  # noqa: S104 - compared
    async with httpx2.AsyncClient(timeout=2, trust_env=False) as client:
        while not supervisor.stopping.is_set():
            with contextlib.suppress(httpx2.TransportError):
                if (await client.get(local)).status_code == 200:
                    return
            await asyncio.sleep(0.05)
