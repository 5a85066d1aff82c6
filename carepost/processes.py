"""The processes of one machine, and who keeps them: started, restarted when they fall, stopped in order.

Every child's stdin is a pipe that we hold open: when we are killed, it ends, and so do they.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import structlog

_GRACE: Final = 25.0
_log = structlog.get_logger("carepost.processes")


class ChildFailed(Exception):
    """A process ended before it was ready; the text is for people."""


@dataclass(eq=False, slots=True)
class Child:
    """A running process; `ready` is its first line on stdout, where it prints one."""

    name: str
    process: asyncio.subprocess.Process
    ready: str = ""

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
    """Holds children; the last started is stopped first. Use as an async context manager."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._keepers: list[asyncio.Task[None]] = []
        self.stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stopping.set)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.set()
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for child in reversed(self._children):
            await child.stop()

    async def start(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], *, announces: bool = False
    ) -> Child:
        """Starts `python -m <arguments>`; with `announces`, waits for its first line. Raises `ChildFailed`."""
        child = await self._spawn(name, arguments, environment, announces=announces)
        self._children.append(child)
        return child

    async def keep(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts a process and starts it again whenever it ends by itself, more slowly each time."""
        child = await self._spawn(name, arguments, environment, announces=False)
        self._children.append(child)
        self._keepers.append(asyncio.create_task(self._restart(child, arguments, environment)))

    async def _restart(self, child: Child, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        delay = 0.5
        while True:
            started = asyncio.get_running_loop().time()
            code = await child.process.wait()
            if asyncio.get_running_loop().time() - started > 60:
                delay = 0.5
            _log.warning("a process ended and is started again", process=child.name, code=code)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 15)
            child.process = (await self._spawn(child.name, arguments, environment, announces=False)).process

    async def _spawn(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], *, announces: bool
    ) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if announces else None,
            env={**os.environ, **environment},
            # A session of its own: Ctrl-C in the terminal is for us alone, who stop the others in order.
            start_new_session=True,
        )
        child = Child(name, process)
        if announces:
            assert process.stdout is not None
            try:
                line = await asyncio.wait_for(process.stdout.readline(), 60)
            except TimeoutError:
                line = b""
            if not line:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 2)
                await child.stop()
                raise ChildFailed(f"{name} did not start (exit code {process.returncode}); see the lines above.")
            child.ready = line.decode().strip()
        return child
