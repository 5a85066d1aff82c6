"""Where a process's time goes: its stacks, sampled by py-spy from outside while it works."""

import asyncio
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PER_SECOND: Final = 250
_FRAME: Final = re.compile(r"(?P<name>.+) \((?P<file>[^()]+?)(?::\d+)?\)$")
# Whose code a frame is, by the beginning of its file's path; what fits nothing is Python's own library.
_AREAS: Final[Mapping[str, str]] = {
    "asyncpg/": "asyncpg",
    "graphql/": "graphql-core",
    "strawberry/": "Strawberry",
    "uvicorn/": "uvicorn",
    "websockets/": "websockets",
    "starlette/": "Starlette",
    "aiosmtplib/": "aiosmtplib",
    "email/": "email",
    "redis/": "redis-py",
    "arq/": "arq",
    "jwt/": "PyJWT",
    "pydantic/": "pydantic",
    "api/graphql/compiled/": "Carepost: compiled executor",
    "api/graphql/": "Carepost: GraphQL",
    "api/webhooks/": "Carepost: webhooks",
    "api/": "Carepost: API",
    "db/": "Carepost: database",
    "mail/": "Carepost: mail",
    "workers/": "Carepost: workers",
    "carepost/": "Carepost: process",
    "bench/": "the benchmark's own",
}
_OTHER: Final = "Python's library"
_LOOP: Final = "asyncio/runners.py"
_BELOW_THE_LOOP: Final = "uvloop, and calls of the system"


@dataclass(frozen=True, slots=True)
class Frame:
    """A function, with the file that it is in as its package knows it: no line, so that equal calls add up."""

    name: str
    file: str

    @property
    def area(self) -> str:
        return next((area for start, area in _AREAS.items() if self.file.startswith(start)), _OTHER)


Stack = tuple[Frame, ...]
"""Outermost first, from the event loop on."""


@dataclass(frozen=True, slots=True)
class Samples:
    """How often each stack of the event loop's thread was seen working. Time in C counts for the Python function that
    called it, and for the loop where it calls nobody."""

    stacks: Mapping[Stack, int]

    @property
    def total(self) -> int:
        return sum(self.stacks.values())

    def shares(self) -> Mapping[str, float]:
        """Of 1, by whose code was at work (the innermost frame), the largest first."""
        found: Counter[str] = Counter()
        for stack, count in self.stacks.items():
            found[stack[-1].area if len(stack) > 1 else _BELOW_THE_LOOP] += count
        return {area: count / self.total for area, count in found.most_common()}


async def sample(pid: int, seconds: float) -> Samples:
    """Watches a process for so long. Raises `RuntimeError` when it may not: the system must allow to trace a process
    that isn't one's own child (root, or /proc/sys/kernel/yama/ptrace_scope at 0)."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stacks"
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("py-spy"),
            *("record", "--pid", str(pid), "--rate", str(_PER_SECOND), "--duration", f"{seconds:.0f}"),
            *("--format", "raw", "--output", str(out)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        if process.returncode or not out.exists():
            raise RuntimeError(f"py-spy could not watch process {pid}: {said.decode().strip()}")
        return Samples(read_stacks(out.read_text()))


def read_stacks(raw: str) -> Mapping[Stack, int]:
    """py-spy's raw format: a line for each stack, its frames parted by semicolons, and how often it was seen. Other
    threads than the loop's are left out: most of them wait, and py-spy can't always tell."""
    found: Counter[Stack] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = tuple(_frame(text) for text in stack.split(";") if text)
        loop = [number for number, frame in enumerate(frames) if frame.file == _LOOP]
        if loop:
            found[frames[loop[-1] :]] += int(count)
    return found


def _frame(text: str) -> Frame:
    found = _FRAME.match(text)
    if found is None:
        return Frame(text, "")
    # A path that py-spy could not shorten would say where this machine keeps Python.
    file = re.sub(r"^/.*/(?:site-packages|lib/python[\d.]+)/|^/.*/(?=[^/]+$)", "", found["file"])
    return Frame(found["name"], file)
