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
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
from rich.console import Console
from rich.table import Table

from api.addresses import webhook_url
from api.auth import Role
from api.graphql.ids import global_id
from bench.live_round import Change, Round, Told
from bench.load import post
from bench.processes import Server, child, serving
from bench.world import JWT_SECRET, SECRET_KEY, Tenant
from carepost.config import Settings
from carepost.sandbox.vendors.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER
from carepost.tokens import make_token

SUBSCRIBERS: Final = 1000
CROWD: Final = 5000
PER_SECOND: Final = 200
_KILO: Final = 1024
_COMMANDS: Final = {
    "Carepost": ["carepost", "api"],
    "Strawberry as it comes": ["bench.peers.live", "stock"],
    "One frame to all": ["bench.peers.live", "bare"],
}
_BY_WEBHOOK: Final = "Carepost, from the webhook's POST"


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
    measured = [Measured(name) for name in (*_COMMANDS, _BY_WEBHOOK)]
    chance = random.Random(23)
    for _ in range(rounds):
        for one in measured:
            by_webhook = one.name == _BY_WEBHOOK
            chosen = chance.sample(esp if by_webhook else own, changes)
            asked = [
                Change(str(tenant.practice.id), str(each), _post(tenant, each) if by_webhook else None)
                for each in chosen
            ]
            command = _COMMANDS["Carepost" if by_webhook else one.name]
            async with _server(one.name, command, environment, with_worker=by_webhook) as server:
                one.rounds.append(await _told(Round(*urls, server.port, server.pid, everything, asked)))
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
    async with _server("Carepost crowd", _COMMANDS["Carepost"], environment, with_worker=False) as server:
        asked = Round(*urls, server.port, server.pid, sockets, changes, PER_SECOND, expected)
        return Crowd(expected, await _told(asked))


@contextlib.asynccontextmanager
async def _server(
    name: str, command: Sequence[str], environment: Mapping[str, str], *, with_worker: bool
) -> AsyncIterator[Server]:
    async with contextlib.AsyncExitStack() as stack:
        if with_worker:
            log = sys.stderr.fileno()
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


async def _messages(
    database_url: str, tenants: Sequence[Tenant]
) -> Mapping[UUID, Sequence[tuple[UUID, UUID, UUID]]]:
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


def _post(tenant: Tenant, message_id: UUID) -> str:
    """A signed post of one event of a message, as SendGrid words it."""
    moment = int(datetime.now(UTC).timestamp())
    event = {
        "email": "patient@mail.example",
        "timestamp": moment,
        "event": "deferred",
        "sg_event_id": uuid4().hex,
        "sg_message_id": f"{uuid4().hex}.recvd-5d6f-1",
        "response": "450 4.2.1 try again later",
        "attempt": "2",
        "carepost_message_id": str(message_id),
    }
    body = json.dumps([event]).encode()
    headers = {TIMESTAMP_HEADER: str(moment), SIGNATURE_HEADER: tenant.key.sign(str(moment), body)}
    return post(webhook_url("", "sendgrid", tenant.practice.id, tenant.esp.id), body, headers)


def show(console: Console, measured: Sequence[Measured], crowd: Crowd) -> None:
    title = f"Live view: one change to {SUBSCRIBERS:,} sockets, from its commit until the last one has it"
    table = Table(title=title, title_justify="left")
    for column in ("", "p50 ms", "p99 ms", "times as fast as stock", "KiB a socket", "server MiB, all idle"):
        table.add_column(column, justify="left" if not column else "right")
    stock = next(each for each in measured if each.name.startswith("Strawberry"))
    for one in measured:
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
        f"{told.frames - told.repeated:,} came and {told.repeated:,} again, the last {told.milliseconds[0]:.0f} ms after "
        f"the last change; {told.closed} sockets closed; {told.each / _KILO:.1f} KiB a socket, "
        f"{told.resident / _KILO**2:.0f} MiB in all."
    )


def saved(measured: Sequence[Measured], crowd: Crowd) -> dict[str, Any]:
    """For the file of results."""
    return {
        "subscribers": SUBSCRIBERS,
        "contenders": [dataclasses.asdict(each) for each in measured],
        "crowd": dataclasses.asdict(crowd),
    }


def is_wrong(crowd: Crowd) -> bool:
    """Whether a frame is missing or a socket was closed."""
    return crowd.told.frames - crowd.told.repeated != crowd.expected or crowd.told.closed > 0
