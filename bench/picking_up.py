"""Jobs: how soon a worker that waits for one begins it, by Carepost as it runs and by arq as it comes."""

import asyncio
import contextlib
import random
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, cast

import arq
from arq.connections import ArqRedis, RedisSettings

from bench import report
from bench.figures import Benchmark, Column, Goal, Row
from bench.peers.jobs import DATABASE, STARTED
from bench.processes import RESULTS, child
from bench.sending import sink, worker_process
from bench.stage import Stage

_STOCK: Final = "arq as it comes"
_PATIENCE: Final = 30


async def run(stage: Stage) -> Sequence[Benchmark]:
    """Jobs come one by one, at random moments, to a worker process that has nothing else to do. Carepost's job counts
    as begun when it claims its email, a statement later than arq's, which calls a function that notes the time."""
    rounds, count = (2, 10) if stage.quick else (4, 25)
    before = report.load_average()
    seconds: dict[str, list[list[float]]] = {"Carepost": [], _STOCK: []}
    async with (
        sink() as port,
        worker_process(stage.servers, port) as worker,
        _stock(stage.servers.redis_url) as stock,
    ):
        contenders: dict[str, Callable[[], Awaitable[float]]] = {"Carepost": worker.pick_up_one, _STOCK: stock}
        for pick_up in contenders.values():  # the first job waits for the worker to start
            await pick_up()
        chance = random.Random(11)
        for _ in range(rounds):
            for name, pick_up in contenders.items():
                seconds[name].append([])
                for _ in range(count):
                    await asyncio.sleep(chance.uniform(0.0, 0.5))
                    seconds[name][-1].append(await pick_up())
    rows = [Row(name, _figures(each)) for name, each in seconds.items()]
    return [
        Benchmark(
            part="jobs",
            title="A job, from its enqueueing until a worker begins it",
            rows=rows,
            against=_STOCK,
            columns=[Column("p50", "p50 ms", 1), Column("p99", "p99 ms", 1), Column("jobs", "jobs", total=True)],
            goals=[Goal(20, _STOCK)],
            less_is_better=True,
            load=(before, report.load_average()),
        )
    ]


def _figures(rounds: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    """By round, in milliseconds; the p99 is of all jobs and stands in the last."""
    figures = [{"p50": 1000 * statistics.median(each), "jobs": float(len(each))} for each in rounds]
    ordered = sorted(each for round_ in rounds for each in round_)
    figures[-1]["p99"] = 1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return figures


@contextlib.asynccontextmanager
async def _stock(redis_url: str) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """A worker of arq's own, with its defaults, and what gives it a job."""
    url = f"{redis_url.rpartition('/')[0]}/{DATABASE}"
    pool = await arq.create_pool(RedisSettings.from_dsn(url))
    with (RESULTS / "arq.log").open("wb") as log:
        command = [sys.executable, "-m", "bench.peers.jobs"]
        async with child(command, {"BROKER_URL": url}, log):

            async def pick_up() -> float:
                loop = asyncio.get_running_loop()
                enqueued = loop.time()
                await pool.enqueue_job("note")
                while (found := await _first(pool)) is None and loop.time() < enqueued + _PATIENCE:
                    await asyncio.sleep(0.005)
                if found is None:
                    raise RuntimeError(f"no job was begun within {_PATIENCE} s; see {log.name}")
                return found - enqueued

            yield pick_up
    await pool.aclose(close_connection_pool=True)


async def _first(pool: ArqRedis) -> float | None:
    found = await cast("Awaitable[bytes | None]", pool.lpop(STARTED))
    return None if found is None else float(found)
