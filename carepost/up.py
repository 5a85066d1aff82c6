"""`carepost up`: API and worker on one machine, kept running."""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from rich.console import Console

from carepost.config import Settings
from carepost.machine import Machine
from carepost.processes import Child, Command, Supervisor, told_to_stop
from carepost.supervised import LISTENER, listen


async def run_up(settings: Settings) -> None:
    """Serves until told to stop."""
    stop = told_to_stop()
    with listen(settings.host, settings.port) as listener, Machine(at_port_of(listener, settings)) as machine:
        async with Supervisor() as supervisor:
            service = await Service.begin(supervisor, listener)
            whole, environment = await machine.prepare(supervisor)
            await service.serve(environment, stop)
            Console(stderr=True).print(f"Carepost serves at {whole.url}. Stop it with Ctrl-C.", highlight=False)
            await stop.wait()


def at_port_of(listener: socket.socket, settings: Settings) -> Settings:
    """The settings with the port that is listened on."""
    return settings.model_copy(update={"port": listener.getsockname()[1]})


@dataclass(frozen=True, slots=True)
class Service:
    """API and worker. Most of their start is importing what they need: they begin with it at once, while servers start
    and the database is migrated, and serve when they are told the settings."""

    api: Child
    worker: Child
    listener: socket.socket

    @classmethod
    async def begin(cls, supervisor: Supervisor, listener: socket.socket) -> Self:
        """Starts both, with the listener lent to the API."""
        lent = listener.fileno()
        api = await supervisor.keep(Command("api", ["carepost", "api"], {LISTENER: str(lent)}, [lent]))
        worker = await supervisor.keep(Command("worker", ["carepost", "worker"]))
        return cls(api, worker, listener)

    async def serve(self, environment: Mapping[str, str], stop: asyncio.Event) -> None:
        """Has both serve; returns once requests are answered, or `stop` is set."""
        for child in (self.api, self.worker):
            child.tell(environment)
        host, port = self.listener.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
        while not stop.is_set():
            if await _is_ready(host, port):
                return
            await asyncio.sleep(0.02)


async def _is_ready(host: str, port: int) -> bool:
    """Whether /readyz answers 200. By hand: an HTTP client would take longer to import than all else that we do."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            try:
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except OSError:
        return False
