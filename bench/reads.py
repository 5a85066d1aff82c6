"""What is read: the Messages tab (a patient and 25 messages, as the page asks for them), the practice's list of
messages, and a search for patients."""

import asyncio
import contextlib
import dataclasses
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qs, urlsplit

from api.roles import Role
from bench import questions
from bench.answers import answer, rows_of
from bench.figures import SERVED, Benchmark, Column, Goal
from bench.load import Load
from bench.node import prepare_peer
from bench.processes import Server, serving
from bench.questions import Ask, Patient, ask_bare, ask_carepost, ask_peer, left_to_graphql_core
from bench.rounds import Contender, run_rounds
from bench.stage import Servers, Stage
from bench.world import JWT_SECRET, Tenant
from carepost.config import Settings
from carepost.tokens import make_token

CAREPOST: Final = "Carepost"
GRAPHQL_CORE: Final = "Carepost by graphql-core"
_TUNED: Final = "Strawberry, tuned"
_STOCK: Final = "Strawberry as it comes"
_POSTGRAPHILE: Final = "PostGraphile with RLS"
_OWNER: Final = "PostGraphile without"
_YOGA: Final = "Yoga with DataLoader"
_BARE: Final = "Bare rows to JSON"
_OWN: Final = "Its rows to JSON, no GraphQL"


@dataclass(frozen=True, slots=True)
class _Read:
    """One thing that is read: who is asked what, by the server that answers."""

    title: str
    asks: Mapping[str, tuple[str, Ask]]
    goals: Sequence[Goal]
    against: str = _POSTGRAPHILE


def _tab() -> _Read:
    document = questions.page_document("PATIENT_MESSAGES")
    asks = {
        **_by_all(document, questions.POSTGRAPHILE_TAB, questions.YOGA_TAB),
        _STOCK: (_STOCK, ask_carepost(document)),
        _OWNER: (_OWNER, ask_peer(questions.POSTGRAPHILE_TAB)),
        _BARE: (_BARE, ask_bare),
        _OWN: (_OWN, ask_bare),
    }
    return _Read(
        "Messages tab: a patient and 25 messages", asks, [Goal(3, _POSTGRAPHILE), Goal(0.7, _BARE), Goal(0.7, _OWN)]
    )


def _left() -> _Read:
    """What the compiled executor can't take, by the same server with and without it."""
    ask = ask_carepost(left_to_graphql_core(questions.page_document("PATIENT_MESSAGES")))
    asks = {GRAPHQL_CORE: (CAREPOST, ask), _TUNED: (_TUNED, ask)}
    # As fast, within what two runs of one server differ by.
    return _Read("The same with a field that can't be compiled", asks, [Goal(0.95, _TUNED)], against=_TUNED)


def _list() -> _Read:
    asks = _by_all(questions.list_document(), questions.POSTGRAPHILE_LIST, questions.YOGA_LIST)
    return _Read("The practice's list: 25 messages and their patients", asks, [Goal(2, _POSTGRAPHILE)])


def _search() -> _Read:
    asks = _by_all(questions.page_document("PATIENTS"), questions.POSTGRAPHILE_SEARCH, questions.YOGA_SEARCH)
    return _Read("A search for patients", asks, [Goal(2, _POSTGRAPHILE)])


def _by_all(document: str, postgraphile: str, yoga: str) -> dict[str, tuple[str, Ask]]:
    return {
        CAREPOST: (CAREPOST, ask_carepost(document)),
        GRAPHQL_CORE: (CAREPOST, ask_carepost(left_to_graphql_core(document))),
        _POSTGRAPHILE: (_POSTGRAPHILE, ask_peer(postgraphile)),
        _YOGA: (_YOGA, ask_peer(yoga)),
    }


async def tab(stage: Stage) -> Sequence[Benchmark]:
    """The Messages tab, by each number of connections."""
    found = await _measure("tab", stage, [_tab()])
    # These two are close, and one process of a program is up to a sixth faster than the next: new ones each round.
    return [*found, *await _measure("tab", stage, [_left()], each=stage.pace.rounds)]


@contextlib.asynccontextmanager
async def tab_loads(stage: Stage) -> AsyncIterator[Mapping[str, tuple[Server, Load]]]:
    """The load of the Messages tab on Carepost's server, answered by the compiled executor and by graphql-core."""
    patients = [patient for tenant in stage.tenants for patient in signed_in(tenant)]
    asks = {name: ask for name, ask in _tab().asks.items() if name in {CAREPOST, GRAPHQL_CORE}}
    async with _serving(stage.servers, {CAREPOST}) as servers:
        yield {name: (process, load) for name, ([process], load) in _loads(servers, asks, patients, stage).items()}


async def pages(stage: Stage) -> Sequence[Benchmark]:
    """The practice's list and the search, by each number of connections."""
    return await _measure("pages", stage, [_list(), _search()])


async def _measure(part: str, stage: Stage, reads: Sequence[_Read], each: int = 1) -> Sequence[Benchmark]:
    """By `each` processes of each server, taken in turn."""
    patients = [patient for tenant in stage.tenants for patient in signed_in(tenant)]
    names = {server for read in reads for server, _ in read.asks.values()}
    found = []
    async with _serving(stage.servers, names, each) as servers:
        for read in reads:
            loads = _loads(servers, read.asks, patients, stage)
            for connections in stage.connections:
                benchmark = Benchmark(
                    part=part,
                    title=f"{read.title}, {connections} connections",
                    rows=(),
                    against=read.against,
                    columns=(*SERVED, Column("bytes_each", "bytes")),
                    goals=read.goals,
                )
                contenders = [
                    Contender(name, processes, dataclasses.replace(load, connections=connections))
                    for name, (processes, load) in loads.items()
                ]
                found.append(await run_rounds(benchmark, contenders, stage.pace.rounds, stage.servers.postgres_pid))
    return found


def signed_in(tenant: Tenant) -> Sequence[Patient]:
    """The patients of a practice who are asked for, with a token of its staff."""
    settings = Settings(jwt_secret=JWT_SECRET)
    token = make_token(settings, tenant.practice.id, Role.STAFF, "benchmark", timedelta(hours=8))
    return [Patient(tenant.practice.id, patient_id, token) for patient_id in tenant.queried]


@contextlib.asynccontextmanager
async def _serving(servers: Servers, names: set[str], each: int = 1) -> AsyncIterator[Mapping[str, Sequence[Server]]]:
    """Servers by name, as many processes of each as `each`."""
    address = urlsplit(servers.database_url)
    peer = {
        "BENCH_PGHOST": parse_qs(address.query)["host"][0],
        "BENCH_PGUSER": address.username or "",
        "BENCH_PGDATABASE": address.path[1:],
        "NODE_ENV": "production",
        "GRAPHILE_ENV": "production",
    }
    signed = {**peer, "BENCH_SECRET": JWT_SECRET}

    commands: Mapping[str, tuple[Callable[[], Sequence[str]], Mapping[str, str]]] = {
        # The field that leaves an operation to graphql-core is one of introspection.
        CAREPOST: (
            lambda: [sys.executable, "-m", "carepost", "api"],
            {**servers.environment, "CAREPOST_INTROSPECTION": "true"},
        ),
        _TUNED: (
            lambda: [sys.executable, "-m", "bench.peers.tuned"],
            {**servers.environment, "CAREPOST_INTROSPECTION": "true"},
        ),
        _STOCK: (lambda: [sys.executable, "-m", "bench.peers.live", "stock"], servers.environment),
        _POSTGRAPHILE: (lambda: prepare_peer("postgraphile"), signed),
        _OWNER: (lambda: prepare_peer("postgraphile"), peer),
        _YOGA: (lambda: prepare_peer("yoga"), signed),
        _BARE: (lambda: [sys.executable, "-m", "bench.peers.bare", "plain"], servers.environment),
        _OWN: (lambda: [sys.executable, "-m", "bench.peers.bare", "own"], servers.environment),
    }
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for name in sorted(names):
            command, environment = commands[name]
            starting = [serving(f"{name} {number}", command(), environment) for number in range(1, each + 1)]
            found[name] = await asyncio.gather(*(stack.enter_async_context(process) for process in starting))
        yield found


def _loads(
    servers: Mapping[str, Sequence[Server]],
    asks: Mapping[str, tuple[str, Ask]],
    patients: Sequence[Patient],
    stage: Stage,
) -> Mapping[str, tuple[Sequence[Server], Load]]:
    """Who is asked, and the load, once everybody was seen to give the same rows. Raises `RuntimeError`."""
    loads = {}
    shown = {}
    pace = stage.pace
    for name, (server, ask) in asks.items():
        processes = servers[server]
        requests = [ask(patient) for patient in patients]
        answers = [answer(processes[0], request) for request in requests[:: max(1, len(requests) // 10)]]
        shown[name] = [rows_of(each) for each in answers]
        least = min(len(each) for each in answers) // 2
        loads[name] = (processes, Load(requests, 1, pace.seconds, pace.warm_up, least))
    for name, answers_of in shown.items():
        for rows, expected in zip(answers_of, next(iter(shown.values())), strict=True):
            for row, wanted in itertools.zip_longest(rows, expected):
                if row != wanted:
                    raise RuntimeError(f"{name} shows {row} where {next(iter(shown))} shows {wanted}")
    return loads
