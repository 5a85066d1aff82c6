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
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.table import Table

from api.auth import Role
from api.graphql.ids import global_id
from bench.live_round import Change, Round, Told
from bench.processes import RESULTS, Server, child, serving
from bench.rounds import Pace
from bench.webhooks import signed_post
from bench.world import JWT_SECRET, SECRET_KEY, Tenant
from carepost.config import Settings
from carepost.tokens import make_token

SUBSCRIBERS: Final = 1000
CROWD: Final = 5000
PER_SECOND: Final = 200
_KILO: Final = 1024
_PLAIN: Final = "message { id status statusLabel statusAt }"
_EXPLAINED: Final = "message { id status statusLabel statusAt explanation { code text nextStep } }"
_CAREPOST: Final = ["carepost", "api"]
_STOCK: Final = ["bench.peers.live", "stock"]
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
    _Kind("Carepost", _CAREPOST, _PLAIN, "Strawberry as it comes"),
    _Kind("Strawberry as it comes", _STOCK, _PLAIN, "Strawberry as it comes"),
    _Kind("One frame to all", _BARE, _PLAIN, "Strawberry as it comes"),
    _Kind("Carepost, from the webhook's POST", _CAREPOST, _PLAIN, "Strawberry as it comes", by_webhook=True),
    _Kind("Carepost, with explanations", _CAREPOST, _EXPLAINED, "Strawberry, with explanations"),
    _Kind("Strawberry, with explanations", _STOCK, _EXPLAINED, "Strawberry, with explanations"),
)


@dataclass(slots=True)
class Measured:
    """What was measured of one contender, a `Told` for each round."""

    name: str
    rounds: list[Told] = field(default_factory=list)

    def milliseconds(self) -> list[float]:
        return [each for told in self.rounds for each in told.milliseconds]

    def quantile(self, part: float) -> float:
        ordered = sorted(self.milliseconds())
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Crowd:
    """5,000 sockets, each watching a patient, while changes come in at a rate."""

    expected: int
    told: Told


async def run(
    console: Console, database_url: str, redis_url: str, tenants: Sequence[Tenant], pace: Pace
) -> dict[str, Any]:
    """Measures, shows, and gives what the file of results holds; `wrong` says that a frame is missing."""
    measured, crowd = await measure(
        database_url, redis_url, tenants, rounds=min(pace.rounds, 5), changes=20, seconds=5 * pace.seconds
    )
    show(console, measured, crowd)
    return {
        "subscribers": SUBSCRIBERS,
        "contenders": [dataclasses.asdict(each) for each in measured],
        "crowd": dataclasses.asdict(crowd),
        "wrong": _is_wrong(crowd),
    }


async def measure(
    database_url: str, redis_url: str, tenants: Sequence[Tenant], *, rounds: int, changes: int, seconds: float
) -> tuple[Sequence[Measured], Crowd]:
    """Rounds of every contender in turn, each by a server of its own; then the crowd."""
    environment = {
        "CAREPOST_DATABASE_URL": database_url,
        "CAREPOST_REDIS_URL": redis_url,
        "CAREPOST_SECRET_KEY": SECRET_KEY,
        "CAREPOST_JWT_SECRET": JWT_SECRET,
    }
    urls = (database_url, redis_url)
    tenant = tenants[0]
    everything: list[tuple[str, dict[str, Any]]] = [(_token(tenant), {})] * SUBSCRIBERS
    messages = await _messages(database_url, tenants)
    own = [message_id for message_id, _, _ in messages[tenant.practice.id]]
    esp = [message_id for message_id, _, account in messages[tenant.practice.id] if account == tenant.esp.id]
    measured = [Measured(kind.name) for kind in _KINDS]
    chance = random.Random(23)
    for _ in range(rounds):
        for kind, one in zip(_KINDS, measured, strict=True):
            chosen = chance.sample(esp if kind.by_webhook else own, changes)
            asked = [
                Change(str(tenant.practice.id), str(each), signed_post(tenant, each) if kind.by_webhook else None)
                for each in chosen
            ]
            async with _server(kind.name, kind.command, environment, with_worker=kind.by_webhook) as server:
                round_ = Round(*urls, server.port, server.pid, kind.selection, everything, asked)
                one.rounds.append(await _told(round_))
    return measured, await _crowd(urls, environment, tenants, messages, int(seconds * PER_SECOND))


async def _crowd(
    urls: tuple[str, str],
    environment: Mapping[str, str],
    tenants: Sequence[Tenant],
    messages: Mapping[UUID, Sequence[tuple[UUID, UUID, UUID]]],
    count: int,
) -> Crowd:
    watched = [(tenant, patient_id) for tenant in tenants for patient_id in tenant.queried]
    tokens = {tenant.practice.id: _token(tenant) for tenant in tenants}
    sockets: list[tuple[str, dict[str, Any]]] = []
    watchers: dict[UUID, int] = {}
    for number in range(CROWD):
        tenant, patient_id = watched[number % len(watched)]
        sockets.append((tokens[tenant.practice.id], {"patientId": global_id("Patient", patient_id)}))
        watchers[patient_id] = watchers.get(patient_id, 0) + 1
    everything = [(practice_id, *each) for practice_id, some in messages.items() for each in some]
    # Each message once, so that no two changes of one coalesce and every frame can be counted.
    chosen = random.Random(5).sample(everything, min(count, len(everything)))
    expected = sum(watchers[patient_id] for _, _, patient_id, _ in chosen)
    changes = [Change(str(practice_id), str(message_id)) for practice_id, message_id, _, _ in chosen]
    async with _server("Carepost crowd", _CAREPOST, environment, with_worker=False) as server:
        asked = Round(*urls, server.port, server.pid, _PLAIN, sockets, changes, PER_SECOND, expected)
        return Crowd(expected, await _told(asked))


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


def show(console: Console, measured: Sequence[Measured], crowd: Crowd) -> None:
    title = f"Live view: one change to {SUBSCRIBERS:,} sockets, from its commit until the last one has it"
    table = Table(title=title, title_justify="left")
    for column in ("", "p50 ms", "p99 ms", "times as fast as stock", "KiB a socket", "server MiB, all idle"):
        table.add_column(column, justify="left" if not column else "right")
    named = {each.name: each for each in measured}
    for kind in _KINDS:
        one, stock = named[kind.name], named[kind.against]
        # Rounds one after the other share what else the machine did.
        pairs = zip(one.rounds, stock.rounds, strict=True)
        ratios = [statistics.median(b.milliseconds) / statistics.median(a.milliseconds) for a, b in pairs]
        table.add_row(
            one.name,
            f"{one.quantile(0.5):.1f}",
            f"{one.quantile(0.99):.1f}",
            f"{statistics.median(ratios):.1f}",
            f"{statistics.median(each.each for each in one.rounds) / _KILO:.1f}",
            f"{statistics.median(each.resident for each in one.rounds) / _KILO**2:.0f}",
        )
    console.print(table)
    told = crowd.told
    console.print(
        f"{CROWD:,} sockets, {PER_SECOND} changes a second: {crowd.expected:,} frames expected, "
        f"{told.frames - told.repeated:,} came and {told.repeated:,} again, the last "
        f"{told.milliseconds[0]:.0f} ms after the last change; {told.closed} sockets closed; "
        f"{told.each / _KILO:.1f} KiB a socket, {told.resident / _KILO**2:.0f} MiB in all."
    )


def _is_wrong(crowd: Crowd) -> bool:
    """Whether a frame is missing or a socket was closed."""
    return crowd.told.frames - crowd.told.repeated != crowd.expected or crowd.told.closed > 0
