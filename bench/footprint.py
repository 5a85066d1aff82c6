"""`python -m bench footprint [ROUNDS]`: what the processes weigh, and how soon `carepost up` answers.

Memory is resident memory as /proc tells it; a process of its own for every round.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
from aiosmtpd.controller import Controller
from rich.console import Console
from websockets.asyncio.client import ClientConnection, connect

from bench import report
from bench.figures import Benchmark, Column, Row
from bench.processes import RESULTS, child, free_port, serving
from bench.reads import signed_in
from bench.stage import Servers, servers
from bench.world import SECRET_KEY, Size, Tenant, make_world
from db.accounts import update_account
from db.ids import uuid7
from db.messages import Body, NewMessage, insert_messages
from db.pool import Database, PoolSize
from db.sealing import Sealer
from mail.ids import MessageId
from mail.status import AccountKind

SUBSCRIBERS: Final = 1000
BULK: Final = 3000
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
        found.append(await _measured("API", rounds, lambda: _api(running, tenants[0]), _API_GOAL))
        report.show(console, found[-1])
        found.append(await _measured("Worker", rounds, lambda: _worker(running, tenants[0]), _WORKER_GOAL))
        report.show(console, found[-1])
    found.append(await _start(rounds))
    report.show(console, found[-1])
    stated |= {"messages": _WORLD.messages, "quick": quick, "load_after": report.load_average()}
    report.show_summary(console, found)
    report.save(console, stated, found, "footprint")
    return 0


async def _measured(name: str, rounds: int, measure: Callable[[], Any], goal: float) -> Benchmark:
    """Each round gives figures by row; memory in MiB, beside the goal."""
    before = report.load_average()
    figures: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for row, value in (await measure()).items():
            figures.setdefault(row, []).append({"mib": value})
    rows = [Row(row, values) for row, values in figures.items()]
    limit = Row("Goal", [{"mib": goal}] * rounds)
    return Benchmark(
        part="footprint",
        title=f"{name}: resident memory",
        rows=[*rows, limit],
        against=limit.name,
        columns=[Column("mib", "MiB", 1)],
        goals=[],
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


class _Sink:
    """Takes every email and forgets it."""

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802 - aiosmtpd's
        return "250 taken"


async def _worker(running: Servers, tenant: Tenant) -> dict[str, float]:
    """A worker while it sends a few thousand emails by SMTP. Raises `TimeoutError` when it doesn't send them all."""
    sink = Controller(_Sink(), hostname="127.0.0.1", port=free_port())
    await asyncio.to_thread(sink.start)
    environment = {
        **running.environment,
        "CAREPOST_ALLOWED_NETWORKS": "127.0.0.0/8",
        "CAREPOST_SUPERVISED": "1",
        "CAREPOST_LOG_LEVEL": "warning",
    }
    sealer = Sealer([SECRET_KEY])
    try:
        async with Database(running.database_url, PoolSize(1, 1)) as database:
            credentials = {"host": "127.0.0.1", "port": str(sink.port), "security": "none"}
            async with database.tenant(tenant.practice.id) as connection:
                await update_account(
                    connection,
                    sealer,
                    tenant.practice.id,
                    tenant.smtp.id,
                    name=None,
                    sender_name=None,
                    sender_email=None,
                    reply_to=None,
                    is_default=None,
                    credentials=credentials,
                )
            worker = [sys.executable, "-m", "carepost", "worker"]
            async with child(worker, environment, sys.stderr.fileno()) as (process, _):
                idle = await _settled(process.pid)
                for _ in range(BULK // 500):
                    drafts = [_email(tenant) for _ in range(500)]
                    async with database.tenant(tenant.practice.id) as connection:
                        await insert_messages(connection, sealer, tenant.practice.id, drafts)
                most = idle
                async with asyncio.timeout(180), _watching(running.database_url) as queued:
                    while await queued():
                        most = max(most, resident(process.pid))
                        await asyncio.sleep(0.2)
    finally:
        await asyncio.to_thread(sink.stop)
    return {f"While {BULK:,} emails are sent": most, "Just started": idle}


def _email(tenant: Tenant) -> NewMessage:
    now = datetime.now(UTC)
    html = "<p>Your appointment is on Tuesday at 10.</p>" * 40
    return NewMessage(
        id=MessageId(uuid7(now)),
        patient_id=tenant.queried[0],
        account_id=tenant.smtp.id,
        account_kind=AccountKind.SMTP,
        recipient="patient@mail.example",
        subject="Your appointment",
        body=Body("Your appointment is on Tuesday at 10.\n" * 40, html),
        track_opens=True,
        queued_at=now - timedelta(seconds=1),
    )


@contextlib.asynccontextmanager
async def _watching(url: str) -> AsyncIterator[Callable[[], Any]]:
    """A function that tells how many messages are queued."""
    owner = await asyncpg.connect(url)
    try:
        yield lambda: owner.fetchval("SELECT count(*) FROM message WHERE verdict = 'queued'")
    finally:
        await owner.close()


async def _start(rounds: int) -> Benchmark:
    """`carepost up` in a folder whose database exists, from the command to the first 200 of /readyz."""
    before = report.load_average()
    with tempfile.TemporaryDirectory() as folder:
        seconds = [await asyncio.to_thread(_up, Path(folder) / "data") for _ in range(rounds + 1)]
    return Benchmark(
        part="footprint",
        title="carepost up, until /readyz says 200",
        rows=[
            Row("On an existing database", [{"seconds": each} for each in seconds[1:]]),
            Row("The first time", [{"seconds": seconds[0]}] * rounds),
            Row("Goal", [{"seconds": _START_GOAL}] * rounds),
        ],
        against="Goal",
        columns=[Column("seconds", "seconds", 2)],
        less_is_better=True,
        load=(before, report.load_average()),
    )


def _up(folder: Path) -> float:
    port = free_port()
    environment = os.environ | {"CAREPOST_DATA_DIR": str(folder), "CAREPOST_PORT": str(port)}
    started = time.perf_counter()
    with (RESULTS / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "carepost", "up"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_until_ready(port, process)
            return time.perf_counter() - started
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


async def _ready(port: int) -> None:
    await asyncio.to_thread(_wait_until_ready, port)


def _wait_until_ready(port: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
    for _ in range(3000):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return
        if process is not None and process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError(f"nothing is ready at port {port}; see {RESULTS}")


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
