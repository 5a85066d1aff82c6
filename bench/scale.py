"""`python -m bench scale [SMALL LARGE]`: what an answer, a webhook and an email cost, small and large.

Two databases stand in the same Postgres and take turns. Costs are processor time, of our process and of all of
Postgres: they say what grows with the rows, whatever else the machine does. Webhooks that are applied are compared by
the row that they write, since a batch of 500 is about 370 messages of ten patients where a practice has no more, and
about 500 messages of 490 patients where it has half a million.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, Self
from urllib.parse import urlsplit

import asyncpg
from rich.console import Console

from api.graphql.ids import key_cursor
from bench import questions, report
from bench.answers import answer, rows_of
from bench.applying import any_messages, apply_new
from bench.bulk import add_messages
from bench.figures import Benchmark, Column, Goal, Row
from bench.load import Load
from bench.processes import Server, postgres_seconds, put_load, serving
from bench.questions import Ask, Patient, ask_carepost
from bench.reads import signed_in
from bench.stage import Servers, servers
from bench.webhooks import count_stored, forget_stored, signed_posts
from bench.world import SECRET_KEY, Size, Tenant, make_world
from db.ids import uuid7
from db.messages import Body, NewMessage, insert_messages
from db.outbox import AttemptOutcome, Ending, Lane, claim_due, finish_all
from db.pool import Database, Pool, PoolSize
from db.sealing import Sealer
from mail.event import Event, EventKind
from mail.ids import MessageId, PracticeId
from workers import jobs
from workers.apply import BATCH, Applier
from workers.jobs import Jobs

SMALL: Final = 10_000
LARGE: Final = 10_000_000
_WORLD: Final = Size(practices=20, patients=10, queried=10)
_CONNECTIONS: Final = 8
_DEEP: Final = 10_000
"""The page of the practice's list that is asked for, or the last one where there are fewer."""
_SENT: Final = 1000
_APPLIED: Final = 4000
_NEWEST: Final = 200
"""Messages of a practice that webhooks are about in life: almost all come within hours of the sending."""
_ASKED: Final = 100
"""Patients of each practice who are asked for, by chance."""
_LIMIT: Final = "An UPDATE and an INSERT alone, of any message"
"""What isn't ours and has no goal: how flat Postgres is."""
_UPDATE: Final = (
    "UPDATE message m SET verdict = 'opened', opened_at = now(), changed_xid = pg_current_xact_id() "
    "FROM unnest($2::uuid[]) AS n(id) WHERE m.practice_id = $1 AND m.id = n.id"
)
_INSERT: Final = (
    "INSERT INTO message_event (practice_id, message_id, dedupe_key, kind, verdict, occurred_at, source) "
    "SELECT $1, id, gen_random_uuid()::text, 'opened', 'opened', now(), 'webhook' FROM unnest($2::uuid[]) AS n(id)"
)
_COLUMNS: Final = (Column("both", "us, both"), Column("server", "ours us"), Column("postgres", "Postgres us"))
_WRITING: Final = (Column("row", "us a row", 1), Column("rows", "rows", 2), *_COLUMNS)


@dataclass(frozen=True, slots=True)
class _End:
    """One of the two databases, with the API on it, a worker's connections, and whom to ask for."""

    name: str
    servers: Servers
    tenants: Sequence[Tenant]
    patients: Sequence[Patient]
    deep: Mapping[PracticeId, str]
    api: Server
    database: Database


async def main(console: Console, arguments: Sequence[str], *, quick: bool) -> int:
    """Measures and shows; 1 when a count didn't balance. Otherwise what fails raises."""
    small, large = [int(each) for each in arguments] if arguments else (SMALL, LARGE // 50 if quick else LARGE)
    rounds, seconds = (3, 1.0) if quick else (5, 2.0)
    async with servers() as running, contextlib.AsyncExitStack() as stack:
        stated = await report.conditions(running.database_url)
        report.show_conditions(console, stated)
        ends = [await _end(running, total, stack) for total in (small, large)]
        found = []
        for name, measure in _measures(seconds).items():
            found.append(await _benchmark(name, ends, rounds, partial(measure, pid=running.postgres_pid)))
            report.show(console, found[-1])
    stated |= {"messages": large, "quick": quick, "load_after": report.load_average()}
    report.show_summary(console, found)
    report.save(console, stated, found, "scale")
    return int(any(benchmark.wrong for benchmark in found))


async def _end(running: Servers, total: int, stack: contextlib.AsyncExitStack) -> _End:
    name = f"carepost_{total}"
    owner = await asyncpg.connect(running.database_url)
    await owner.execute(f"CREATE DATABASE {name}")
    await owner.close()
    url = urlsplit(running.database_url)._replace(path=f"/{name}").geturl()
    own = dataclasses.replace(running, database_url=url)
    tenants = list(await make_world(url, _WORLD))
    seconds = await add_messages(url, tenants, total)
    owner = await asyncpg.connect(url)
    try:
        size = await owner.fetchval("SELECT pg_size_pretty(pg_database_size(current_database()))")
        count = await owner.fetchval("SELECT count(*) FROM message")
        print(f"  {count:,} messages, {size}, filled in {seconds:,.0f} s", flush=True)
        patients = [patient for tenant in tenants for patient in await _some(owner, tenant)]
        deep = {tenant.practice.id: await _before_page(owner, tenant) for tenant in tenants}
    finally:
        await owner.close()
    api = await stack.enter_async_context(
        serving(f"scale {total}", [sys.executable, "-m", "carepost", "api"], own.environment)
    )
    # As workers keep theirs: a new connection first reads what all statements stand on.
    database = await stack.enter_async_context(Database(url, PoolSize(1, 2)))
    return _End(f"{total:,} messages", own, tenants, patients, deep, api, database)


async def _some(owner: Any, tenant: Tenant) -> Sequence[Patient]:
    one = signed_in(tenant)[0]
    rows = await owner.fetch(
        "SELECT id FROM patient WHERE practice_id = $1 ORDER BY random() LIMIT $2", tenant.practice.id, _ASKED
    )
    return [dataclasses.replace(one, patient_id=row["id"]) for row in rows]


async def _before_page(owner: Any, tenant: Tenant) -> str:
    """The cursor before the deep page."""
    practice_id = tenant.practice.id
    count = await owner.fetchval("SELECT count(*) FROM message WHERE practice_id = $1", practice_id)
    skipped = min((_DEEP - 1) * questions.PAGE, count - questions.PAGE)
    key = await owner.fetchval(
        "SELECT id FROM message WHERE practice_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1", practice_id, skipped - 1
    )
    return key_cursor(key)


_Measure = Callable[..., Awaitable[dict[str, float]]]


def _measures(seconds: float) -> Mapping[str, _Measure]:
    read = partial(_read, seconds=seconds)
    listed = questions.list_document()

    def first(end: _End) -> Ask:
        return ask_carepost(listed)

    def deep(end: _End) -> Ask:
        return ask_carepost(listed, after=lambda patient: end.deep[PracticeId(patient.practice_id)])

    def tab(end: _End) -> Ask:
        return ask_carepost(questions.page_document("PATIENT_MESSAGES"))

    def search(end: _End) -> Ask:
        return ask_carepost(questions.page_document("PATIENTS"))

    return {
        "Messages tab": partial(read, asks=tab),
        "The practice's list, page 1": partial(read, asks=first),
        f"The practice's list, page {_DEEP:,} (or the last)": partial(read, asks=deep),
        "A search for patients": partial(read, asks=search),
        "A webhook stored": partial(_store, seconds=seconds),
        f"A webhook applied, of the {_NEWEST} newest messages": partial(_apply, newest=_NEWEST),
        "A webhook applied, of any message": _apply,
        _LIMIT: _write,
        "An email claimed and finished": _send,
    }


async def _benchmark(title: str, ends: Sequence[_End], rounds: int, measure: _Measure) -> Benchmark:
    """The large one is set against the small one; the first round of each is the warm-up."""
    before = report.load_average()
    figures: dict[str, list[dict[str, float]]] = {end.name: [] for end in reversed(ends)}
    for number in range(rounds + 1):
        for end in ends:
            costs = await measure(end)
            both = costs["server"] + costs["postgres"]
            if number:
                figures[end.name].append({**costs, "both": both, "row": both / costs.get("rows", 1)})
    return Benchmark(
        part="scale",
        title=title,
        rows=[Row(name, each) for name, each in figures.items()],
        against=ends[0].name,
        columns=_WRITING if "rows" in costs else _COLUMNS,
        goals=[] if title == _LIMIT else [Goal(0.7, ends[0].name)],
        less_is_better=True,
        wrong=[f"{costs['wrong']:.0f} wrong" for each in figures.values() for costs in each if costs.get("wrong")],
        load=(before, report.load_average()),
    )


async def _read(end: _End, *, asks: Callable[[_End], Ask], seconds: float, pid: int) -> dict[str, float]:
    ask = asks(end)
    requests = [ask(patient) for patient in end.patients]
    rows_of(answer(end.api, requests[0]))
    measured = await put_load(end.api, Load(requests, _CONNECTIONS, seconds, 0.3), pid)
    return {"server": measured.server_cpu, "postgres": measured.postgres_cpu, "wrong": measured.bad}


async def _store(end: _End, *, seconds: float, pid: int) -> dict[str, float]:
    """Stored, each a 200."""
    url = end.servers.database_url
    before = await count_stored(url)
    load = Load(signed_posts(end.tenants), _CONNECTIONS, seconds, 0.3)
    measured = await put_load(end.api, load, pid)
    kept = await count_stored(url) - before
    await forget_stored(url)
    wrong = measured.bad + abs(kept - measured.good)
    return {"server": measured.server_cpu, "postgres": measured.postgres_cpu, "wrong": wrong}


async def _apply(end: _End, *, pid: int, newest: int | None = None) -> dict[str, float]:
    """By the worker's own applier, in this process."""
    client = jobs.connect(end.servers.redis_url)
    owner = await asyncpg.connect(end.servers.database_url)
    try:
        applier = Applier(end.database, Sealer([SECRET_KEY]), Jobs(client, enabled=False))
        costs = _Costs(pid)
        tenant = end.tenants[int(time.time()) % len(end.tenants)]
        count_written = partial(_count_written, owner, end.database.app, end.database.inbox)
        before = await count_written()
        await apply_new(owner, end.database, applier, tenant, _APPLIED, costs, newest)
        # One row was written for each when it was stored.
        written = await count_written() - before - _APPLIED
    finally:
        await owner.close()
        await client.aclose(close_connection_pool=True)
    return {**costs.each(_APPLIED), "rows": written / _APPLIED}


async def _write(end: _End, *, pid: int) -> dict[str, float]:
    """The bare limit: what Postgres takes for the two rows of an event, were nothing matched, locked or summed up."""
    by_key = dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "off")
    owner = await asyncpg.connect(end.servers.database_url, server_settings=by_key)
    tenant = end.tenants[int(time.time()) % len(end.tenants)]
    try:
        ids = await any_messages(owner, tenant, _APPLIED)
        update, insert = await owner.prepare(_UPDATE), await owner.prepare(_INSERT)
        before = await _count_written(owner)
        await owner.execute("CHECKPOINT")
        with _Costs(pid) as costs:
            for start in range(0, _APPLIED, BATCH):
                some = sorted(ids[start : start + BATCH])
                async with owner.transaction():
                    await update.fetch(tenant.practice.id, some)
                    await insert.fetch(tenant.practice.id, some)
        written = await _count_written(owner) - before
    finally:
        await owner.close()
    return {**costs.each(_APPLIED), "rows": written / _APPLIED}


async def _count_written(owner: Any, *others: Pool) -> int:
    """Rows inserted and updated so far, as Postgres counts them; it counts when the connections that wrote them say
    so, which they do within ten seconds or when told."""
    for connection in (*others, owner):
        await connection.execute("SELECT pg_stat_force_next_flush()")
    count: int = await owner.fetchval("SELECT sum(n_tup_ins + n_tup_upd)::bigint FROM pg_stat_user_tables")
    return count


async def _send(end: _End, *, pid: int) -> dict[str, float]:
    """Claimed and finished one by one, as for an email that its server takes at once; without the wire between."""
    sealer = Sealer([SECRET_KEY])
    tenant = end.tenants[0]
    practice_id = tenant.practice.id
    lane = Lane(practice_id, tenant.esp.id)
    database = end.database
    drafts = [_draft(tenant) for _ in range(_SENT)]
    async with database.tenant(practice_id) as connection:
        await insert_messages(connection, sealer, practice_id, drafts)
    wrong = 0
    with _Costs(pid) as costs:
        for _ in drafts:
            async with database.tenant(practice_id) as connection:
                claims = await claim_due(connection, sealer, lane, "bench", timedelta(seconds=90), 1)
            endings = [
                Ending(
                    claimed,
                    AttemptOutcome.ACCEPTED,
                    Event(
                        kind=EventKind.ACCEPTED,
                        occurred_at=datetime.now(UTC),
                        dedupe_key=f"attempt/{claimed.number}/accepted",
                    ),
                )
                for claimed in claims
            ]
            async with database.tenant(practice_id) as connection:
                wrong += 1 - len(await finish_all(connection, practice_id, endings))
    return {**costs.each(_SENT), "wrong": wrong}


def _draft(tenant: Tenant) -> NewMessage:
    now = datetime.now(UTC)
    return NewMessage(
        id=MessageId(uuid7(now)),
        patient_id=tenant.queried[0],
        account_id=tenant.esp.id,
        account_kind=tenant.esp.kind,
        recipient="patient@mail.example",
        subject="Your appointment",
        body=Body("Your appointment is on Tuesday at 10.", None),
        track_opens=True,
        queued_at=now - timedelta(seconds=1),
    )


class _Costs:
    """Processor time of this process and of Postgres within the with statement."""

    def __init__(self, postgres_pid: int) -> None:
        self._pid = postgres_pid

    def _now(self) -> tuple[float, float]:
        return time.process_time(), postgres_seconds(self._pid)

    def __enter__(self) -> Self:
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self._after = self._now()

    def each(self, count: int) -> dict[str, float]:
        ours, postgres = (1e6 * (b - a) / count for a, b in zip(self._before, self._after, strict=True))
        return {"server": ours, "postgres": postgres}
