"""`carepost` as a program: run to its end, or kept running and looked at from outside."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.support.stack import JWT_SECRET, Stack, until

PATIENCE = 60.0
"""The longest that a test waits for a process, in seconds."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A program that has ended."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.out.rstrip("\n").rpartition("\n")[2]


def environment(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """PATH and HOME, and what is given; HOME is the folder, so that nothing of the user's is read or left. The sandbox
    is on this machine."""
    allowed = {"CAREPOST_ALLOWED_NETWORKS": "127.0.0.0/8"}
    # A checkout that isn't the installed one is named by PYTHONPATH.
    tree = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return {"PATH": os.environ["PATH"], "HOME": str(folder), **tree, **allowed, **settings}


async def carepost(folder: Path, *arguments: str, **settings: str) -> Ran:
    """Runs `python -m carepost` in a folder until it ends; `settings` are its CAREPOST_ variables."""

    def run() -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "carepost", *arguments],
            cwd=folder,
            env=environment(folder, settings),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return await asyncio.to_thread(run)


class Program:
    """A running `python -m carepost`, in a session of its own; what it prints stands in a file."""

    def __init__(self, folder: Path, *arguments: str, stdin: int = subprocess.DEVNULL, **settings: str) -> None:
        self.folder = folder
        self.log = folder / f"{'-'.join(arguments)}-{len(list(folder.glob('*.log')))}.log"
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "carepost", *arguments],
                cwd=folder,
                env=environment(folder, settings),
                stdin=stdin,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def says(self, words: str, within: float = PATIENCE) -> str:
        """Everything printed, once these words are among it."""

        async def look() -> bool:
            assert words in self.printed or self.is_running, self.printed
            return words in self.printed

        await until(look, within)
        return self.printed

    async def ends(self, within: float = PATIENCE) -> int:
        """The exit code, once there is one."""

        async def ended() -> bool:
            return not self.is_running

        await until(ended, within)
        return self.process.wait()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(PATIENCE)


@contextlib.contextmanager
def program(folder: Path, *arguments: str, stdin: int = subprocess.DEVNULL, **settings: str) -> Iterator[Program]:
    """A running program; killed at the end if it is still there."""
    running = Program(folder, *arguments, stdin=stdin, **settings)
    try:
        yield running
    finally:
        running.kill()


@contextlib.asynccontextmanager
async def serving(folder: Path, **settings: str) -> AsyncIterator[tuple[Program, str]]:
    """A running `carepost api` that answers; gives its URL too."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with program(folder, "api", CAREPOST_PORT=str(port), CAREPOST_PUBLIC_URL=url, **settings) as running:
        await answers(running, f"{url}/readyz")
        yield running, url


async def answers(running: Program, url: str) -> None:
    """Waits until the URL answers 200."""
    async with httpx2.AsyncClient(trust_env=False) as client:

        async def look() -> bool:
            assert running.is_running, running.printed
            try:
                return bool((await client.get(url)).status_code == 200)
            except httpx2.TransportError:
                return False

        await until(look, PATIENCE)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes_in(folder: Path) -> dict[int, str]:
    """Pid and command line of every process that works in the folder, or below: servers that have left their parents
    too."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder.resolve()):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


async def nobody_left_in(folder: Path, within: float = 15.0) -> None:
    """Waits until no process works in the folder any more."""

    async def gone() -> bool:
        return not processes_in(folder)

    try:
        await until(gone, within)
    except TimeoutError:
        raise AssertionError(f"left behind: {processes_in(folder)}") from None


def settings_for(stack: Stack, *keys: str) -> dict[str, str]:
    """What processes on the servers of a test are told; the first key seals."""
    return {
        "CAREPOST_DATABASE_URL": stack.database_url,
        "CAREPOST_REDIS_URL": stack.redis_url,
        "CAREPOST_JWT_SECRET": JWT_SECRET,
        "CAREPOST_SECRET_KEY": ",".join(keys),
        "CAREPOST_SWEEP_SECONDS": "1",
    }
