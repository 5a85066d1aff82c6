"""`python -m bench footprint [ROUNDS]`: what the processes weigh, and how soon `carepost up` answers.

Memory is resident memory as /proc tells it; a process of its own for every round.
"""

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from websockets.asyncio.client import ClientConnection, connect

from bench import report
from bench.figures import Benchmark, Column, Goal, Row
from bench.processes import RESULTS, child, free_port, serving
from bench.reads import signed_in
from bench.sending import sink, taken, worker_process
from bench.stage import Servers, servers
from bench.world import Size, Tenant, make_world

SUBSCRIBERS: Final = 1000
BULK: Final = 10_000
_WHILE: Final = f"While {BULK:,} emails are sent"
_SINGLES: Final = 30
"""Single emails sent before the bulk."""
_WORLD: Final = Size(practices=2, patients=50, queried=10)
_QUERY: Final = """subscription { messageStatusChanged {
  message { id status statusLabel statusAt explanation { code text nextStep } } cursor } }"""
# In MiB and in seconds: what is to be kept below.
_API_GOAL: Final = 120.0
_WORKER_GOAL: Final = 100.0
_START_GOAL: Final = 3.0


async def main(console: Console, arguments: Sequence[str], *, quick: bool) -> int:
    """Measures and shows; gives 0, whether or not the goals are reached. What fails raises."""
    rounds = int(arguments[0]) if arguments else 1 if quick else 3
    found: list[Benchmark] = []
    async with servers() as running:
        tenants = await make_world(running.database_url, _WORLD)
        stated = await report.conditions(running.database_url)
        report.show_conditions(console, stated)
        found.append(await _serving(running, tenants[0], rounds))
        report.show(console, found[-1])
        for benchmark in await _sending(running, rounds):
            found.append(benchmark)
            report.show(console, benchmark)
    found.append(await _start(rounds))
    report.show(console, found[-1])
    stated |= {"messages": _WORLD.messages, "quick": quick, "load_after": report.load_average()}
    report.show_summary(console, found)
    report.save(console, stated, found, "footprint")
    return 0


async def _serving(running: Servers, tenant: Tenant, rounds: int) -> Benchmark:
    before = report.load_average()
    figures: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for row, value in (await _api(running, tenant)).items():
            figures.setdefault(row, []).append({"mib": value})
    return _against_goal("API: resident memory", figures, _API_GOAL, before)


def _against_goal(
    title: str, figures: Mapping[str, Sequence[Mapping[str, float]]], goal: float, before: float
) -> Benchmark:
    """Memory in MiB by row and round, beside the most that it should be; the first row is what the goal is about."""
    rows = [Row(name, each) for name, each in figures.items()]
    limit = Row(f"Goal: {goal:g} MiB", [{"mib": goal}] * len(rows[0].rounds))
    return Benchmark(
        part="footprint",
        title=title,
        rows=[*rows, limit],
        against=limit.name,
        columns=[Column("mib", "MiB", 1)],
        goals=[Goal(1, limit.name)],
        less_is_better=True,
        load=(before, report.load_average()),
    )


async def _api(running: Servers, tenant: Tenant) -> dict[str, float]:
    """An API that has answered, and then with a thousand subscribers who hear nothing."""
    token = signed_in(tenant)[0].token
    async with serving("footprint API", [sys.executable, "-m", "carepost", "api"], running.environment) as server:
        await _ready(server.port)
        idle = resident(server.pid)
        async with contextlib.AsyncExitStack() as stack:
            for start in range(0, SUBSCRIBERS, 50):
                some = [_subscriber(server.port, token) for _ in range(start, min(start + 50, SUBSCRIBERS))]
                for socket in await asyncio.gather(*some):
                    stack.push_async_callback(socket.close)
            await asyncio.sleep(2)
            crowd = resident(server.pid)
    each = (crowd - idle) * 1024 / SUBSCRIBERS
    print(f"  {each:.1f} KiB a subscriber")
    return {f"With {SUBSCRIBERS:,} idle subscribers": crowd, "Just started": idle}


async def _subscriber(port: int, token: str) -> ClientConnection:
    socket = await connect(
        f"ws://127.0.0.1:{port}/graphql",
        subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
        compression=None,
        ping_interval=None,
        open_timeout=60,
    )
    await socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}))
    acknowledged = json.loads(await asyncio.wait_for(socket.recv(), 60))
    assert acknowledged["type"] == "connection_ack", acknowledged
    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": _QUERY}}))
    return socket


async def _sending(running: Servers, rounds: int) -> Sequence[Benchmark]:
    """The worker's memory while it sends a bulk, and how long a single email waits beside it. Rounds of a process
    each."""
    before = report.load_average()
    memory: dict[str, list[dict[str, float]]] = {}
    waits: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        async with sink() as port, worker_process(running, port) as worker:
            idle = await _settled(worker.pid)
            alone = [await worker.send_one() for _ in range(_SINGLES)]
            bulk = asyncio.create_task(worker.send(BULK))
            beside = []
            while not bulk.done():
                beside.append(await worker.send_one())
                await asyncio.sleep(0.1)
            await bulk
            sent = BULK + len(alone) + len(beside)
            if (came := await taken(port)) != sent:
                raise RuntimeError(f"{sent} emails sent, {came} taken by the sink")
            memory.setdefault(_WHILE, []).append({"mib": worker.peak_mib()})
            memory.setdefault("Just started", []).append({"mib": idle})
            waits.setdefault(_WHILE, []).append(_waited(beside))
            waits.setdefault("Alone", []).append(_waited(alone))
    wait = Benchmark(
        part="footprint",
        title="A single email, from its commit until it was handed over",
        rows=[Row(name, each) for name, each in waits.items()],
        against="Alone",
        columns=[Column("p50", "p50 ms", 1), Column("most", "longest ms", 1), Column("emails", "emails", total=True)],
        less_is_better=True,
        load=(before, report.load_average()),
    )
    return [_against_goal("Worker: resident memory", memory, _WORKER_GOAL, before), wait]


def _waited(seconds: Sequence[float]) -> dict[str, float]:
    return {"p50": 1000 * statistics.median(seconds), "most": 1000 * max(seconds), "emails": len(seconds)}


async def _start(rounds: int) -> Benchmark:
    """`carepost up` in a folder whose database exists, from the command to the first 200 of /readyz."""
    before = report.load_average()
    with tempfile.TemporaryDirectory() as folder:
        seconds = [await _up(Path(folder) / "data") for _ in range(rounds + 1)]
    limit = Row(f"Goal: {_START_GOAL:g} s", [{"seconds": _START_GOAL}] * rounds)
    return Benchmark(
        part="footprint",
        title="carepost up, until /readyz says 200",
        rows=[
            Row("On an existing database", [{"seconds": each} for each in seconds[1:]]),
            Row("The first time", [{"seconds": seconds[0]}] * rounds),
            limit,
        ],
        against=limit.name,
        columns=[Column("seconds", "seconds", 2)],
        goals=[Goal(1, limit.name)],
        less_is_better=True,
        load=(before, report.load_average()),
    )


async def _up(folder: Path) -> float:
    port = free_port()
    environment = {"CAREPOST_DATA_DIR": str(folder), "CAREPOST_PORT": str(port), "CAREPOST_SUPERVISED": "1"}
    started = time.perf_counter()
    with (RESULTS / "up.log").open("wb") as log:
        async with child([sys.executable, "-m", "carepost", "up"], environment, log) as (process, _):
            await _ready(port, process)
            return time.perf_counter() - started


async def _ready(port: int, process: asyncio.subprocess.Process | None = None) -> None:
    """Waits until /readyz says 200; raises `RuntimeError` when the process ends first, or after a minute."""
    for _ in range(3000):
        if await asyncio.to_thread(_is_ready, port):
            return
        if process is not None and process.returncode is not None:
            break
        await asyncio.sleep(0.02)
    raise RuntimeError(f"nothing is ready at port {port}; see {RESULTS}")


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
        return True
    return False


async def _settled(pid: int) -> float:
    """The memory of a process that has started, as it has stopped growing."""
    last, now = -1.0, resident(pid)
    while now - last > 0.5:
        await asyncio.sleep(2)
        last, now = now, resident(pid)
    return now


def resident(pid: int) -> float:
    """MiB of a process; 0 where there is no /proc."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0
