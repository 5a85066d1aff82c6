"""The live view: how soon the last of a thousand subscribers knows of a change, what a socket weighs, and whether
5,000 of them hold while changes come in."""

import asyncio
import contextlib
import dataclasses
import json
import random
import statistics
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from api.graphql.ids import global_id
from api.roles import Role
from bench import report
from bench.figures import Benchmark, Column, Goal, Row
from bench.live_round import Change, Round, Told
from bench.processes import RESULTS, Server, child, serving
from bench.stage import Servers, Stage
from bench.webhooks import signed_post
from bench.world import JWT_SECRET, Tenant
from carepost.config import Settings
from carepost.tokens import make_token

SUBSCRIBERS: Final = 1000
CROWD: Final = 5000
PER_SECOND: Final = 200
_KILO: Final = 1024
PLAIN: Final = "message { id status statusLabel statusAt }"
_EXPLAINED: Final = "message { id status statusLabel statusAt explanation { code text nextStep } }"
CAREPOST: Final = ["carepost", "api"]
STOCK: Final = ["bench.peers.live", "stock"]
_BARE: Final = ["bench.peers.live", "bare"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A contender: its command, what its subscribers select, and the one that it is set against. `by_webhook` has a
    worker beside it, and the time counted from the POST."""

    name: str
    command: Sequence[str]
    selection: str
    against: str
    by_webhook: bool = False


_KINDS: Final = (
    _Kind("Carepost", CAREPOST, PLAIN, "Strawberry as it comes"),
    _Kind("Strawberry as it comes", STOCK, PLAIN, "Strawberry as it comes"),
    _Kind("One frame to all", _BARE, PLAIN, "Strawberry as it comes"),
    _Kind("Carepost, from the webhook's POST", CAREPOST, PLAIN, "Strawberry as it comes", by_webhook=True),
    _Kind("Carepost, with explanations", CAREPOST, _EXPLAINED, "Strawberry, with explanations"),
    _Kind("Strawberry, with explanations", STOCK, _EXPLAINED, "Strawberry, with explanations"),
)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Many sockets, each watching a patient, while changes come in at a rate."""

    sockets: int
    expected: int
    told: Told


async def run(stage: Stage) -> Sequence[Benchmark]:
    """Rounds of every contender in turn, each by a server of its own; then the crowd. A short run has a tenth of the
    sockets, and leaves explanations out."""
    kinds = [kind for kind in _KINDS if not (stage.quick and kind.selection == _EXPLAINED)]
    share = 10 if stage.quick else 1
    rounds, changes = (2, 10) if stage.quick else (3, 40)
    subscribers = SUBSCRIBERS // share
    servers, tenant = stage.servers, stage.tenants[0]
    before = report.load_average()
    sockets = everything(tenant, subscribers)
    messages = await _messages(servers.database_url, stage.tenants)
    own = [message_id for message_id, _, _ in messages[tenant.practice.id]]
    esp = [message_id for message_id, _, account in messages[tenant.practice.id] if account == tenant.esp.id]
    told: dict[str, list[Told]] = {kind.name: [] for kind in kinds}
    chance = random.Random(23)
    for _ in range(rounds):
        for kind in kinds:
            chosen = chance.sample(esp if kind.by_webhook else own, changes)
            asked = [
                Change(str(tenant.practice.id), str(each), signed_post(tenant, each) if kind.by_webhook else None)
                for each in chosen
            ]
            async with _server(kind.name, kind.command, servers.environment, with_worker=kind.by_webhook) as server:
                urls = (servers.database_url, servers.redis_url)
                round_ = Round(*urls, server.port, server.pid, kind.selection, sockets, asked)
                told[kind.name].append(await _told(round_))
    seconds = int(5 * stage.pace.seconds)
    crowd = await _crowd(servers, stage.tenants, messages, CROWD // share, seconds * PER_SECOND // share)
    load = (before, report.load_average())
    title = f"Live view: one change to {subscribers:,} sockets, until the last one has it"
    found = [_benchmark(title, told, "Strawberry as it comes", load)]
    if not stage.quick:
        found.append(_benchmark(f"{title}, with its explanation", told, "Strawberry, with explanations", load))
    return [*found, _benchmark_of(crowd, load)]


def everything(tenant: Tenant, count: int) -> list[tuple[str, dict[str, Any]]]:
    """So many sockets, each watching all messages of a practice."""
    return [(_token(tenant), {})] * count


async def changes_of(database_url: str, tenant: Tenant) -> Sequence[Change]:
    """A change of each message of the queried patients of a practice."""
    messages = await _messages(database_url, [tenant])
    return [Change(str(tenant.practice.id), str(message_id)) for message_id, _, _ in messages[tenant.practice.id]]


def _benchmark(title: str, told: Mapping[str, Sequence[Told]], against: str, load: tuple[float, float]) -> Benchmark:
    rows = [Row(kind.name, _rounds(told[kind.name])) for kind in _KINDS if kind.against == against]
    return Benchmark(
        part="live",
        title=title,
        rows=rows,
        against=against,
        columns=[
            Column("p50", "p50 ms", 1),
            Column("p99", "p99 ms", 1),
            Column("changes", "changes", total=True),
            Column("each", "KiB a socket", 1),
            Column("resident", "server MiB, all idle"),
        ],
        goals=[Goal(5, against)],
        less_is_better=True,
        load=load,
    )


def _rounds(told: Sequence[Told]) -> list[dict[str, float]]:
    """The figures of each round; the p99 is of all changes, for one round has too few, and stands in the last."""
    rounds = [_figures(each) for each in told]
    ordered = sorted(each for round_ in told for each in round_.milliseconds)
    rounds[-1]["p99"] = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return rounds


def _figures(told: Told) -> dict[str, float]:
    return {
        "p50": statistics.median(told.milliseconds),
        "changes": len(told.milliseconds),
        "each": told.each / _KILO,
        "resident": told.resident / _KILO**2,
    }


def _benchmark_of(crowd: Crowd, load: tuple[float, float]) -> Benchmark:
    """The crowd is set against nobody: what counts is that every frame came and no socket was closed."""
    told = crowd.told
    came = told.frames - told.repeated
    wrong = [] if came == crowd.expected else [f"{crowd.expected:,} frames expected, {came:,} came"]
    wrong += [f"{told.closed} sockets were closed"] if told.closed else []
    figures = {**_figures(told), "expected": crowd.expected, "came": came, "repeated": told.repeated}
    return Benchmark(
        part="live",
        title=f"Live view: {crowd.sockets:,} sockets, each with a patient of its own",
        rows=[Row("Carepost", [figures])],
        against="Carepost",
        columns=[
            Column("p50", "ms from the last change to the last frame"),
            Column("expected", "frames expected"),
            Column("came", "came"),
            Column("repeated", "came again"),
            Column("each", "KiB a socket", 1),
            Column("resident", "server MiB"),
        ],
        less_is_better=True,
        wrong=wrong,
        load=load,
    )


async def _crowd(
    servers: Servers,
    tenants: Sequence[Tenant],
    messages: Mapping[UUID, Sequence[tuple[UUID, UUID, UUID]]],
    size: int,
    count: int,
) -> Crowd:
    watched = [(tenant, patient_id) for tenant in tenants for patient_id in tenant.queried]
    tokens = {tenant.practice.id: _token(tenant) for tenant in tenants}
    sockets: list[tuple[str, dict[str, Any]]] = []
    watchers: dict[UUID, int] = {}
    for number in range(size):
        tenant, patient_id = watched[number % len(watched)]
        sockets.append((tokens[tenant.practice.id], {"patientId": global_id("Patient", patient_id)}))
        watchers[patient_id] = watchers.get(patient_id, 0) + 1
    everything = [(practice_id, *each) for practice_id, some in messages.items() for each in some]
    # Each message once, so that no two changes of one coalesce and every frame can be counted.
    chosen = random.Random(5).sample(everything, min(count, len(everything)))
    expected = sum(watchers[patient_id] for _, _, patient_id, _ in chosen)
    changes = [Change(str(practice_id), str(message_id)) for practice_id, message_id, _, _ in chosen]
    per_second = PER_SECOND * size / CROWD
    async with _server("Carepost crowd", CAREPOST, servers.environment, with_worker=False) as server:
        urls = (servers.database_url, servers.redis_url)
        asked = Round(*urls, server.port, server.pid, PLAIN, sockets, changes, per_second, expected)
        return Crowd(size, expected, await _told(asked))


@contextlib.asynccontextmanager
async def _server(
    name: str, command: Sequence[str], environment: Mapping[str, str], *, with_worker: bool
) -> AsyncIterator[Server]:
    async with contextlib.AsyncExitStack() as stack:
        if with_worker:
            log = stack.enter_context((RESULTS / "live-worker.log").open("wb"))
            worker = [sys.executable, "-m", "carepost", "worker"]
            await stack.enter_async_context(child(worker, {**environment, "CAREPOST_SUPERVISED": "1"}, log))
        yield await stack.enter_async_context(serving(f"{name} live", [sys.executable, "-m", *command], environment))


async def _told(asked: Round) -> Told:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.live_round", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(json.dumps(dataclasses.asdict(asked)).encode())
    if process.returncode:
        raise RuntimeError("a round of the live view failed")
    return Told(**json.loads(out))


async def _messages(database_url: str, tenants: Sequence[Tenant]) -> Mapping[UUID, Sequence[tuple[UUID, UUID, UUID]]]:
    """(message, patient, account) of the queried patients, by practice."""
    connection = await asyncpg.connect(database_url)
    try:
        return {
            tenant.practice.id: [
                tuple(row)
                for row in await connection.fetch(
                    "SELECT id, patient_id, account_id FROM message WHERE practice_id = $1 AND patient_id = ANY($2)",
                    tenant.practice.id,
                    tenant.queried,
                )
            ]
            for tenant in tenants
        }
    finally:
        await connection.close()


def _token(tenant: Tenant) -> str:
    settings = Settings(jwt_secret=JWT_SECRET)
    return make_token(settings, tenant.practice.id, Role.STAFF, "benchmark", timedelta(hours=8))
