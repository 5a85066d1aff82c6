"""Process: a program of the house, which is started, told, killed, and whose clock may be wrong."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from carepost.supervised import SUPERVISED
from tests.support.stack import until

PATIENCE = 90.0
"""The longest that anything may take to be well again, in seconds; the machine may be busy."""


def tree() -> dict[str, str]:
    """Where Python finds the program under test, when it isn't the one installed."""
    return {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}


class Process:
    """A program of the house. Its stdin is a pipe of ours, so that it ends with us; what it prints stands in a file."""

    def __init__(self, name: str, folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            SUPERVISED: "1",
            **tree(),
            **environment,
        }
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.ahead: float | None = None
        """Seconds by which its wall clock is wrong when it starts; None leaves it its machine's."""
        self._clock: int | None = None

    def start(self) -> None:
        self.kill()
        before: list[str] = []
        theirs = []
        if self.ahead is not None:
            end, self._clock = os.pipe()
            theirs = [end]
            before = ["tests.faults.clocked", str(end), str(self.ahead)]
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *before, *self._arguments],
                pass_fds=theirs,
                cwd=self._folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        for end in theirs:
            os.close(end)

    def set_clock(self, ahead: float) -> None:
        """Sets its wall clock, while it runs, so many seconds ahead; it must have been started with one of its own."""
        assert self._clock is not None
        os.write(self._clock, f"{ahead}\n".encode())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def printed(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tell(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it at once; nothing when it has ended."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait(30)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None
        if self._clock is not None:
            os.close(self._clock)
            self._clock = None

    async def ends(self, within: float = PATIENCE) -> int:
        """The exit code, once there is one."""

        async def ended() -> bool:
            return not self.is_running

        process = self._process
        assert process is not None
        await until(ended, within)
        return process.wait()

    async def says(self, words: str, within: float = PATIENCE) -> str:
        """What it printed, once these words are among it."""

        async def look() -> bool:
            assert words in self.printed or self.is_running, self.printed[-3000:]
            return words in self.printed

        try:
            await until(look, within)
        except TimeoutError:
            raise AssertionError(f"{self.name} never said {words!r}: {self.printed[-3000:]}") from None
        return self.printed
