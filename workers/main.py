"""The worker process: arq for the hurry, the sweeper for the promise."""

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import orjson
import structlog
from arq.worker import Worker, func
from prometheus_client import start_http_server

from db.migrate import check_migrated
from db.outbox import Lane
from db.pool import Database, PoolSize
from db.sealing import Sealer
from mail.ids import AccountId, PracticeId
from workers import jobs
from workers.apply import Applier
from workers.confirm import Confirmer
from workers.jobs import Jobs
from workers.lanes import Lanes
from workers.outcomes import Outcomes
from workers.reconcile import Reconciler
from workers.send import Sender
from workers.sweep import Sweeper
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Network, Outgoing
from workers.transports.smtp import SmtpTransport

_DRAIN_SECONDS: Final = 20.0
_LAST_LOOK_SECONDS: Final = 2.0
_LONGEST_IDLE: Final = timedelta(seconds=30)
_SHORTEST_IDLE: Final = timedelta(seconds=5)
"""Reading a batch of webhooks between two statements takes a busy machine seconds."""
_log = structlog.get_logger("carepost.worker")


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker needs to know. `lease` is how long a claim on a message holds, `sweep_interval` how far apart
    the sweeper's rounds are, `poll_delay` in seconds how soon arq sees a job. `sns_url` stands in for AWS's own hosts
    of SNS: for a sandbox. `allowed_networks` are reached besides the internet. `ask_after` is how long an answer may
    take before the ESP is asked for it, `look_every` how far apart the looks are that a worker takes at one account.
    `retention` is how long stored webhooks and parked events are kept; None keeps all. `patience` is how many seconds
    to wait at the start for a Postgres that isn't up. `metrics` is where Prometheus reads the worker's: address and
    port."""

    database_url: str
    redis_url: str
    sealer: Sealer
    lease: timedelta = timedelta(seconds=90)
    sweep_interval: timedelta = timedelta(seconds=10)
    poll_delay: float = 0.01
    enqueue: bool = True
    ask_after: timedelta = timedelta(hours=1)
    look_every: timedelta = timedelta(minutes=5)
    sns_url: str | None = None
    allowed_networks: tuple[Network, ...] = ()
    retention: timedelta | None = None
    patience: float = 0
    metrics: tuple[str, int] | None = None


async def run_worker(config: WorkerConfig, stop: asyncio.Event) -> None:
    """Works until `stop` is set, then lets what is in hand finish."""
    # arq logs the arguments of every job; they are ids, but a line a job is noise.
    logging.getLogger("arq").setLevel(logging.WARNING)
    async with contextlib.AsyncExitStack() as stack:
        database = await _open_database(stack, config, stop)
        if database is None:
            return
        async with database.app.acquire() as connection:
            if newer := await check_migrated(connection):
                _log.warning("the database is newer than this program, which still works with it", by=newer)
        outgoing = Outgoing(config.allowed_networks)
        http = await stack.enter_async_context(HttpTransport(outgoing, sns_url=config.sns_url))
        smtp = await stack.enter_async_context(SmtpTransport(http, outgoing))
        client = jobs.connect(config.redis_url)
        stack.push_async_callback(client.aclose, close_connection_pool=True)
        hurry = Jobs(client, enabled=config.enqueue)
        name = f"{socket.gethostname()}:{os.getpid()}"
        sender = Sender(http, smtp, lease=config.lease)
        lanes = Lanes(database, config.sealer, sender, Outcomes(database, hurry), worker=name, lease=config.lease)
        confirmer = Confirmer(database, config.sealer, hurry, http, config.sweep_interval)
        applier = Applier(database, config.sealer, hurry, confirmer.wake)
        reconciler = Reconciler(
            database,
            config.sealer,
            hurry,
            http,
            after=config.ask_after,
            look_every=config.look_every,
            interval=config.sweep_interval,
        )
        sweeper = Sweeper(database, lanes, applier, config.sweep_interval, retention=config.retention)
        if config.metrics is not None:
            address, port = config.metrics
            metrics, _ = start_http_server(port, address)
            stack.callback(metrics.server_close)
            stack.callback(metrics.shutdown)
        _log.info("worker is ready", worker=name)
        tasks = [
            asyncio.create_task(sweeper.run(stop), name="sweeper"),
            asyncio.create_task(lanes.run(stop), name="lanes"),
            asyncio.create_task(_run_jobs(config, lanes, applier, stop), name="jobs"),
            asyncio.create_task(confirmer.run(stop), name="confirmer"),
            asyncio.create_task(reconciler.run(stop), name="reconciler"),
        ]
        await stop.wait()
        _, late = await asyncio.wait(tasks, timeout=_DRAIN_SECONDS + 5)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        _log.info("worker has stopped", worker=name)


async def _open_database(
    stack: contextlib.AsyncExitStack, config: WorkerConfig, stop: asyncio.Event
) -> Database | None:
    """None when told to stop while it waited."""
    # What a frozen worker holds is free again before the leases of the others end.
    idle = max(_SHORTEST_IDLE, min(_LONGEST_IDLE, config.lease / 3))
    database = Database(config.database_url, PoolSize(1, 10), idle_timeout=idle, patience=config.patience)
    opening = asyncio.create_task(stack.enter_async_context(database))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not opening.done():
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        return None
    return opening.result()


async def _run_jobs(config: WorkerConfig, lanes: Lanes, applier: Applier, stop: asyncio.Event) -> None:
    """Runs arq until `stop`, and again whenever Valkey went away and came back."""

    async def send(ctx: dict[str, Any], practice_id: str, account_id: str) -> None:
        with _surviving(jobs.SEND):
            lanes.wake(Lane(PracticeId(UUID(practice_id)), AccountId(UUID(account_id))))

    async def apply(ctx: dict[str, Any]) -> None:
        with _surviving(jobs.APPLY):
            await applier.apply_pending()

    while not stop.is_set():
        client = jobs.connect(config.redis_url)
        worker = _Worker(
            # One try, no kept result: Postgres decides what is done again (see workers.sweep).
            functions=[
                func(send, name=jobs.SEND, max_tries=1, keep_result=0, timeout=config.lease),
                func(apply, name=jobs.APPLY, max_tries=1, keep_result=0, timeout=config.lease),
            ],
            redis_pool=client,
            queue_name=jobs.QUEUE,
            handle_signals=False,
            max_jobs=50,
            poll_delay=config.poll_delay,
            keep_result=0,
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
            log_results=False,
        )
        running = asyncio.create_task(worker.async_run())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        worker.allow_pick_jobs = False
        await asyncio.wait({running}, timeout=_LAST_LOOK_SECONDS)
        # With Valkey gone or the process told to stop: an email that is being handed over is handed over.
        if worker.tasks:
            await asyncio.wait(worker.tasks.values(), timeout=_DRAIN_SECONDS)
        running.cancel()
        for task in worker.tasks.values():
            task.cancel()
        ended, *_ = await asyncio.gather(running, *worker.tasks.values(), return_exceptions=True)
        with contextlib.suppress(*jobs.LOST):
            await client.aclose(close_connection_pool=True)
        if not stop.is_set():
            _log.warning("valkey went away; the sweeper carries on", error=type(ended).__name__)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)


class _Worker(Worker):
    """arq's, which ends between two looks at the queue once it may take no more jobs: cancelled in the middle of one,
    it would start a job that nobody waits for."""

    async def heart_beat(self) -> None:
        await super().heart_beat()
        if not self.allow_pick_jobs:
            raise _Stopped


class _Stopped(Exception):
    """The worker takes no more jobs."""


@contextlib.contextmanager
def _surviving(job: str) -> Any:
    """A job that fails is logged and left to the sweeper: an exception would only end it for good."""
    try:
        yield
    except Exception as error:
        _log.exception("job failed; the sweeper takes over", job=job, error=type(error).__name__)
