"""The processes of one machine, and who keeps them: started, restarted when they fall, stopped in order.

Every child's stdin is a pipe that we hold open: when we are killed, it ends, and so do they.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

import structlog

from carepost.supervised import SUPERVISED, UNTOLD, on_end_of_stdin

_GRACE: Final = 25.0
_log = structlog.get_logger("carepost.processes")


def told_to_stop() -> asyncio.Event:
    """Is set by Ctrl-C, SIGTERM or the end of a supervisor's pipe, from now on. Called before anything is started, so
    that whenever it comes, what was started is stopped in order."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)

    def leave() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(told.set)

    on_end_of_stdin(leave)
    return told


class ChildFailed(Exception):
    """A process ended before it was ready; the text is for people."""


@dataclass(frozen=True, slots=True)
class Command:
    """`python -m <arguments>`; `lend` are descriptors of ours that the process gets under the same numbers."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    lend: Sequence[int] = ()


@dataclass(eq=False, slots=True)
class Child:
    """A running process; `ready` is its first line on stdout, where it says one, `told` what it was told."""

    name: str
    process: asyncio.subprocess.Process
    ready: str = ""
    told: bytes = b""

    def tell(self, settings: Mapping[str, str]) -> None:
        """Gives a server that is kept the rest of its settings, now and whenever it is started again."""
        self.told = json.dumps(settings).encode() + b"\n"
        self._say()

    def started_again(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        if self.told:
            self._say()

    def _say(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(self.told)

    async def stop(self) -> None:
        """Asks it to stop, and makes it after a while."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), _GRACE)
        except TimeoutError:
            _log.warning("a process did not stop and was killed", process=self.name)
            self.process.kill()
            await self.process.wait()


class Supervisor:
    """Holds children. Those that are kept are stopped before what was started, which they need; of either the last
    first. Use as an async context manager."""

    def __init__(self) -> None:
        self._started: list[Child] = []
        self._kept: list[Child] = []
        self._keepers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for child in [*reversed(self._kept), *reversed(self._started)]:
            await child.stop()

    async def start(self, command: Command) -> Child:
        """Starts a process that says when it is ready. Raises `ChildFailed`."""
        process = await _spawn(command, stdout=asyncio.subprocess.PIPE)
        child = Child(command.name, process)
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), 60)
        except TimeoutError:
            line = b""
        if not line:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 2)
            await child.stop()
            raise ChildFailed(f"{command.name} did not start (exit code {process.returncode}); see the lines above.")
        child.ready = line.decode().strip()
        self._started.append(child)
        return child

    async def keep(self, command: Command) -> Child:
        """Starts a server and starts it again whenever it ends by itself, more slowly each time. It imports what it
        needs, and serves once it is told its settings (`Child.tell`)."""
        command = replace(command, environment={**command.environment, SUPERVISED: "1", UNTOLD: "1"})
        child = Child(command.name, await _spawn(command))
        self._kept.append(child)
        self._keepers.append(asyncio.create_task(_restart(child, command)))
        return child


async def _restart(child: Child, command: Command) -> None:
    delay = 0.5
    while True:
        started = asyncio.get_running_loop().time()
        code = await child.process.wait()
        if asyncio.get_running_loop().time() - started > 60:
            delay = 0.5
        _log.warning("a process ended and is started again", process=child.name, code=code)
        await asyncio.sleep(delay)
        delay = min(delay * 2, 15)
        child.started_again(await _spawn(command))


async def _spawn(command: Command, stdout: int | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *command.arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=stdout,
        env={**os.environ, **command.environment},
        pass_fds=command.lend,
        # A session of its own: Ctrl-C in the terminal is for us alone, who stop the others in order.
        start_new_session=True,
    )
