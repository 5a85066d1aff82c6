"""`python -m bench`: fills a database, measures, prints tables. QUICK=1 for a short run."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence

from rich.console import Console

from bench import applying, live, reads, report, webhooks
from bench.processes import RESULTS, child
from bench.rounds import Contender, Pace, run_rounds
from bench.world import FULL, QUICK, make_world

_DATA = RESULTS / "servers"


async def main() -> int:
    """Runs everything; 1 when an answer was wrong, a stored webhook or a live frame is missing."""
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    size, pace = (QUICK, Pace(3, 1.5, 0.7)) if quick else (FULL, Pace(9, 2.0, 1.0))
    console = Console(width=max(150, Console().width), highlight=False)
    RESULTS.mkdir(exist_ok=True)
    shutil.rmtree(_DATA, ignore_errors=True)
    embedded = [sys.executable, "-m", "carepost.embedded", str(_DATA)]
    try:
        async with child(embedded, {}, sys.stderr.fileno(), announces=True) as (_, line):
            urls = json.loads(line)
            database_url, redis_url = urls["database_url"], urls["redis_url"]
            postgres_pid = int((_DATA / "postgres" / "postmaster.pid").read_text().split()[0])
            console.print(f"Filling a database with {size.messages:,} messages ...")
            tenants = await make_world(database_url, size)
            stated = await report.conditions(database_url, size.messages)
            console.print_json(json.dumps(stated), indent=None)
            benchmarks: dict[str, Sequence[Contender]] = {}

            async with reads.reads(database_url, redis_url, tenants, pace) as all_reads:
                for read in all_reads:
                    await run_rounds(read.contenders, pace.rounds, postgres_pid)
                    report.show(console, read.title, read.contenders, against=read.against, stores=False)
                    benchmarks[read.title] = read.contenders

            async with webhooks.contenders(database_url, redis_url, tenants, pace) as loads:
                for connections, found in zip(webhooks.CONNECTIONS, loads, strict=True):
                    title = f"Webhook: a signed post of one event, {connections} connections"
                    await run_rounds(found, pace.rounds, postgres_pid, lambda: webhooks.count_stored(database_url))
                    report.show(console, title, found, against="One INSERT a POST", stores=True)
                    benchmarks[title] = found
            stated["events_applied"] = await applying.run(console, database_url, redis_url, tenants, pace)
            stated["live"] = await live.run(console, database_url, redis_url, tenants, pace)
    finally:
        shutil.rmtree(_DATA, ignore_errors=True)
    name = f"{stated['at'].replace(':', '')}{'-quick' if quick else ''}"
    report.save(name, stated, benchmarks)
    console.print(f"All figures: bench/results/{name}.json")
    return int(_judge(console, benchmarks) or stated["live"]["wrong"])


def _judge(console: Console, benchmarks: dict[str, Sequence[Contender]]) -> bool:
    wrong = False
    for title, contenders in benchmarks.items():
        for contender in contenders:
            if contender.bad:
                console.print(f"[red]{title}: {contender.bad} wrong answers of {contender.name}")
                wrong = True
            if contender.stored not in {0, contender.good}:
                console.print(f"[red]{title}: {contender.name} answered {contender.good} and kept {contender.stored}")
                wrong = True
    return wrong


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
