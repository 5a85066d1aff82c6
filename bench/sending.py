"""Sending: emails to a local sink, by Carepost with everything it promises, and by others that promise less."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
import venv
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from bench import report
from bench.emails import HTML, SUBJECT, TEXT, recipient
from bench.figures import Benchmark, Column, Goal, Row
from bench.processes import RESULTS, child
from bench.stage import Servers, Stage
from bench.world import SECRET_KEY
from db.accounts import Account, create_account
from db.ids import uuid7
from db.messages import Body, NewMessage, insert_messages
from db.patients import Patient, create_patient
from db.pool import Database
from db.practices import Practice, create_practice
from db.sealing import Sealer
from mail.ids import AccountId, MessageId
from mail.message import Address
from mail.status import AccountKind
from workers import jobs
from workers.jobs import Jobs

_PEER: Final = Path(__file__).parent / "peers" / "django"
_BATCH: Final = 500
_WHOLE: Final = "Carepost: claimed, sent, outcomes written"
_TRANSPORT: Final = "Carepost's transport alone"
_PIPELINE: Final = "Pooled aiosmtplib, bytes ready"
_STOCK: Final = "A connection and an EmailMessage each"
_DJANGO: Final = "Django's SMTP backend and Celery"


@dataclass(slots=True)
class _Contender:
    """`run` sends so many emails and gives the seconds; `rounds` are what was measured."""

    name: str
    run: Callable[[int], Awaitable[float]]
    emails: int
    rounds: list[dict[str, float]] = field(default_factory=list)


async def run(stage: Stage) -> Sequence[Benchmark]:
    """Measures all in turn. What the sink took must be what was sent."""
    many, rounds = (1500, 2) if stage.quick else (4000, 4)
    before = report.load_average()
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(sink())
        carepost = await stack.enter_async_context(worker_process(stage.servers, port))
        contenders = [
            _Contender(_WHOLE, carepost.send, many),
            _Contender(_TRANSPORT, lambda count: _sender("transport", port, count), many),
            _Contender(_PIPELINE, lambda count: _sender("pipeline", port, count), many),
            _Contender(_STOCK, lambda count: _sender("stock", port, count), many // 5),
        ]
        peer = await asyncio.to_thread(_prepare_peer)
        if peer is not None:
            django = await stack.enter_async_context(_django(peer, stage.servers.redis_url, port))
            contenders.append(_Contender(_DJANGO, django, many // 5))
        for number in range(rounds + 1):  # the first round of each is the warm-up
            for contender in contenders:
                before_it = await taken(port)
                seconds = await contender.run(contender.emails)
                if number:
                    came = await taken(port) - before_it
                    figures = {"rate": contender.emails / seconds, "sent": contender.emails, "taken": came}
                    contender.rounds.append(figures)
        if memory := carepost.peak_mib():
            contenders[0].rounds[-1]["memory"] = memory
    rows = {contender.name: Row(contender.name, contender.rounds) for contender in contenders}
    wrong = [
        f"{each.name}: {figures['sent']:.0f} emails sent, {figures['taken']:.0f} taken"
        for each in contenders
        for figures in each.rounds
        if figures["sent"] != figures["taken"]
    ]
    load = (before, report.load_average())
    columns = (
        Column("rate", "emails a second"),
        Column("sent", "sent", total=True),
        Column("taken", "taken by the sink", total=True),
    )
    whole = Benchmark(
        part="send",
        title="Emails of 2 KB sent, by one worker",
        rows=[rows[name] for name in (_WHOLE, _DJANGO, _STOCK) if name in rows],
        against=_DJANGO if peer is not None else _STOCK,
        columns=[*columns, Column("memory", "worker's peak MiB")],
        goals=[Goal(3, _DJANGO)] if peer is not None else [],
        wrong=wrong,
        load=load,
    )
    transport = Benchmark(
        part="send",
        title="Emails of 2 KB handed over by SMTP, nothing stored",
        rows=[rows[name] for name in (_TRANSPORT, _PIPELINE, _STOCK)],
        against=_STOCK,
        columns=columns,
        goals=[Goal(8, _STOCK), Goal(0.8, _PIPELINE)],
        load=load,
    )
    return [whole, transport]


@contextlib.asynccontextmanager
async def sink() -> AsyncIterator[int]:
    """The sink; gives its port."""
    command = [sys.executable, "-m", "bench.sink"]
    async with child(command, {}, sys.stderr.fileno(), announces=True) as (_, line):
        yield int(line)


async def taken(port: int) -> int:
    """How many emails the sink took so far."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    writer.write(b"XCOUNT\r\n")
    count = int((await reader.readline()).split()[1])
    writer.close()
    return count


async def _sender(name: str, port: int, count: int) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.senders", name, str(port), str(count), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return float(out)


@dataclass(slots=True)
class Worker:
    """A worker process with an account that sends to the sink."""

    database: Database
    hurry: Jobs
    practice: Practice
    account: Account
    patient: Patient
    pid: int

    async def send(self, count: int) -> float:
        """From the wake-up until every outcome is committed."""
        sealer = Sealer([SECRET_KEY])
        for start in range(0, count, _BATCH):
            messages = [self._message(number, bulk=True) for number in range(start, min(start + _BATCH, count))]
            async with self.database.tenant(self.practice.id) as connection:
                await insert_messages(connection, sealer, self.practice.id, messages)
        async with self.database.tenant(self.practice.id) as connection:
            await connection.execute(
                "UPDATE message SET due_at = now() WHERE due_at > now() + interval '1 year' AND bulk"
            )
        started = time.perf_counter()
        await self.hurry.send(self.practice.id, self.account.id)
        while True:
            async with self.database.tenant(self.practice.id) as connection:
                if not await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM message WHERE due_at IS NOT NULL AND bulk)"
                ):
                    break
            await asyncio.sleep(0.02)
        seconds = time.perf_counter() - started
        async with self.database.tenant(self.practice.id) as connection:
            wrong = await connection.fetchval(
                "SELECT count(*) FROM message WHERE bulk AND (verdict <> 'sent' OR attempts <> 1)"
            )
        if wrong:
            raise RuntimeError(f"{wrong} messages were not sent once")
        return seconds

    async def send_one(self) -> float:
        """A single email: the seconds from its commit until it was handed over."""
        return await self._seconds_until("SELECT sent_at FROM message WHERE id = $1")

    async def pick_up_one(self) -> float:
        """A single email: the seconds from its job's enqueueing until a worker that the job woke claims it."""
        return await self._seconds_until("SELECT started_at FROM attempt WHERE message_id = $1")

    async def _seconds_until(self, asked: str) -> float:
        message_id, due = await self._due()
        while True:
            async with self.database.tenant(self.practice.id) as connection:
                at = await connection.fetchval(asked, message_id)
            if at is not None:
                return float((at - due).total_seconds())
            await asyncio.sleep(0.005)

    async def _due(self) -> tuple[MessageId, datetime]:
        """Commits a single email and enqueues its job; gives the moment between the two."""
        message = self._message(0, bulk=False)
        async with self.database.tenant(self.practice.id) as connection:
            await insert_messages(connection, Sealer([SECRET_KEY]), self.practice.id, [message])
        due = datetime.now(UTC)
        await self.hurry.send(self.practice.id, self.account.id)
        return message.id, due

    def _message(self, number: int, *, bulk: bool) -> NewMessage:
        now = datetime.now(UTC)
        return NewMessage(
            id=MessageId(uuid7(now)),
            patient_id=self.patient.id,
            account_id=self.account.id,
            account_kind=self.account.kind,
            recipient=recipient(number),
            subject=SUBJECT,
            body=Body(TEXT, HTML),
            track_opens=False,
            queued_at=now,
            # The sweeper must not begin before the watch does.
            scheduled_at=datetime(2100, 1, 1, tzinfo=UTC) if bulk else None,
            bulk=bulk,
        )

    def peak_mib(self) -> float:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


@contextlib.asynccontextmanager
async def worker_process(servers: Servers, port: int) -> AsyncIterator[Worker]:
    practice = await create_practice(servers.database_url, "Practice that sends", ZoneInfo("UTC"))
    environment = servers.environment | {"CAREPOST_ALLOWED_NETWORKS": "127.0.0.0/8", "CAREPOST_SUPERVISED": "1"}
    RESULTS.mkdir(exist_ok=True)
    async with Database(servers.database_url) as database:
        async with database.tenant(practice.id) as connection:
            account = await create_account(
                connection,
                Sealer([SECRET_KEY]),
                practice.id,
                AccountId(uuid7(datetime.now(UTC))),
                kind=AccountKind.SMTP,
                provider=None,
                name="Sink",
                sender=Address("hello@northgate.example", "Northgate Practice"),
                reply_to=None,
                is_default=True,
                credentials={"host": "127.0.0.1", "port": str(port), "security": "none"},
                webhook_secrets=[],
            )
            patient = await create_patient(
                connection, practice.id, "Pat Example", "pat@mail.example", open_tracking=True
            )
        client = jobs.connect(servers.redis_url)
        with (RESULTS / "worker.log").open("wb") as log:
            async with child([sys.executable, "-m", "carepost", "worker"], environment, log) as (process, _):
                yield Worker(database, Jobs(client), practice, account, patient, process.pid)
        await client.aclose(close_connection_pool=True)


def _prepare_peer() -> Path | None:
    """Django and Celery in an environment of their own; None where they can't be installed, and then it says so."""
    python = _PEER / ".venv" / "bin" / "python"
    wanted = (_PEER / "requirements.txt").read_text()
    done = _PEER / ".venv" / ".installed"
    if not done.exists() or done.read_text() != wanted:
        print("Installing Django and Celery ...", flush=True)
        venv.create(_PEER / ".venv", with_pip=True, clear=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"]
        try:
            subprocess.run([python, *install, _PEER / "requirements.txt"], check=True)
        except subprocess.CalledProcessError:
            print("Django and Celery could not be installed; their row is left out.", flush=True)
            return None
        done.write_text(wanted)
    return python


@contextlib.asynccontextmanager
async def _django(python: Path, redis_url: str, port: int) -> AsyncIterator[Callable[[int], Awaitable[float]]]:
    """Celery with two worker processes; tasks are enqueued before the watch starts."""
    environment = {
        **os.environ,
        "BROKER_URL": redis_url.rpartition("/")[0] + "/3",
        "SINK_PORT": str(port),
        "PYTHONPATH": f"{_PEER}{os.pathsep}{Path(__file__).parent}",
    }
    with (RESULTS / "celery.log").open("wb") as log:
        command = [str(python), "-m", "celery", "-A", "tasks", "worker", "-c", "2", "--loglevel", "WARNING"]
        async with child(command, environment, log):

            async def send(count: int) -> float:
                await _celery(python, environment, "cancel")
                before = await taken(port)
                await _celery(python, environment, f"enqueue {count}")
                process = await asyncio.create_subprocess_exec(
                    str(python), str(_PEER / "control.py"), "resume", env=environment, stdout=asyncio.subprocess.PIPE
                )
                assert process.stdout is not None
                await process.stdout.readline()
                started = time.perf_counter()
                while await taken(port) - before < count:
                    await asyncio.sleep(0.02)
                seconds = time.perf_counter() - started
                await process.wait()
                return seconds

            yield send


async def _celery(python: Path, environment: Mapping[str, str], command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        str(python), str(_PEER / "control.py"), *command.split(), env=dict(environment)
    )
    if await process.wait():
        raise RuntimeError(f"celery: {command} failed")
