"""`python -m bench flames [PATH ...]`: where the processor's time goes on the four paths, before and after.

Before is what Carepost is measured against on that path: graphql-core, one INSERT a POST, Strawberry's own
subscriptions, a connection and an `EmailMessage` each. Flame graphs of both go into one picture for each path, and the
shares by whose code was at work into a table.
"""

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import icicle, live, report
from bench.live_round import Round
from bench.load import Load
from bench.processes import RESULTS, Server, put_load, serving
from bench.reads import CAREPOST, GRAPHQL_CORE, tab_loads
from bench.samples import Samples, sample
from bench.sending import sink, taken, worker_process
from bench.stage import Stage, stage
from bench.webhooks import count_stored, signed_posts

_SECONDS: Final = 10.0
_LEAD: Final = 1.0
"""Seconds of load before and after the sampling."""
_CONNECTIONS: Final = 16
_LEAST_SHARE: Final = 0.01
Path = Callable[[Stage, float], Awaitable[Mapping[str, Samples]]]


async def main(console: Console, arguments: Sequence[str], *, quick: bool) -> int:
    """Samples and draws; 2 when there is no such path. What fails raises."""
    if unknown := set(arguments) - set(_PATHS):
        console.print(f"No path {', '.join(sorted(unknown))}; there are {', '.join(_PATHS)}.")
        return 2
    seconds = 3.0 if quick else _SECONDS
    async with stage(quick=True) as standing:
        stated = await report.conditions(standing.servers.database_url)
        report.show_conditions(console, stated)
        for name in arguments or _PATHS:
            graphs = await _PATHS[name](standing, seconds)
            _show(console, name, graphs)
            caption = f"{name}; {stated['at'][:10]}, commit {stated['commit']}, load average {stated['load_before']}"
            picture = RESULTS / f"flames-{name}.svg"
            picture.write_text(icicle.draw(graphs, caption))
            console.print(f"The flame graphs: bench/results/{picture.name}")
    return 0


async def _tab(standing: Stage, seconds: float) -> Mapping[str, Samples]:
    async with tab_loads(standing) as loads:
        return {
            title: await _under_load(standing, *loads[name], seconds)
            for title, name in (
                ("Before: graphql-core, field by field", GRAPHQL_CORE),
                ("After: the operation compiled once", CAREPOST),
            )
        }


async def _webhooks(standing: Stage, seconds: float) -> Mapping[str, Samples]:
    found = {}
    posts = signed_posts(standing.tenants)
    for title, command in (
        ("Before: one INSERT a POST", ["bench.peers.webhooks", "insert"]),
        ("After: what waits is stored by one commit", ["carepost", "api"]),
    ):
        async with serving("flames webhooks", [sys.executable, "-m", *command], standing.servers.environment) as server:
            stored = await count_stored(standing.servers.database_url)
            load = Load(posts, _CONNECTIONS, 0, 0)
            found[title] = await _under_load(standing, server, load, seconds)
            assert await count_stored(standing.servers.database_url) > stored
    return found


async def _live(standing: Stage, seconds: float) -> Mapping[str, Samples]:
    servers, tenant = standing.servers, standing.tenants[0]
    chosen = await live.changes_of(servers.database_url, tenant)
    sockets = live.everything(tenant, live.SUBSCRIBERS)
    found = {}
    for title, command in (
        ("Before: Strawberry as it comes, each socket by itself", live.STOCK),
        ("After: one frame for all that want the same", live.CAREPOST),
    ):
        async with serving("flames live", [sys.executable, "-m", *command], servers.environment) as server:
            round_ = Round(
                servers.database_url, servers.redis_url, server.port, server.pid, live.PLAIN, sockets, chosen
            )
            async with _asking(
                "bench.live_round", "--announce", given=json.dumps(dataclasses.asdict(round_))
            ) as process:
                assert process.stderr is not None
                while b"connected" not in (line := await process.stderr.readline()):
                    if not line:
                        raise RuntimeError("the sockets did not connect")
                found[title] = await sample(server.pid, seconds)
    return found


async def _sending(standing: Stage, seconds: float) -> Mapping[str, Samples]:
    """More emails than go out meanwhile: waiting isn't sampled, and neither is what comes before and after."""
    many = int(1000 * seconds)
    async with sink() as port:
        async with _asking("bench.senders", "stock", str(port), str(many)) as process:
            while not await taken(port):  # until then it imports
                await asyncio.sleep(0.1)
            before = await sample(process.pid, seconds)
        async with worker_process(standing.servers, port) as worker:
            await worker.send(20)  # from here on it has started
            sending = asyncio.create_task(worker.send(many))
            after = await sample(worker.pid, 2 * seconds)
            await sending
    return {
        "Before: a connection and an EmailMessage each, nothing stored": before,
        "After: a worker, with claims and outcomes": after,
    }


async def _under_load(standing: Stage, server: Server, load: Load, seconds: float) -> Samples:
    lasting = dataclasses.replace(load, connections=_CONNECTIONS, seconds=seconds + _LEAD, warm_up=_LEAD)
    loading = asyncio.create_task(put_load(server, lasting, standing.servers.postgres_pid))
    await asyncio.sleep(_LEAD)
    samples = await sample(server.pid, seconds)
    measured = await loading
    if measured.bad or not measured.good:
        raise RuntimeError(f"{server.name} gave {measured.bad} wrong answers, {measured.good} right ones")
    return samples


@contextlib.asynccontextmanager
async def _asking(module: str, *arguments: str, given: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of the benchmark, killed at the end of the with statement however far it is."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(given.encode())
    process.stdin.write_eof()
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


_PATHS: Final[Mapping[str, Path]] = {
    "tab": _tab,
    "webhook": _webhooks,
    "live": _live,
    "send": _sending,
}


def _show(console: Console, name: str, graphs: Mapping[str, Samples]) -> None:
    """Of each whose code was at work, the share before and after."""
    table = Table("", *graphs, title=f"{name}: share of the samples by whose code was at work", title_justify="left")
    shares = {title: samples.shares() for title, samples in graphs.items()}
    areas = sorted(
        {area for of in shares.values() for area in of}, key=lambda area: -list(shares.values())[-1].get(area, 0)
    )
    for area in areas:
        if any(of.get(area, 0) >= _LEAST_SHARE for of in shares.values()):
            table.add_row(area, *(f"{of.get(area, 0):.1%}" for of in shares.values()))
    table.add_row("samples", *(f"{samples.total:,}" for samples in graphs.values()))
    console.print(table)
