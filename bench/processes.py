"""The processes of a benchmark: servers, each on a port of its own, and the load on them.

Every child's stdin is a pipe that we hold open; it ends with us, and so do they.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.load import Load, Measured

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Server:
    """One server process."""

    name: str
    port: int
    pid: int


@contextlib.asynccontextmanager
async def child(
    arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | int, *, announces: bool = False
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process until the end of the with statement; with `announces`, its first line comes with it."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE if announces else log,
        stderr=log,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        line = b""
        if announces:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), 60)
        yield process, line.decode()
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


@contextlib.asynccontextmanager
async def serving(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[Server]:
    """A server on a free port, which it is told as PORT and CAREPOST_PORT; its output goes to a file."""
    port = free_port()
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name.replace(' ', '-')}.log").open("wb") as log:
        ports = {"PORT": str(port), "CAREPOST_PORT": str(port), "CAREPOST_SUPERVISED": "1"}
        async with child(arguments, {**environment, **ports}, log) as (process, _):
            await _until_listening(process, port, log.name)
            yield Server(name, port, process.pid)


async def put_load(server: Server, load: Load, postgres_pid: int) -> Measured:
    """The load, by a process of its own, and the processor time that each answer took of server and Postgres."""
    # The whole run is divided by all of its answers, the warm-up's too.
    before = (cpu_seconds(server.pid), postgres_seconds(postgres_pid))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.load",
        str(server.port),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(json.dumps(dataclasses.asdict(load)).encode())
    if process.returncode:
        raise RuntimeError(f"the load on {server.name} failed")
    measured = Measured(**json.loads(out))
    each = 1e6 / max(1, measured.good + measured.bad)
    return dataclasses.replace(
        measured,
        server_cpu=each * (cpu_seconds(server.pid) - before[0]),
        postgres_cpu=each * (postgres_seconds(postgres_pid) - before[1]),
    )


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, with that of its children that have ended; 0 where there is no /proc."""
    fields = _stat(pid)
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK") if fields else 0


def postgres_seconds(postmaster: int) -> float:
    """Processor time of the whole of Postgres."""
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return cpu_seconds(postmaster) + sum(
        _scheduled_seconds(pid) for pid in pids if (fields := _stat(pid)) and int(fields[1]) == postmaster
    )


def _scheduled_seconds(pid: int) -> float:
    """Processor time of a process of one thread, to the nanosecond where the kernel says it; `cpu_seconds` counts in
    hundredths."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError):
        return cpu_seconds(pid)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, parent, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _until_listening(process: asyncio.subprocess.Process, port: int, log: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        if process.returncode is not None:
            break
        await asyncio.sleep(0.1)
    raise RuntimeError(f"a server did not start; see {log}")
